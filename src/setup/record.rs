//! `setup.json` in the instance's state directory: the steps of a set-up, for their undo.
//!
//! It is written, durably, before the first change, so that another process can undo them after a crash at any point.
//! The file belongs to the server's user, so that it decides about that user's own server and nothing else: which
//! instance it is about follows from its place, and each step says what of it is believed.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::SetupError;
use super::server::{plain_targets, reader};
use super::step::Step;
use crate::config::Config;
use crate::host::directory::Directory;
use crate::host::file::Links;
use crate::problem::Problem;
use crate::server::Instance;

/// The form of the file.
const VERSION: u32 = 2;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The data directory of the server.
    pub(super) data_directory: PathBuf,
    pub(crate) began: Timestamp,
    /// When all was done and proven; none while it is under way, or was interrupted.
    pub(crate) finished: Option<Timestamp>,
    /// Those of an earlier set-up come first.
    pub(crate) steps: Vec<Step>,
}

impl Record {
    /// Of a set-up that begins now, on top of an earlier one.
    pub(super) fn begun(data: &Path, steps: &[Step], earlier: Option<&Record>) -> Record {
        let before = earlier.map_or(&[][..], |record| &record.steps);
        Record {
            version: VERSION,
            data_directory: data.to_owned(),
            began: Timestamp::now(),
            finished: None,
            steps: [before, steps].concat(),
        }
    }

    pub(super) fn finish(&mut self) {
        self.finished = Some(Timestamp::now());
        self.steps.retain(Step::outlasts_success);
    }

    /// What is remembered of the instance of this name; none where nothing is.
    ///
    /// # Errors
    /// It cannot be read, or is not what a set-up writes.
    pub(crate) async fn load(config: &Config, name: &str) -> Result<Option<Record>, SetupError> {
        // A name is one of a directory, and nothing that leads elsewhere.
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Ok(None);
        }
        let state = &config.state_directory.join(name);
        let opened = match Directory::open(state, Links::Refused) {
            Ok(opened) => opened,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(refused(state, &error.to_string())),
        };
        let owner = opened.owner();
        let reader = reader(owner, [state.to_owned()].into()).await?;
        let targets = plain_targets(state, opened.id(), owner);
        let read = reader.call(move || targets.setup()).await?;
        let text = read.map_err(|e| refused(state, &e.to_string()))?;
        let record = text.map(|text| Record::parse(&text));
        record.transpose().map_err(|why| refused(state, &why))
    }

    fn parse(text: &[u8]) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let read = match serde_json::from_slice::<Form>(text).map(|form| form.version) {
            Ok(1) => serde_json::from_slice(text).map(version_1::Record::converted),
            Ok(VERSION) => serde_json::from_slice(text),
            Ok(other) => return Err(format!("has the form {other}, of another pgcertd")),
            Err(error) => Err(error),
        };
        read.map_err(|e| format!("is not readable: {e}"))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub(super) async fn write(&self, instance: &mut Instance) -> Result<(), SetupError> {
        let text = serde_json::to_vec_pretty(self);
        let text = text.map_err(|e| refused(Path::new(""), &e.to_string()))?;
        let written = instance.on_files(move |targets| targets.remember_setup(&text));
        Ok(written.await?)
    }

    /// Removes it, and leaves no lock behind.
    pub(super) async fn forget(instance: &mut Instance) -> Result<(), SetupError> {
        let forgotten = instance.on_files(|targets| {
            targets.forget_setup()?;
            targets.remove_lock()
        });
        Ok(forgotten.await?)
    }
}

/// The record in this state directory is not to be acted on.
pub(super) fn refused(state: &Path, why: &str) -> SetupError {
    let file = state.join("setup.json");
    Problem::from(format!("{}: {why}", file.display()))
        .and("nothing was changed")
        .into()
}

/// The first form of the file: a field for each thing that was changed.
mod version_1 {
    use std::path::PathBuf;

    use jiff::Timestamp;
    use serde::Deserialize;

    use super::{Step, VERSION};
    use crate::setup::require_tls::Tightened;
    use crate::setup::step::drop_in::DropInStep;
    use crate::setup::step::fragment::FragmentStep;
    use crate::setup::step::host_line::HostLineStep;
    use crate::setup::step::install::InstallStep;
    use crate::setup::step::settings::{AlteredSetting, SettingsStep};
    use crate::setup::step::tighten::TightenStep;

    #[derive(Deserialize)]
    pub(super) struct Record {
        data_directory: PathBuf,
        began: Timestamp,
        finished: Option<Timestamp>,
        fragment: Option<String>,
        #[serde(default)]
        drop_in: Option<String>,
        directory_made: bool,
        target_was_absent: bool,
        settings: Vec<AlteredSetting>,
        #[serde(default)]
        host_lines: Vec<HostLineStep>,
        tightened: Option<Tightened>,
    }

