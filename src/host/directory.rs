//! Walks a path one component at a time and opens what it leads to.
//!
//! A user who can write to a directory along the path decides where the next name leads. Root and pgcertd's unit have rights
//! that such a user lacks, so a symbolic link is only followed if nobody but root, or the owner of the final target, could
//! have redirected it: the kernel's own rule for links in sticky directories (`protected_symlinks`, proc_sys_fs(5)), applied
//! everywhere. A real directory needs no such rule: a user can't replace one without write access to its parent.
//!
//! Each component is opened relative to the previous descriptor, with `O_PATH` and without following links, so nothing is
//! checked under one name and used under another.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::file::Links;
use super::look::FileId;
use crate::host::privilege::Ids;

/// The maximum number of links in a path, as in the kernel (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A path cannot be followed to its end, or must not be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("{source}")]
    System {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The path itself is a link.
    #[error("it is a symbolic link, which is not followed; use its target instead: {}", target.display())]
    LinkAtEnd { target: PathBuf },
    /// It goes through a link that a user can redirect who does not own the target.
    #[error(
        "{bender} decides where {} leads, but its target belongs to user {owner}; \
         use the path without that link, or make root the owner of the link and its directory",
        link.display()
    )]
    Bent {
        link: PathBuf,
        /// Who controls where it leads.
        bender: Bender,
        /// The owner of the target.
        owner: u32,
    },
    #[error("it is not a directory")]
    NotADirectory,
    #[error("it is not an absolute path")]
    Relative,
}

impl ReachError {
    fn system(path: &Path) -> impl FnOnce(Errno) -> ReachError {
        move |source| ReachError::System {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, ReachError::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The error number, if a system call failed.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            ReachError::System { source, .. } => Errno::from_io_error(source).or(Some(Errno::IO)),
            _ => None,
        }
    }

    /// For callers that only pass on `std::io` errors.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            ReachError::System { source, .. } => source,
            refused => io::Error::other(refused),
        }
    }
}

/// Who controls a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bender {
    User(u32),
    /// The members of a group, or everybody.
    Others,
}

impl fmt::Display for Bender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bender::User(uid) => write!(f, "user {uid}"),
            Bender::Others => write!(f, "a group or every user"),
        }
    }
}

/// One component of a path that is being walked.
pub(crate) struct OnTheWay<'a> {
    pub(crate) path: &'a Path,
    pub(crate) stat: &'a Stat,
    /// The directory that contains it.
    pub(crate) parent: &'a Stat,
}

impl OnTheWay<'_> {
    pub(crate) fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Symlink
    }

    /// Who besides root controls this name: the owner of its directory, anyone else who can write to that directory and,
    /// if it is sticky, the owner of the entry itself.
    pub(crate) fn benders(&self) -> Vec<Bender> {
        const STICKY: u32 = 0o1000;
        let mut benders = Vec::new();
        for uid in [self.stat.st_uid, self.parent.st_uid] {
            if uid != 0 && !benders.contains(&Bender::User(uid)) {
                benders.push(Bender::User(uid));
            }
        }
        if is_writable_by_others(self.parent) && self.parent.st_mode & STICKY == 0 {
            benders.push(Bender::Others);
        }
        benders
    }
}

/// Whether anyone besides the owner can write to it: everybody, or a group other than root's.
pub(crate) fn is_writable_by_others(stat: &Stat) -> bool {
    stat.st_mode & 0o002 != 0 || (stat.st_mode & 0o020 != 0 && stat.st_gid != 0)
}

/// What a path leads to, held open by an `O_PATH` descriptor.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) descriptor: OwnedFd,
    pub(crate) stat: Stat,
    pub(crate) path: PathBuf,
}

impl Reached {
    pub(crate) fn owner(&self) -> Ids {
        Ids {
            uid: self.stat.st_uid,
            gid: self.stat.st_gid,
        }
    }

    pub(crate) fn id(&self) -> FileId {
        FileId::from_stat(&self.stat)
    }
}

/// Follows `path` to its end, but through no link that anyone but root and the owner of the target could redirect.
///
/// # Errors
/// It does not exist, may not be accessed, or goes through such a link.
pub(crate) fn reach(path: &Path, last: Links) -> Result<Reached, ReachError> {
    if let Some(descriptor) = without_links(path, OFlags::PATH) {
        let stat = rustix::fs::fstat(&descriptor).map_err(ReachError::system(path))?;
        return Ok(Reached {
            descriptor,
            stat,
            path: path.to_owned(),
        });
    }
    let mut links: Vec<(PathBuf, Vec<Bender>)> = Vec::new();
    let reached = walk(path, last, |step| {
        if step.is_link() {
            links.push((step.path.to_owned(), step.benders()));
        }
        Ok(())
    })?;
    let owner = reached.stat.st_uid;
    for (link, benders) in links {
        let stranger = benders.into_iter().find(|who| *who != Bender::User(owner));
        if let Some(bender) = stranger {
            return Err(ReachError::Bent {
                link,
                bender,
                owner,
            });
        }
    }
    Ok(reached)
}

