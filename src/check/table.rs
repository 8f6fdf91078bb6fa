//! What `pgcertd check` checks, in the order of a renewal: what is good, why it matters, and the function that finds it.
//!
//! Adding a check is a row here and a function that says what it found: nothing where there is nothing to look at, or
//! several findings. The ids are for scripts that others write: they stay, and new ones may be added.
//! `docs/findings.md` and the manual say the same as this table, and tests compare.

use super::finding::{Finding, ReportLine};
use super::host::{self, look::HostLook};
use super::instance::{self, look::InstanceLook};

macro_rules! checks {
    ($(
        async fn $of_all:ident(look: $look_type:ty) {
            $($check:ident $id:literal |$look:ident| $find:expr; $good:literal; $why:literal;)*
        }
    )*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Check {
            $($(#[doc = $good] $check,)*)*
        }

        impl Check {
            pub(crate) const ALL: &'static [Check] = &[$($(Check::$check,)*)*];

            pub(crate) fn id(self) -> &'static str {
                match self { $($(Check::$check => $id,)*)* }
            }

            /// What is so where all is well, as a sentence without its full stop.
            pub(crate) fn good(self) -> &'static str {
                match self { $($(Check::$check => $good,)*)* }
            }

            /// Why it matters, as a sentence without its full stop.
            pub(crate) fn why(self) -> &'static str {
                match self { $($(Check::$check => $why,)*)* }
            }
        }

        $(
            /// Runs these checks, one after the other.
            pub(super) async fn $of_all(look: &mut $look_type) -> Vec<ReportLine> {
                let mut lines = Vec::new();
                $(
                    let $look = &mut *look;
                    let found = Box::pin(async { $find }).await;
                    lines.extend(found.into_iter().map(|finding| Check::$check.line(finding)));
                )*
                lines
            }
        )*
    };
}

