//! The configuration: TOML as written, turned into values that are right.
//!
//! [`Config::load`] reads the file and the fragments in `conf.d` beside it, in name order. What it returns
//! has been checked as far as it can be without touching an instance; what it refuses comes back as a
//! [`ConfigError`] that shows file, line, column, the offending text and what was expected.
//!
//! Nothing here opens a certificate, a key or a data directory, or asks whether they exist: that is what
//! `check` is for. The file system is consulted in one case alone, where two paths may be one (see `paths`).
//!
//! Stages: `document` (text and TOML) → `written` (the keys as they stand there) → `validate` and `values` (one
//! value at a time, in the words of `expected`) → `conflicts` (what only shows when all instances are known).

mod address;
mod companions;
mod conflicts;
mod document;
pub(crate) mod duration;
mod error;
mod expected;
#[cfg(test)]
pub(crate) mod keys;
mod layers;
mod listen;
pub(crate) mod notification;
mod paths;
#[cfg(test)]
mod tests;
mod validate;
mod values;
mod written;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::bundle::{Thresholds, TrustFiles};

pub use address::Address;
pub(crate) use conflicts::SHARED;
pub(crate) use error::ConfigError;
pub(crate) use listen::{Listen, ListenError};
pub(crate) use notification::{Notify, Occasion};

/// The file that is read where `--config` names no other.
pub(crate) const DEFAULT_FILE: &str = "/etc/pgcertd/pgcertd.toml";

/// Where [`Config::state_directory`] is by default.
pub(crate) const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/pgcertd";

/// Where [`Config::runtime_directory`] is by default.
pub(crate) const DEFAULT_RUNTIME_DIRECTORY: &str = "/run/pgcertd";

/// The directory of which certbot makes a subdirectory for each lineage, watched by default.
pub(crate) const DEFAULT_WATCHED: &str = "/etc/letsencrypt/live";

/// The file in an instance's part of the state directory that is its target by default.
pub(crate) const DEFAULT_TARGET: &str = "server.pem";

/// The file there that is the target of the CA file by default.
pub(crate) const DEFAULT_CA_TARGET: &str = "ca.pem";

/// The file there that is the target of the CRL file by default.
pub(crate) const DEFAULT_CRL_TARGET: &str = "crl.pem";

/// What [`WatchConfig::debounce`] is by default.
pub(crate) const DEFAULT_DEBOUNCE: Duration = Duration::from_millis(200);

/// What [`WatchConfig::settle_timeout`] is by default.
pub(crate) const DEFAULT_SETTLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What [`WatchConfig::resync`] is by default.
pub(crate) const DEFAULT_RESYNC: Duration = Duration::from_secs(600);

/// What [`InstanceConfig::verify_timeout`] is by default.
pub(crate) const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// What it is by default for [`ServerKind::Patroni`], which reloads in its next loop: `loop_wait` is 10 s
/// by default.
pub(crate) const DEFAULT_VERIFY_TIMEOUT_OF_PATRONI: Duration = Duration::from_secs(30);

/// What [`InstanceConfig::delay`] is by default.
pub(crate) const DEFAULT_DELAY: Duration = Duration::ZERO;

/// The whole configuration.
///
/// All paths in it are absolute, without `.` and `..`. A relative path was resolved against the directory of
/// the file that it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The file that this was loaded from, made absolute.
    pub(crate) file: PathBuf,
    /// What is watched, and how often it is looked at.
    pub(crate) watch: WatchConfig,
    /// The instances, in the order in which they are written: the file's first, then each fragment's. May be
    /// empty, as in a package that was just installed.
    pub(crate) instances: Vec<InstanceConfig>,
    /// The directory that holds a subdirectory of state for each instance. Default: `/var/lib/pgcertd`.
    pub(crate) state_directory: PathBuf,
    /// The directory for what need not survive a boot, such as `status.json`. Default: `/run/pgcertd`.
    pub(crate) runtime_directory: PathBuf,
    /// Where the metrics are to be had.
    pub(crate) metrics: MetricsConfig,
    /// Whom `pgcertd notify` tells what; the daemon has no use for it.
    pub(crate) notify: Notify,
}

