//! Stores what was reported, so that a restart neither repeats nor loses it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use crate::host::directory::ReachError;
use crate::host::file::read_owned;
use crate::host::slot::FileSlot;
use crate::report::notices;

/// The file in the state directory.
pub(crate) const FILE: &str = "told.json";

/// The largest size in bytes: it has a few lines for each instance.
const LARGEST: u64 = 4 << 20;

pub(crate) struct NoticeMemory {
    directory: PathBuf,
    kept: Option<String>,
    failing: Option<String>,
}

impl NoticeMemory {
    /// Reads what is stored in the directory. If that is not possible, says so and continues as if nothing had been reported.
    pub(crate) fn open(directory: &Path) -> (NoticeMemory, Ledger) {
        let file = directory.join(FILE);
        // Don't trust a file that anybody else has left there.
        let owners = [rustix::process::geteuid().as_raw()];
        let read = match read_owned(&file, &owners, LARGEST) {
            Ok(bytes) => Ledger::from_json(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Ledger::default()),
            Err(error) => Err(error.to_string()),
        };
        let ledger = read.unwrap_or_else(|error| {
            notices::notifications_forgotten(&file, &error);
            Ledger::default()
        });
        let memory = NoticeMemory {
            directory: directory.to_owned(),
            kept: None,
            failing: None,
        };
        (memory, ledger)
    }

    /// Whether it is stored in this directory.
    pub(crate) fn is_in(&self, directory: &Path) -> bool {
        self.directory == directory
    }

    /// Stores what was reported, if that has changed; says once if that fails.
    pub(crate) fn keep(&mut self, ledger: &Ledger) {
        let text = match ledger.to_json() {
            Ok(text) => text,
            Err(error) => return self.failed(&error.to_string()),
        };
        if self.kept.as_ref() == Some(&text) {
            return;
        }
        match write(&self.directory, &text) {
            Ok(()) => {
                self.kept = Some(text);
                self.failing = None;
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    fn failed(&mut self, error: &str) {
        if self.failing.as_deref() != Some(error) {
            notices::notifications_not_kept(&self.directory.join(FILE), error);
            self.failing = Some(error.to_owned());
        }
    }
}

/// Atomic, even if the host goes down.
fn write(directory: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let slot = FileSlot::open(&directory.join(FILE)).map_err(ReachError::into_io)?;
    Ok(slot.replace(text.as_bytes(), 0o600, None)?)
}
