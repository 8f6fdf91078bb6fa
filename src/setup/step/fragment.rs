//! The file in `conf.d` that names the instance.
//!
//! Which file is removed follows from the instance's name, and it is only removed as it was stored. Where the config has
//! no such instance, a stored text counts only if it is, word for word, what a set-up writes for it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::new_file::NewFile;
use crate::config::{Config, DEFAULT_TARGET, InstanceConfig};
use crate::setup::error::SetupError;
use crate::setup::scene::{Scene, Site};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FragmentStep {
    pub(in crate::setup) text: String,
    /// Whether `conf.d` was made for it.
    pub(in crate::setup) directory_made: bool,
}

impl FragmentStep {
    pub(crate) fn file(&self, site: &Site) -> NewFile {
        NewFile {
            path: site.fragment_file(),
            text: self.text.clone(),
        }
    }

    pub(super) fn note_before(&mut self, site: &Site) {
        self.directory_made = !site.config.fragments().exists();
    }

    pub(super) fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        self.file(scene.site).undo(self.directory_made, scene)
    }
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
    pub(crate) fn find(config: &Config, instance: &InstanceConfig) -> Option<FragmentEntry> {
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
    pub(crate) fn fragment(&self, directory: &Path) -> NewFile {
        let name = &self.name;
        // The texts of released versions must be recognized by an undo.
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
        NewFile {
            path: directory.join(format!("{name}.toml")),
            text,
        }
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
}
