//! Follows a path component by component, like the kernel, and records every link, every missing name, the directories where
//! a change would lead elsewhere, and who decides about each step.
//!
//! The kernel follows links silently, but each directory on the way has to be watched: certbot re-points
//! `live/NAME/fullchain.pem`, Kubernetes re-points `..data`, and neither touches the file that is read in the end. No file is
//! opened here. Each step starts from the open directory of the last one, so that FIFOs and devices are never touched, and
//! what was judged is what is read.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::AtFlags;

use super::error::ReadError;
use super::sway::{Sway, SwayJudge, Trusted, Users};
use super::trail::{Stamp, StampKind, Trail, timestamp};
use crate::host::file::NotRegular;
use crate::host::file::Unopened;
use crate::host::privilege;

/// The most links that Linux follows in one path (path_resolution(7)).
const LINKS: usize = 40;

/// What is at the end of a path, by its canonical path.
pub(in crate::lineage) enum WalkEnd {
    Directory(Spot),
    File(FoundFile),
    Special(PathBuf, NotRegular),
}

/// A directory that was reached, and who decided that it is this one.
#[derive(Clone)]
pub(in crate::lineage) struct Spot {
    pub(crate) path: PathBuf,
    /// The directory and those above it, the root first.
    held: Vec<Arc<Unopened>>,
    sway: Sway,
}

impl Spot {
    pub(crate) fn directory(&self) -> &Arc<Unopened> {
        // The root is never taken out.
        &self.held[self.held.len() - 1]
    }

    /// Whether something with this name exists here, including a dangling link.
    pub(crate) fn has(&self, name: &str) -> bool {
        let directory = &**self.directory();
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn leave(&mut self) {
        self.path.pop();
        self.held.truncate(self.held.len().saturating_sub(1).max(1));
    }

    fn enter(&mut self, name: &OsStr, found: Unopened) {
        self.path.push(name);
        self.held.push(Arc::new(found));
    }

    fn restart(&mut self) {
        self.path = PathBuf::from("/");
        self.held.truncate(1);
    }
}

/// A regular file that may be read for everybody who decided that it is this one.
pub(in crate::lineage) struct FoundFile {
    pub(crate) stamp: Stamp,
    found: Unopened,
    directory: Arc<Unopened>,
}

impl FoundFile {
    /// Opens the very file that was found.
    pub(crate) fn open(&self) -> io::Result<File> {
        let name = self.stamp.path.file_name().unwrap_or_default();
        self.found.open(&*self.directory, Path::new(name))
    }
}

/// What was seen on the way, for all the paths that were followed.
pub(in crate::lineage) struct Walk<'a> {
    pub(crate) trail: Trail,
    pub(crate) stamps: BTreeMap<PathBuf, Stamp>,
    /// The newest change of a directory that lacks a wanted name.
    pub(crate) absence: Option<Timestamp>,
    /// Who decides what was found.
    pub(crate) sway: Sway,
    /// The directories of the files that may be read.
    pub(crate) homes: BTreeMap<PathBuf, Arc<Unopened>>,
    users: &'a Users,
    /// Whether this thread may read more than its user, so that others could abuse it.
    lends: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(users: &'a Users) -> Self {
        Self {
            trail: Trail::default(),
            stamps: BTreeMap::new(),
            absence: None,
            sway: Sway::default(),
            homes: BTreeMap::new(),
            users,
            lends: privilege::reads_for_others(),
        }
    }

    /// Follows `path`, which must be absolute, to its end.
    pub(crate) fn follow(&mut self, path: &Path) -> Result<WalkEnd, ReadError> {
        let root =
            Unopened::root().map_err(|source| ReadError::from_path(Path::new("/"), source))?;
        let root = Spot {
            path: PathBuf::from("/"),
            held: vec![Arc::new(root)],
            sway: Sway::default(),
        };
        self.follow_from(root, path)
    }

    /// Follows `path`, relative to `spot`.
    pub(crate) fn follow_from(
        &mut self,
        mut spot: Spot,
        path: &Path,
    ) -> Result<WalkEnd, ReadError> {
        if path.is_absolute() && spot.path != Path::new("/") {
            // The config names it, so whoever decided about the spot has no say in it.
            return self.follow(path);
        }
        let end = self.walk(&mut spot, path);
        self.sway.extend(spot.sway.clone());
        match end? {
            None => Ok(WalkEnd::Directory(spot)),
            Some(end) => Ok(end),
        }
    }

