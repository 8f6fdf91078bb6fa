//! Follows a path component by component, as the kernel would, and notes what it passed: every link, every name that is
//! missing, and the directories in which a change would lead elsewhere.
//!
//! The kernel follows links in silence, but a watch must lie on each directory on the way: certbot re-points
//! `live/NAME/fullchain.pem`, Kubernetes re-points `..data`, and neither touches the file that is read in the end.
//! Nothing is opened here; `lstat` and `readlink` alone, so that a FIFO or a device is never woken.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::{NotRegular, ReadError, Stamp, StampKind, Trail};

/// As many links as Linux follows in one path (path_resolution(7)).
const LINKS: usize = 40;

/// What stands at the end of a path, by its canonical path.
pub(super) enum End {
    Directory(PathBuf),
    File(Stamp),
    Special(PathBuf, NotRegular),
}

/// What was seen on the way, over all the paths that were followed.
#[derive(Default)]
pub(super) struct Walk {
    pub trail: Trail,
    pub stamps: BTreeMap<PathBuf, Stamp>,
    /// Newest change of a directory that lacks a name which was looked for.
    pub absence: Option<Timestamp>,
}

impl Walk {
    /// Follows `path`, which must be absolute, to its end.
    pub fn follow(&mut self, path: &Path) -> Result<End, ReadError> {
        let mut current = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = names(path).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                current.pop(); // `current` has no links, so this is the parent.
                continue;
            }
            let next = current.join(&name);
            let metadata = self.look(&current, &next, rest.is_empty())?;
            let kind = metadata.file_type();
            if kind.is_symlink() {
                self.passed(&current, &next);
                self.stamps
                    .insert(next.clone(), Stamp::of(&next, &metadata, StampKind::Link));
                links += 1;
                if links > LINKS {
                    return Err(ReadError::LinkLoop {
                        path: path.to_owned(),
                    });
                }
                let target = fs::read_link(&next).map_err(|source| ReadError::of(&next, source))?;
                if target.is_absolute() {
                    current = PathBuf::from("/");
                }
                names(&target).rev().for_each(|name| rest.push_front(name));
            } else if kind.is_dir() || !rest.is_empty() {
                // What is no directory although more follows is refused by the next look (ENOTDIR).
                if !kind.is_dir() {
                    self.passed(&current, &next);
                }
                current = next;
            } else {
                self.passed(&current, &next);
                return Ok(self.ended(next, &metadata));
            }
        }
        Ok(End::Directory(current))
    }

    /// A name that would matter if it appeared.
    pub fn awaited(&mut self, directory: &Path, name: &str) {
        self.trail.paths.insert(directory.join(name));
    }

    fn ended(&mut self, path: PathBuf, metadata: &Metadata) -> End {
        match NotRegular::of(metadata) {
            Some(kind) => End::Special(path, kind),
            None => {
                let stamp = Stamp::of(&path, metadata, StampKind::File);
                self.stamps.insert(path, stamp.clone());
                End::File(stamp)
            }
        }
    }

    fn look(&mut self, directory: &Path, path: &Path, last: bool) -> Result<Metadata, ReadError> {
        fs::symlink_metadata(path).map_err(|source| {
            self.passed(directory, path);
            if source.kind() == io::ErrorKind::NotFound && last {
                self.absence = self.absence.max(changed(directory));
            }
            ReadError::of(path, source)
        })
    }

    fn passed(&mut self, directory: &Path, path: &Path) {
        self.trail.paths.insert(path.to_owned());
        // A file where a directory was expected cannot be watched for what lies in it.
        let lies_in = directory.ancestors().find(|ancestor| ancestor.is_dir());
        self.trail.directories.extend(lies_in.map(Path::to_owned));
    }
}

/// When `path` itself last changed (ctime); nothing if it cannot be told.
fn changed(path: &Path) -> Option<Timestamp> {
    let metadata = fs::metadata(path).ok()?;
    timestamp(metadata.ctime(), metadata.ctime_nsec())
}

pub(super) fn timestamp(seconds: i64, nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
}

impl NotRegular {
    pub(in crate::source) fn of(metadata: &Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        if kind.is_file() {
            None
        } else if kind.is_dir() {
            Some(Self::Directory)
        } else if kind.is_fifo() {
            Some(Self::Fifo)
        } else if kind.is_socket() {
            Some(Self::Socket)
        } else {
            Some(Self::Device)
        }
    }
}

/// The components that lead somewhere: no root, no `.`.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    })
}
