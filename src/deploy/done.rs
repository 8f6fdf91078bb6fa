//! What came of comparing an instance.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outcome::SyncOutcome;
use super::remark::Remark;
use super::state::Observation;
use crate::bundle::{Bundle, Fingerprint, Piece};
use crate::problem::Problem;

/// What was done about one instance, as `sync`, the journal and the metrics tell it.
#[derive(Debug, Clone)]
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
    pub(crate) problem: Option<Problem>,
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
}

/// What was done about one instance, and what it looks like now.
pub(crate) struct Reconciled {
    pub(crate) done: Done,
    pub(crate) seen: Observation,
}

impl Done {
    /// What began at `began` has come to `outcome`.
    pub(crate) fn new(outcome: SyncOutcome, began: Instant) -> Done {
        Done {
            outcome,
            fingerprint: None,
            old: None,
            changed: Vec::new(),
            problem: None,
            not_after: None,
            remarks: Vec::new(),
            also_applied: Vec::new(),
            took: began.elapsed(),
            acted: false,
        }
    }

    pub(super) fn because(self, problem: Problem) -> Done {
        Done {
            problem: Some(problem),
            ..self
        }
    }

    /// It was about this bundle.
    pub(super) fn about(self, bundle: Option<&Bundle>, seen: &Observation) -> Done {
        Done {
            fingerprint: bundle.map(Bundle::fingerprint),
            not_after: bundle.map(|bundle| seen.end_of(bundle)),
            ..self
        }
    }

    /// `bundle` would go in the place of what is `installed`.
    pub(super) fn would_replace(self, installed: Option<&Bundle>, bundle: &Bundle) -> Done {
        Done {
            old: installed.map(Bundle::fingerprint),
            changed: bundle.pieces().since(installed.map(Bundle::pieces)),
            ..self
        }
    }

    pub(super) fn seen(self, seen: Observation) -> Reconciled {
        Reconciled { done: self, seen }
    }
}
