//! The configuration: TOML as written, turned into values that are right.
//!
//! [`Config::load`] reads the file and the fragments in `conf.d` beside it, in name order. What it returns
//! has been checked as far as it can be without touching an instance; what it refuses comes back as a
//! [`ConfigError`] that shows file, line, column, the offending text and what was expected.
//!
//! Nothing here opens a certificate, a key or a data directory, or asks whether they exist: that is what
//! `check` is for. The file system is consulted in one case alone, where two paths may be one (see `paths`).
//!
//! Stages: `document` (the text and its TOML) → `keys` (what each key is, and the type of its value) → `validate` (the
//! keys of one instance together) → `conflicts` (what only shows when all instances are known). A value reads itself
//! from TOML (`values`, in the words of `expected`), so that what was read is right, and `document` adds the place.

mod address;
mod companions;
mod conflicts;
mod document;
pub(crate) mod duration;
mod error;
mod expected;
mod from_text;
pub(crate) mod keys;
mod listen;
pub(crate) mod notification;
mod paths;
mod table;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::bundle::Thresholds;
use from_text::choices;

pub use address::Address;
pub(crate) use conflicts::SHARED;
pub(crate) use error::ConfigError;
pub(crate) use listen::Listen;
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

/// What [`WatchConfig::resync`] is by default.
pub(crate) const DEFAULT_RESYNC: Duration = Duration::from_secs(600);

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
    /// The owner of installed files. Default: none, the owner of [`ServerHome::path`].
    pub(crate) owner: Option<Account>,
    /// The group of installed files. Default: none, the group of [`ServerHome::path`].
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

choices! {
    /// What kind of server an instance is.
    #[derive(PartialOrd, Ord)]
    pub enum ServerKind {
        /// PostgreSQL.
        Postgres = "postgres",
        /// PgBouncer: `client_tls_cert_file` and `client_tls_key_file`, what it shows its clients.
        PgBouncer = "pgbouncer",
        /// Patroni: `restapi.certfile` and `restapi.keyfile`, what its REST API shows.
        Patroni = "patroni",
    }
}

impl Default for ServerKind {
    fn default() -> Self {
        Self::Postgres
    }
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
            ServerKind::Postgres | ServerKind::PgBouncer => Duration::from_secs(10),
            // It reloads in its next loop: `loop_wait` is 10 s by default.
            ServerKind::Patroni => Duration::from_secs(30),
        }
    }
}

/// What kind of server it is, and where it is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerHome {
    pub(crate) kind: ServerKind,
    /// For a Postgres its data directory, in which `postmaster.pid` lies while it runs; for another the file that it is
    /// started with.
    pub(crate) path: PathBuf,
}

impl ServerHome {
    /// The data directory, which only a Postgres has.
    pub(crate) fn data_directory(&self) -> Option<&Path> {
        (self.kind == ServerKind::Postgres).then_some(self.path.as_path())
    }

    /// The key of the config that names the path.
    pub(crate) fn key(&self) -> &'static str {
        match self.kind {
            ServerKind::Postgres => "data_directory",
            ServerKind::PgBouncer | ServerKind::Patroni => "config_file",
        }
    }
}

choices! {
    /// What may be done to an instance.
    pub(crate) enum Mode {
        /// Install, reload and verify.
        Manage = "manage",
        /// Something else installs the files; check them, reload and verify.
        Reload = "reload",
        /// Compare and report, and change nothing.
        Observe = "observe",
    }
}

choices! {
    /// How an instance is told of new files, as it is written.
    pub(crate) enum ReloadBy {
        /// SIGHUP to the server's process, after checking its identity.
        Signal = "signal",
        /// `pg_ctl reload`, of the server's own version; only for Postgres.
        PgCtl = "pg_ctl",
        /// Run `reload_command`.
        Command = "command",
    }
}

/// How an instance is told of new files: [`ReloadBy`], and the command where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reload {
    Signal,
    PgCtl,
    /// The program and its arguments. Never empty.
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

choices! {
    /// What counts as proof that an instance serves a certificate.
    pub(crate) enum Verify {
        /// A new TLS connection must show the certificate.
        Handshake = "handshake",
        /// No check, for servers without TCP: once it is installed and reloaded, it is done.
        None = "none",
    }
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

    /// Every file that is installed for it, each once, with its key: certificate, key, CA file, CRL file.
    fn targets_by_key(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let key_file = (!self.single_file()).then_some(&self.key_file);
        let all = [
            ("cert_file", Some(&self.cert_file)),
            ("key_file", key_file),
            ("ca_file", self.ca.as_ref().map(|ca| &ca.file)),
            ("crl_file", self.crl.as_ref().map(|crl| &crl.file)),
        ];
        all.into_iter()
            .filter_map(|(key, file)| Some((key, file?.as_path())))
    }

    /// Every file that is installed for it, each once.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Path> {
        self.targets_by_key().map(|(_, file)| file)
    }

    /// What kind of server it is.
    pub(crate) fn kind(&self) -> ServerKind {
        self.place.kind
    }

    /// The data directory, which only a Postgres has.
    pub(crate) fn data_directory(&self) -> Option<&Path> {
        self.place.data_directory()
    }

    /// The directory or file by which it is known, see [`ServerHome::path`].
    pub(crate) fn home(&self) -> &Path {
        &self.place.path
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
