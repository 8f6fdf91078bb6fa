//! What taking a set-up back needs, in `setup.json` of the instance's state directory.
//!
//! It is written, durably, before the first change, and says what each part was before. The file belongs to
//! the server's user, so that it decides about that user's own server and nothing else: which file of the
//! config goes follows from the instance's name, never from what is written here.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SetupError;
use super::host_line::AddedLine;
use super::require_tls::Tightened;
use super::server::{plain_targets, reader};
use crate::config::Config;
use crate::host::directory::Directory;
use crate::host::file::Links;
use crate::server::Instance;
use crate::server::sql::Setting;

/// The form of the file.
const VERSION: u32 = 1;

/// What was before a set-up, and what it has put in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The data directory of the server.
    pub(crate) data_directory: PathBuf,
    pub(crate) began: Timestamp,
    /// When all was done and proven; none while it is under way, or was interrupted.
    pub(crate) finished: Option<Timestamp>,
    /// The text of `conf.d/NAME.toml`, where it was written.
    pub(crate) fragment: Option<String>,
    /// The text of the unit's drop-in, where it was written.
    #[serde(default)]
    pub(crate) drop_in: Option<String>,
    /// Whether `conf.d` was made for it.
    pub(crate) directory_made: bool,
    /// Whether nothing was in the place of the target.
    pub(crate) target_was_absent: bool,
    /// The settings that were changed, in their order.
    pub(crate) settings: Vec<Was>,
    /// The lines that were added to `pg_hosts.conf`, in their order.
    #[serde(default)]
    pub(crate) host_lines: Vec<AddedLine>,
    /// What becomes of `pg_hba.conf`.
    pub(crate) tightened: Option<Tightened>,
}

/// A setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Was {
    pub(crate) setting: Setting,
    /// What ALTER SYSTEM had set before; none where it had not.
    pub(crate) before: Option<String>,
    /// What it was set to.
    pub(crate) set: String,
}

impl Record {
    /// Of a set-up that begins now.
    pub(crate) fn begun(data_directory: &Path) -> Record {
        Record {
            version: VERSION,
            data_directory: data_directory.to_owned(),
            began: Timestamp::now(),
            finished: None,
            fragment: None,
            drop_in: None,
            directory_made: false,
            target_was_absent: false,
            settings: Vec::new(),
            host_lines: Vec::new(),
            tightened: None,
        }
    }

    /// The same on top of an earlier one: what was before that is what was before both.
    pub(crate) fn upon(self, earlier: Option<&Record>) -> Record {
        let Some(earlier) = earlier else { return self };
        let mut settings = earlier.settings.clone();
        for new in self.settings {
            match settings.iter_mut().find(|was| was.setting == new.setting) {
                // What somebody else has set meanwhile is what is to come back.
                Some(old) if new.before.as_ref() == Some(&old.set) => old.set = new.set,
                Some(old) => *old = new,
                None => settings.push(new),
            }
        }
        let added = earlier.host_lines.iter().cloned().chain(self.host_lines);
        Record {
            host_lines: added.collect(),
            fragment: self.fragment.or_else(|| earlier.fragment.clone()),
            drop_in: self.drop_in.or_else(|| earlier.drop_in.clone()),
            directory_made: self.directory_made || earlier.directory_made,
            settings,
            tightened: self.tightened.or_else(|| earlier.tightened.clone()),
            ..self
        }
    }

    /// What is remembered of the instance of this name; none where nothing is.
    ///
    /// # Errors
    /// It cannot be read, or is not what a set-up writes.
    pub(crate) async fn load(config: &Config, name: &str) -> Result<Option<Record>, SetupError> {
        // A name is one of a directory, and nothing that leads elsewhere.
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            Ok(None)
        } else {
            Record::read(&config.state_directory.join(name)).await
        }
    }

    async fn read(state: &Path) -> Result<Option<Record>, SetupError> {
        let refused = |why: String| SetupError::Record {
            path: state.join("setup.json"),
            why,
        };
        let opened = match Directory::open(state, Links::Refused) {
            Ok(opened) => opened,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(refused(error.to_string())),
        };
        let owner = opened.owner();
        let reader = reader(owner, [state.to_owned()].into_iter().collect()).await?;
        let targets = plain_targets(state, opened.id(), owner);
        let read = reader.call(move || targets.setup()).await?;
        let Some(text) = read.map_err(|e| refused(e.to_string()))? else {
            return Ok(None);
        };
        let record: Record =
            serde_json::from_slice(&text).map_err(|e| refused(format!("is not readable: {e}")))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(refused(format!("has the form {other}, of another pgcertd"))),
        }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(crate) async fn write(&self, instance: &mut Instance) -> Result<(), SetupError> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| SetupError::Record {
            path: PathBuf::from("setup.json"),
            why: e.to_string(),
        })?;
        Ok(instance
            .on_files(move |targets| targets.remember_setup(&text))
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(was: &[(Setting, Option<&str>, &str)]) -> Record {
        let settings = was.iter().map(|(setting, before, set)| Was {
            setting: *setting,
            before: before.map(str::to_owned),
            set: (*set).to_owned(),
        });
        Record {
            settings: settings.collect(),
            ..Record::begun(Path::new("/data"))
        }
    }

    #[test]
    fn what_was_before_an_earlier_set_up_is_what_comes_back() {
        let mut earlier = record(&[(Setting::CertFile, None, "/a"), (Setting::Ssl, None, "on")]);
        earlier.fragment = Some("text".into());
        let merged = record(&[(Setting::CertFile, Some("/a"), "/b")]).upon(Some(&earlier));
        let expected = record(&[(Setting::CertFile, None, "/b"), (Setting::Ssl, None, "on")]);
        assert_eq!(merged.settings, expected.settings);
        assert_eq!(merged.fragment, earlier.fragment);
        let changed = record(&[(Setting::CertFile, Some("/mine"), "/b")]);
        let merged = changed.clone().upon(Some(&earlier));
        assert_eq!(merged.settings[0], changed.settings[0]);
    }
}
