//! Every key of the configuration, declared once: its type, its default, and what pgcertd.toml(5) and the schema for
//! editors say of it. `instance` has the keys of an instance, `notices` those of `[notify]`.
//!
//! A new key is written here, see [`table!`], in [`InstanceConfig`](super::InstanceConfig) where the program needs it,
//! and in the model `config/pgcertd.toml`. `tests/keys.rs` loads each default and example.

#[cfg(test)]
pub(crate) mod described;
#[cfg(test)]
mod holds;
mod instance;
mod notices;

use std::time::Duration;

use super::table::{Instances, Table, table};
use super::values::{AnyDuration, AnyPath, ListenAt, PositiveDuration, TextfilePath};
use super::{DEFAULT_RESYNC, DEFAULT_RUNTIME_DIRECTORY, DEFAULT_STATE_DIRECTORY, DEFAULT_WATCHED};

pub(crate) use instance::{OWN, WrittenExpiry, WrittenFiles, WrittenInstance};
pub(crate) use notices::WrittenNotify;

table! {
    /// The file; the keys are those above all tables.
    WrittenConfig, expected "one table" {
        /// Where a directory for each instance holds the default target, the previous bundle, and what was refused
        /// or held back. The unit may write in the default alone; another one needs `ReadWritePaths=` in a drop-in.
        state_directory: AnyPath, default(AnyPath(DEFAULT_STATE_DIRECTORY.into())), example(r#""/srv/pgcertd""#);

        /// Where `status.json` is, the daemon's last view, without keys. It need not survive a boot.
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

/// A file in `conf.d`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFragment {
    #[serde(default)]
    pub(super) instance: Instances<WrittenInstance>,
}

table! {
    /// `[watch]`.
    WrittenWatch, expected "one table, [watch]" {
        /// Each subdirectory of these is a lineage. Of one that no instance names only `pgcertd setup` opens a
        /// file, the certificate.
        directories: Vec<AnyPath>,
            default(vec![AnyPath(DEFAULT_WATCHED.into())]),
            example(r#"["/etc/letsencrypt/live", "/var/lib/dehydrated/certs"]"#);

        /// The quiet time after which files that were written in place count as written. What is renamed or linked
        /// into place is taken at once.
        debounce: AnyDuration, default(AnyDuration(Duration::from_millis(200))), example(r#""1s""#);

        /// How long the files of a lineage may not belong together, or stay open for writing. Until then the
        /// instance is `waiting`, after it `source_invalid`.
        settle_timeout: PositiveDuration, default(PositiveDuration(Duration::from_secs(600))), example(r#""30m""#);

        /// The time between two full comparisons where nothing happened: the longest delay that a lost event can
        /// cause.
        resync: PositiveDuration, default(PositiveDuration(DEFAULT_RESYNC)), example(r#""1h""#);

        /// Look at the lineages this often as well. For file systems that give no events, such as NFS.
        poll: PositiveDuration, otherwise("off"), example(r#""1m""#);
    }
}

table! {
    /// `[metrics]`.
    WrittenMetrics, expected "one table, [metrics]" {
        /// Where `GET /metrics` is answered, for Prometheus: as OpenMetrics where that is asked for, else as
        /// Prometheus's own text. No other address than one of this host alone is taken, since there is neither a
        /// password nor encryption; nothing in it is secret. A Unix socket may be used by every user. One that was
        /// left behind is replaced, where nobody answers there.
        ///
        /// What cannot be had is said in the log and tried again at every `resync`; a reload that asks for it
        /// leaves the old place open until then.
        listen: ListenAt, otherwise("the metrics are not served"), example(r#""127.0.0.1:19187""#);

        /// A file with the same metrics for the textfile collector of node_exporter, replaced as a whole whenever
        /// something was compared, and readable by all. Its directory must exist, and pgcertd's user must be able
        /// to write there; for the unit it needs `ReadWritePaths=` in a drop-in.
        textfile: TextfilePath,
            otherwise("none is written"),
            example(r#""/var/lib/prometheus/node-exporter/pgcertd.prom""#);
    }
}
