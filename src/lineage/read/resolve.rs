//! Follows a path component by component, as the kernel would, and notes what it passed: every link, every name that is
//! missing, the directories in which a change would lead elsewhere, and who decides about each step.
//!
//! The kernel follows links in silence, but a watch must lie on each directory on the way: certbot re-points
//! `live/NAME/fullchain.pem`, Kubernetes re-points `..data`, and neither touches the file that is read in the end.
//! Nothing is opened here; each step is taken from the directory that the last one holds, and judged by what it holds
//! itself, so that no FIFO and no device is ever woken, and what was judged is what is read.

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

/// As many links as Linux follows in one path (path_resolution(7)).
const LINKS: usize = 40;

/// What stands at the end of a path, by its canonical path.
pub(in crate::lineage) enum WalkEnd {
    Directory(Spot),
    File(FoundFile),
    Special(PathBuf, NotRegular),
}

/// A directory that was reached, and who decided that it be this one.
#[derive(Clone)]
pub(in crate::lineage) struct Spot {
    pub(crate) path: PathBuf,
    /// It and those above it, the root first.
    held: Vec<Arc<Unopened>>,
    sway: Sway,
}

impl Spot {
    pub(crate) fn directory(&self) -> &Arc<Unopened> {
        // The root is never taken out.
        &self.held[self.held.len() - 1]
    }

    /// Whether something of this name lies here, a link that leads nowhere too.
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

/// A regular file that may be read for everybody who decided that it be this one.
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

/// What was seen on the way, over all the paths that were followed.
pub(in crate::lineage) struct Walk<'a> {
    pub(crate) trail: Trail,
    pub(crate) stamps: BTreeMap<PathBuf, Stamp>,
    /// Newest change of a directory that lacks a name which was looked for.
    pub(crate) absence: Option<Timestamp>,
    /// Who decides what was found.
    pub(crate) sway: Sway,
    /// The directories of the files that may be read.
    pub(crate) homes: BTreeMap<PathBuf, Arc<Unopened>>,
    users: &'a Users,
    /// Whether this thread reads more than its user may, and so has something to lend.
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

    /// Follows `path` as it is meant at `spot`.
    pub(crate) fn follow_from(
        &mut self,
        mut spot: Spot,
        path: &Path,
    ) -> Result<WalkEnd, ReadError> {
        if path.is_absolute() && spot.path != Path::new("/") {
            // The config names it: nobody who decided about the spot has a say in it.
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
                // What is no directory although more follows is refused by the next look (ENOTDIR).
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

    /// A lineage lies in this directory.
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

    /// What the directory of `spot` has under this name, if all who decided about it may know.
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
        // A file where a directory was expected cannot be watched for what lies in it.
        let lies_in = directory.ancestors().find(|ancestor| ancestor.is_dir());
        self.trail.directories.extend(lies_in.map(Path::to_owned));
    }
}

/// When `path` itself last changed (ctime); nothing if it cannot be told.
fn changed(path: &Path) -> Option<Timestamp> {
    let metadata: Metadata = fs::metadata(path).ok()?;
    timestamp(metadata.ctime(), metadata.ctime_nsec())
}

/// The components that lead somewhere: no root, no `.`.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    })
}
