//! The lock that daemon, `sync` and `rollback` share: only one of them works on an instance at a time.
//!
//! It is a `flock` on a file in the state directory of the instance, or of the first instance of its server, that only its
//! owner can open: on a file that others can read, such as a data directory with mode 0750 or the configuration of a PgBouncer,
//! they could hold the lock forever.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{FilesError, Targets, slot};
use crate::host::look::FileId;
use crate::host::privilege::Ids;
use crate::host::slot::{FileSlot, SlotError};

/// How often to retry if the lock file is removed while it is being locked.
const TRIES: usize = 16;

/// Keeps other pgcertd processes away from an instance. Dropping it closes the descriptor, which releases the lock and cannot
/// fail.
#[derive(Debug)]
pub(crate) struct Lock {
    _open: OwnedFd,
}

impl Targets {
    /// The file that is locked.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.lock_directory.join("lock")
    }

    /// Takes the lock; `None` if another holds it.
    ///
    /// # Errors
    /// There is no state directory, or the file does not belong to the owner.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, FilesError> {
        let place = slot(&self.lock_file())?;
        for _ in 0..TRIES {
            let open = place.open_lock()?;
            let stat = rustix::fs::fstat(&open).map_err(place.failed("look at it"))?;
            self.check_lock(&place, &open, &stat)?;
            match rustix::fs::flock(&open, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(place.failed("lock it")(e).into()),
            }
            // Whoever comes next locks the file that has the name by then.
            if place.is(&stat) {
                return Ok(Some(Lock { _open: open }));
            }
        }
        let action = "lock it, since something keeps removing it";
        Err(place.failed(action)(Errno::AGAIN).into())
    }

    /// Removes the file unless somebody is working on the instance. Anyone waiting for it notices that it has no name any
    /// more, and uses the next one.
    ///
    /// # Errors
    /// As [`Targets::try_lock`], or it cannot be removed.
    pub(crate) fn remove_lock(&self) -> Result<(), FilesError> {
        match self.try_lock()? {
            Some(_held) => Ok(slot(&self.lock_file())?.remove()?),
            None => Ok(()),
        }
    }

    /// Makes sure that only the owner can open it.
    fn check_lock(&self, place: &FileSlot, open: &OwnedFd, stat: &Stat) -> Result<(), FilesError> {
        let refused = |why: String| {
            let fix = format!("{why}; remove it: pgcertd makes its own");
            Err(FilesError::from(place.failed("use it as a lock")(Errno::PERM)).with_fix(fix))
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return refused("it is no regular file".into());
        }
        if stat.st_uid != self.owner.uid && stat.st_uid != Ids::own().uid {
            return refused(format!(
                "it belongs to user {}, not to {}",
                stat.st_uid, self.owner.uid
            ));
        }
        if stat.st_nlink > 1 {
            return refused("it has another name beside this one".into());
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(open, Mode::from_raw_mode(0o600))
                .map_err(place.failed("make it private"))?;
        }
        Ok(())
    }
}

impl FileSlot {
    fn open_lock(&self) -> Result<OwnedFd, SlotError> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |how: OFlags| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::openat(self.directory(), self.name(), flags | how, mode)
        };
        match open(OFlags::RDWR | OFlags::CREATE) {
            // If nothing has to change, nothing has to be written.
            Err(Errno::ROFS) => open(OFlags::RDONLY),
            opened => opened,
        }
        .map_err(self.failed("open the lock"))
    }

    /// Whether the file with this name is the one that `stat` is about.
    fn is(&self, stat: &Stat) -> bool {
        self.stat()
            .is_ok_and(|now| FileId::from_stat(&now) == FileId::from_stat(stat))
    }
}
