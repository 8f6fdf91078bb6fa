//! Writing: first everything next to the targets, then in their place, and durable before anything relies on it.

use std::collections::BTreeSet;

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::swap::{Replacement, Swap};
use super::{FilesError, FilesSnapshot, Found, Targets, Trial, slot, slot_to_read};
use crate::bundle::{KeyedBundle, Piece, TrustFiles};
use crate::host::slot::FileSlot;

/// New files that are complete and durable next to their targets.
pub(crate) struct StagedFiles {
    /// Each target with what will replace it, in the order of the renames.
    files: Vec<Swap>,
    /// Whether a handshake may not show that they were loaded.
    reload_due: bool,
}

/// What to do with the files that an install replaces.
pub(crate) enum Keep<'a> {
    /// They were proven served and become `previous.pem`.
    AsPrevious(&'a FilesSnapshot),
    /// They were not: `previous.pem` stays.
    No,
}

impl Targets {
    /// Removes what a crash left next to the targets and in the state directory.
    ///
    /// # Errors
    /// Something was left and cannot be removed.
    pub(crate) fn clean(&self) -> Result<(), FilesError> {
        let TrustFiles { ca, crl } = self.previous_trust_files();
        let others = [
            self.previous_file(),
            ca,
            crl,
            self.state.join("held.json"),
            self.state.join("reload-due"),
            self.state.join("setup.json"),
            self.trial_file(),
            self.proven_file(),
        ];
        let mut last: Option<FileSlot> = None;
        for path in self.paths().chain(others.iter().map(|p| p.as_path())) {
            let place = match last.as_ref().and_then(|place| place.sibling(path)) {
                Some(place) => place,
                None => match slot_to_read(path) {
                    Ok(place) => place,
                    // Without a directory, nothing was left.
                    Err(_) => continue,
                },
            };
            place.discard()?;
            last = Some(place);
        }
        Ok(())
    }

    /// Writes `bundle` durably next to the targets; nothing that Postgres reads changes yet. If it comes without a CA or
    /// CRL file, the installed one stays.
    ///
    /// # Errors
    /// The directory is missing, not writable or full, or a target cannot be replaced; the targets are untouched.
    pub(crate) fn stage(&self, bundle: &KeyedBundle) -> Result<StagedFiles, FilesError> {
        let mut staged = StagedFiles {
            files: Vec::new(),
            reload_due: bundle.client_trust().digest().is_some(),
        };
        let mut wanted = Vec::new();
        for (piece, path) in self.files().rev() {
            let place = slot(path)?;
            self.replaceable(&place)?;
            wanted.push((piece, place));
        }
        for (piece, place) in wanted {
            let Some((content, mode)) = self.content(bundle, piece) else {
                continue;
            };
            if let Err(error) = place.stage(&content, mode, Some(self.owner)) {
                // The first error is the one to report; leftovers are removed next time.
                let _second = self.discard(&staged);
                return Err(error.into());
            }
            staged.files.push(Swap {
                place,
                by: Replacement::Staged,
                private: self.is_private(piece),
            });
        }
        Ok(staged)
    }

    /// Whether the target of this piece contains the key.
    fn is_private(&self, piece: Piece) -> bool {
        piece == Piece::Key || piece == Piece::Certificate && self.single_file()
    }

    /// The content of the target of this piece for `bundle`, and its mode.
    fn content(&self, bundle: &KeyedBundle, piece: Piece) -> Option<(Zeroizing<Vec<u8>>, u32)> {
        let content = match piece {
            Piece::Certificate if self.single_file() => bundle.combined_pem(),
            Piece::Certificate | Piece::Chain => Zeroizing::new(bundle.chain_pem()),
            Piece::Key => bundle.key_pem(),
            Piece::Ca | Piece::Crl => Zeroizing::new(bundle.client_trust().pem(piece)?),
        };
        let private = self.is_private(piece);
        Some((content, if private { self.key_mode() } else { 0o644 }))
    }

    /// Puts staged files in place of the targets, and makes that durable. The trial is recorded before the first of them is
    /// in place, so a crash never leaves one without the other. If a handshake might not show what was loaded, because there
    /// are CA or CRL files among them, it is also recorded that a reload is due
    /// ([`reload_due`](super::FilesSnapshot::reload_due)) until [`Targets::reloaded`].
    ///
    /// # Errors
    /// A step failed. All targets are as they were; if restoring one of several failed as well, which the error says, the
    /// next comparison repairs the mixed set.
    pub(crate) fn commit(
        &self,
        staged: &StagedFiles,
        keep: &Keep<'_>,
        trial: Trial,
    ) -> Result<(), FilesError> {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("commit");
        let before = self.trial_text();
        if let Err(error) = self.put_in_place(staged, keep, trial) {
            if trial != Trial::Unchanged && !error.is_mixed() {
                // Nothing new is in place. The first error is the one to report: a trial of something that is
                // not installed only costs a remark.
                let _second = self.set_trial_text(before.as_deref());
            }
            return Err(error);
        }
        sync_directories(staged.files.iter().map(|swap| &swap.place))
    }

    fn put_in_place(
        &self,
        staged: &StagedFiles,
        keep: &Keep<'_>,
        trial: Trial,
    ) -> Result<(), FilesError> {
        if let Trial::Begins(bundle) = trial {
            self.begin_trial(bundle)?;
        }
        if let Keep::AsPrevious(look) = keep {
            self.keep_previous(look)?;
        }
        if staged.reload_due {
            self.note_reload_due()?;
        }
        if trial != Trial::Unchanged && !self.is_durable_before(staged, keep) {
            slot(&self.trial_file())?.sync_directory()?;
        }
        self.all_or_none(&staged.files, || {
            #[cfg(feature = "failpoints")]
            fail::fail_point!("renamed");
        })
    }