    impl Record {
        pub(super) fn converted(self) -> super::Record {
            let directory_made = self.directory_made;
            let fragment = self.fragment.map(|text| FragmentStep {
                text,
                directory_made,
            });
            let drop_in = self.drop_in.map(|text| DropInStep { text });
            let is_interrupted = self.finished.is_none();
            let install = is_interrupted.then(|| InstallStep {
                was_absent: self.target_was_absent,
                ..InstallStep::default()
            });
            let settings = self.settings;
            let settings = (!settings.is_empty()).then_some(SettingsStep { settings });
            let mut steps = Vec::new();
            steps.extend(fragment.map(Step::Fragment));
            steps.extend(drop_in.map(Step::DropIn));
            steps.extend(install.map(Step::Install));
            steps.extend(settings.map(Step::Settings));
            steps.extend(self.host_lines.into_iter().map(Step::HostLine));
            let tighten = self.tightened.map(|tightened| TightenStep {
                tightened,
                ..TightenStep::default()
            });
            steps.extend(tighten.map(Step::Tighten));
            super::Record {
                version: VERSION,
                data_directory: self.data_directory,
                began: self.began,
                finished: self.finished,
                steps,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    /// In the first form, in the midst of a set-up.
    const FIRST_FORM: &str = r##"{
  "version": 1,
  "data_directory": "/var/lib/postgresql/16/main",
  "began": "2026-11-28T09:12:44.102938475Z",
  "finished": null,
  "fragment": "# Written by `pgcertd setup`; `pgcertd setup --undo 16-main` takes it back.\n[[instance]]\n",
  "drop_in": "# Written by `pgcertd setup`; `pgcertd setup --undo 16-main` takes it back.\n[Service]\nExecPaths=-/x\n",
  "directory_made": true,
  "target_was_absent": true,
  "settings": [
    {"setting": "ssl_cert_file", "before": "/old.pem", "set": "/new.pem"},
    {"setting": "ssl", "before": null, "set": "on"}
  ],
  "host_lines": [
    {"names": ["pg.example.com"], "breaks": 1, "before": "00ff"}
  ],
  "tightened": {
    "files": [
      {"file": "/pg_hba.conf", "backup": "/state/pg_hba.conf.00ff", "before": "00ff", "after": "ff00"}
    ]
  }
}"##;

    fn names(record: &Record) -> Vec<String> {
        let steps = serde_json::to_value(&record.steps).unwrap();
        let steps = steps.as_array().unwrap().iter();
        steps
            .map(|step| step["step"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_record_of_the_first_form_is_read_as_steps() {
        let record = Record::parse(FIRST_FORM.as_bytes()).unwrap();
        assert_eq!(
            names(&record),
            [
                "fragment",
                "drop_in",
                "install",
                "settings",
                "host_line",
                "tighten"
            ]
        );
        let steps = serde_json::to_value(&record.steps).unwrap();
        assert_eq!(steps[0]["directory_made"], true);
        assert_eq!(steps[2]["was_absent"], true);
        assert_eq!(steps[3]["settings"][0]["before"], "/old.pem");
        assert_eq!(steps[4]["names"][0], "pg.example.com");
        assert_eq!(steps[5]["tightened"]["files"][0]["after"], "ff00");
        let finished = FIRST_FORM.replace(
            "null,\n  \"fragment",
            "\"2026-11-28T09:13:00Z\",\n  \"fragment",
        );
        let finished = Record::parse(finished.as_bytes()).unwrap();
        assert!(
            !names(&finished).contains(&"install".to_owned()),
            "it stays installed"
        );
    }

    #[test]
    fn what_is_stored_comes_back_and_a_finished_set_up_keeps_what_an_undo_needs() {
        let mut record = Record::parse(FIRST_FORM.as_bytes()).unwrap();
        let stored = serde_json::to_vec_pretty(&record).unwrap();
        assert_eq!(names(&Record::parse(&stored).unwrap()), names(&record));
        let later = Record::begun(
            Path::new("/data"),
            &[Step::Reload, Step::Verify],
            Some(&record),
        );
        assert_eq!(names(&later)[5..], ["tighten", "reload", "verify"]);
        record.finish();
        assert_eq!(
            names(&record),
            ["fragment", "drop_in", "settings", "host_line", "tighten"]
        );
        let other = String::from_utf8(stored)
            .unwrap()
            .replace("\"version\": 2", "\"version\": 3");
        assert!(
            Record::parse(other.as_bytes())
                .err()
                .unwrap()
                .contains("form 3")
        );
    }
}
