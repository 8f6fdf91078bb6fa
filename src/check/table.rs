//! What `pgcertd check` checks, in the order of a renewal: the id, the function that finds it, what is good, and why
//! it matters.
//!
//! Adding a check is a row here and a function that says what it found: nothing where there is nothing to look at, or
//! several findings. The ids are for scripts that others write: they stay, and new ones may be added.
//! `docs/findings.md` and the manual say the same as this table, and tests compare.

use super::finding::{Finding, ReportLine};
use super::host::{clock, hooks, inotify, look::HostLook, renewal, sandbox, service, uncovered};
use super::instance::{
    client_ca, files, labels, look::InstanceLook, plaintext, restart, served, server, source,
    version,
};

/// A row, as people read it: sentences without their full stop.
pub(crate) struct Check {
    pub(crate) id: &'static str,
    pub(crate) good: &'static str,
    pub(crate) why: &'static str,
}

macro_rules! checks {
    ($(
        async fn $of_all:ident($look:ident: $look_type:ty) {
            $($id:literal $find:expr; $good:literal; $why:literal;)*
        }
    )*) => {
        pub(crate) const CHECKS: &[Check] = &[
            $($(Check { id: $id, good: $good, why: $why },)*)*
        ];

        $(
            /// Runs these checks, one after the other.
            pub(super) async fn $of_all($look: &mut $look_type) -> Vec<ReportLine> {
                let mut lines = Vec::new();
                $(
                    let found = Box::pin(async { $find }).await.into_iter();
                    lines.extend(found.map(|finding| report_line($id, finding)));
                )*
                lines
            }
        )*
    };
}

checks! {
    async fn of_instance(look: InstanceLook) {
        "data_directory" files::data_directory(look);
            "the data directory and pgcertd's files for it can be read";
            "pgcertd can't look after what it can't read";
        "version" version::version(look).await;
            "the server's version is one that pgcertd is tested with";
            "an untested version may behave differently";
        "source" source::source(look);
            "the lineage holds a certificate that can be installed";
            "nothing new is installed until it does";
        "source_readable" source::readable(look).await;
            "the service's user can read the lineage";
            "a renewal that the service can't read is never installed";
        "lineage_writers" source::writers(look).await;
            "only root can change the lineage's files";
            "whoever can change them decides which certificate clients get";
        "installed" files::installed(look);
            "the installed files hold a certificate chain and its key";
            "if they don't load, the next restart is an outage";
        "key_rule" files::key_rule(look);
            "the installed key has an owner and a mode that Postgres accepts";
            "a server rejects a key that others can read, and doesn't start with it";
        "targets" files::targets(look);
            "the owner of the files can write to their directories";
            "an install writes new files beside the old ones and renames them";
        "single_file" files::single(look);
            "the server sees the files in their directories, not as individually mounted files";
            "a file that is mounted individually stays the old one there when it is replaced";
        "keys_apart" files::apart(look).await;
            "the installed and the previous key are outside every data directory";
            "pg_basebackup and pg_rewind copy everything in there, including keys";
        "label" labels::label(look).await;
            "SELinux lets the server read the installed files and those of the next install";
            "a confined server that can't read them doesn't start";
        "service_user" files::service_user(look);
            "the service's user owns the files and the server";
            "the service can't write another user's files or signal that user's server";
        "server" server::server(look);
            "the server is running, and it is known which process it is";
            "only a running server shows which certificate it serves";
        "ssl" server::ssl(look);
            "ssl is on";
            "without it no connection is encrypted, whatever is installed";
        "server_files" server::server_files(look);
            "ssl_cert_file and ssl_key_file name the instance's files";
            "a server that uses other files never serves a renewed certificate";
        "client_ca_files" client_ca::files(look);
            "ssl_ca_file and ssl_crl_file name the instance's files, if it has any";
            "a server that uses other files checks its clients against those, whatever is renewed";
        "client_ca_expiry" client_ca::expiry(look);
            "no CA or CRL that clients are checked against is about to expire";
            "an expired CA, or one with an outdated CRL, locks out all its clients";
        "restart" restart::restart(look).await;
            "the server could start again: its configuration and the files it names load";
            "anything that doesn't load is an outage at the next restart";
        "pending_edits" look.edits.finding.take();
            "no edit of the server's configuration is waiting for a reload or a restart";
            "the reload of the next deployment applies such an edit too";
        "server_names" served::server_names(look);
            "the config says which names clients verify";
            "without them pgcertd may install a certificate for other names, which clients reject";
        "served" served::served(look);
            "new clients get the installed certificate";
            "what clients get is what counts";
        "served_trusted" served::trusted(look).await;
            "clients accept what each address serves, for each of server_names";
            "a client with sslmode=verify-full rejects anything else";
        "plaintext" plaintext::plaintext(look).await;
            "pg_hba.conf lets no client of another host connect unencrypted";
            "anyone on the network path can read what such a client sends, possibly its password";
        "ssl_sni" server::ssl_sni(look);
            "it is known which certificate each name gets (ssl_sni of PostgreSQL 19)";
            "for the names in pg_hosts.conf, its files are served instead of ssl_cert_file";
    }
    async fn of_host(look: HostLook) {
        "configured" service::configured(look);
            "the config has an instance";
            "without one pgcertd has nothing to do";
        "uncovered" uncovered::uncovered(look).await;
            "every PostgreSQL server of this host is covered by an instance";
            "the certificate of a server that no instance covers expires unnoticed";
        "unit_user" service::unit_user(look);
            "the user that the service runs as exists";
            "systemd can't start the service otherwise";
        "renewal" renewal::renewal(look);
            "something renews the lineage: an ACME client's timer or crontab";
            "a certificate that nothing renews expires";
        "old_hook" hooks::old_hooks(look).await;
            "no hook of an ACME client copies certificates for PostgreSQL, restarts or reloads it";
            "a restart ends every session, and a copy overwrites what pgcertd has installed";
        "clock" clock::clock(look).await;
            "the clock is plausible and synchronised";
            "with a wrong clock, valid certificates are rejected and expired ones accepted";
        "inotify" inotify::inotify(look);
            "the service's user has inotify watches and instances left";
            "without a watch a renewal is noticed minutes later, at the next comparison";
        "sandbox" sandbox::sandbox(look).await;
            "the unit's sandbox lets the service use every path it needs";
            "the service can't see what the unit hides, or write what it makes read-only";
        "landlock" service::landlock();
            "Landlock confines each thread to its directories";
            "without it only ownership and capabilities limit the threads";
    }
}

/// What the check with this id found, for the report.
pub(crate) fn report_line(id: &'static str, finding: Finding) -> ReportLine {
    let check = CHECKS.iter().find(|check| check.id == id);
    ReportLine {
        id,
        usual_why: check.map_or("", |check| check.why),
        finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_in_snake_case_and_differ() {
        let ids: std::collections::BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CHECKS.len());
        let snake = |id: &&str| id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(ids.iter().all(snake), "{ids:?}");
    }

    #[test]
    fn docs_findings_says_the_same_as_the_table() {
        let page = include_str!("../../docs/findings.md");
        let rows: Vec<&str> = page
            .lines()
            .filter(|text| text.starts_with("| `"))
            .collect();
        let told: Vec<String> = CHECKS
            .iter()
            .map(|check| format!("| `{}` | {} | {} |", check.id, check.good, check.why))
            .collect();
        assert_eq!(rows, told, "docs/findings.md");
    }
}
