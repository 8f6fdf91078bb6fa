//! Writing: beside the target first, then in its place by one rename.
//!
//! Owner and mode come before content, content is durable before the rename, and the rename
//! is durable before anything relies on it. A reader of the target sees the old file or the
//! new one, whole.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::swap::{Replacement, Swap};
use super::{FilesError, FilesSnapshot, Found, Place, Targets, Trial};
use crate::bundle::{KeyedBundle, Piece, TrustFiles};
use crate::host::privilege::Ids;

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

/// The name of what is being written beside `name`. It is always the same, so that whoever
/// comes next finds what a crash left behind.
pub(crate) fn staging_name(name: &OsStr) -> OsString {
    let mut staging = OsString::from(".");
    staging.push(name);
    staging.push(".pgcertd-new");
    staging
}

impl Place {
    /// Writes `bytes` durably beside this place. Nothing of a crashed run survives it.
    pub(super) fn stage(&self, bytes: &[u8], mode: u32, owner: Ids) -> Result<Place, FilesError> {
        let new = self.beside(staging_name(&self.name))?;
        new.remove()?;
        let fail = |action| FilesError::new(&self.path, action);
        let file = rustix::fs::openat(
            &new.directory,
            &new.name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .map_err(fail("create a file beside it"))?;
        let written = (|| {
            let stat = rustix::fs::fstat(&file).map_err(fail("look at the new file"))?;
            if stat.st_uid != owner.uid || stat.st_gid != owner.gid {
                rustix::fs::fchown(
                    &file,
                    Some(rustix::fs::Uid::from_raw(owner.uid)),
                    Some(rustix::fs::Gid::from_raw(owner.gid)),
                )
                .map_err(fail("give the new file its owner and group"))?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                .map_err(fail("give the new file its mode"))?;
            let mut file = std::fs::File::from(file);
            file.write_all(bytes)
                .and_then(|()| file.sync_all())
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
                .map_err(fail("write the new file"))
        })();
        if let Err(error) = written {
            // The first error is the one to tell; what stays behind is removed next time.
            let _second = new.remove();
            return Err(error);
        }
        Ok(new)
    }

    /// Puts `new` in this place, or takes it away. Without [`Place::sync_directory`] it is not durable yet.
    pub(super) fn replace_by(&self, new: &Place) -> Result<(), FilesError> {
        let renamed = rustix::fs::renameat(&new.directory, &new.name, &self.directory, &self.name);
        if renamed.is_err() {
            // It may hold a key, and takes room. The first error is the one to tell; what stays
            // behind is removed next time.
            let _second = new.remove();
        }
        renamed.map_err(self.failed("put the new file in its place"))
    }
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
            if let Ok(place) = Place::open(path) {
                place.beside(staging_name(&place.name))?.remove()?;
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
            let place = Place::open(path)?;
            self.replaceable(&place)?;
            wanted.push((piece, place));
        }
        for (piece, place) in wanted {
            let Some((content, mode)) = self.content(bundle, piece) else {
                continue;
            };
            match place.stage(&content, mode, self.owner) {
                Ok(new) => staged.files.push(Swap {
                    place,
                    by: Replacement::File(new),
                    private: self.is_private(piece),
                }),
                Err(error) => {
                    // The first error is the one to tell; leftovers are removed next time.
                    let _second = self.discard(&staged);
                    return Err(error);
                }
            }
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
            Place::open(&self.trial_file())?.sync_directory()?;
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
        let beside = |target: &Place| target.path.parent() == Some(&self.state);
        let kept = matches!(keep, Keep::AsPrevious(_));
        kept || staged.reload_due || staged.files.iter().all(|swap| beside(&swap.place))
    }

    /// Takes staged files away again.
    ///
    /// # Errors
    /// They cannot be removed.
    pub(crate) fn discard(&self, staged: &StagedFiles) -> Result<(), FilesError> {
        staged.files.iter().try_for_each(Swap::discard)
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
            let place = Place::open(path)?;
            let by = match companions.pem(piece) {
                Some(content) => Replacement::File(place.stage(&content, 0o600, self.owner)?),
                None if place.is_absent() => continue,
                None => Replacement::Nothing,
            };
            let private = true;
            swaps.push(Swap { place, by, private });
        }
        let previous = Place::open(&self.previous_file())?;
        let (new, linked) = match self.linked_beside(&previous)? {
            Some(new) => (new, true),
            None => (self.copied_beside(&previous, look)?, false),
        };
        let again = linked.then(|| new.again()).transpose()?;
        swaps.push(Swap {
            place: previous,
            by: Replacement::File(new),
            private: true,
        });
        self.all_or_none(&swaps, || {})?;
        match again {
            // Where both names were one file already, rename(2) leaves both.
            Some(new) => new.remove(),
            None => sync_directories(swaps.iter().map(|swap| &swap.place)),
        }
    }

    /// Gives the installed file a second name beside `previous`, where that will do: nothing is
    /// written, and the directory's one fsync after the install covers both renames, in their order.
    /// One that the server's group may read is copied, since nobody else needs the old key.
    fn linked_beside(&self, previous: &Place) -> Result<Option<Place>, FilesError> {
        let cert = Place::open(&self.cert)?;
        let beside = self.single_file() && self.cert.parent() == Some(&self.state);
        if !beside || cert.mode() != Some(0o600) {
            return Ok(None);
        }
        let new = previous.beside(staging_name(&previous.name))?;
        new.remove()?;
        let linked = rustix::fs::linkat(
            &cert.directory,
            &cert.name,
            &new.directory,
            &new.name,
            AtFlags::empty(),
        );
        Ok(linked.is_ok().then_some(new))
    }

    fn copied_beside(&self, previous: &Place, look: &FilesSnapshot) -> Result<Place, FilesError> {
        let keyed = self.judge(&look.found).ok().flatten();
        let keyed = keyed.ok_or_else(|| previous.failed("copy what is installed")(Errno::STALE))?;
        previous.stage(&keyed.combined_pem(), 0o600, self.owner)
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
                let place = Place::open(path)?;
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
fn sync_directories<'a>(places: impl Iterator<Item = &'a Place>) -> Result<(), FilesError> {
    let mut durable = BTreeSet::new();
    for place in places {
        if durable.insert(place.path.parent()) {
            place.sync_directory()?;
        }
    }
    Ok(())
}
