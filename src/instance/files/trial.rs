//! What is known of an installed bundle: that no server has shown it yet, or that one has.
//!
//! A bundle passes every check here and is still refused by a Postgres whose OpenSSL is stricter.
//! Whoever dies between the install and the verdict leaves such a bundle in place, and a Postgres
//! that is restarted then does not start. So it is said before the install that the bundle is on
//! trial, and that stands until the verdict is in.
//!
//! Both records are symbolic links that lead nowhere: their text names the bundle, and nothing is
//! ever opened through one. Such a link has no content of its own to be synced, and becomes
//! durable with its directory, at the latest by the fsync that makes a rename there durable.

use std::path::{Path, PathBuf};

use super::{FilesError, Found, LARGEST, Look, Place, Targets, staging_name};
use crate::bundle::Identity;

/// What an install has to do with a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// The bundle that goes in has to be proven served, and there is another one to go back to:
    /// [`Look::trial`] names it until [`Targets::proven`] or [`Targets::end_trial`].
    Begins(Identity),
    /// It is the one to go back to, or there is none: whatever is on trial stays so.
    Unchanged,
}

impl Look {
    /// Whether what is installed is the bundle on trial, or what a crash between the renames has
    /// left of it: its CA and CRL files go in before its certificate.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        let (Some(trial), Some(installed)) = (self.trial, self.installed.bundle()) else {
            return false;
        };
        let installed = installed.identity();
        let before = self.previous.as_ref().map(|it| it.identity());
        if before == Some(trial) {
            return false;
        }
        let brought = trial.companions.is_some()
            && installed.companions == trial.companions
            && before.is_some_and(|it| it.companions != trial.companions);
        installed == trial || brought
    }
}

impl Targets {
    /// The link that names the bundle on trial.
    pub(super) fn trial_file(&self) -> PathBuf {
        self.state.join("trial")
    }

    /// The link that names the bundle that was last proven served.
    pub(super) fn proven_file(&self) -> PathBuf {
        self.state.join("proven")
    }

    /// Which bundle one of them names; a text that names none is taken as no link, which costs an
    /// attempt at most.
    pub(super) fn named_by(&self, path: &Path) -> Option<Identity> {
        let Ok(Found::Link(text)) = Place::open(path).and_then(|it| it.read(LARGEST)) else {
            return None;
        };
        identity(text.to_str()?)
    }

    /// Says that this bundle is on trial, before it is put in place. It is not durable yet.
    pub(super) fn begin_trial(&self, bundle: Identity) -> Result<(), FilesError> {
        self.name_in(&self.trial_file(), bundle)
    }

    /// Remembers, durably, that a server has shown this bundle; if it was on trial, that is over.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn proven(&self, bundle: Identity) -> Result<(), FilesError> {
        let path = self.proven_file();
        self.name_in(&path, bundle)?;
        self.end_trial()
    }

    /// Forgets, durably, which bundle was on trial.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn end_trial(&self) -> Result<(), FilesError> {
        let trial = Place::open(&self.trial_file())?;
        trial.remove()?;
        trial.sync_directory()
    }

    fn name_in(&self, path: &Path, bundle: Identity) -> Result<(), FilesError> {
        let place = Place::open(path)?;
        let new = place.beside(staging_name(&place.name))?;
        new.remove()?;
        rustix::fs::symlinkat(text(bundle), &new.directory, &new.name)
            .map_err(FilesError::new(path, "write which bundle it names"))?;
        place.replace_by(&new)
    }
}

/// The fingerprint of the leaf, and where CA and CRL files came with it, a plus and their digest.
fn text(bundle: Identity) -> String {
    match bundle.companions {
        None => bundle.leaf.to_string(),
        Some(companions) => format!("{}+{companions}", bundle.leaf),
    }
}

fn identity(text: &str) -> Option<Identity> {
    let (leaf, companions) = match text.split_once('+') {
        None => (text, None),
        Some((leaf, companions)) => (leaf, Some(companions.parse().ok()?)),
    };
    Some(Identity {
        leaf: leaf.parse().ok()?,
        companions,
    })
}
