//! One file name in a directory that is held open, and the one way to put another file there.
//!
//! A new file is written beside the name first ([`FileSlot::stage`]) and takes its place by one rename
//! ([`FileSlot::commit`]). Owner and mode come before content, content is durable before the rename, and the rename is
//! durable once the directory is ([`FileSlot::sync_directory`]). A reader of the name sees the old file or the new one,
//! whole. Everything goes through the directory's descriptor and follows no link in the last step: another user who may
//! write there can make a step fail, and cannot lead it elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;

use super::directory::{ReachError, lead_to, open_directory};
use super::file::Links;
use super::privilege::Ids;

/// A step on the file of a slot failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {source}", path.display())]
pub(crate) struct SlotError {
    pub(crate) path: PathBuf,
    pub(crate) action: &'static str,
    #[source]
    pub(crate) source: Errno,
}

impl SlotError {
    pub(crate) fn new(path: &Path, action: &'static str) -> impl FnOnce(Errno) -> SlotError {
        let path = path.to_owned();
        move |source| SlotError {
            path,
            action,
            source,
        }
    }
}

impl From<SlotError> for io::Error {
    fn from(error: SlotError) -> io::Error {
        error.source.into()
    }
}

/// How the name of what is being written beside another file ends.
const STAGED: &str = ".pgcertd-new";

/// The name of what is being written beside `name`. It is always the same, so that whoever
/// comes next finds what a crash left behind.
pub(crate) fn staging_name(name: &OsStr) -> OsString {
    let mut staging = OsString::from(".");
    staging.push(name);
    staging.push(STAGED);
    staging
}

/// Whether a file is one that is being written beside another.
pub(crate) fn is_staging_name(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(STAGED.as_bytes())
}

/// A name in a directory that is held open.
#[derive(Debug)]
pub(crate) struct FileSlot {
    directory: Arc<OwnedFd>,
    name: OsString,
    path: PathBuf,
}

impl FileSlot {
    /// Opens the directory of `path`, through no link that somebody could bend who has no right to it.
    ///
    /// # Errors
    /// As [`open_directory`], or `path` has no file name.
    pub(crate) fn open(path: &Path) -> Result<FileSlot, ReachError> {
        let parent = path.parent().ok_or(ReachError::NotADirectory)?;
        let directory = open_directory(parent, Links::Followed)?;
        FileSlot::new(directory, path)
    }

