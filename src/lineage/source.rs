//! What a lineage holds at one moment.

use std::sync::Arc;

use jiff::Timestamp;

use super::read::Trail;
use crate::bundle::{Bundle, KeyedBundle};
use crate::problem::Problem;

/// What a lineage holds after reading and settling, to keep and compare, without the key ([`Opened`] has it).
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A consistent bundle that has settled.
    Ready {
        bundle: Arc<Bundle>,
        /// The newest change time of its files and links.
        changed: Timestamp,
    },
    /// Its files do not match yet.
    Waiting { problem: Problem },
    Invalid {
        problem: Problem,
        /// Whether the caller lacks the right to look.
        denied: bool,
    },
}

impl Source {
    /// The bundle, where there is one.
    pub(crate) fn bundle(&self) -> Option<&Arc<Bundle>> {
        match self {
            Source::Ready { bundle, .. } => Some(bundle),
            Source::Waiting { .. } | Source::Invalid { .. } => None,
        }
    }

    /// Whether both say the same.
    pub(crate) fn same(&self, other: &Source) -> bool {
        match (self, other) {
            (
                Source::Ready { bundle, changed },
                Source::Ready {
                    bundle: other,
                    changed: then,
                },
            ) => changed == then && bundle.same_content(other),
            (Source::Waiting { problem }, Source::Waiting { problem: other }) => problem == other,
            (
                Source::Invalid { problem, denied },
                Source::Invalid {
                    problem: other,
                    denied: then,
                },
            ) => problem == other && denied == then,
            _ => false,
        }
    }
}

/// What a lineage holds, and the private key, which is zeroed with this.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) source: Source,
    /// The same with its key, where there is a bundle.
    pub(crate) keyed: Option<Arc<KeyedBundle>>,
    /// The names by which its files were found.
    pub(crate) trail: Trail,
}

impl From<Source> for Opened {
    /// Without a bundle that could be written.
    fn from(source: Source) -> Opened {
        Opened {
            source,
            keyed: None,
            trail: Trail::default(),
        }
    }
}