/// The `[metrics]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MetricsConfig {
    /// Where to answer a scrape. Default: nowhere.
    pub(crate) listen: Option<Listen>,
    /// The file that is written for node_exporter; its name ends in `.prom`. Default: none.
    pub(crate) textfile: Option<PathBuf>,
}

/// The `[watch]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchConfig {
    /// The directories of which each subdirectory is a lineage. Default: `/etc/letsencrypt/live` alone. May be
    /// empty where every instance names its lineage by an absolute path.
    pub(crate) directories: Vec<PathBuf>,
    /// The quiet time that ends a burst of changes. Default: 200 ms. May be zero.
    pub(crate) debounce: Duration,
    /// How long the files of a lineage may stay unmatched before that is a problem. Default: 10 minutes.
    pub(crate) settle_timeout: Duration,
    /// The time between two full comparisons where nothing happened. Default: 10 minutes.
    pub(crate) resync: Duration,
    /// The time between two looks at the lineages where the file system gives no events. Default: none, no such
    /// looks are taken.
    pub(crate) poll: Option<Duration>,
}

/// One server: an `[[instance]]` table, completed from `[defaults]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceConfig {
    /// The name in logs, metrics, commands and paths. It consists of letters, digits, `.`, `_` and `-`, starts
    /// with none of `.` and `-`, and is unique.
    pub(crate) name: String,
    /// Where its certificate comes from.
    pub(crate) lineage: Lineage,
    /// What kind of server this is, and where it is to be found. Unique among instances.
    pub(crate) place: ServerHome,
    /// The file that the server's setting names, `ssl_cert_file` for Postgres. Default: `server.pem` in [`Config::state_of`] the instance.
    pub(crate) cert_file: PathBuf,
    /// The file that the server's setting names, `ssl_key_file` for Postgres. Default: [`InstanceConfig::cert_file`], one file for both.
    pub(crate) key_file: PathBuf,
    /// The CAs of clients, for `ssl_ca_file`. Default: none, whatever that names is another's.
    pub(crate) ca: Option<Companion>,
    /// What these have revoked, for `ssl_crl_file`. Default: none. There is none without [`InstanceConfig::ca`].
    pub(crate) crl: Option<Companion>,
    /// The names that clients verify, and that the leaf must cover. Default: none, any leaf will do.
    pub(crate) server_names: Vec<ServerName<'static>>,
    /// What may be done to the instance. Default: [`Mode::Manage`].
    pub(crate) mode: Mode,
    /// How the instance is told of new files. Default: [`Reload::Signal`].
    pub(crate) reload: Reload,
    /// The owner of installed files. Default: none, the owner of [`ServerHome::home`].
    pub(crate) owner: Option<Account>,
    /// The group of installed files. Default: none, the group of [`ServerHome::home`].
    pub(crate) group: Option<Account>,
    /// Where to see what the instance serves. Default: none, where the server itself says that it listens.
    pub(crate) address: Option<Address>,
    /// What counts as proof. Default: [`Verify::Handshake`].
    pub(crate) verify: Verify,
    /// How long the proof may take. Default: that of its [`ServerKind`].
    pub(crate) verify_timeout: Duration,
    /// How long a new bundle is held before it is deployed. Default: zero, it is not held.
    pub(crate) delay: Duration,
    /// The files of the lineage, where they have names of their own. Default: none, the names that certbot and
    /// Kubernetes use are tried.
    pub(crate) files: Option<Files>,
    /// How long before its end the certificate is reported. Default: as usual, see [`Expiry`](crate::bundle::Expiry).
    pub(crate) expiry: Thresholds,
    /// [`Config::file`] of the config that it belongs to: pgcertd's own, not the server's.
    pub(crate) config_file: PathBuf,
}

/// A file beside chain and key, installed in the same deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Companion {
    /// Where it comes from: a relative path inside the lineage, or an absolute one.
    pub(crate) source: PathBuf,
    /// Where it goes, what the server's setting names.
    pub(crate) file: PathBuf,
}