    /// None is: at the directory where `spot` now is.
    fn walk(&mut self, spot: &mut Spot, path: &Path) -> Result<Option<WalkEnd>, ReadError> {
        let whole = spot.path.join(path);
        let mut rest: VecDeque<OsString> = names(path).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                spot.leave(); // Its path has no links, so this is the parent.
                continue;
            }
            let next = spot.path.join(&name);
            let found = self.look(spot, &name, &next, rest.is_empty())?;
            let kind = found.metadata().file_type();
            if kind.is_symlink() {
                self.passed(&spot.path, &next);
                let stamp = Stamp::from_path(&next, found.metadata(), StampKind::Link);
                self.stamps.insert(next.clone(), stamp);
                links += 1;
                if links > LINKS {
                    return Err(ReadError::LinkLoop { path: whole });
                }
                let target = found
                    .link()
                    .map_err(|source| ReadError::from_path(&next, source))?;
                self.judge(spot).linked(&mut spot.sway, &found, &next);
                if target.is_absolute() {
                    spot.restart();
                }
                names(&target).rev().for_each(|name| rest.push_front(name));
            } else if kind.is_dir() || !rest.is_empty() {
                // If it isn't a directory although more follows, the next look fails (ENOTDIR).
                if !kind.is_dir() {
                    self.passed(&spot.path, &next);
                }
                spot.enter(&name, found);
            } else {
                self.passed(&spot.path, &next);
                return self.ended(spot, next, found).map(Some);
            }
        }
        Ok(None)
    }

    /// A name that would matter if it appeared.
    pub(crate) fn awaited(&mut self, directory: &Path, name: &str) {
        self.trail.paths.insert(directory.join(name));
    }

    /// A lineage is in this directory.
    pub(crate) fn looks_in(&mut self, directory: &Path) {
        let parent = directory.parent();
        let directories = [directory].into_iter().chain(parent);
        self.trail.paths.insert(directory.to_owned());
        self.trail
            .directories
            .extend(directories.map(Path::to_owned));
    }

    fn judge(&self, spot: &Spot) -> SwayJudge<'a> {
        SwayJudge {
            trusted: Trusted::by(&spot.held[0]),
            users: self.users,
        }
    }

    fn ended(&mut self, spot: &Spot, path: PathBuf, found: Unopened) -> Result<WalkEnd, ReadError> {
        let stamp = match NotRegular::from_metadata(found.metadata()) {
            Some(kind) => return Ok(WalkEnd::Special(path, kind)),
            None => Stamp::from_path(&path, found.metadata(), StampKind::File),
        };
        self.stamps.insert(path, stamp.clone());
        if self.lends {
            let judge = self.judge(spot);
            judge
                .may_read(&spot.sway, &found, &stamp.path)
                .map_err(ReadError::Swayed)?;
        }
        let directory = Arc::clone(spot.directory());
        self.homes.insert(spot.path.clone(), Arc::clone(&directory));
        Ok(WalkEnd::File(FoundFile {
            stamp,
            found,
            directory,
        }))
    }

    /// What the directory of `spot` has under this name, if everybody who decided about it may know.
    fn look(
        &mut self,
        spot: &mut Spot,
        name: &OsStr,
        path: &Path,
        last: bool,
    ) -> Result<Unopened, ReadError> {
        let judge = self.judge(spot);
        let directory = Arc::clone(spot.directory());
        if self.lends && directory.metadata().is_dir() {
            let judged = judge.may_search(&spot.sway, &directory, &spot.path);
            if judged.is_err() {
                self.passed(&spot.path, path);
            }
            judged.map_err(ReadError::Swayed)?;
        }
        let found = directory.entry(name).map_err(|source| {
            self.passed(&spot.path, path);
            if source.kind() == io::ErrorKind::NotFound && last {
                self.absence = self.absence.max(changed(&spot.path));
            }
            ReadError::from_path(path, source)
        })?;
        judge.named(&mut spot.sway, &directory, &found, path);
        Ok(found)
    }

    fn passed(&mut self, directory: &Path, path: &Path) {
        self.trail.paths.insert(path.to_owned());
        // A file where a directory was expected cannot be watched like a directory.
        let lies_in = directory.ancestors().find(|ancestor| ancestor.is_dir());
        self.trail.directories.extend(lies_in.map(Path::to_owned));
    }
}

/// When `path` itself last changed (ctime), if that is known.
fn changed(path: &Path) -> Option<Timestamp> {
    let metadata: Metadata = fs::metadata(path).ok()?;
    timestamp(metadata.ctime(), metadata.ctime_nsec())
}

/// The components that lead somewhere: not the root, not `.`.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    })
}
