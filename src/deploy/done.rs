//! What came of comparing an instance.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::outcome::SyncOutcome;
use super::plan::{self, Readiness};
use super::remark::Remark;
use super::state::Observation;
use crate::bundle::{Fingerprint, Piece};

/// What was done about one instance.
pub(crate) struct Done {
    pub(crate) outcome: SyncOutcome,
    /// The leaf that it was about.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The leaf that was installed before.
    pub(crate) old: Option<Fingerprint>,
    /// What differs from what was there before, or of what others placed, from what the server had
    /// loaded; nothing where all is the same, or that is not known.
    pub(crate) changed: Vec<Piece>,
    /// Why it is not as it should be.
    pub(crate) problem: Option<String>,
    /// When the first certificate of the chain that it was about ends.
    pub(crate) not_after: Option<Timestamp>,
    /// What is odd and no reason to stop.
    pub(crate) remarks: Vec<Remark>,
    /// Configuration files whose other edits the reload applied as well.
    pub(crate) also_applied: Vec<PathBuf>,
    /// From the decision to its proof.
    pub(crate) took: Duration,
    /// Whether a deployment was begun.
    pub(crate) acted: bool,
    pub(crate) seen: Observation,
}

impl Done {
    /// When this instance is to be looked at again without any event.
    pub(crate) fn again_at(&self) -> Option<Timestamp> {
        match &self.seen.readiness {
            Readiness::Later { at, .. } | Readiness::Delayed { at, .. } => {
                Some(*at).filter(|at| *at < Timestamp::MAX)
            }
            Readiness::Refused { at, .. } => *at,
            Readiness::Ready => {
                let sight = self.seen.sight.as_ref().ok()?;
                let held = sight.look.held.as_ref()?;
                plan::held_until(held).filter(|at| *at > Timestamp::now())
            }
        }
    }
}
