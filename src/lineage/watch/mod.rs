//! inotify, through notify 8.2: which directories are watched, and what happened in them.
//!
//! Its events are only hints. notify leaves the following to its users:
//!
//! * notify subscribes to OPEN, so reading a file in a watched directory raises an event: all access events except CLOSE_WRITE
//!   are dropped, or the daemon would wake itself up forever.
//! * When a directory is deleted or renamed, notify forgets the watch on its **path**, and on all paths below. So the event of
//!   an old directory may silently kill the watch on a new one with the same name. [`Hint::Disarmed`] says so, and
//!   [`Watcher::watch`] watches it again.
//! * IN_UNMOUNT and IN_IGNORED are dropped by notify, and a mount over a directory raises nothing at all:
//!   [`Watcher::watch`] compares device and inode each time it is called, so a resync finds it.
//! * An overflow is an `Other` event with the rescan flag and no path.
//!
//! Only directories are watched, never files: a watch on a link or a file dies with the first renewal.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, INotifyWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;

use super::settle::Change;
use crate::host::slot::is_staging_name;

/// How often to try to watch a directory that keeps being replaced, before leaving it to the next call.
const ATTEMPTS: usize = 3;

#[derive(Debug)]
pub(crate) enum Hint {
    /// Something happened to a path in a watched directory, or to such a directory.
    Change {
        /// The watched directory and the name.
        path: PathBuf,
        change: Change,
    },
    /// The kernel's queue overflowed (fs.inotify.max_queued_events): anything may have happened.
    Rescan,
    /// The watch on this directory is dead, because it or one above it was deleted or renamed. Read the lineages whose trail
    /// leads through it, and call [`Watcher::watch`] even if the set is unchanged.
    Disarmed {
        /// The directory as it was watched.
        directory: PathBuf,
    },
    /// inotify itself failed; treat it as [`Hint::Rescan`].
    Failed { error: WatchError },
}

/// Why a directory is not watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// ENOSPC: the user's watches are used up.
    #[error(
        "cannot watch {}: this user has no inotify watches left; raise the limit with `sysctl fs.inotify.max_user_watches=524288`, \
         permanently in /etc/sysctl.d", .directory.display()
    )]
    WatchesUsedUp {
        /// The directory that is not watched.
        directory: PathBuf,
    },
    /// EMFILE: the user's inotify instances, or the process's descriptors, are used up.
    #[error(
        "cannot start inotify: this user has no inotify instances left, or this process no file descriptors; raise the limit with \
         `sysctl fs.inotify.max_user_instances=1024`, permanently in /etc/sysctl.d, or LimitNOFILE= in the unit"
    )]
    InstancesUsedUp {
        #[source]
        source: io::Error,
    },
    /// It existed when the trail was walked, but is gone now: read the lineage again.
    #[error("{} is no longer a directory; the lineage is read again", .directory.display())]
    Gone {
        /// The directory that is not watched.
        directory: PathBuf,
    },
    /// No right to read the directory, which inotify requires.
    #[error(
        "no permission to watch {}; run pgcertd as root, give it the capability CAP_DAC_READ_SEARCH as the packaged unit does, \
         or let a group or an ACL read the directory", .directory.display()
    )]
    Denied {
        /// The directory that is not watched.
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its file system doesn't respond. Each call of [`Watcher::watch`] tries again.
    #[error("{} does not respond and is not watched; check that its file system is reachable", .directory.display())]
    Silent {
        /// The directory that is not watched.
        directory: PathBuf,
    },
    /// Deleted and created faster than it could be watched. The next call of [`Watcher::watch`] tries again.
    #[error("{} keeps being replaced and is not watched for now; find out what does that", .directory.display())]
    Unsteady {
        /// The directory that is not watched.
        directory: PathBuf,
    },
    #[error("inotify failed{}: {source}", at(.directory.as_deref()))]
    Failed {
        /// The directory that is not watched, if it is about one.
        directory: Option<PathBuf>,
        #[source]
        source: notify::Error,
    },
}

