//! Why the daemon ends.

use tokio::task::JoinError;

use crate::config::ConfigError;
use crate::host::privilege::PrivilegeError;

/// Why the daemon ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread could not be given its rights.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// inotify is not to be had.
    #[error(transparent)]
    Watch(#[from] crate::lineage::WatchError),
    /// The TLS library refused its own defaults.
    #[error("the TLS library cannot be set up: {0}; this build of pgcertd is broken")]
    Tls(#[from] rustls::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A thread cannot be had.
    #[error("cannot start a thread: {0}; see the limits on tasks and memory")]
    Thread(#[source] std::io::Error),
    /// A task ended that never should.
    #[error("internal error: {0}")]
    Task(String),
}

impl DaemonError {
    /// A task ended although nothing had told it to.
    pub(super) fn unexpected(ended: Result<Result<(), PrivilegeError>, JoinError>) -> DaemonError {
        match ended {
            Ok(Ok(())) => DaemonError::Task("a task ended on its own".into()),
            Ok(Err(error)) => DaemonError::Privilege(error),
            Err(error) => DaemonError::Task(error.to_string()),
        }
    }
}