checks! {
    async fn of_instance(look: InstanceLook) {
        DataDirectory "data_directory" |look| instance::files::data_directory(look);
            "the data directory and pgcertd's files for it can be read";
            "pgcertd can't look after what it can't read";
        Version "version" |look| instance::version::version(look).await;
            "the server's version is one that pgcertd is tested with";
            "an untested version may behave differently";
        Source "source" |look| instance::source::source(look);
            "the lineage holds a certificate that can be installed";
            "nothing new is installed until it does";
        SourceReadable "source_readable" |look| instance::source::readable(look).await;
            "the service's user can read the lineage";
            "a renewal that the service can't read is never installed";
        LineageWriters "lineage_writers" |look| instance::source::writers(look).await;
            "only root can change the lineage's files";
            "whoever can change them decides which certificate clients get";
        Installed "installed" |look| instance::files::installed(look);
            "the installed files hold a certificate chain and its key";
            "if they don't load, the next restart is an outage";
        KeyRule "key_rule" |look| instance::files::key_rule(look);
            "the installed key has an owner and a mode that Postgres accepts";
            "a server rejects a key that others can read, and doesn't start with it";
        Targets "targets" |look| instance::files::targets(look);
            "the owner of the files can write to their directories";
            "an install writes new files beside the old ones and renames them";
        SingleFile "single_file" |look| instance::files::single(look);
            "the server sees the files in their directories, not as individually mounted files";
            "a file that is mounted individually stays the old one there when it is replaced";
        KeysApart "keys_apart" |look| instance::files::apart(look).await;
            "the installed and the previous key are outside every data directory";
            "pg_basebackup and pg_rewind copy everything in there, including keys";
        Label "label" |look| instance::labels::label(look).await;
            "SELinux lets the server read the installed files and those of the next install";
            "a confined server that can't read them doesn't start";
        ServiceUser "service_user" |look| instance::files::service_user(look);
            "the service's user owns the files and the server";
            "the service can't write another user's files or signal that user's server";
        Server "server" |look| instance::server::server(look);
            "the server is running, and it is known which process it is";
            "only a running server shows which certificate it serves";
        Ssl "ssl" |look| instance::server::ssl(look);
            "ssl is on";
            "without it no connection is encrypted, whatever is installed";
        ServerFiles "server_files" |look| instance::server::server_files(look);
            "ssl_cert_file and ssl_key_file name the instance's files";
            "a server that uses other files never serves a renewed certificate";
        ClientCaFiles "client_ca_files" |look| instance::client_ca::files(look);
            "ssl_ca_file and ssl_crl_file name the instance's files, if it has any";
            "a server that uses other files checks its clients against those, whatever is renewed";
        ClientCaExpiry "client_ca_expiry" |look| instance::client_ca::expiry(look);
            "no CA or CRL that clients are checked against is about to expire";
            "an expired CA, or one with an outdated CRL, locks out all its clients";
        Restart "restart" |look| instance::restart::restart(look).await;
            "the server could start again: its configuration and the files it names load";
            "anything that doesn't load is an outage at the next restart";
        PendingEdits "pending_edits" |look| look.edits.finding.take();
            "no edit of the server's configuration is waiting for a reload or a restart";
            "the reload of the next deployment applies such an edit too";
        ServerNames "server_names" |look| instance::served::server_names(look);
            "the config says which names clients verify";
            "without them pgcertd may install a certificate for other names, which clients reject";
        Served "served" |look| instance::served::served(look);
            "new clients get the installed certificate";
            "what clients get is what counts";
        ServedTrusted "served_trusted" |look| instance::served::trusted(look).await;
            "clients accept what each address serves, for each of server_names";
            "a client with sslmode=verify-full rejects anything else";
        Plaintext "plaintext" |look| instance::plaintext::plaintext(look).await;
            "pg_hba.conf lets no client of another host connect unencrypted";
            "anyone on the network path can read what such a client sends, possibly its password";
        SslSni "ssl_sni" |look| instance::server::ssl_sni(look);
            "it is known which certificate each name gets (ssl_sni of PostgreSQL 19)";
            "for the names in pg_hosts.conf, its files are served instead of ssl_cert_file";
    }
    async fn of_host(look: HostLook) {
        Configured "configured" |look| host::service::configured(look);
            "the config has an instance";
            "without one pgcertd has nothing to do";
        Uncovered "uncovered" |look| host::uncovered::uncovered(look).await;
            "every PostgreSQL server of this host is covered by an instance";
            "the certificate of a server that no instance covers expires unnoticed";
        UnitUser "unit_user" |look| host::service::unit_user(look);
            "the user that the service runs as exists";
            "systemd can't start the service otherwise";
        Renewal "renewal" |look| host::renewal::renewal(look);
            "something renews the lineage: an ACME client's timer or crontab";
            "a certificate that nothing renews expires";
        OldHook "old_hook" |look| host::hooks::old_hooks(look).await;
            "no hook of an ACME client copies certificates for PostgreSQL, restarts or reloads it";
            "a restart ends every session, and a copy overwrites what pgcertd has installed";
        Clock "clock" |look| host::clock::clock(look).await;
            "the clock is plausible and synchronised";
            "with a wrong clock, valid certificates are rejected and expired ones accepted";
        Inotify "inotify" |look| host::inotify::inotify(look);
            "the service's user has inotify watches and instances left";
            "without a watch a renewal is noticed minutes later, at the next comparison";
        Sandbox "sandbox" |look| host::sandbox::sandbox(look).await;
            "the unit's sandbox lets the service use every path it needs";
            "the service can't see what the unit hides, or write what it makes read-only";
        Landlock "landlock" |_look| host::service::landlock();
            "Landlock confines each thread to its directories";
            "without it only ownership and capabilities limit the threads";
    }
}

impl Check {
    /// What it found, for the report.
    pub(crate) fn line(self, finding: Finding) -> ReportLine {
        ReportLine {
            id: self.id(),
            usual_why: self.why(),
            finding,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_in_snake_case_and_differ() {
        let ids: std::collections::BTreeSet<_> =
            Check::ALL.iter().map(|check| check.id()).collect();
        assert_eq!(ids.len(), Check::ALL.len());
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
        let told: Vec<String> = Check::ALL
            .iter()
            .map(|check| format!("| `{}` | {} | {} |", check.id(), check.good(), check.why()))
            .collect();
        assert_eq!(rows, told, "docs/findings.md");
    }
}
