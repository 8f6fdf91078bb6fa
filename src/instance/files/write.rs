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

use super::{FilesError, Found, Place, Role, Targets, Trial};
use crate::bundle::Bundle;
use crate::privilege::Ids;

/// New files that lie, complete and durable, beside their targets.
pub struct Staged {
    /// Each target with what will replace it, in the order of the renames.
    files: Vec<(Place, Place)>,
    /// Whether the wire may not show that they were loaded.
    reload_due: bool,
}

/// What becomes of the files that an install replaces.
pub enum Keep<'a> {
    /// They were proven served: they become `previous.pem`.
    AsPrevious(&'a Bundle),
    /// They were not: `previous.pem` stays what it is.
    No,
}

/// The name of what is being written beside `name`. It is always the same, so that whoever
/// comes next finds what a crash left behind.
pub fn staging_name(name: &OsStr) -> OsString {
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

    /// Puts `new` in this place. Without [`Place::sync_directory`] it is not durable yet.
    pub(super) fn replace_by(&self, new: &Place) -> Result<(), FilesError> {
        rustix::fs::renameat(&new.directory, &new.name, &self.directory, &self.name)
            .map_err(FilesError::new(&self.path, "put the new file in its place"))
    }
}

impl Targets {
    /// Removes what a crashed run left beside the targets and in the state directory.
    ///
    /// # Errors
    /// A leftover is there and cannot be removed.
    pub fn clean(&self) -> Result<(), FilesError> {
        let others = [
            self.previous_file(),
            self.previous_ca_file(),
            self.previous_crl_file(),
            self.state.join("held.json"),
            self.state.join("reload-due"),
            self.state.join("setup.json"),
            self.trial_file(),
            self.proven_file(),
        ];
        let targets = self.files().into_iter().map(|(_, path)| path);
        for path in targets.chain(others.iter().map(|p| p.as_path())) {
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
    /// The directory is missing, not writable, full: the targets are untouched.
    pub fn stage(&self, bundle: &Bundle) -> Result<Staged, FilesError> {
        let mut staged = Staged {
            files: Vec::new(),
            reload_due: bundle.companions().digest().is_some(),
        };
        for (role, path) in self.files().into_iter().rev() {
            let Some((content, mode)) = self.content(bundle, role) else {
                continue;
            };
            let new = Place::open(path).and_then(|place| {
                let new = place.stage(&content, mode, self.owner)?;
                Ok((place, new))
            });
            match new {
                Ok(new) => staged.files.push(new),
                Err(error) => {
                    // The first error is the one to tell; leftovers are removed next time.
                    let _second = self.discard(&staged);
                    return Err(error);
                }
            }
        }
        Ok(staged)
    }

    /// What a target of this role holds of `bundle`, and its mode.
    fn content(&self, bundle: &Bundle, role: Role) -> Option<(Zeroizing<Vec<u8>>, u32)> {
        const PUBLIC: u32 = 0o644;
        let companions = bundle.companions();
        match role {
            Role::Cert if self.single_file() => Some((bundle.combined_pem(), self.key_mode())),
            Role::Cert => Some((Zeroizing::new(bundle.chain_pem()), PUBLIC)),
            Role::Key => Some((bundle.key_pem(), self.key_mode())),
            Role::Ca => Some((Zeroizing::new(companions.ca_pem()?), PUBLIC)),
            Role::Crl => Some((Zeroizing::new(companions.crl_pem()?), PUBLIC)),
        }
    }

    /// Puts staged files in the place of the targets, and makes that durable. A trial is said to have
    /// begun before the first of them is there: no crash leaves the one without the other. Where the wire might
    /// not show what was loaded, since CA and CRL files are among them, it is remembered that a
    /// reload is due ([`Look::reload_due`](super::Look::reload_due)) until [`Targets::reloaded`].
    ///
    /// # Errors
    /// A rename was refused: with one file the target is untouched then; with several, the next
    /// comparison mends what does not fit.
    pub fn commit(&self, staged: &Staged, keep: &Keep<'_>, trial: Trial) -> Result<(), FilesError> {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("commit");
        if let Trial::Begins(bundle) = trial {
            self.begin_trial(bundle)?;
        }
        if let Keep::AsPrevious(bundle) = keep {
            self.keep_previous(bundle)?;
        }
        if staged.reload_due {
            self.note_reload_due()?;
        }
        if trial != Trial::Unchanged && !self.is_durable_before(staged, keep) {
            Place::open(&self.trial_file())?.sync_directory()?;
        }
        for (target, new) in &staged.files {
            target.replace_by(new)?;
            #[cfg(feature = "failpoints")]
            fail::fail_point!("renamed");
        }
        let mut durable = BTreeSet::new();
        for (target, _) in &staged.files {
            if durable.insert(target.path.parent()) {
                target.sync_directory()?;
            }
        }
        Ok(())
    }

    /// Whether the state directory needs no fsync of its own for what was noted there to outlast a
    /// power failure that the renames outlast: renames within one directory become durable in
    /// their order, and what is kept or noted beside it was synced.
    fn is_durable_before(&self, staged: &Staged, keep: &Keep<'_>) -> bool {
        let beside = |target: &Place| target.path.parent() == Some(&self.state);
        let kept = matches!(keep, Keep::AsPrevious(_));
        kept || staged.reload_due || staged.files.iter().all(|(target, _)| beside(target))
    }

    /// Takes staged files away again.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn discard(&self, staged: &Staged) -> Result<(), FilesError> {
        staged.files.iter().try_for_each(|(_, new)| new.remove())
    }

    /// Makes what is installed the previous bundle: first what comes with the pair, so that a crash
    /// in between leaves files that load.
    fn keep_previous(&self, bundle: &Bundle) -> Result<(), FilesError> {
        let companions = bundle.companions();
        for (path, content) in [
            (self.previous_ca_file(), companions.ca_pem()),
            (self.previous_crl_file(), companions.crl_pem()),
        ] {
            let place = Place::open(&path)?;
            match content {
                Some(content) => {
                    let staged = place.stage(&content, 0o600, self.owner)?;
                    place.replace_by(&staged)?;
                }
                None => place.remove()?,
            }
        }
        self.keep_previous_pair(bundle)
    }

    fn keep_previous_pair(&self, bundle: &Bundle) -> Result<(), FilesError> {
        let previous = Place::open(&self.previous_file())?;
        let cert = Place::open(&self.cert)?;
        let beside = self.single_file() && self.cert.parent() == Some(&self.state);
        if beside && cert.mode() == Some(0o600) {
            // The file itself gets a second name: nothing is written, and the directory's one
            // fsync after the install covers both renames, in their order. One that the
            // server's group may read is copied, since nobody else needs the old key.
            let new = previous.beside(staging_name(&previous.name))?;
            new.remove()?;
            let linked = rustix::fs::linkat(
                &cert.directory,
                &cert.name,
                &new.directory,
                &new.name,
                AtFlags::empty(),
            );
            if linked.is_ok() {
                previous.replace_by(&new)?;
                // Where both names were one file already, rename(2) leaves both.
                return new.remove();
            }
        }
        let staged = previous.stage(&bundle.combined_pem(), 0o600, self.owner)?;
        previous.replace_by(&staged)?;
        previous.sync_directory()
    }

    /// Whether the targets are what [`Targets::look`] found once, byte for byte.
    ///
    /// # Errors
    /// A target cannot be looked at.
    pub fn holds(&self, found: &[Found]) -> Result<bool, FilesError> {
        let now = self.look()?.found;
        let same = |one: &Found, other: &Found| match (one, other) {
            (Found::Absent, Found::Absent) => true,
            (Found::Link(one), Found::Link(other)) => one == other,
            (Found::File { bytes: one, .. }, Found::File { bytes: other, .. }) => one == other,
            _ => false,
        };
        Ok(now.len() == found.len() && now.iter().zip(found).all(|(one, other)| same(one, other)))
    }

    /// Puts back what [`Targets::look`] found: file, link or nothing.
    ///
    /// # Errors
    /// A target cannot be written or removed.
    pub fn put_back(&self, found: &[Found]) -> Result<(), FilesError> {
        // In the order of an install.
        for (file, (role, path)) in found.iter().zip(self.files()).rev() {
            let place = Place::open(path)?;
            match file {
                Found::Absent => place.remove()?,
                Found::Link(target) => {
                    let new = place.beside(staging_name(&place.name))?;
                    new.remove()?;
                    rustix::fs::symlinkat(target, &new.directory, &new.name)
                        .map_err(FilesError::new(path, "make the link again"))?;
                    place.replace_by(&new)?;
                }
                Found::File { bytes, ids, mode } => {
                    let new = match place.stage(bytes, *mode, *ids) {
                        // It was another user's, and only root gives files away. What counts is
                        // that the server starts on it.
                        Err(e) if e.is_denied() => {
                            let holds_key = match role {
                                Role::Cert => self.single_file(),
                                Role::Key => true,
                                Role::Ca | Role::Crl => false,
                            };
                            let mode = if holds_key { self.key_mode() } else { 0o644 };
                            place.stage(bytes, mode, self.owner)?
                        }
                        staged => staged?,
                    };
                    place.replace_by(&new)?;
                }
                // An install does not get past these, so there is nothing to put back.
                Found::Odd(_) => {}
            }
            #[cfg(feature = "failpoints")]
            fail::fail_point!("put_back");
            place.sync_directory()?;
        }
        Ok(())
    }
}
