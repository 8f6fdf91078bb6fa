//! Replaces several files as one: all of them or, if one fails, none.
//!
//! One rename is atomic; several are not. Whatever could prevent a rename is checked before the first
//! one, and if a later one fails all the same, the earlier ones are undone at once: a server
//! that is restarted then finds a matching set of files.

use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{FilesError, Found, LARGEST, Targets};
use crate::host::privilege::{Ids, is_root};
use crate::host::slot::{FileSlot, SlotError};

/// The replacement of one file.
pub(super) struct Swap {
    pub(super) place: FileSlot,
    pub(super) by: Replacement,
    /// Whether it contains a key.
    pub(super) private: bool,
}

pub(super) enum Replacement {
    /// By the complete file next to it.
    Staged,
    Nothing,
}

impl Replacement {
    fn take(&self, place: &FileSlot) -> Result<(), SlotError> {
        match self {
            Replacement::Staged => place.commit(),
            Replacement::Nothing => place.remove(),
        }
    }
}

impl Swap {
    /// Removes what was to be put there.
    pub(super) fn discard(&self) -> Result<(), SlotError> {
        match self.by {
            Replacement::Staged => self.place.discard(),
            Replacement::Nothing => Ok(()),
        }
    }
}

impl Targets {
    /// Carries out all of `swaps`, one right after the other, or none; calls `after_each` after
    /// each. Nothing is durable yet.
    pub(super) fn all_or_none(
        &self,
        swaps: &[Swap],
        after_each: impl Fn(),
    ) -> Result<(), FilesError> {
        let several = swaps.len() > 1;
        let before = swaps.iter().filter(|_| several);
        let before: Vec<Found> = before
            .map(|swap| swap.place.read(LARGEST))
            .collect::<Result<_, _>>()?;
        for (index, swap) in swaps.iter().enumerate() {
            let Err(error) = swap.by.take(&swap.place) else {
                after_each();
                continue;
            };
            // The rest must not stay either: it takes space that undoing needs.
            for rest in &swaps[index + 1..] {
                let _second = rest.discard();
            }
            let error = FilesError::from(error);
            if index == 0 {
                return Err(error);
            }
            let undone = self.undo(&swaps[..index], &before);
            return Err(error.after_undoing(undone));
        }
        Ok(())
    }

    /// Restores what was there `before`, the last first, as far as possible, and durably.
    fn undo(&self, done: &[Swap], before: &[Found]) -> Result<(), FilesError> {
        let mut result = Ok(());
        for (swap, found) in done.iter().zip(before).rev() {
            let undone = self
                .put_again(&swap.place, found, swap.private)
                .and_then(|by| {
                    by.take(&swap.place)?;
                    Ok(swap.place.sync_directory()?)
                });
            result = result.and(undone);
        }
        result
    }

    /// Prepares restoring what was found at `place`; whatever is needed for that is then next to it.
    pub(super) fn put_again(
        &self,
        place: &FileSlot,
        found: &Found,
        private: bool,
    ) -> Result<Replacement, FilesError> {
        match found {
            Found::Absent => Ok(Replacement::Nothing),
            Found::Link(target) => {
                place.stage_link(target)?;
                Ok(Replacement::Staged)
            }
            Found::File { bytes, ids, mode } => {
                match place.stage(bytes, *mode, Some(*ids)) {
                    // It belonged to another user, and only root can change owners. What counts is
                    // that the server can start with it.
                    Err(e) if matches!(e.source, Errno::ACCESS | Errno::PERM) => {
                        let mode = if private { self.key_mode() } else { 0o644 };
                        place.stage(bytes, mode, Some(self.owner))?;
                    }
                    staged => staged?,
                }
                Ok(Replacement::Staged)
            }
            Found::Odd(what) => {
                let fix = format!("it was {what}, which pgcertd does not make");
                Err(
                    FilesError::from(place.failed("put back what was there")(Errno::NOTSUP))
                        .with_fix(fix),
                )
            }
        }
    }

    /// The user whose rights count for file operations here.
    fn acting(&self) -> u32 {
        if is_root() {
            self.owner.uid
        } else {
            Ids::own().uid
        }
    }

    /// Checks whether a rename can replace this file, as far as that can be known beforehand.
    ///
    /// # Errors
    /// It can't; what to do about it.
    pub(super) fn replaceable(&self, place: &FileSlot) -> Result<(), FilesError> {
        let refused = |errno, fix: String| {
            Err(FilesError::from(place.failed("replace it")(errno)).with_fix(fix))
        };
        let path = place.path().display();
        let wanted = StatxFlags::BASIC_STATS;
        let directory = rustix::fs::statx(place.directory(), "", AtFlags::EMPTY_PATH, wanted)
            .map_err(place.failed("look at its directory"))?;
        let parent = place.path().parent().unwrap_or(place.path()).display();
        if let Some((name, letter)) = locked(directory.stx_attributes) {
            let fix = format!("{parent} is {name}: chattr -{letter} {parent}");
            return refused(Errno::PERM, fix);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let there = match rustix::fs::statx(place.directory(), place.name(), flags, wanted) {
            Ok(there) => there,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(place.failed("look at it")(e).into()),
        };
        if let Some((name, letter)) = locked(there.stx_attributes) {
            return refused(
                Errno::PERM,
                format!("it is {name}: chattr -{letter} {path}"),
            );
        }
        if there.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            let fix =
                format!("it is mounted by itself: mount {parent} instead, see `findmnt {path}`");
            return refused(Errno::BUSY, fix);
        }
        if FileType::from_raw_mode(there.stx_mode.into()) == FileType::Directory {
            let fix = "it is a directory; move it away, or name a file in pgcertd's config";
            return refused(Errno::ISDIR, fix.into());
        }
        const STICKY: u16 = 0o1000;
        let (me, mine) = (self.acting(), [directory.stx_uid, there.stx_uid]);
        if directory.stx_mode & STICKY != 0 && !mine.contains(&me) {
            let fix = format!(
                "it belongs to user {}, and {parent} is sticky (mode {:04o}): only that user, or user {}, may replace \
                 it there; chown it, or chmod -t {parent}",
                there.stx_uid,
                directory.stx_mode & 0o7777,
                directory.stx_uid
            );
            return refused(Errno::PERM, fix);
        }
        Ok(())
    }
}

/// The attribute of chattr(1) that prevents a rename, if one is set: in words, and its letter.
pub(in crate::server) fn locked(attributes: StatxAttributes) -> Option<(&'static str, char)> {
    let flags = [
        (StatxAttributes::IMMUTABLE, "immutable", 'i'),
        (StatxAttributes::APPEND, "append-only", 'a'),
    ];
    let mut set = flags
        .into_iter()
        .filter(|(bit, ..)| attributes.contains(*bit));
    set.next().map(|(_, name, letter)| (name, letter))
}
