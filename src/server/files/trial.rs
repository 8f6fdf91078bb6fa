//! Records which bundle is installed but not proven served yet, and which one was proven last.
//!
//! A bundle can pass every check here and still be rejected by a Postgres with a stricter OpenSSL. If pgcertd dies after
//! the install and before the verdict, that bundle stays in place, and a Postgres that is restarted then fails to
//! start. So before the install, it is recorded that the bundle is on trial, until there is a verdict.
//!
//! Both records are dangling symbolic links: their target names the bundle, and nothing is ever opened through one. Such
//! a link has no content that needs syncing, and becomes durable with its directory, at the latest with the fsync that makes
//! a rename there durable.

use std::path::{Path, PathBuf};

use super::{FilesError, FilesSnapshot, Found, LARGEST, Targets, slot, slot_to_read};
use crate::bundle::{Bundle, Fingerprint, Identity, TrustFiles};

/// Whether an install starts a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// There is a bundle to go back to, and this one only stays if it is proven served.
    /// [`FilesSnapshot::trial`] names it until [`Targets::proven`] or [`Targets::end_trial`].
    Begins(TrialFile),
    /// There is none to go back to, or a trial is under way already, which continues.
    Unchanged,
}

/// A bundle on trial, and what identifies its files if a crash has left only some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrialFile {
    pub(crate) bundle: Identity,
    /// SHA-256 of its CA and of its CRL file, as installed.
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
    /// The identity of the bundle on trial.
    pub(crate) fn trial(&self) -> Option<Identity> {
        self.trial.map(|file| file.bundle)
    }

    /// Whether the bundle on trial is installed, or a part of it that the previous one lacks: files are renamed one after
    /// the other, on installing and on rolling back, and a crash leaves what is there in between.
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

    /// Whether it is only a part of that bundle: with a mixed set, the server may lock out clients whose CA is only in one of
    /// the two bundles.
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

    /// The bundle that was last proven served. A link that names none counts as no link, which costs one attempt at most.
    pub(super) fn proven_bundle(&self) -> Option<Identity> {
        identity(&link(&self.proven_file())?)
    }

    /// The bundle on trial; the same applies.
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

    /// Records that this bundle is on trial, before it is put in place. That is not durable yet.
    pub(super) fn begin_trial(&self, candidate: TrialFile) -> Result<(), FilesError> {
        let mut text = text(candidate.bundle);
        for (_, digest) in candidate.companions.present() {
            text.push('+');
            text.push_str(&digest.to_string());
        }
        self.name_in(&self.trial_file(), &text)
    }

    /// Records durably that a server has served this bundle, and ends its trial.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn proven(&self, bundle: Identity) -> Result<(), FilesError> {
        let path = self.proven_file();
        self.name_in(&path, &text(bundle))?;
        self.end_trial()
    }

    /// Ends the trial durably.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn end_trial(&self) -> Result<(), FilesError> {
        let trial = slot(&self.trial_file())?;
        trial.remove()?;
        Ok(trial.sync_directory()?)
    }

    /// The same, unless another trial has started since.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn end_trial_of(&self, candidate: TrialFile) -> Result<(), FilesError> {
        match self.candidate() {
            Some(now) if now != candidate => Ok(()),
            _ => self.end_trial(),
        }
    }

    /// The record of the trial as it is.
    pub(super) fn trial_text(&self) -> Option<String> {
        link(&self.trial_file())
    }

    /// Restores that record.
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

/// The fingerprint of the leaf and, if there are CA or CRL files, a plus and the digest of both.
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

/// The same, then a plus and the digest of each CA and CRL file: there is no CRL file without a CA file.
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
    match slot_to_read(path).and_then(|place| place.read(LARGEST)) {
        Ok(Found::Link(text)) => Some(text.to_str()?.to_owned()),
        _ => None,
    }
}