    /// The same, only to read what is there or to remove what lies beside it; the directory cannot be synced through it.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn lead_to(path: &Path) -> Result<FileSlot, ReachError> {
        let parent = path.parent().ok_or(ReachError::NotADirectory)?;
        FileSlot::new(lead_to(parent, Links::Followed)?, path)
    }

    /// That of the last component of `path` in `directory`.
    ///
    /// # Errors
    /// `path` has no file name.
    pub(crate) fn new(directory: OwnedFd, path: &Path) -> Result<FileSlot, ReachError> {
        let name = path.file_name().ok_or(ReachError::NotADirectory)?;
        Ok(FileSlot {
            directory: Arc::new(directory),
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// That of `path` in the same directory; nothing where it lies in another one.
    pub(crate) fn sibling(&self, path: &Path) -> Option<FileSlot> {
        (path.parent() == self.path.parent()).then_some(())?;
        Some(FileSlot {
            directory: Arc::clone(&self.directory),
            name: path.file_name()?.to_owned(),
            path: path.to_owned(),
        })
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error of this slot: what could not be done.
    pub(crate) fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> SlotError {
        SlotError::new(&self.path, action)
    }

    /// What the file system knows of what is there, of a link itself.
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.stat(), Err(Errno::NOENT))
    }

    /// Puts a file with these bytes there, durably; of the acting user where no owner is given.
    ///
    /// # Errors
    /// A step failed: what is there is the file from before or, if only the directory could not be made durable, the new one.
    pub(crate) fn replace(
        &self,
        bytes: &[u8],
        mode: u32,
        owner: Option<Ids>,
    ) -> Result<(), SlotError> {
        self.stage(bytes, mode, owner)?;
        self.commit()?;
        self.sync_directory()
    }

    /// Writes a file durably beside this name. Nothing of a crashed run survives it.
    ///
    /// # Errors
    /// A step failed, and nothing is left beside.
    pub(crate) fn stage(
        &self,
        bytes: &[u8],
        mode: u32,
        owner: Option<Ids>,
    ) -> Result<(), SlotError> {
        let file = self.create_beside()?;
        let written = self
            .hand_over(&file, mode, owner)
            .and_then(|()| self.write_beside(file, bytes));
        self.or_discard(written)
    }

    fn hand_over(&self, file: &OwnedFd, mode: u32, owner: Option<Ids>) -> Result<(), SlotError> {
        let stat = rustix::fs::fstat(file).map_err(self.failed("look at the new file"))?;
        if let Some(Ids { uid, gid }) = owner
            && (stat.st_uid, stat.st_gid) != (uid, gid)
        {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(self.failed("give the new file its owner and group"))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(self.failed("give the new file its mode"))
    }

    /// Makes an empty file beside this name that is only the acting user's.
    ///
    /// # Errors
    /// It cannot be made, or what a crash has left cannot be removed.
    pub(crate) fn create_beside(&self) -> Result<OwnedFd, SlotError> {
        self.discard()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        rustix::fs::openat(&self.directory, staging_name(&self.name), flags, mode)
            .map_err(self.failed("create a file beside it"))
    }

    /// Writes to the file that was made beside, durably.
    ///
    /// # Errors
    /// It cannot be written; it is still there.
    pub(crate) fn write_beside(&self, file: OwnedFd, bytes: &[u8]) -> Result<(), SlotError> {
        let mut file = File::from(file);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .map_err(self.failed("write the new file"))
    }

    /// Makes a link beside this name that says `target`.
    ///
    /// # Errors
    /// It cannot be made, or what a crash has left cannot be removed.
    pub(crate) fn stage_link(&self, target: impl AsRef<Path>) -> Result<(), SlotError> {
        self.discard()?;
        let beside = staging_name(&self.name);
        rustix::fs::symlinkat(target.as_ref(), &self.directory, beside)
            .map_err(self.failed("make a link beside it"))
    }

    /// Gives the file of `other` a second name beside this one; whether that could be done.
    ///
    /// # Errors
    /// What a crash has left cannot be removed.
    pub(crate) fn stage_second_name(&self, other: &FileSlot) -> Result<bool, SlotError> {
        self.discard()?;
        let (from, to) = (&other.directory, &self.directory);
        let (old, new) = (&other.name, staging_name(&self.name));
        Ok(rustix::fs::linkat(from, old, to, new, AtFlags::empty()).is_ok())
    }

    /// Puts what lies beside in this place. It is not durable yet.
    ///
    /// # Errors
    /// It cannot be put there, and is removed.
    pub(crate) fn commit(&self) -> Result<(), SlotError> {
        let (at, beside) = (&self.directory, staging_name(&self.name));
        let renamed = rustix::fs::renameat(at, beside, at, &self.name);
        self.or_discard(renamed.map_err(self.failed("put the new file in its place")))
    }

    /// The same where nothing has this name yet.
    ///
    /// # Errors
    /// Something has (`EEXIST`), or as [`FileSlot::commit`].
    pub(crate) fn commit_new(&self) -> Result<(), SlotError> {
        let (at, beside) = (&self.directory, staging_name(&self.name));
        let renamed = rustix::fs::renameat_with(at, beside, at, &self.name, RenameFlags::NOREPLACE);
        self.or_discard(renamed.map_err(self.failed("put the new file there")))
    }

    /// Removes what lies beside where a step failed: it may hold a key, and takes room.
    fn or_discard(&self, done: Result<(), SlotError>) -> Result<(), SlotError> {
        if done.is_err() {
            // The first error is the one to tell; what stays behind is removed next time.
            let _second = self.discard();
        }
        done
    }

    /// Removes what lies beside, if anything does.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub(crate) fn discard(&self) -> Result<(), SlotError> {
        self.unlink(&staging_name(&self.name))
    }

    /// Removes what is there, if anything is.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), SlotError> {
        self.unlink(&self.name)
    }

    fn unlink(&self, name: &OsStr) -> Result<(), SlotError> {
        let absent = || {
            let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            matches!(stat, Err(Errno::NOENT))
        };
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A read-only file system says so before it looks whether there is anything.
            Err(Errno::ROFS) if absent() => Ok(()),
            Err(error) => {
                let path = self.path.with_file_name(name);
                Err(SlotError::new(&path, "remove it")(error))
            }
        }
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// The disk, or the file system, says no.
    pub(crate) fn sync_directory(&self) -> Result<(), SlotError> {
        let synced = match rustix::fs::fsync(&self.directory) {
            // A descriptor that only leads there cannot be synced.
            Err(Errno::BADF) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&self.directory, ".", flags, Mode::empty())
                    .and_then(rustix::fs::fsync)
            }
            synced => synced,
        };
        synced.map_err(self.failed("make its directory durable"))
    }
}
