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

use super::{FilesError, FilesSnapshot, Found, LARGEST, Targets, slot};
use crate::bundle::{Bundle, Fingerprint, Identity, TrustFiles};

/// What an install has to do with a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// There is a bundle to go back to, and this one is not to stay as it is until a verdict is in:
    /// it goes in and has to be proven served, or it makes room for the one to go back to.
    /// [`FilesSnapshot::trial`] names it until [`Targets::proven`] or [`Targets::end_trial`].
    Begins(TrialFile),
    /// There is none to go back to, or there is a trial already: whatever is on trial stays so.
    Unchanged,
}

/// A bundle on trial, and what tells its files where a crash has left some of them alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrialFile {
    pub(crate) bundle: Identity,
    /// SHA-256 of its CA and of its CRL file, as they are installed.
    companions: TrustFiles<Option<Fingerprint>>,
}

impl From<&Bundle> for TrialFile {
    fn from(bundle: &Bundle) -> Self {
        TrialFile {
            bundle: bundle.identity(),
            companions: bundle.client_trust().digests(),
        }
    }
}

impl FilesSnapshot {
    /// The bundle on trial by what tells bundles apart.
    pub(crate) fn trial(&self) -> Option<Identity> {
        self.trial.map(|file| file.bundle)
    }

    /// Whether what is installed is the bundle on trial, or holds of it what the previous one has
    /// not: files are renamed one after the other, on the way in and on the way back, and a crash
    /// leaves what lies there in between.
    pub(crate) fn is_on_trial(&self) -> bool {
        let (Some(trial), Some(installed)) = (self.trial, self.installed.bundle()) else {
            return false;
        };
        let before = self.previous.as_ref().map(|bundle| bundle.identity());
        if before == Some(trial.bundle) {
            return false;
        }
        if installed.identity() == trial.bundle {
            return true;
        }
        let leaf = trial.bundle.leaf;
        let of_trial =
            installed.fingerprint() == leaf && before.is_none_or(|identity| identity.leaf != leaf);
        self.brought || of_trial
    }

    /// Whether that is a part of the bundle alone: with it the server may load what nobody has
    /// meant, and keep clients out whose CA the one has and the other has not.
    pub(crate) fn is_torn(&self) -> bool {
        let installed = self.installed.bundle().map(|bundle| bundle.identity());
        self.is_on_trial() && installed != self.trial()
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

    /// The bundle that was last proven served. A text that names none is taken as no link, which
    /// costs an attempt at most.
    pub(super) fn proven_bundle(&self) -> Option<Identity> {
        identity(&link(&self.proven_file())?)
    }

    /// The bundle on trial; of a text that names none the same.
    pub(super) fn candidate(&self) -> Option<TrialFile> {
        candidate(&link(&self.trial_file())?)
    }

    /// Whether a CA or CRL file was found that came with the bundle on trial, and not with the
    /// previous one.
    pub(super) fn brought(
        &self,
        found: &[Found],
        trial: Option<TrialFile>,
        previous: Option<&Bundle>,
    ) -> bool {
        let Some(trial) = trial else { return false };
        let before = previous.map(|bundle| bundle.client_trust().digests());
        let before = before.unwrap_or_default();
        self.each(found).any(|(piece, _, found)| {
            let Found::File { bytes, .. } = found else {
                return false;
            };
            let found = Some(Fingerprint::from_der(bytes));
            trial.companions.get(piece) == Some(&found) && before.get(piece) != Some(&found)
        })
    }

    /// Says that this bundle is on trial, before it is put in place. It is not durable yet.
    pub(super) fn begin_trial(&self, candidate: TrialFile) -> Result<(), FilesError> {
        let mut text = text(candidate.bundle);
        for (_, digest) in candidate.companions.present() {
            text.push('+');
            text.push_str(&digest.to_string());
        }
        self.name_in(&self.trial_file(), &text)
    }

    /// Remembers, durably, that a server has shown this bundle; if it was on trial, that is over.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn proven(&self, bundle: Identity) -> Result<(), FilesError> {
        let path = self.proven_file();
        self.name_in(&path, &text(bundle))?;
        self.end_trial()
    }

    /// Forgets, durably, which bundle was on trial.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn end_trial(&self) -> Result<(), FilesError> {
        let trial = slot(&self.trial_file())?;
        trial.remove()?;
        Ok(trial.sync_directory()?)
    }

    /// The same, unless another trial has begun since.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn end_trial_of(&self, candidate: TrialFile) -> Result<(), FilesError> {
        match self.candidate() {
            Some(now) if now != candidate => Ok(()),
            _ => self.end_trial(),
        }
    }

    /// What says that a bundle is on trial, as it stands.
    pub(super) fn trial_text(&self) -> Option<String> {
        link(&self.trial_file())
    }

    /// Makes it say that again.
    pub(super) fn set_trial_text(&self, text: Option<&str>) -> Result<(), FilesError> {
        match text {
            Some(text) => self.name_in(&self.trial_file(), text),
            None => self.end_trial(),
        }
    }

    fn name_in(&self, path: &Path, text: &str) -> Result<(), FilesError> {
        let place = slot(path)?;
        place.stage_link(text)?;
        Ok(place.commit()?)
    }
}

/// The fingerprint of the leaf, and where CA and CRL files came with it, a plus and the digest of both.
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

/// The same, and after that with CA and CRL files a plus and the digest of each: there is no CRL
/// file without a CA file.
fn candidate(text: &str) -> Option<TrialFile> {
    let mut parts = text.splitn(3, '+');
    let leaf = parts.next()?.parse().ok()?;
    let companions = parts.next().map(str::parse).transpose().ok()?;
    let mut files = parts.next().into_iter().flat_map(|name| name.split('+'));
    let mut file = || files.next().map(str::parse).transpose().ok();
    Some(TrialFile {
        bundle: Identity { leaf, companions },
        companions: TrustFiles {
            ca: file()?,
            crl: file()?,
        },
    })
}

fn link(path: &Path) -> Option<String> {
    match slot(path).and_then(|place| place.read(LARGEST)) {
        Ok(Found::Link(text)) => Some(text.to_str()?.to_owned()),
        _ => None,
    }
}
