//! What a deployment is told to do.

use std::sync::Arc;

use crate::bundle::{Bundle, Identity, KeyedBundle};
use crate::server::InstanceSnapshot;
use crate::server::probe::Served;

/// What a deployment is to do.
pub(crate) struct DeploymentOrder {
    /// What should be served in the end.
    pub(crate) content: Content,
    /// The look that led to this order.
    pub(crate) sight: InstanceSnapshot,
    /// What was served, if that was looked at already.
    pub(crate) served: Option<Served>,
    /// What was last seen both installed and served.
    pub(crate) proven: Option<Proven>,
    /// What becomes of the bundle that is installed.
    pub(crate) replaced: Replaced,
    /// Whether the operator insists: a server that is down starts on it, whatever happens then.
    pub(crate) forced: bool,
}

/// The bundle that a server is to serve, with its key where that has to be written.
#[derive(Debug)]
pub(crate) enum Content {
    /// It goes into the files.
    New(Arc<KeyedBundle>),
    /// The files are right as they are.
    Installed(Arc<Bundle>),
}

impl Content {
    pub(crate) fn bundle(&self) -> &Arc<Bundle> {
        match self {
            Content::New(keyed) => keyed.bundle(),
            Content::Installed(bundle) => bundle,
        }
    }
}

/// What becomes of a bundle that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It becomes the previous bundle if it was proven served and differs.
    KeptIfProven,
    /// The previous bundle is installed, and stays the previous one.
    NotKept,
}

/// A bundle that was seen both installed and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) bundle: Identity,
    /// The run of the server that showed it ([`Process::run`](crate::server::process::Process::run)).
    pub(crate) run: i64,
}
