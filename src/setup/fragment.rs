//! The file in `conf.d` that names the instance: its text, and how it comes and goes; a drop-in of the unit comes and
//! goes alike.
//!
//! It is never put over another file, and comes whole or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::config::{self, Config, DEFAULT_TARGET};
use crate::host::directory::ReachError;
use crate::host::slot::FileSlot;

/// The file, and what is written there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fragment {
    /// `conf.d/NAME.toml`, or `pgcertd.service.d/setup-NAME.conf`.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// What an instance is to be in the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FragmentEntry {
    pub(crate) name: String,
    /// The lineage, by name or absolute directory.
    pub(crate) lineage: String,
    pub(crate) data_directory: String,
    pub(crate) server_names: Vec<String>,
    /// Files of the server's own, chain and key, where they are taken over.
    pub(crate) files: Option<(String, String)>,
}

impl FragmentEntry {
    /// What an instance of the config is, as far as a set-up writes it; none where a path cannot be
    /// written.
    pub(crate) fn find(
        config: &Config,
        instance: &config::InstanceConfig,
    ) -> Option<FragmentEntry> {
        let (cert, key) = (&instance.cert_file, &instance.key_file);
        let target = config.state_of(instance).join(DEFAULT_TARGET);
        let files = if *cert == target && *key == target {
            None
        } else {
            Some((cert.to_str()?.to_owned(), key.to_str()?.to_owned()))
        };
        let names = instance.server_names.iter();
        Some(FragmentEntry {
            name: instance.name.clone(),
            lineage: instance.lineage.name.clone(),
            data_directory: instance.home().to_str()?.to_owned(),
            server_names: names
                .map(|server_name| server_name.to_str().into_owned())
                .collect(),
            files,
        })
    }

    /// The fragment that says so, in this directory.
    pub(crate) fn fragment(&self, directory: &Path) -> Fragment {
        let name = &self.name;
        let mut text = format!(
            "# Written by `pgcertd setup`; `pgcertd setup --undo {name}` takes it back.\n[[instance]]\n"
        );
        let mut line = |key: &str, value: Value| {
            text.push_str(&format!("{key} = {value}\n"));
        };
        line("name", name.as_str().into());
        line("lineage", self.lineage.as_str().into());
        line("data_directory", self.data_directory.as_str().into());
        if let Some((cert, key)) = &self.files {
            line("cert_file", cert.as_str().into());
            if key != cert {
                line("key_file", key.as_str().into());
            }
        }
        if !self.server_names.is_empty() {
            line("server_names", self.server_names.clone().into());
        }
        Fragment {
            path: directory.join(format!("{name}.toml")),
            text,
        }
    }
}

/// What has become of a fragment that was written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryRemoval {
    Removed,
    Absent,
    /// Somebody has changed it since, and it stays.
    Changed,
}

impl Fragment {
    /// Writes it, durably, where nothing is yet; the directory is made if it is missing.
    ///
    /// # Errors
    /// Something has this name already, or the directory cannot be written.
    pub(crate) fn write(&self) -> io::Result<()> {
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
    pub(crate) fn remove(&self) -> io::Result<EntryRemoval> {
        let slot = match self.slot() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(EntryRemoval::Absent),
            slot => slot?,
        };
        slot.discard()?;
        match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(EntryRemoval::Absent),
            Err(e) => return Err(e),
            Ok(text) if text != self.text.as_bytes() => return Ok(EntryRemoval::Changed),
            Ok(_) => {}
        }
        slot.remove()?;
        slot.sync_directory()?;
        Ok(EntryRemoval::Removed)
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

    fn entry() -> FragmentEntry {
        FragmentEntry {
            name: "16-main".into(),
            lineage: "pg.example.com".into(),
            data_directory: "/var/lib/postgresql/16/main \"odd\"".into(),
            server_names: vec!["pg.example.com".into()],
            files: Some(("/etc/pg.crt".into(), "/etc/pg.key".into())),
        }
    }

    #[test]
    fn what_is_written_is_toml_that_says_what_was_meant() {
        let fragment = entry().fragment(Path::new("/etc/pgcertd/conf.d"));
        assert_eq!(fragment.path, Path::new("/etc/pgcertd/conf.d/16-main.toml"));
        let read: toml::Table = fragment.text.parse().unwrap();
        let instance = &read["instance"][0];
        assert_eq!(
            instance["data_directory"].as_str(),
            Some("/var/lib/postgresql/16/main \"odd\"")
        );
        assert_eq!(instance["key_file"].as_str(), Some("/etc/pg.key"));
        assert_eq!(instance["server_names"][0].as_str(), Some("pg.example.com"));
    }

    #[test]
    fn it_takes_no_other_files_place_and_leaves_a_changed_one() {
        let directory = tempfile::tempdir().unwrap();
        let fragment = entry().fragment(&directory.path().join("conf.d"));
        fragment.write().unwrap();
        let again = fragment.write().unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let names = fs::read_dir(directory.path().join("conf.d")).unwrap();
        assert_eq!(names.count(), 1);
        fs::write(&fragment.path, "# mine\n").unwrap();
        assert_eq!(fragment.remove().unwrap(), EntryRemoval::Changed);
        fs::write(&fragment.path, &fragment.text).unwrap();
        assert_eq!(fragment.remove().unwrap(), EntryRemoval::Removed);
        assert_eq!(fragment.remove().unwrap(), EntryRemoval::Absent);
    }
}