/// Opens the directory at `path` for reading, following links as [`reach`] does.
///
/// # Errors
/// As for [`reach`], or it is not a directory.
pub(crate) fn open_directory(path: &Path, last: Links) -> Result<OwnedFd, ReachError> {
    match without_links(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Some(opened) => Ok(opened),
        None => Directory::open(path, last)?.opened(),
    }
}

/// The same with `O_PATH`: that needs no permission to list the directory, and raises no inotify event.
///
/// # Errors
/// The same.
pub(crate) fn lead_to(path: &Path, last: Links) -> Result<OwnedFd, ReachError> {
    match without_links(path, OFlags::PATH | OFlags::DIRECTORY) {
        Some(opened) => Ok(opened),
        None => Ok(Directory::open(path, last)?.0.descriptor),
    }
}

/// Opens `path` in one step if it contains no links, so that nobody can have redirected it. `None` if it does, or if the
/// kernel refuses for any other reason; the walk finds out why.
fn without_links(path: &Path, flags: OFlags) -> Option<OwnedFd> {
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return None;
    }
    let (flags, resolve) = (flags | OFlags::CLOEXEC, ResolveFlags::NO_SYMLINKS);
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).ok()
}

/// Walks `path` from the root; `visit` is called with each component and can stop the walk.
///
/// # Errors
/// [`ReachError`], or the error of `visit`.
pub(crate) fn walk<E: From<ReachError>>(
    path: &Path,
    last: Links,
    mut visit: impl FnMut(&OnTheWay<'_>) -> Result<(), E>,
) -> Result<Reached, E> {
    if !path.is_absolute() {
        return Err(ReachError::Relative.into());
    }
    let mut at = root()?;
    let mut ahead: VecDeque<OsString> = names(path).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let next_path = joined(&at.path, &name);
        let fail = || ReachError::system(&next_path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor =
            rustix::fs::openat(&at.descriptor, &name, flags, Mode::empty()).map_err(fail())?;
        let stat = rustix::fs::fstat(&descriptor).map_err(fail())?;
        let step = OnTheWay {
            path: &next_path,
            stat: &stat,
            parent: &at.stat,
        };
        visit(&step)?;
        if !step.is_link() {
            at = Reached {
                descriptor,
                stat,
                path: next_path,
            };
            continue;
        }
        let target = rustix::fs::readlinkat(&descriptor, "", Vec::new()).map_err(fail())?;
        let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
        links += 1;
        if ahead.is_empty() && last == Links::Refused && links == 1 {
            let target = joined(&at.path, target.as_os_str());
            return Err(ReachError::LinkAtEnd { target }.into());
        }
        if links > MOST_LINKS {
            return Err(fail()(Errno::LOOP).into());
        }
        if target.is_absolute() {
            at = root()?;
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(at)
}

fn root() -> Result<Reached, ReachError> {
    let path = Path::new("/");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(ReachError::system(path))?;
    let stat = rustix::fs::fstat(&descriptor).map_err(ReachError::system(path))?;
    Ok(Reached {
        descriptor,
        stat,
        path: path.to_owned(),
    })
}

/// The components of a path, including `..`: after a link, that is not the component before it.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn joined(directory: &Path, name: &OsStr) -> PathBuf {
    if name == ".." {
        return directory.parent().unwrap_or(directory).to_owned();
    }
    directory.join(name)
}

/// A directory that was opened as [`reach`] does, and is held open.
#[derive(Debug)]
pub(crate) struct Directory(Reached);

impl Directory {
    /// # Errors
    /// As for [`reach`], or it is not a directory.
    pub(crate) fn open(path: &Path, last: Links) -> Result<Directory, ReachError> {
        Directory::from_reached(reach(path, last)?)
    }

    fn from_reached(reached: Reached) -> Result<Directory, ReachError> {
        if FileType::from_raw_mode(reached.stat.st_mode) != FileType::Directory {
            return Err(ReachError::NotADirectory);
        }
        Ok(Directory(reached))
    }

    pub(crate) fn owner(&self) -> Ids {
        self.0.owner()
    }

    pub(crate) fn id(&self) -> FileId {
        self.0.id()
    }

    /// Whether only root can create or rename files in it.
    pub(crate) fn is_roots_alone(&self) -> bool {
        self.0.stat.st_uid == 0 && !is_writable_by_others(&self.0.stat)
    }

    /// Opens a subdirectory, which must not be a link.
    ///
    /// # Errors
    /// It does not exist, or is not a directory.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Directory, ReachError> {
        let path = self.0.path.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&self.0.descriptor, name, flags, Mode::empty())
            .map_err(ReachError::system(&path))?;
        let stat = rustix::fs::fstat(&descriptor).map_err(ReachError::system(&path))?;
        let reached = Reached {
            descriptor,
            stat,
            path,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(&reached.descriptor, "", Vec::new())
                .map_err(ReachError::system(&reached.path))?;
            let target = joined(&self.0.path, OsStr::from_bytes(target.to_bytes()));
            return Err(ReachError::LinkAtEnd { target });
        }
        Directory::from_reached(reached)
    }

    /// Opens the same directory for reading and syncing.
    ///
    /// # Errors
    /// This thread may not read it.
    pub(crate) fn opened(&self) -> Result<OwnedFd, ReachError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0.descriptor, ".", flags, Mode::empty())
            .map_err(ReachError::system(&self.0.path))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::host::look;
    use crate::testing::skipped::Skipped;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    const ALICE: u32 = 4242;
    const BOB: u32 = 4243;

    /// A directory of root's in which a test can change owners; `None` if it can't.
    fn ground() -> Option<tempfile::TempDir> {
        if !rustix::process::geteuid().is_root() {
            Skipped::because("only root gives files away").count();
            return None;
        }
        let ground = tempfile::tempdir().unwrap();
        fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Some(ground)
    }

    fn directory(path: PathBuf, owner: u32) -> PathBuf {
        fs::create_dir(&path).unwrap();
        lchown(&path, Some(owner), Some(owner)).unwrap();
        path
    }

    fn link(target: &Path, path: PathBuf, owner: u32) -> PathBuf {
        symlink(target, &path).unwrap();
        lchown(&path, Some(owner), Some(owner)).unwrap();
        path
    }

    fn reached(path: &Path) -> Result<u32, ReachError> {
        reach(path, Links::Followed).map(|found| found.owner().uid)
    }

    #[test]
    fn a_link_counts_only_where_nobody_but_root_or_the_end_s_owner_could_have_bent_it() {
        let Some(ground) = ground() else { return };
        let at = |name: &str| ground.path().join(name);
        let (alices, bobs) = (directory(at("alice"), ALICE), directory(at("bob"), BOB));
        directory(bobs.join("data"), BOB);
        directory(alices.join("data"), ALICE);
        directory(at("roots"), 0);
        let bent = |path: &Path| matches!(reached(path), Err(ReachError::Bent { .. }));

        // Root's own link in root's own directory leads anywhere.
        assert_eq!(reached(&link(&bobs, at("by-root"), 0)).unwrap(), BOB);
        // A user's own link leads to what is his.
        let own = link(&alices.join("data"), alices.join("own"), ALICE);
        assert_eq!(reached(&own).unwrap(), ALICE);
        // It leads to nobody else's, at the end and in the middle of a path, and to nothing of root's.
        let to_bob = link(&bobs, alices.join("to-bob"), ALICE);
        assert!(bent(&to_bob));
        assert!(bent(&to_bob.join("data")));
        assert!(bent(&link(&at("roots"), alices.join("to-root"), ALICE)));
        // Nor does root's link that Alice may have moved to its place.
        assert!(bent(&link(&bobs, alices.join("moved"), 0)));
        // One that leads through another to the same end is no better.
        assert!(bent(&link(&to_bob, at("through"), 0)));
        // In a sticky directory the entry's owner counts, in one that all may write anybody.
        let (sticky, open) = (directory(at("sticky"), 0), directory(at("open"), 0));
        fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(bent(&link(&bobs, sticky.join("l"), ALICE)));
        assert_eq!(reached(&link(&bobs, sticky.join("m"), BOB)).unwrap(), BOB);
        assert!(bent(&link(&bobs, open.join("l"), BOB)));
    }

    #[test]
    fn a_path_means_what_the_kernel_says() {
        let Some(ground) = ground() else { return };
        let at = |name: &str| ground.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("c")).unwrap();
        symlink("../c", at("a/relative")).unwrap();
        symlink(at("a/b"), at("c/absolute")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for path in [
            "a/b",
            "a/relative",
            "c/absolute",
            "c/absolute/..",
            "a/relative/absolute/../b",
            "./a/../c",
        ] {
            let id = look::file_id(&at(path)).unwrap();
            let found = reach(&at(path), Links::Followed).unwrap();
            assert_eq!(Some(found.id()), id, "{path}");
            assert_eq!(found.path, fs::canonicalize(at(path)).unwrap(), "{path}");
        }
        let system = |path: &str| match reach(&at(path), Links::Followed) {
            Err(ReachError::System { source, .. }) => source.kind(),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(system("missing"), io::ErrorKind::NotFound);
        assert_eq!(system("loop"), io::Error::from(Errno::LOOP).kind());
        let at_end = reach(&at("a/relative"), Links::Refused);
        assert!(matches!(at_end, Err(ReachError::LinkAtEnd { .. })));
        assert!(reach(&at("a/relative/absolute/.."), Links::Refused).is_ok());
        assert!(matches!(
            reach(Path::new("a"), Links::Followed),
            Err(ReachError::Relative)
        ));
    }
}
