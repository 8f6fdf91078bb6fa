//! What the configuration holds, once it is known to be valid.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::address::Address;
use super::from_text::choices;
use super::listen::Listen;
use super::paths;
use crate::bundle::{Thresholds, TrustFiles};

/// The file that is read unless `--config` names another.
pub(crate) const DEFAULT_FILE: &str = "/etc/pgcertd/pgcertd.toml";

/// The default of [`Config::state_directory`].
pub(crate) const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/pgcertd";

/// The default of [`Config::runtime_directory`].
pub(crate) const DEFAULT_RUNTIME_DIRECTORY: &str = "/run/pgcertd";

/// The default target: this file in [`Config::state_of`] the instance.
pub(crate) const DEFAULT_TARGET: &str = "server.pem";

/// The default of [`WatchConfig::resync`].
pub(crate) const DEFAULT_RESYNC: Duration = Duration::from_secs(600);

/// The whole configuration. Its keys and their defaults are declared in [`keys`](super::keys).
///
/// All paths are absolute, without `.` and `..`. A relative path was resolved against the directory of the file that it
/// was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The file that this was loaded from, made absolute.
    pub(crate) file: PathBuf,
    pub(crate) watch: WatchConfig,
    /// The instances as they are written: the file's first, then each fragment's. May be empty, as in a package that was
    /// just installed.
    pub(crate) instances: Vec<InstanceConfig>,
    /// Holds a subdirectory of state for each instance.
    pub(crate) state_directory: PathBuf,
    /// Holds what need not survive a reboot, such as `status.json`.
    pub(crate) runtime_directory: PathBuf,
    pub(crate) metrics: MetricsConfig,
    /// For `pgcertd notify`; the daemon doesn't use it.
    pub(crate) notify: Notify,
}

/// The `[metrics]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MetricsConfig {
    /// Where to answer a scrape.
    pub(crate) listen: Option<Listen>,
    /// The file that is written for node_exporter; its name ends in `.prom`.
    pub(crate) textfile: Option<PathBuf>,
}

/// The `[watch]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchConfig {
    /// Each subdirectory of these is a lineage. May be empty if every instance names its lineage by an absolute path.
    pub(crate) directories: Vec<PathBuf>,
    /// The quiet time that ends a burst of changes. May be zero.
    pub(crate) debounce: Duration,
    /// How long the files of a lineage may fail to match before that is a problem.
    pub(crate) settle_timeout: Duration,
    /// The time between two full comparisons when nothing happens.
    pub(crate) resync: Duration,
    /// The time between two checks of the lineages, for file systems that report no events.
    pub(crate) poll: Option<Duration>,
}

/// One server: an `[[instance]]` table, completed from `[defaults]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceConfig {
    /// The name in logs, metrics, commands and paths: letters, digits, `.`, `_` and `-`, not starting with `.` or `-`.
    /// Unique.
    pub(crate) name: String,
    /// Where its certificate comes from.
    pub(crate) lineage: Lineage,
    /// What kind of server it is, and where it is. Several instances of one Postgres share it, if each has its own
    /// server names.
    pub(crate) place: ServerHome,
    /// The file that the server's setting names, `ssl_cert_file` for Postgres.
    pub(crate) cert_file: PathBuf,
    /// The same for `ssl_key_file`; the same path as [`InstanceConfig::cert_file`] if one file holds both.
    pub(crate) key_file: PathBuf,
    /// The CAs of client certificates, for `ssl_ca_file`. None: pgcertd doesn't manage that file.
    pub(crate) ca: Option<Companion>,
    /// What these have revoked, for `ssl_crl_file`. Always none without [`InstanceConfig::ca`].
    pub(crate) crl: Option<Companion>,
    /// The names that clients verify, and that the leaf must cover. Empty: any leaf is accepted.
    pub(crate) server_names: Vec<ServerName<'static>>,
    pub(crate) mode: Mode,
    pub(crate) reload: Reload,
    /// The owner of installed files. None: the owner of [`ServerHome::path`].
    pub(crate) owner: Option<Account>,
    /// The group of installed files. None: the group of [`ServerHome::path`].
    pub(crate) group: Option<Account>,
    /// Where to see what the instance serves. None: where the server itself says that it listens.
    pub(crate) address: Option<Address>,
    pub(crate) verify: Verify,
    /// How long the proof may take.
    pub(crate) verify_timeout: Duration,
    /// How long a new bundle is held before it is deployed. May be zero.
    pub(crate) delay: Duration,
    /// The files of the lineage. None: the names that certbot, dehydrated and Kubernetes use are tried.
    pub(crate) files: Option<Files>,
    /// How long before it ends a certificate is reported; see [`Expiry`](crate::bundle::Expiry) for the defaults.
    pub(crate) expiry: Thresholds,
    /// [`Config::file`] of the config that it belongs to: pgcertd's own, not the server's.
    pub(crate) config_file: PathBuf,
}

/// A CA or CRL file, installed in the same deployment as the chain and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Companion {
    /// Where it comes from: a relative path inside the lineage, or an absolute one.
    pub(crate) source: PathBuf,
    /// The file that the server's setting names.
    pub(crate) file: PathBuf,
}

/// Where a lineage may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// As written: the name of a subdirectory, or an absolute path.
    pub(crate) name: String,
    /// Where it may be: the name below each watched directory, in order, or the one absolute path. Never empty.
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