/// Where a lineage may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The lineage as it was written: the name of a subdirectory, or an absolute path.
    pub(crate) name: String,
    /// The directories in which it may be: each watched directory joined with the name, in their order, or the
    /// one absolute directory. Never empty.
    pub(crate) candidates: Vec<PathBuf>,
}

/// What kind of server an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ServerKind {
    /// PostgreSQL, written `"postgres"`.
    #[default]
    Postgres,
    /// PgBouncer, the connection pooler, written `"pgbouncer"`: what it shows to its clients.
    PgBouncer,
    /// Patroni, which runs a Postgres, written `"patroni"`: what its REST API shows.
    Patroni,
}

impl ServerKind {
    /// The name of the program, as a person writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Postgres => "Postgres",
            ServerKind::PgBouncer => "PgBouncer",
            ServerKind::Patroni => "Patroni",
        }
    }

    /// What [`InstanceConfig::verify_timeout`] is by default.
    pub(crate) fn verify_timeout(self) -> Duration {
        match self {
            ServerKind::Postgres | ServerKind::PgBouncer => DEFAULT_VERIFY_TIMEOUT,
            ServerKind::Patroni => DEFAULT_VERIFY_TIMEOUT_OF_PATRONI,
        }
    }
}

/// By what a server is known, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerHome {
    /// A Postgres, by the directory in which `postmaster.pid` lies while it runs.
    Postgres { data_directory: PathBuf },
    /// A PgBouncer, by the file that it was started with.
    PgBouncer {
        /// Its `pgbouncer.ini`.
        config_file: PathBuf,
    },
    /// A Patroni, by the file that it was started with.
    Patroni { config_file: PathBuf },
}

impl ServerHome {
    /// What kind of server it is.
    pub(crate) fn kind(&self) -> ServerKind {
        match self {
            ServerHome::Postgres { .. } => ServerKind::Postgres,
            ServerHome::PgBouncer { .. } => ServerKind::PgBouncer,
            ServerHome::Patroni { .. } => ServerKind::Patroni,
        }
    }

    /// The data directory, which only a Postgres has.
    pub(crate) fn data_directory(&self) -> Option<&Path> {
        match self {
            ServerHome::Postgres { data_directory } => Some(data_directory),
            ServerHome::PgBouncer { .. } | ServerHome::Patroni { .. } => None,
        }
    }

    /// The directory or file by which it is known: its data directory, or its own configuration.
    pub(crate) fn home(&self) -> &Path {
        match self {
            ServerHome::Postgres { data_directory } => data_directory,
            ServerHome::PgBouncer { config_file } | ServerHome::Patroni { config_file } => {
                config_file
            }
        }
    }

    /// The key of the config that names [`ServerHome::home`].
    pub(crate) fn key(&self) -> &'static str {
        match self {
            ServerHome::Postgres { .. } => "data_directory",
            ServerHome::PgBouncer { .. } | ServerHome::Patroni { .. } => "config_file",
        }
    }
}

/// What may be done to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Install, reload and verify, written `"manage"`.
    #[default]
    Manage,
    /// Others place the files; check, reload and verify, written `"reload"`.
    Reload,
    /// Compare and report, and touch nothing, written `"observe"`.
    Observe,
}

/// How an instance is told of new files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Reload {
    /// SIGHUP to the server's process, written `"signal"`.
    #[default]
    Signal,
    /// `pg_ctl reload`, written `"pg_ctl"`; for Postgres alone.
    PgCtl,
    /// A command, written `"command"`, with the program and its arguments in `reload_command`. Never empty.
    Command(Vec<String>),
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// By name, written as a string.
    Name(String),
    /// By number, written as an integer. Never `u32::MAX`, which means "leave as it is" to chown(2).
    Id(u32),
}

/// What counts as proof that an instance serves a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verify {
    /// A TLS handshake shows it, written `"handshake"`.
    #[default]
    Handshake,
    /// Nothing is looked at, written `"none"`: for servers without TCP.
    None,
}

