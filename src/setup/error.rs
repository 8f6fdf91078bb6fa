//! Why a server cannot be set up, or was not, and what to do.

use std::io;
use std::path::PathBuf;

use super::require_tls::TighteningError;
use crate::config::{ConfigError, ServerKind};
use crate::host::look::CannotLook;
use crate::host::privilege::PrivilegeError;
use crate::server::postmaster::Absence;
use crate::server::settings::NotUsed;
use crate::server::sql::SqlError;
use crate::server::{InstanceError, Unseen};
use crate::text::{CommandLine, UNPASTEABLE, shown};

/// What an absence says, and what mends it.
fn sentence(absence: &Absence) -> String {
    match absence.mend() {
        "" => absence.to_string(),
        mend => format!("{absence}; {mend}"),
    }
}

/// A set-up cannot be begun, or came to an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The config is wrong, or would be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread could not be had.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The instance's files cannot be worked on.
    #[error(transparent)]
    Instance(Box<InstanceError>),
    /// The server could not be asked.
    #[error(transparent)]
    Sql(Box<SqlError>),
    /// `pg_hba.conf` cannot be changed.
    #[error(transparent)]
    Tightening(Box<TighteningError>),
    /// It was, and still lets clients in without TLS.
    #[error(
        "pg_hba.conf still lets clients of other hosts in without TLS, as {diff} lines of difference show; has somebody edited it just now?"
    )]
    Exposed {
        /// How many lines would have to differ.
        diff: usize,
    },
    /// Clients come in without TLS all the same.
    #[error(
        "a client at {ip} is still let in without TLS, though no line of pg_hba.conf that pgcertd can judge says so; the server's log tells which one"
    )]
    LetIn { ip: std::net::IpAddr },
    /// A look at the host failed, so that nobody knows which servers run.
    #[error("which PostgreSQL servers run on this host is not known: {}", .0.sentence())]
    NotKnown(#[from] CannotLook),
    /// Whether a line of `pg_hosts.conf` names the instance's files is not known.
    #[error("which files pg_hosts.conf names is not known: {}", .0.sentence())]
    HostFiles(CannotLook),
    /// Whether the one that was named runs is not known.
    #[error("{}: {}", data.display(), sentence(absence))]
    MayRun { data: PathBuf, absence: Absence },
    #[error(
        "no PostgreSQL server that may be looked at runs on this host; start it, or run pgcertd as root"
    )]
    NoServer,
    /// The one that was named does not.
    #[error("no server runs on {}: {why}; start it, and set it up then", data.display())]
    NotRunning {
        data: PathBuf,
        /// Why it is thought so.
        why: String,
    },
    /// It is no Postgres, whose settings could be made over SQL.
    #[error(
        "{name} is a {}: pgcertd sets up PostgreSQL servers alone; `pgcertd check` says what to set in its configuration", kind.name()
    )]
    OtherKind { name: String, kind: ServerKind },
    /// It runs in a container.
    #[error(
        "the server of {} has {what}: paths and addresses there are not this host's; \
         add it to pgcertd's config by hand, data_directory, cert_file and address as this host sees them, and set \
         ssl_cert_file and ssl_key_file as the server sees them", data.display()
    )]
    Apart { data: PathBuf, what: &'static str },
    #[error(
        "the server of {} is user {owner}'s: run this as root, or as {owner} where that user may write pgcertd's config",
        data.display()
    )]
    Stranger { data: PathBuf, owner: String },
    /// Only servers of users for whom pgcertd keeps nothing are left.
    #[error(
        "the servers that run here and are not set up belong to others than {served}, for whom pgcertd works here; \
         name one to give its user the private key of a lineage:\n{}",
        pasteable(choices)
    )]
    Strangers {
        served: String,
        /// A command for each, and its user.
        choices: Vec<String>,
    },
    /// PostgreSQL refuses to run as root.
    #[error("{} belongs to root: PostgreSQL does not run as root, and a key is given to no server that claims to; give the data directory to the user who runs the server", .0.display())]
    OfRoot(PathBuf),
    /// The config's directory cannot be written.
    #[error("{}: cannot be written: {source}; run this as root", directory.display())]
    NotWritable {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A choice was not made.
    #[error("{question}; say which:\n{}", pasteable(choices))]
    Unchosen {
        /// What there are several of.
        question: String,
        choices: Vec<String>,
    },
    /// What was asked for is not what the config has.
    #[error(
        "{} has the instance {name} already, with another {key}: change it there, or leave out {flag}",
        file.display()
    )]
    Differs {
        file: PathBuf,
        name: String,
        key: &'static str,
        flag: &'static str,
    },
    /// There is nothing to serve.
    #[error("{0}")]
    NoLineage(String),
    /// The leaf has no name that a client can ask for.
    #[error(
        "the certificate of {lineage} is for {names}, and no name of this host is among them: say what clients connect to with --server-name"
    )]
    NoNames { lineage: String, names: String },
    /// A path cannot be written down.
    #[error("{} is not UTF-8, and a config cannot name it", .0.display())]
    Unsayable(PathBuf),
    /// Patroni has the server's configuration.
    #[error(
        "Patroni keeps the configuration of the server of {}: set ssl, ssl_cert_file and ssl_key_file there; \
         `{print}` shows the lines", data.display()
    )]
    Managed { data: PathBuf, print: String },
    /// `allow_alter_system = off`.
    #[error(
        "allow_alter_system is off: another program keeps the configuration of the server of {}; \
         `{print}` shows the lines to set there", data.display()
    )]
    Forbidden { data: PathBuf, print: String },
    /// The command line goes before every file.
    #[error(
        "the server was started with {}, which goes before ALTER SYSTEM and every file: take that out of its command line, \
         restart it, and set it up then", settings.join(" and ")
    )]
    CommandLine { settings: Vec<String> },
    /// A reload would take in nothing.
    #[error("the server's configuration has an error, and a reload would take in nothing: {}; mend that first", faults.join("; "))]
    Faulty { faults: Vec<String> },
    /// The login may not change settings.
    #[error("role {role} is no superuser: run this as the user whose role is one")]
    NoSuperuser { role: String },
    #[error(
        "listen_addresses is empty: no client can connect by TCP, and over Unix sockets PostgreSQL speaks no TLS; \
         set it (ALTER SYSTEM SET listen_addresses = '*'), restart the server, and set it up then"
    )]
    NoTcp,
    /// A line of `pg_hosts.conf` gives clients other files, which no setting changes.
    #[error("{}: {}, and set it up then", .0.why, .0.mend)]
    ByName(NotUsed),
    /// `mode = "observe"`.
    #[error(
        "mode = \"observe\": pgcertd is to touch nothing of {0}; change that in its config first"
    )]
    Observed(String),
    /// The lineage's bundle may not go in.
    #[error("{0}")]
    Unfit(String),
    #[error("{}: {source}", path.display())]
    NewFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// systemd does not read the unit's drop-in.
    #[error(
        "{0}; systemd has to read the daemon's unit again before its daemon can serve this instance"
    )]
    Systemd(String),
    /// What is remembered of a set-up cannot be read.
    #[error("{}: {why}; nothing was changed", path.display())]
    Record { path: PathBuf, why: String },
    #[error("no set-up of {0} is remembered: there is nothing to take back")]
    NoRecord(String),
    /// Another one is at work.
    #[error("another `pgcertd setup` is at work on {}; wait for it", .0.display())]
    Busy(PathBuf),
    /// The server does not show the bundle.
    #[error("new clients do not get {wanted}: {seen}{}", told(faults))]
    NotServed {
        /// The leaf that they should get.
        wanted: String,
        seen: String,
        /// What else may be at fault.
        faults: Vec<String>,
    },
    /// What is served cannot be seen.
    #[error("{}", .0.sentence())]
    Unseen(Box<Unseen>),
    /// A fault that a test has planted.
    #[cfg(feature = "failpoints")]
    #[error("a fault was planted after this step")]
    Planted,
}

