//! What is looked at: an id for programs, and what each is about.
//!
//! The ids are for scripts that others write; they stay as they are, and new ones may be added.
//! `docs/findings.md` and the manual say the same, and tests compare.

use serde::Serialize;

macro_rules! kinds {
    ($($kind:ident $id:literal $good:literal; $why:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum FindingKind {
            $(#[doc = $good] $kind,)*
        }

        impl FindingKind {
            /// All of them: first those of an instance, in the order in which they are looked at.
            pub(crate) const ALL: &'static [FindingKind] = &[$(FindingKind::$kind,)*];

            pub(crate) fn id(self) -> &'static str {
                match self { $(FindingKind::$kind => $id,)* }
            }

            /// What is so where all is well, as a sentence without its full stop.
            pub(crate) fn good(self) -> &'static str {
                match self { $(FindingKind::$kind => $good,)* }
            }

            /// Why it matters, as a sentence without its full stop.
            pub(crate) fn why(self) -> &'static str {
                match self { $(FindingKind::$kind => $why,)* }
            }
        }
    };
}

kinds! {
    DataDirectory "data_directory"
        "the data directory and pgcertd's files for it can be looked at";
        "what cannot be looked at is not kept in order either"
    Version "version"
        "the data directory is of a version of PostgreSQL that pgcertd is tested with";
        "what was not tested may behave otherwise"
    Source "source"
        "the lineage holds a certificate that may be installed";
        "nothing new is installed before it does"
    SourceReadable "source_readable"
        "the service's user can read the lineage";
        "a renewal that the service cannot read is never installed"
    LineageWriters "lineage_writers"
        "root alone may change what the lineage's files are";
        "who may change that decides which certificate clients get"
    Installed "installed"
        "the installed files hold a chain and its key";
        "what does not load is an outage at the next restart"
    KeyRule "key_rule"
        "owner and mode of the installed key are such that Postgres takes it";
        "a server refuses a key that others may read, and does not start with it"
    Targets "targets"
        "the owner of the files can write in their directories";
        "an install writes beside the files, and renames"
    SingleFile "single_file"
        "the server sees the files in their directories, and not as single files that are mounted";
        "a file that is mounted by itself stays the old one there when it is replaced"
    KeysApart "keys_apart"
        "installed and previous key lie in no data directory";
        "pg_basebackup and pg_rewind copy what lies there, keys included"
    Label "label"
        "SELinux lets the server read the installed files, and those that the next install makes";
        "a confined server that may not read them does not start with them"
    ServiceUser "service_user"
        "the service's user owns the files and the server";
        "the service may neither write the files of another user nor signal its server"
    Server "server"
        "the server runs, and which process it is was proven";
        "what is served can be proven on a running server alone"
    Ssl "ssl"
        "ssl is on";
        "without it no client is encrypted, whatever is installed"
    ServerFiles "server_files"
        "ssl_cert_file and ssl_key_file name the files of the instance";
        "a server that uses other files never serves what is renewed"
    ClientCaFiles "client_ca_files"
        "ssl_ca_file and ssl_crl_file name the files of the instance, where it has such";
        "a server that uses other files judges its clients by those, whatever is renewed"
    ClientCaExpiry "client_ca_expiry"
        "each CA of clients, and its CRL, has its time";
        "a CA that has expired, and one whose CRL is out of date, keep all its clients out"
    Restart "restart"
        "the server could start again: its configuration and the files that it names load";
        "a fault there is an outage at the next restart"
    PendingEdits "pending_edits"
        "no edit of the server's configuration waits for a reload or a restart";
        "the reload of the next deployment applies such an edit too"
    ServerNames "server_names"
        "the config says which names clients verify";
        "without them a certificate for other names is installed, and clients refuse it"
    Served "served"
        "new clients get the installed certificate";
        "what is served is what counts"
    ServedTrusted "served_trusted"
        "what is served at each address is accepted for each of server_names";
        "a client with sslmode=verify-full refuses anything else"
    Plaintext "plaintext"
        "pg_hba.conf lets nobody of another host in without encryption";
        "whoever is on the way reads what such a client sends, its password perhaps"
    SslSni "ssl_sni"
        "which names decide what is served (ssl_sni of PostgreSQL 19)";
        "what pg_hosts.conf names is served in place of ssl_cert_file"
    Configured "configured"
        "the config names an instance";
        "without one pgcertd keeps nothing"
    Uncovered "uncovered"
        "an instance covers each PostgreSQL server of this host";
        "the certificate of a server that nobody covers expires in silence"
    UnitUser "unit_user"
        "this host has the user that the service runs as";
        "systemd does not start a service of a user who does not exist"
    Renewal "renewal"
        "something renews the lineage: an ACME client's timer or crontab";
        "a certificate that nothing renews expires"
    OldHook "old_hook"
        "no hook of an ACME client copies certificates for PostgreSQL, restarts or reloads it";
        "a restart ends every session, and a copy undoes what pgcertd has installed"
    Clock "clock"
        "the clock is synchronised, and not before what has happened";
        "by a wrong clock a valid certificate is refused, and an expired one is taken"
    Inotify "inotify"
        "the service's user may have more inotify watches and instances";
        "without a watch a renewal is seen minutes later, at the next comparison"
    Sandbox "sandbox"
        "the unit's sandbox lets the service at each path";
        "what the unit hides is not there for the service, and what it keeps read-only cannot be written"
    Landlock "landlock"
        "Landlock confines each thread to its directories";
        "without it threads are limited by ownership and capabilities alone"
}

impl Serialize for FindingKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_in_snake_case_and_differ() {
        let ids: std::collections::BTreeSet<_> =
            FindingKind::ALL.iter().map(|kind| kind.id()).collect();
        assert_eq!(ids.len(), FindingKind::ALL.len());
        let snake = |id: &&str| id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(ids.iter().all(snake), "{ids:?}");
    }

    #[test]
    fn docs_findings_tells_each_kind_as_the_table_does() {
        let page = include_str!("../../docs/findings.md");
        let rows: Vec<&str> = page
            .lines()
            .filter(|text| text.starts_with("| `"))
            .collect();
        let told: Vec<String> = FindingKind::ALL
            .iter()
            .map(|kind| format!("| `{}` | {} | {} |", kind.id(), kind.good(), kind.why()))
            .collect();
        assert_eq!(rows, told, "docs/findings.md");
    }
}