impl ServerKind {
    /// The program's name, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Postgres => "Postgres",
            ServerKind::PgBouncer => "PgBouncer",
            ServerKind::Patroni => "Patroni",
        }
    }

    /// The default of [`InstanceConfig::verify_timeout`].
    pub(crate) fn verify_timeout(self) -> Duration {
        match self {
            ServerKind::Postgres | ServerKind::PgBouncer => Duration::from_secs(10),
            // It reloads in its next loop, and `loop_wait` is 10 s by default.
            ServerKind::Patroni => Duration::from_secs(30),
        }
    }
}

/// What kind of server it is, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerHome {
    pub(crate) kind: ServerKind,
    /// The data directory of a Postgres, which holds `postmaster.pid` while it runs; otherwise the file that the server
    /// is started with.
    pub(crate) path: PathBuf,
}

impl ServerHome {
    /// The data directory; only a Postgres has one.
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
    /// How an instance is told to load new files: the value of `reload`.
    pub(crate) enum ReloadBy {
        /// SIGHUP to the server's process, after checking its identity.
        Signal = "signal",
        /// `pg_ctl reload`, of the server's own version; only for Postgres.
        PgCtl = "pg_ctl",
        /// Run `reload_command`.
        Command = "command",
    }
}

/// How an instance is told to load new files: [`ReloadBy`] and its command.
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
    /// By ID, written as an integer. Never `u32::MAX`, which means "leave it as it is" to chown(2).
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

/// The files of a lineage, if the config names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The leaf and its intermediates: a path inside the lineage.
    pub(crate) chain: String,
    /// The private key: a path inside the lineage.
    pub(crate) key: String,
}

impl Config {
    /// The directory of the fragments, `conf.d` next to the file, whether it exists or not.
    pub(crate) fn fragments(&self) -> PathBuf {
        paths::fragments_beside(&self.file)
    }

    /// The data directories of all Postgres instances.
    pub(crate) fn data_directories(&self) -> Vec<PathBuf> {
        let all = self.instances.iter();
        all.filter_map(|instance| instance.data_directory().map(Path::to_owned))
            .collect()
    }

    pub(crate) fn instance(&self, name: &str) -> Option<&InstanceConfig> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    /// The directory that holds what is remembered about an instance: `state_directory/NAME`.
    pub(crate) fn state_of(&self, instance: &InstanceConfig) -> PathBuf {
        self.state_directory.join(&instance.name)
    }

    /// The directory of the lock to hold while working on `instance`. Several instances of one server share a lock, since
    /// a reload of one loads the files of all.
    pub(crate) fn lock_directory_of(&self, instance: &InstanceConfig) -> PathBuf {
        let of_server = self
            .instances
            .iter()
            .find(|entry| entry.place == instance.place);
        self.state_of(of_server.unwrap_or(instance))
    }

    /// A pgcertd command to type in a shell, with this config and these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        command(&self.file, arguments)
    }
}

impl InstanceConfig {
    /// Whether one file holds both chain and key, and so is replaced by one rename.
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

    /// Every file that is installed for it, once each, with its key.
    pub(super) fn targets_by_key(&self) -> impl Iterator<Item = (&'static str, &Path)> {
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

    /// Every file that is installed for it, once each: certificate, key, CA file, CRL file.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Path> {
        self.targets_by_key().map(|(_, file)| file)
    }

    /// What kind of server it is.
    pub(crate) fn kind(&self) -> ServerKind {
        self.place.kind
    }

    /// The data directory; only a Postgres has one.
    pub(crate) fn data_directory(&self) -> Option<&Path> {
        self.place.data_directory()
    }

    /// The directory or file by which it is known, see [`ServerHome::path`].
    pub(crate) fn home(&self) -> &Path {
        &self.place.path
    }

    /// A pgcertd command about this instance, to type in a shell.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        command(&self.config_file, &[arguments, &[&self.name]].concat())
    }
}

fn command(file: &Path, arguments: &[&str]) -> String {
    let file = file.to_string_lossy();
    let mut words = vec!["pgcertd"];
    if file != DEFAULT_FILE {
        words.extend(["--config", &file]);
    }
    words.extend(arguments);
    shell_words::join(words)
}

/// The default of [`Notify::state_directory`]: the one that the unit creates.
pub(crate) const DEFAULT_NOTIFY_DIRECTORY: &str = "/var/lib/pgcertd-notify";

/// The `[notify]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notify {
    /// The program and its arguments, never empty. None: nobody is notified.
    pub(crate) command: Option<Vec<String>>,
    /// How long the command may run.
    pub(crate) timeout: Duration,
    /// What to report. May be empty.
    pub(crate) on: BTreeSet<Occasion>,
    /// How long a change must last before it is reported. May be zero.
    pub(crate) after: Duration,
    /// What is still failing is reported again after this time.
    pub(crate) repeat: Duration,
    /// Holds a record of what was reported.
    pub(crate) state_directory: PathBuf,
}

choices! {
    /// What is reported.
    #[derive(PartialOrd, Ord, Hash, serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum Occasion {
        /// An instance fails, or fails in a different way; a certificate is about to expire; the daemon has stopped or
        /// hangs; a server is running that no instance covers.
        Failure = "failure",
        /// The failure is over.
        Recovery = "recovery",
        /// An instance serves a new certificate.
        Deployed = "deployed",
    }
}
