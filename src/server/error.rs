//! Why an instance cannot be worked on, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use super::files::FilesError;
use super::patroni;
use crate::host::directory::ReachError;
use crate::host::look::CannotLook;
use crate::host::privilege::{PrivilegeError, if_hidden};
use crate::problem::Problem;

/// An instance cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.problem())]
pub(crate) enum InstanceError {
    /// The data directory, or the server's own configuration, cannot be looked at.
    Home {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Somebody else than root and its owner may have bent the path to it.
    Bent {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        /// Where, and what to do.
        #[source]
        source: ReachError,
    },
    /// The server would be root's.
    OfRoot {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
    },
    /// There is no configuration of a Patroni at that path, and one runs without.
    NoFile {
        path: PathBuf,
        /// What runs, as a clause.
        runs: String,
    },
    /// Root owns the server's configuration, so that it does not tell the server's user.
    Unowned {
        path: PathBuf,
    },
    /// A user or group of the config does not exist.
    Account {
        /// `owner` or `group`.
        key: &'static str,
        name: String,
        /// `user` or `group`.
        kind: &'static str,
    },
    /// The state directory cannot be made.
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another pgcertd holds the lock.
    Locked {
        /// The data directory, or the server's own configuration.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    Files(#[from] FilesError),
    /// A thread could not get its rights.
    Privilege(#[from] PrivilegeError),
}

impl InstanceError {
    pub(crate) fn problem(&self) -> Problem {
        match self {
            InstanceError::Home { key, path, source } => {
                let subject = format!("{key} {}", path.display());
                match CannotLook::at_stat(path, source) {
                    Some(cannot) if !cannot.is_denied() => cannot.problem().about(subject),
                    _ => Problem::new(
                        format!("{subject}: {source}"),
                        format!(
                            "mount it, or correct the path in the config{}",
                            if_hidden(path)
                        ),
                    ),
                }
            }
            InstanceError::Bent { key, path, source } => {
                Problem::from(format!("{key} {}: {source}", path.display()))
            }
            InstanceError::OfRoot { key, path } => Problem::new(
                format!(
                    "{key} {}: it belongs to root, as whom no server runs",
                    path.display()
                ),
                "chown it to the server's user, or correct the path or owner in the config",
            ),
            InstanceError::NoFile { path, runs } => Problem::new(
                format!("config_file {} does not exist, and {runs}", path.display()),
                patroni::BY_FILE,
            ),
            InstanceError::Unowned { path } => Problem::new(
                format!(
                    "config_file {} belongs to root, which does not say as whom the server runs",
                    path.display()
                ),
                "set owner in the config to the server's user",
            ),
            InstanceError::Account { key, name, kind } => Problem::new(
                format!("{key} = \"{name}\": there is no such {kind} on this host"),
                "",
            ),
            InstanceError::State { path, source } => Problem::new(
                format!("{}: cannot make the directory: {source}", path.display()),
                "create it for the server's user, or set state_directory",
            ),
            InstanceError::Locked { path, lock, waited } => Problem::new(
                format!(
                    "another pgcertd has been at work on {} for more than {} s",
                    path.display(),
                    waited.as_secs()
                ),
                format!(
                    "wait for it, or find out what is holding {} (fuser -v)",
                    lock.display()
                ),
            ),
            InstanceError::Files(error) => error.problem(),
            InstanceError::Privilege(error) => Problem::from(error.to_string()),
        }
    }

    /// Whether the caller lacks a right, rather than something being wrong with the instance.
    pub(crate) fn is_denied(&self) -> bool {
        match self {
            InstanceError::Home { source, .. } | InstanceError::State { source, .. } => {
                source.kind() == std::io::ErrorKind::PermissionDenied
            }
            InstanceError::Files(error) => error.is_denied(),
            _ => false,
        }
    }
}
