//! Why an instance cannot be worked on, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::FilesError;
use super::patroni;
use crate::host::directory::ReachError;
use crate::host::look::CannotLook;
use crate::host::privilege::{PrivilegeError, if_hidden};

/// An instance cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    /// The data directory, or the server's own configuration, cannot be looked at.
    #[error("{key} {}: {}", path.display(), home_fault(path, source))]
    Home {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Somebody else than root and its owner may have bent the path to it.
    #[error("{key} {}: {source}", path.display())]
    Bent {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        /// Where, and what to do.
        #[source]
        source: ReachError,
    },
    /// The server would be root's.
    #[error("{key} {}: it belongs to root, as whom no server runs; chown it to the server's user, or correct the path or owner in the config", path.display())]
    OfRoot {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
    },
    /// There is no configuration of a Patroni at that path, and one runs without.
    #[error("config_file {} does not exist, and {runs}; {}", path.display(), patroni::BY_FILE)]
    NoFile {
        path: PathBuf,
        /// What runs, as a clause.
        runs: String,
    },
    /// Root owns the server's configuration, so that it does not tell the server's user.
    #[error("config_file {} belongs to root, which does not say as whom the server runs; set owner in the config to the server's user", path.display())]
    Unowned { path: PathBuf },
    /// A user or group of the config does not exist.
    #[error("{key} = \"{name}\": there is no such {kind} on this host")]
    Account {
        /// `owner` or `group`.
        key: &'static str,
        name: String,
        /// `user` or `group`.
        kind: &'static str,
    },
    /// The state directory cannot be made.
    #[error("{}: cannot make the directory: {source}; create it for the server's user, or set state_directory", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another pgcertd holds the lock.
    #[error("another pgcertd has been at work on {} for more than {} s; wait for it, or find out what is holding {} (fuser -v)", path.display(), waited.as_secs(), lock.display())]
    Locked {
        /// The data directory, or the server's own configuration.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A thread could not get its rights.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
}

/// Why a data directory, or a server's own configuration, cannot be looked at, and what to do about it.
fn home_fault(path: &Path, source: &std::io::Error) -> String {
    match CannotLook::at_stat(path, source) {
        Some(cannot) if !cannot.is_denied() => cannot.sentence(),
        _ => format!(
            "{source}; mount it, or correct the path in the config{}",
            if_hidden(path)
        ),
    }
}

impl InstanceError {
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
