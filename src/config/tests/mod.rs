//! What the configuration takes, what it refuses, and how it says so.

mod accepted;
mod conflicts;
mod keys;
mod metrics;
mod model;
mod read;
mod refused;
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Config, ConfigError, DEFAULT_FILE, InstanceConfig};
use crate::reference::schema::{OF_CONFIG, OF_FRAGMENT};

/// What an error begins with that an editor shows as well, by the schema.
const OF_THE_SCHEMA: [&str; 4] = ["unknown key", "missing key", "wrong type", "unknown value"];

/// The three keys that an instance needs, under a name.
fn instance(name: &str) -> String {
    format!(
        "[[instance]]\nname = \"{name}\"\nlineage = \"a.example\"\ndata_directory = \"/pg/{name}\"\n"
    )
}

/// A directory with a configuration in it.
struct Written {
    directory: TempDir,
}

#[expect(
    clippy::expect_used,
    reason = "a test without its directory cannot go on"
)]
impl Written {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let written = Self {
            directory: TempDir::new().expect("a directory"),
        };
        fs::write(written.file(), text).expect("a file");
        written
    }

    fn fragment(self, name: &str, text: &str) -> Self {
        let directory = self.path("conf.d");
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join(name), text).expect("a file");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("pgcertd.toml")
    }

    /// Loads it, and holds the schema against it: that takes what is taken, and refuses what it can.
    #[track_caller]
    fn load(&self) -> Result<Config, ConfigError> {
        let loaded = Config::load(&self.file());
        let objections: Vec<String> = self.objections().collect();
        match &loaded {
            Ok(_) => assert_eq!(objections, [""; 0], "the schema"),
            Err(error) => assert!(
                !objections.is_empty()
                    || !OF_THE_SCHEMA
                        .iter()
                        .any(|text| error.message().starts_with(text)),
                "the schema takes it: {error}"
            ),
        }
        loaded
    }

    fn objections(&self) -> impl Iterator<Item = String> {
        let fragments = fs::read_dir(self.path("conf.d")).into_iter().flatten();
        let fragments = fragments
            .flatten()
            .map(|dir_entry| (dir_entry.path(), &*OF_FRAGMENT));
        let files = fragments.chain([(self.file(), &*OF_CONFIG)]);
        let files = files.filter(|(file, _)| {
            let name = file.file_name().unwrap_or_default().as_encoded_bytes();
            name.ends_with(b".toml") && !name.starts_with(b".")
        });
        files.filter_map(|(file, schema)| {
            fs::read_to_string(file)
                .ok()
                .and_then(|text| schema.objection(text.trim_start_matches('\u{feff}')))
        })
    }

    #[track_caller]
    fn config(&self) -> Config {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn error(&self) -> ConfigError {
        self.load().expect_err("an error")
    }

    /// Asserts the whole of what is drawn; `FILE` stands for the file, `CONF.D/` for its fragments' directory
    /// and `DIR` for the directory.
    #[track_caller]
    fn says(&self, drawn: &str) {
        let directory = self.directory.path().display().to_string();
        let said = self
            .error()
            .to_string()
            .replace(&self.file().display().to_string(), "FILE")
            .replace(&format!("{directory}/conf.d/"), "CONF.D/")
            .replace(&directory, "DIR");
        assert_eq!(said.trim(), drawn.trim(), "\n{said}\n");
    }
}

/// What a text says, wherever it was written: what is loaded can be compared.
fn load(text: &str) -> Config {
    let mut config = Written::new(text).config();
    for instance in &mut config.instances {
        instance.config_file = DEFAULT_FILE.into();
    }
    config
}

fn only(text: &str) -> InstanceConfig {
    let mut config = load(text);
    assert_eq!(config.instances.len(), 1);
    config.instances.remove(0)
}

fn path(text: &str) -> PathBuf {
    Path::new(text).to_owned()
}