fn at(directory: Option<&Path>) -> String {
    directory
        .map(|directory| format!(" for {}", directory.display()))
        .unwrap_or_default()
}

impl WatchError {
    /// The directory that is not watched, if it is about one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::WatchesUsedUp { directory }
            | Self::Gone { directory }
            | Self::Denied { directory, .. }
            | Self::Silent { directory }
            | Self::Unsteady { directory } => Some(directory),
            Self::InstancesUsedUp { .. } => None,
            Self::Failed { directory, .. } => directory.as_deref(),
        }
    }

    fn starting(error: notify::Error) -> Self {
        match error.kind {
            ErrorKind::Io(source) if raw(&source) == Some(Errno::MFILE) => {
                Self::InstancesUsedUp { source }
            }
            _ => Self::Failed {
                directory: None,
                source: error,
            },
        }
    }

    fn watching(directory: &Path, error: notify::Error) -> Self {
        let directory = directory.to_owned();
        match error.kind {
            ErrorKind::MaxFilesWatch => Self::WatchesUsedUp { directory },
            ErrorKind::PathNotFound => Self::Gone { directory },
            ErrorKind::Io(source) => Self::looking(&directory, source),
            _ => Self::Failed {
                directory: Some(directory),
                source: error,
            },
        }
    }

    fn looking(directory: &Path, source: io::Error) -> Self {
        let directory = directory.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone { directory },
            io::ErrorKind::PermissionDenied => Self::Denied { directory, source },
            _ => Self::Failed {
                directory: Some(directory),
                source: notify::Error::io(source),
            },
        }
    }
}

fn raw(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

/// The result of [`Watcher::watch`].
#[derive(Debug, Default)]
pub(crate) struct WatchedDirectory {
    /// The directories that are newly watched: what happened there before raised no event, so the lineages that lead through
    /// them have to be read again ([`Settler::unknown`](super::Settler::unknown)).
    pub(crate) armed: BTreeSet<PathBuf>,
    /// The directories that are not watched. Each is tried again at the next call.
    pub(crate) errors: Vec<WatchError>,
}

/// The directories that are watched. Dropping it ends all watches.
pub(crate) struct Watcher {
    inotify: INotifyWatcher,
    watches: BTreeMap<PathBuf, DirectoryIdentity>,
    shared: Arc<Mutex<Shared>>,
}

/// Device and inode: what is really watched, whatever the path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DirectoryIdentity {
    device: u64,
    inode: u64,
}

/// Shared by notify's thread and ours. Never locked while waiting for notify's thread.
#[derive(Debug, Default)]
struct Shared {
    watched: BTreeSet<PathBuf>,
    dead: BTreeSet<PathBuf>,
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Starts inotify without any watches. `sink` is called on notify's thread, which this call creates and which inherits the
    /// calling thread's capabilities: it must neither block nor call back.
    pub(crate) fn start(sink: impl Fn(Hint) + Send + 'static) -> Result<Self, WatchError> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let seen = Arc::clone(&shared);
        let handler =
            move |event: notify::Result<Event>| hints(event, &seen).into_iter().for_each(&sink);
        let inotify = INotifyWatcher::new(handler, notify::Config::default())
            .map_err(WatchError::starting)?;
        Ok(Self {
            inotify,
            watches: BTreeMap::new(),
            shared,
        })
    }

    /// Watches exactly the `wanted` directories, which are absolute and without links, as
    /// [`Trail::directories`](super::Trail::directories) are. Working watches stay; a directory that was deleted, renamed,
    /// replaced or mounted over is watched again. Call it after every reading and at every resync.
    pub(crate) fn watch(&mut self, wanted: &BTreeSet<PathBuf>) -> WatchedDirectory {
        let unwanted: Vec<PathBuf> = self
            .watches
            .keys()
            .filter(|path| !wanted.contains(*path))
            .cloned()
            .collect();
        unwanted.iter().for_each(|directory| self.disarm(directory));
        let mut watched = WatchedDirectory::default();
        for directory in wanted {
            match self.ensure(directory) {
                Ok(false) => {}
                Ok(true) => {
                    watched.armed.insert(directory.clone());
                }
                Err(error) => {
                    self.disarm(directory);
                    watched.errors.push(error);
                }
            }
        }
        watched
    }

