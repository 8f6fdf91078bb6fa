//! Every key of the configuration, declared once: its type, its default, an example, and what pgcertd.toml(5) and the
//! schema for editors say about it. `instance` has the keys of an instance, `notices` those of `[notify]`.
//!
//! To add a key of an instance:
//! 1. declare it in `instance`, as [`table!`] explains; the type of its value is one of `values`, or a new one there
//! 2. add the field to [`InstanceConfig`](super::InstanceConfig), and fill it in `validate.rs` by `keys.NAME()`
//! 3. show it in the model `config/pgcertd.toml`, and run `make reference` for the man page and the schema
//!
//! `tests/keys.rs` loads each default and example, and compares what errors say was expected.

#[cfg(test)]
pub(crate) mod described;
#[cfg(test)]
mod holds;
mod instance;
mod notices;

use std::time::Duration;

use super::table::{Instances, Table, table};
use super::values::{AnyDuration, AnyPath, ListenAt, PositiveDuration, TextfilePath};
use super::{DEFAULT_RESYNC, DEFAULT_RUNTIME_DIRECTORY, DEFAULT_STATE_DIRECTORY};

pub(crate) use instance::{OWN, WrittenExpiry, WrittenFiles, WrittenInstance};
pub(crate) use notices::WrittenNotify;

table! {
    /// The file: its top-level keys, and its tables.
    WrittenConfig, expected "one table" {
        /// Where each instance has a directory for its default target, its previous bundle, and a record of what
        /// was rejected or held back. The unit can only write to the default; for another one, add
        /// `ReadWritePaths=` in a drop-in.
        state_directory: AnyPath, default(AnyPath(DEFAULT_STATE_DIRECTORY.into())), example(r#""/srv/pgcertd""#);

        /// Where `status.json` is: the daemon's latest view, without any keys. It need not survive a reboot.
        runtime_directory: AnyPath,
            default(AnyPath(DEFAULT_RUNTIME_DIRECTORY.into())),
            example(r#""/run/pgcertd-test""#);
    }
    tables {
        watch: Table<WrittenWatch>,
        metrics: Table<WrittenMetrics>,
        notify: Table<WrittenNotify>,
        defaults: Table<WrittenInstance>,
        instance: Instances<WrittenInstance>,
    }
}

/// A fragment in `conf.d`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFragment {
    #[serde(default)]
    pub(super) instance: Instances<WrittenInstance>,
}

table! {
    /// `[watch]`.
    WrittenWatch, expected "one table, [watch]" {
        /// Each subdirectory of these is a lineage. In a lineage that no instance names, only `pgcertd setup` opens
        /// a file, the certificate.
        directories: Vec<AnyPath>,
            default(vec![AnyPath("/etc/letsencrypt/live".into())]),
            example(r#"["/etc/letsencrypt/live", "/var/lib/dehydrated/certs"]"#);

        /// How long a file that is written in place must be left alone before it counts as complete. A file that is
        /// renamed or linked into place is picked up at once.
        debounce: AnyDuration, default(AnyDuration(Duration::from_millis(200))), example(r#""1s""#);

        /// How long the files of a lineage may fail to match, or stay open for writing. Until then the instance is
        /// `waiting`; after that it is `source_invalid`.
        settle_timeout: PositiveDuration, default(PositiveDuration(Duration::from_secs(600))), example(r#""30m""#);

        /// The time between two full comparisons when nothing happens: the longest delay that a lost event can
        /// cause.
        resync: PositiveDuration, default(PositiveDuration(DEFAULT_RESYNC)), example(r#""1h""#);

        /// Check the lineages this often as well. For file systems that report no events, such as NFS.
        poll: PositiveDuration, otherwise("off"), example(r#""1m""#);
    }
}

table! {
    /// `[metrics]`.
    WrittenMetrics, expected "one table, [metrics]" {
        /// Where `GET /metrics` is answered, for Prometheus: in the OpenMetrics format if the client asks for it,
        /// otherwise in Prometheus's own text format. Only an address that is local to this host is accepted, since
        /// there is neither a password nor encryption; nothing in the metrics is secret. Any user may connect to a
        /// Unix socket. A stale socket is replaced if nobody answers on it.
        ///
        /// If the address is not available, that is logged, and retried at every `resync`; until it succeeds, a
        /// reload that changes the address leaves the old one open.
        listen: ListenAt, otherwise("the metrics are not served"), example(r#""127.0.0.1:19187""#);

        /// A file with the same metrics for node_exporter's textfile collector. It is replaced as a whole after
        /// each comparison, and everyone can read it. Its directory must exist, and pgcertd's user must be able to
        /// write there; the unit needs `ReadWritePaths=` in a drop-in for that.
        textfile: TextfilePath,
            otherwise("no file is written"),
            example(r#""/var/lib/prometheus/node-exporter/pgcertd.prom""#);
    }
}
