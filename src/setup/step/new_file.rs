//! A file that a set-up writes and an undo removes: it is never put over another file, comes whole or not at all, and
//! stays where somebody has changed it since.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::line::StepLine;
use crate::host::directory::ReachError;
use crate::host::slot::FileSlot;
use crate::setup::error::SetupError;
use crate::setup::scene::{Scene, SetupProgress};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl NewFile {
    /// Its lines, without comments.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| !line.starts_with('#'))
    }

    pub(super) fn describe(&self) -> Vec<StepLine> {
        let lines = self.lines().map(|line| StepLine::Text(line.to_owned()));
        let path = StepLine::NewFile(self.path.display().to_string());
        std::iter::once(path).chain(lines).collect()
    }

    pub(super) fn describe_undo(&self) -> String {
        format!("remove {}", self.path.display())
    }

    pub(super) fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        self.write().map_err(|source| self.failed(&source))?;
        scene.done(format!("wrote {}", self.path.display()));
        Ok(())
    }

    /// Removes it, and its directory where that is asked for and nothing else is in it.
    pub(super) fn undo(
        &self,
        with_directory: bool,
        scene: &mut Scene<'_>,
    ) -> Result<(), SetupError> {
        let told = self.remove().map_err(|source| self.failed(&source))?;
        if let (true, Some(directory)) = (with_directory, self.path.parent()) {
            // Others may have put something there.
            let _in_use = fs::remove_dir(directory);
        }
        (scene.tell)(told);
        Ok(())
    }

    fn failed(&self, source: &io::Error) -> SetupError {
        SetupError::new(format!("{}: {source}", self.path.display()), "")
    }

    /// Writes it, durably, where nothing is yet; the directory is made if it is missing.
    ///
    /// # Errors
    /// Something has this name already, or the directory cannot be written.
    fn write(&self) -> io::Result<()> {
        let directory = self.directory()?;
        match fs::create_dir(directory) {
            Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        let slot = self.slot()?;
        // Whatever the umask: the daemon reads it as another user, and it holds no secret.
        slot.stage(self.text.as_bytes(), 0o644, None)?;
        slot.commit_new()?;
        Ok(slot.sync_directory()?)
    }

    /// Removes it, if it is as it was written.
    ///
    /// # Errors
    /// It cannot be read or removed.
    fn remove(&self) -> io::Result<SetupProgress> {
        let path = self.path.display();
        let gone = || SetupProgress::Done(format!("{path} is gone already"));
        let slot = match self.slot() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(gone()),
            slot => slot?,
        };
        slot.discard()?;
        match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(gone()),
            Err(e) => Err(e),
            Ok(text) if text != self.text.as_bytes() => Ok(SetupProgress::Left(format!(
                "{path} was changed since, and stays: remove what you do not want of it"
            ))),
            Ok(_) => {
                slot.remove()?;
                slot.sync_directory()?;
                Ok(SetupProgress::Done(format!("removed {path}")))
            }
        }
    }

    fn directory(&self) -> io::Result<&Path> {
        self.path
            .parent()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Where it is; it is written beside that first, to a hidden file, which the config does not count.
    fn slot(&self) -> io::Result<FileSlot> {
        FileSlot::open(&self.path).map_err(ReachError::into_io)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn it_takes_no_other_files_place_and_leaves_a_changed_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = NewFile {
            path: directory.path().join("conf.d/16-main.toml"),
            text: "[[instance]]\n".into(),
        };
        file.write().unwrap();
        let again = file.write().unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let names = fs::read_dir(directory.path().join("conf.d")).unwrap();
        assert_eq!(names.count(), 1);
        fs::write(&file.path, "# mine\n").unwrap();
        let changed = file.remove().unwrap();
        assert!(matches!(changed, SetupProgress::Left(_)), "{changed:?}");
        assert!(file.path.exists());
        fs::write(&file.path, &file.text).unwrap();
        let removed = file.remove().unwrap();
        assert!(matches!(removed, SetupProgress::Done(_)), "{removed:?}");
        assert!(!file.path.exists());
        let gone = file.remove().unwrap();
        assert!(matches!(gone, SetupProgress::Done(_)), "{gone:?}");
    }
}