    /// Whether a new watch was needed.
    fn ensure(&mut self, directory: &Path) -> Result<bool, WatchError> {
        for attempt in 0..=ATTEMPTS {
            let identity = DirectoryIdentity::from_directory(directory)?;
            let sound = !locked(&self.shared).dead.contains(directory);
            if sound && self.watches.get(directory) == Some(&identity) {
                return Ok(attempt > 0);
            }
            if attempt < ATTEMPTS {
                self.arm(directory, identity)?;
            }
        }
        Err(WatchError::Unsteady {
            directory: directory.to_owned(),
        })
    }

    fn arm(&mut self, directory: &Path, identity: DirectoryIdentity) -> Result<(), WatchError> {
        self.disarm(directory);
        // Before the watch: an event that kills it from now on marks it dead again.
        locked(&self.shared).watched.insert(directory.to_owned());
        self.watches.insert(directory.to_owned(), identity);
        self.inotify
            .watch(directory, RecursiveMode::NonRecursive)
            .map_err(|error| WatchError::watching(directory, error))
    }

    fn disarm(&mut self, directory: &Path) {
        if self.watches.remove(directory).is_some() {
            // It fails if notify has already forgotten the path, which is fine.
            let _ = self.inotify.unwatch(directory);
        }
        let mut shared = locked(&self.shared);
        shared.watched.remove(directory);
        shared.dead.remove(directory);
    }
}

impl DirectoryIdentity {
    fn from_directory(directory: &Path) -> Result<Self, WatchError> {
        let metadata = fs::symlink_metadata(directory)
            .map_err(|source| WatchError::looking(directory, source))?;
        if !metadata.is_dir() {
            return Err(WatchError::Gone {
                directory: directory.to_owned(),
            });
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// What one of notify's events means.
fn hints(event: notify::Result<Event>, shared: &Mutex<Shared>) -> Vec<Hint> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            return vec![Hint::Failed {
                error: WatchError::starting(error),
            }];
        }
    };
    if event.need_rescan() {
        return vec![Hint::Rescan];
    }
    let Some(change) = change(event.kind) else {
        return Vec::new();
    };
    let mut hints = Vec::new();
    // pgcertd writes new files beside its targets; nobody has to hear of those.
    let meant = |path: &PathBuf| !path.file_name().is_some_and(is_staging_name);
    for path in event.paths.into_iter().filter(meant) {
        if change == Change::Removed {
            hints.extend(disarmed(&path, shared));
        }
        hints.push(Hint::Change { path, change });
    }
    hints
}

/// The watches that notify forgets, or leaves on a directory that has another name now.
fn disarmed(path: &Path, shared: &Mutex<Shared>) -> Vec<Hint> {
    let mut shared = locked(shared);
    let below: Vec<PathBuf> = shared
        .watched
        .iter()
        .filter(|watched| watched.starts_with(path))
        .cloned()
        .collect();
    shared.dead.extend(below.iter().cloned());
    below
        .into_iter()
        .map(|directory| Hint::Disarmed { directory })
        .collect()
}

fn change(kind: EventKind) -> Option<Change> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Change::Closed),
        EventKind::Create(_) => Some(Change::Created),
        EventKind::Remove(_) => Some(Change::Removed),
        // MOVED_FROM, and MOVE_SELF of a watched directory.
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Change::Removed),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Change::Replaced),
        // Repeats what From and To have said.
        EventKind::Modify(ModifyKind::Name(_)) => None,
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Change::Attributes),
        EventKind::Modify(_) => Some(Change::Written),
        EventKind::Any | EventKind::Access(_) | EventKind::Other => None,
    }
}
