//! By which names a lineage's files were found, and what those looked like.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::file::same_but_for_numbers;

/// What tells one state of a file or link from another, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its directory without links, and its name.
    pub(crate) path: PathBuf,
    /// The file system's device number.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// When content or attributes last changed, which nobody can set: seconds since 1970 and nanoseconds. The kernel's tick is
    /// coarse, so two writes within about 10 ms may have the same.
    pub(crate) ctime: (i64, i64),
    /// A link, or the file that it leads to.
    pub(crate) kind: StampKind,
}

/// What a [`Stamp`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StampKind {
    Link,
    File,
}

impl Stamp {
    pub(super) fn from_path(path: &Path, metadata: &Metadata, kind: StampKind) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            kind,
        }
    }

    /// The ctime; none if it is outside the calendar.
    pub(crate) fn changed(&self) -> Option<Timestamp> {
        timestamp(self.ctime.0, self.ctime.1)
    }
}

/// The names by which a lineage's files were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// Every link and file on the way, the lineage's directory, and every name that is missing: each as its directory
    /// without links, and its name. An event on any other path cannot change what is read.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// The existing directories, without links, in which those names lie (for what does not exist yet the nearest
    /// existing ancestor), the lineage's own and its parent: what to watch.
    pub(crate) directories: BTreeSet<PathBuf>,
}

impl Trail {
    /// Whether the lineage is found through this file, a path without links, or is so in another generation.
    pub(crate) fn leads_through(&self, file: &Path) -> bool {
        let mut paths = self.paths.iter();
        paths.any(|path| same_but_for_numbers(path, file))
    }
}

pub(super) fn timestamp(seconds: i64, nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
}
