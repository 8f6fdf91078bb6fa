//! What an instance's state directory remembers: the previous bundle, and what was rejected.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::held::{FilesMemory, Held};
use super::{FilesError, Found, LARGEST, Targets, parsed, slot, slot_to_read};
use crate::bundle::{Bundle, ClientTrust, KeyedBundle, TrustFiles};

impl Targets {
    fn held_file(&self) -> PathBuf {
        self.state.join("held.json")
    }

    /// `previous.pem`.
    pub(crate) fn previous_file(&self) -> PathBuf {
        self.state.join("previous.pem")
    }

    /// `previous-ca.pem` and `previous-crl.pem`, which belong to it.
    pub(super) fn previous_trust_files(&self) -> TrustFiles<PathBuf> {
        TrustFiles::from_pieces(|piece| self.state.join(format!("previous-{}.pem", piece.as_str())))
    }

    /// The file that exists from an install until the server was asked to load it.
    fn reload_due_file(&self) -> PathBuf {
        self.state.join("reload-due")
    }

    /// Writes a file in the state directory, durably.
    fn remember(&self, path: &Path, text: &[u8]) -> Result<(), FilesError> {
        Ok(slot(path)?.replace(text, 0o600, Some(self.owner))?)
    }

    /// Whether the server may not have been asked to load what was installed last.
    pub(super) fn is_reload_due(&self) -> bool {
        slot_to_read(&self.reload_due_file()).is_ok_and(|place| !place.is_absent())
    }

    pub(super) fn note_reload_due(&self) -> Result<(), FilesError> {
        self.remember(&self.reload_due_file(), b"")
    }

    /// Records that the reload is no longer due.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn reloaded(&self) -> Result<(), FilesError> {
        Ok(slot(&self.reload_due_file())?.remove()?)
    }

    /// Reads `held.json`.
    pub(super) fn held(&self) -> Result<FilesMemory, FilesError> {
        let path = self.held_file();
        let place = match slot_to_read(&path) {
            Ok(place) => place,
            Err(e) if e.is_absence() => return Ok(FilesMemory::Nothing),
            Err(e) => return Err(e),
        };
        let Found::File { bytes, .. } = place.read(LARGEST)? else {
            return Ok(FilesMemory::Nothing);
        };
        Ok(match serde_json::from_slice(&bytes) {
            Ok(held) => FilesMemory::Held(held),
            Err(error) => FilesMemory::Damaged(format!(
                "{}: not readable ({error}); taken as if nothing were held; remove the file",
                path.display()
            )),
        })
    }

    /// Records that `held` was rejected.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn hold(&self, held: &Held) -> Result<(), FilesError> {
        let path = self.held_file();
        let text = serde_json::to_vec_pretty(held)
            .map_err(|_| FilesError::new(&path, "write it as JSON")(Errno::INVAL))?;
        self.remember(&path, &text)
    }

    /// Forgets what was held.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn release(&self) -> Result<(), FilesError> {
        Ok(slot(&self.held_file())?.remove()?)
    }

    fn setup_file(&self) -> PathBuf {
        self.state.join("setup.json")
    }

    /// Reads `setup.json`, which is needed to undo a setup; `None` if there is none.
    ///
    /// # Errors
    /// It exists but cannot be read.
    pub(crate) fn setup(&self) -> Result<Option<Vec<u8>>, FilesError> {
        let path = self.setup_file();
        match slot_to_read(&path) {
            Err(e) if e.is_absence() => Ok(None),
            Err(e) => Err(e),
            Ok(place) => match place.read(LARGEST)? {
                Found::Absent => Ok(None),
                Found::File { bytes, .. } => Ok(Some(bytes.to_vec())),
                Found::Link(_) => Err(FilesError::new(&path, "read it")(Errno::LOOP)),
                Found::Odd(_) => Err(FilesError::new(&path, "read it")(Errno::INVAL)),
            },
        }
    }

    /// Writes `setup.json`, durably.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn remember_setup(&self, text: &[u8]) -> Result<(), FilesError> {
        self.remember(&self.setup_file(), text)
    }

    /// Removes `setup.json`.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) fn forget_setup(&self) -> Result<(), FilesError> {
        Ok(slot(&self.setup_file())?.remove()?)
    }

    /// The bundle in `previous.pem`, if it can be loaded.
    pub(super) fn previous_bundle(&self) -> Option<Arc<Bundle>> {
        let (bytes, trust) = self.previous_content()?;
        let pair = match parsed::loaded(&bytes, &bytes) {
            Ok(pair) => pair,
            Err(_) => Arc::clone(previous_pair(&bytes)?.bundle()),
        };
        Some(Bundle::shared_with(pair, trust))
    }

    /// Reads the previous bundle with its key, which must be the one that was `seen`.
    ///
    /// # Errors
    /// It has changed since, or is gone.
    pub(crate) fn previous_with_key(&self, seen: &Bundle) -> Result<KeyedBundle, FilesError> {
        let read = self.previous().filter(|read| read.same_content(seen));
        read.ok_or_else(|| {
            let fix =
                "something else has changed it; run `pgcertd sync` to have it looked at again";
            FilesError::new(&self.previous_file(), "read the previous bundle again")(Errno::STALE)
                .with_fix(fix)
        })
    }

    /// Reads `previous.pem`; `None` if it cannot be loaded.
    fn previous(&self) -> Option<KeyedBundle> {
        let (bytes, trust) = self.previous_content()?;
        Some(previous_pair(&bytes)?.with(trust))
    }

    /// What `previous.pem` and the files that belong to it hold; `None` if it cannot be read.
    fn previous_content(&self) -> Option<(Zeroizing<Vec<u8>>, ClientTrust)> {
        let read = |path: &Path| match slot_to_read(path).ok()?.read(LARGEST) {
            Ok(Found::File { bytes, .. }) => Some(bytes),
            _ => None,
        };
        let bytes = read(&self.previous_file())?;
        let previous = self.previous_trust_files();
        let kept = self.trust_files.present();
        let texts: TrustFiles<Option<Zeroizing<Vec<u8>>>> = kept
            .filter_map(|(piece, _)| Some((piece, read(previous.get(piece)?)?)))
            .collect();
        Some((bytes, ClientTrust::parse(&texts).unwrap_or_default()))
    }
}

/// What one file holds that has chain and key, by the lineage's own rules: what was installed once may come back.
fn previous_pair(bytes: &[u8]) -> Option<KeyedBundle> {
    KeyedBundle::parse(&[bytes], bytes).ok()
}