    /// Whether what was recorded in the state directory survives every power failure that the renames survive, without an
    /// fsync of its own: renames in one directory become durable in order, and anything else kept there was synced.
    fn is_durable_before(&self, staged: &StagedFiles, keep: &Keep<'_>) -> bool {
        let beside = |target: &FileSlot| target.path().parent() == Some(&self.state);
        let kept = matches!(keep, Keep::AsPrevious(_));
        kept || staged.reload_due || staged.files.iter().all(|swap| beside(&swap.place))
    }

    /// Removes staged files again.
    ///
    /// # Errors
    /// They cannot be removed.
    pub(crate) fn discard(&self, staged: &StagedFiles) -> Result<(), FilesError> {
        Ok(staged.files.iter().try_for_each(Swap::discard)?)
    }

    /// Makes what was found the previous bundle, all of its files or none: first the CA and CRL, so that a crash in between
    /// leaves files that load.
    fn keep_previous(&self, look: &FilesSnapshot) -> Result<(), FilesError> {
        let Some(bundle) = look.installed.bundle() else {
            return Ok(());
        };
        let companions = bundle.client_trust();
        let previous = slot(&self.previous_file())?;
        let mut swaps = Vec::new();
        for (piece, path) in self.previous_trust_files().iter() {
            let Some(place) = previous.sibling(path) else {
                continue;
            };
            let by = match companions.pem(piece) {
                Some(content) => {
                    place.stage(&content, 0o600, Some(self.owner))?;
                    Replacement::Staged
                }
                None if place.is_absent() => continue,
                None => Replacement::Nothing,
            };
            let private = true;
            swaps.push(Swap { place, by, private });
        }
        let linked = self.link_beside(&previous)?;
        if !linked {
            self.copy_beside(&previous, look)?;
        }
        swaps.push(Swap {
            place: previous,
            by: Replacement::Staged,
            private: true,
        });
        self.all_or_none(&swaps, || {})?;
        match swaps.last() {
            // If both names were the same file already, rename(2) leaves both.
            Some(swap) if linked => Ok(swap.place.discard()?),
            _ => sync_directories(swaps.iter().map(|swap| &swap.place)),
        }
    }

    /// Hard-links the installed file next to `previous` if that is enough; returns whether it did. Nothing is
    /// written then, and one fsync of the directory after the install covers both renames, in order.
    /// A file that the server's group can read is copied instead, since nobody else needs the old key.
    fn link_beside(&self, previous: &FileSlot) -> Result<bool, FilesError> {
        let Some(cert) = previous.sibling(&self.cert).filter(|_| self.single_file()) else {
            return Ok(false);
        };
        let mode = cert.stat().map(|stat| stat.st_mode & 0o7777);
        if mode != Ok(0o600) {
            return Ok(false);
        }
        Ok(previous.stage_second_name(&cert)?)
    }

    fn copy_beside(&self, previous: &FileSlot, look: &FilesSnapshot) -> Result<(), FilesError> {
        let keyed = self.judge(&look.found).ok().flatten();
        let keyed = keyed.ok_or_else(|| previous.failed("copy what is installed")(Errno::STALE))?;
        Ok(previous.stage(&keyed.combined_pem(), 0o600, Some(self.owner))?)
    }

    /// Whether the targets are still what [`Targets::look`] found, byte for byte.
    ///
    /// # Errors
    /// A target cannot be read.
    pub(crate) fn holds(&self, found: &[Found]) -> Result<bool, FilesError> {
        let now = self.found()?;
        let same = |one: &Found, other: &Found| match (one, other) {
            (Found::Absent, Found::Absent) => true,
            (Found::Link(one), Found::Link(other)) => one == other,
            (Found::File { bytes: one, .. }, Found::File { bytes: other, .. }) => one == other,
            _ => false,
        };
        Ok(now.len() == found.len() && now.iter().zip(found).all(|(one, other)| same(one, other)))
    }

    /// Restores what [`Targets::look`] found: file, link or nothing; all of it or, if a step fails, none.
    ///
    /// # Errors
    /// A target cannot be written or removed.
    pub(crate) fn put_back(&self, found: &[Found]) -> Result<(), FilesError> {
        let mut wanted = Vec::new();
        // In the order of an install.
        let found: Vec<_> = self.each(found).collect();
        for (piece, path, found) in found.into_iter().rev() {
            // An install never replaces these, so there is nothing to restore.
            if !matches!(found, Found::Odd(_)) {
                let place = slot(path)?;
                self.replaceable(&place)?;
                wanted.push((found, place, self.is_private(piece)));
            }
        }
        let mut swaps: Vec<Swap> = Vec::new();
        for (found, place, private) in wanted {
            match self.put_again(&place, found, private) {
                Ok(by) => swaps.push(Swap { place, by, private }),
                Err(error) => {
                    // The first error is the one to report; leftovers are removed next time.
                    let _second = swaps.iter().try_for_each(Swap::discard);
                    return Err(error);
                }
            }
        }
        self.all_or_none(&swaps, || {
            #[cfg(feature = "failpoints")]
            fail::fail_point!("put_back");
        })?;
        sync_directories(swaps.iter().map(|swap| &swap.place))
    }
}

/// Makes the directories of these durable, each only once.
fn sync_directories<'a>(places: impl Iterator<Item = &'a FileSlot>) -> Result<(), FilesError> {
    let mut durable = BTreeSet::new();
    for place in places {
        if durable.insert(place.path().parent()) {
            place.sync_directory()?;
        }
    }
    Ok(())
}