/// Large errors are boxed, since every step carries one.
macro_rules! boxed {
    ($($error:ty => $variant:ident),*) => {$(
        impl From<$error> for SetupError {
            fn from(error: $error) -> SetupError {
                SetupError::$variant(Box::new(error))
            }
        }
    )*};
}

boxed!(TighteningError => Tightening, Unseen => Unseen, InstanceError => Instance, SqlError => Sql);

impl SetupError {
    /// Whether the command was wrong, rather than the server or the host.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            SetupError::Unchosen { .. }
                | SetupError::Strangers { .. }
                | SetupError::Differs { .. }
                | SetupError::NoNames { .. }
                | SetupError::NoRecord(_)
                | SetupError::Config(_)
        )
    }

    /// A line for one of several choices: its command, where that can be pasted.
    pub(crate) fn choice(command: impl AsRef<str>) -> String {
        let command = command.as_ref();
        match CommandLine::checked(command) {
            Some(command) => format!("  {command}"),
            None => format!("  {UNPASTEABLE}: {}", shown(command)),
        }
    }
}

fn pasteable(commands: &[String]) -> String {
    let lines: Vec<String> = commands.iter().map(SetupError::choice).collect();
    lines.join("\n")
}

fn told(faults: &[String]) -> String {
    match faults {
        [] => "; the server's log says why".into(),
        many => format!("; {}", many.join("; ")),
    }
}