/// The files of a lineage that have names of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The file with the leaf and its intermediates, relative to the lineage and inside it.
    pub(crate) chain: String,
    /// The file with the private key, relative to the lineage and inside it.
    pub(crate) key: String,
}

impl Config {
    /// Loads the file and the fragments `conf.d/*.toml` beside it.
    ///
    /// A missing `conf.d` is fine, and what is hidden or does not end in `.toml` in it is ignored.
    ///
    /// # Errors
    /// The first thing found to be wrong, with the place where it is written. Values are checked one by one before
    /// they are compared with each other.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        validate::load(file, None)
    }

    /// Loads the same as if a fragment with `text` were in `conf.d` as well, under the path
    /// `fragment`: what may be written there is known before it is.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_with(file: &Path, fragment: &Path, text: &str) -> Result<Self, ConfigError> {
        validate::load(file, Some((fragment, text)))
    }

    /// The directory of the fragments, `conf.d` beside the file, whether it is there or not.
    pub(crate) fn fragments(&self) -> PathBuf {
        validate::fragments_beside(&self.file)
    }

    /// The data directories of all Postgres instances.
    pub(crate) fn data_directories(&self) -> Vec<PathBuf> {
        let all = self.instances.iter();
        all.filter_map(|instance| instance.data_directory().map(Path::to_owned))
            .collect()
    }

    /// The instance of that name, if there is one.
    pub(crate) fn instance(&self, name: &str) -> Option<&InstanceConfig> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    /// The directory that holds what is remembered of an instance: `state_directory/NAME`.
    pub(crate) fn state_of(&self, instance: &InstanceConfig) -> PathBuf {
        self.state_directory.join(&instance.name)
    }

    /// The directory of the lock that whoever works on `instance` holds: several instances of one server have one, since
    /// a reload of one loads the files of all.
    pub(crate) fn lock_directory_of(&self, instance: &InstanceConfig) -> PathBuf {
        let of_server = self
            .instances
            .iter()
            .find(|entry| entry.place == instance.place);
        self.state_of(of_server.unwrap_or(instance))
    }

    /// A command of pgcertd as a person types it, with this config and these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        command(&self.file, arguments)
    }
}

impl InstanceConfig {
    /// Whether one file holds both chain and key, and is thus replaced by one rename.
    pub(crate) fn single_file(&self) -> bool {
        self.cert_file == self.key_file
    }

    /// The CA and CRL files that are installed with its certificate.
    pub(crate) fn trust_files(&self) -> TrustFiles<Option<&Companion>> {
        TrustFiles {
            ca: self.ca.as_ref(),
            crl: self.crl.as_ref(),
        }
    }

    /// Every file that is installed for it, each once: certificate, key, CA file, CRL file.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Path> {
        let key = (!self.single_file()).then_some(&self.key_file);
        let trust_files = self.trust_files();
        let trust_files: Vec<&Path> = trust_files
            .present()
            .map(|(_, found)| found.file.as_path())
            .collect();
        [self.cert_file.as_path()]
            .into_iter()
            .chain(key.map(PathBuf::as_path))
            .chain(trust_files)
    }

    /// What kind of server it is.
    pub(crate) fn kind(&self) -> ServerKind {
        self.place.kind()
    }

    /// The data directory, which only a Postgres has.
    pub(crate) fn data_directory(&self) -> Option<&Path> {
        self.place.data_directory()
    }

    /// The directory or file by which it is known, see [`ServerHome::home`].
    pub(crate) fn home(&self) -> &Path {
        self.place.home()
    }

    /// A command of pgcertd about this instance, as a person types it.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        command(&self.config_file, &[arguments, &[&self.name]].concat())
    }
}

/// What stands in a shell for pgcertd with these arguments.
fn command(file: &Path, arguments: &[&str]) -> String {
    let file = file.to_string_lossy();
    let named = [file.as_ref()];
    let config: &[&str] = if file == DEFAULT_FILE {
        &[]
    } else {
        &["--config", named[0]]
    };
    shell_words::join([&["pgcertd"], config, arguments].concat())
}
