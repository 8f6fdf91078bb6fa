//! What was seen of an instance on its host.

use std::sync::Arc;

use super::files::{FilesSnapshot, Targets};
use super::mounts::{self, Pinned};
use super::postmaster::{Absence, Postmaster};
use super::process::Process;
use crate::host::look::CannotLook;

/// Whether the server of an instance runs.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// It does not, or is about to stop; why it is thought so.
    Down(Absence),
    /// It runs, and its identity was proven.
    Up(Arc<Process>),
}

impl Server {
    /// The process, where it runs.
    pub(crate) fn process(&self) -> Option<&Process> {
        match self {
            Server::Up(process) => Some(process),
            Server::Down(_) => None,
        }
    }

    /// The postmaster, where it runs and is one.
    pub(crate) fn postmaster(&self) -> Option<&Postmaster> {
        self.process()?.postmaster()
    }

    /// Whether it is not known to run, nor to be down.
    pub(crate) fn may_run(&self) -> bool {
        matches!(self, Server::Down(absence) if absence.may_run())
    }

    /// Whether it runs and has not said yet where it listens.
    pub(crate) fn is_starting(&self) -> bool {
        self.process().is_some_and(|process| !process.is_whole())
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Server::Up(_))
    }
}

/// What was seen of an instance on its host, the network aside.
#[derive(Clone)]
pub(crate) struct InstanceSnapshot {
    pub(crate) look: Arc<FilesSnapshot>,
    pub(crate) server: Server,
    /// Where and whose its files are.
    pub(crate) targets: Arc<Targets>,
    /// Whether the server sees a target as a single file, if that was looked at with the rest.
    pub(crate) pinned: Option<Result<Option<Pinned>, CannotLook>>,
}

impl InstanceSnapshot {
    /// Whether the server has one of its targets as a single file; nothing where it does not run.
    ///
    /// # Errors
    /// Its mounts cannot be looked at: what is written there, it may never see.
    pub(crate) async fn pinned(&self) -> Result<Option<Pinned>, CannotLook> {
        match (&self.pinned, self.server.process()) {
            (Some(looked), _) => looked.clone(),
            (None, Some(process)) => mounts::look(process, &self.targets).await,
            (None, None) => Ok(None),
        }
    }
}
