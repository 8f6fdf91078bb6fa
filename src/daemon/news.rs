//! What the loop and its tasks tell each other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::watching::Armed;
use crate::host::privilege::PrivilegeError;
use crate::host::process::Search;
use crate::lineage::Trail;
use crate::report::view::InstanceView;

/// What tasks tell the loop.
pub(super) enum DaemonNews {
    /// A lineage was read; where a change matters from now on.
    Read { lineage: usize, trail: Trail },
    /// The watches are in place.
    Armed(Result<Armed, PrivilegeError>),
    /// Postmasters that no instance covers.
    Uncovered(Search<PathBuf>),
    /// Where the configuration of an instance's server lies.
    Configured {
        instance: usize,
        directories: BTreeSet<PathBuf>,
    },
    /// An instance's files were checked, and repaired if a stopped server could not load them.
    Filed { instance: usize },
    /// Where an instance's server leaves its number, as its own configuration says now.
    PidFile {
        instance: usize,
        file: Option<PathBuf>,
    },
    Seen {
        instance: usize,
        view: Box<InstanceView>,
    },
}
