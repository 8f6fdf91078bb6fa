//! Writing: all beside the targets first, then in their places, and durable before anything relies on it.

use std::collections::BTreeSet;

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::swap::{Replacement, Swap};
use super::{FilesError, FilesSnapshot, Found, Targets, Trial, slot};
use crate::bundle::{KeyedBundle, Piece, TrustFiles};
use crate::host::slot::FileSlot;

/// New files that lie, complete and durable, beside their targets.
pub(crate) struct StagedFiles {
    /// Each target with what will replace it, in the order of the renames.
    files: Vec<Swap>,
    /// Whether the wire may not show that they were loaded.
    reload_due: bool,
}

/// What becomes of the files that an install replaces.
pub(crate) enum Keep<'a> {
    /// They were proven served: what was found then becomes `previous.pem`.
    AsPrevious(&'a FilesSnapshot),
    /// They were not: `previous.pem` stays what it is.
    No,
}

impl Targets {
    /// Removes what a crashed run left beside the targets and in the state directory.
    ///
    /// # Errors
    /// A leftover is there and cannot be removed.
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
        for path in self.paths().chain(others.iter().map(|p| p.as_path())) {
            // Where there is no directory there is no leftover.
            if let Ok(place) = slot(path) {
                place.discard()?;
            }
        }
        Ok(())
    }

    /// Writes `bundle` durably beside the targets; nothing that Postgres reads changes yet. A CA or
    /// CRL file that does not come with it stays what it is.
    ///
    /// # Errors
    /// The directory is missing, not writable, full, or a target is there to stay: the targets are untouched.
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
                // The first error is the one to tell; leftovers are removed next time.
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

    /// Whether the target of this piece holds the key.
    fn is_private(&self, piece: Piece) -> bool {
        piece == Piece::Key || piece == Piece::Certificate && self.single_file()
    }

    /// What the target of this piece holds of `bundle`, and its mode.
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

    /// Puts staged files in the place of the targets, and makes that durable. A trial is said to have
    /// begun before the first of them is there: no crash leaves the one without the other. Where the wire might
    /// not show what was loaded, since CA and CRL files are among them, it is remembered that a
    /// reload is due ([`Look::reload_due`](super::FilesSnapshot::reload_due)) until [`Targets::reloaded`].
    ///
    /// # Errors
    /// A step was refused. The targets are what they were, all of them; only where putting one of several
    /// back was refused as well, which the error says, the next comparison mends what does not fit.
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
                // Nothing new is in place. The first error is the one to tell: a trial of what is
                // not installed costs a remark.
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

    /// Whether the state directory needs no fsync of its own for what was noted there to outlast a
    /// power failure that the renames outlast: renames within one directory become durable in
    /// their order, and what is kept or noted beside it was synced.
    fn is_durable_before(&self, staged: &StagedFiles, keep: &Keep<'_>) -> bool {
        let beside = |target: &FileSlot| target.path().parent() == Some(&self.state);
        let kept = matches!(keep, Keep::AsPrevious(_));
        kept || staged.reload_due || staged.files.iter().all(|swap| beside(&swap.place))
    }

    /// Takes staged files away again.
    ///
    /// # Errors
    /// They cannot be removed.
    pub(crate) fn discard(&self, staged: &StagedFiles) -> Result<(), FilesError> {
        Ok(staged.files.iter().try_for_each(Swap::discard)?)
    }

    /// Makes what was found the previous bundle, all of its files or none: first what comes with the
    /// pair, so that a crash in between leaves files that load.
    fn keep_previous(&self, look: &FilesSnapshot) -> Result<(), FilesError> {
        let Some(bundle) = look.installed.bundle() else {
            return Ok(());
        };
        let companions = bundle.client_trust();
        let mut swaps = Vec::new();
        for (piece, path) in self.previous_trust_files().iter() {
            let place = slot(path)?;
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
        let previous = slot(&self.previous_file())?;
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
            // Where both names were one file already, rename(2) leaves both.
            Some(swap) if linked => Ok(swap.place.discard()?),
            _ => sync_directories(swaps.iter().map(|swap| &swap.place)),
        }
    }

    /// Gives the installed file a second name beside `previous`, where that will do: nothing is
    /// written, and the directory's one fsync after the install covers both renames, in their order.
    /// One that the server's group may read is copied, since nobody else needs the old key.
    fn link_beside(&self, previous: &FileSlot) -> Result<bool, FilesError> {
        let cert = slot(&self.cert)?;
        let beside = self.single_file() && self.cert.parent() == Some(&self.state);
        let mode = cert.stat().map(|stat| stat.st_mode & 0o7777);
        if !beside || mode != Ok(0o600) {
            return Ok(false);
        }
        Ok(previous.stage_second_name(&cert)?)
    }

    fn copy_beside(&self, previous: &FileSlot, look: &FilesSnapshot) -> Result<(), FilesError> {
        let keyed = self.judge(&look.found).ok().flatten();
        let keyed = keyed.ok_or_else(|| previous.failed("copy what is installed")(Errno::STALE))?;
        Ok(previous.stage(&keyed.combined_pem(), 0o600, Some(self.owner))?)
    }

    /// Whether the targets are what [`Targets::look`] found once, byte for byte.
    ///
    /// # Errors
    /// A target cannot be looked at.
    pub(crate) fn holds(&self, found: &[Found]) -> Result<bool, FilesError> {
        let now = self.look()?.found;
        let same = |one: &Found, other: &Found| match (one, other) {
            (Found::Absent, Found::Absent) => true,
            (Found::Link(one), Found::Link(other)) => one == other,
            (Found::File { bytes: one, .. }, Found::File { bytes: other, .. }) => one == other,
            _ => false,
        };
        Ok(now.len() == found.len() && now.iter().zip(found).all(|(one, other)| same(one, other)))
    }

    /// Puts back what [`Targets::look`] found: file, link or nothing; all of it or, where a step is
    /// refused, none.
    ///
    /// # Errors
    /// A target cannot be written or removed.
    pub(crate) fn put_back(&self, found: &[Found]) -> Result<(), FilesError> {
        let mut wanted = Vec::new();
        // In the order of an install.
        let found: Vec<_> = self.each(found).collect();
        for (piece, path, found) in found.into_iter().rev() {
            // An install does not get past these, so there is nothing to put back.
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
                    // The first error is the one to tell; leftovers are removed next time.
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

/// Makes the directories of these durable, each once.
fn sync_directories<'a>(places: impl Iterator<Item = &'a FileSlot>) -> Result<(), FilesError> {
    let mut durable = BTreeSet::new();
    for place in places {
        if durable.insert(place.path().parent()) {
            place.sync_directory()?;
        }
    }
    Ok(())
}
