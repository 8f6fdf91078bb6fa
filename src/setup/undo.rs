//! Undoes a set-up by its record: when the operator asks for it, or after a crash.
//!
//! What somebody has changed since stays as it is, and is named. It can be repeated where it stopped.

use super::error::SetupError;
use super::record::{self, Record};
use super::scene::{Scene, SetupProgress, Site};
use super::server::SetupServer;
use super::service;
use super::step::fragment::FragmentEntry;
use super::step::{Step, undo_all};
use crate::config::Config;
use crate::host::look::is_same_file;
use crate::server::probe::Prober;
use crate::server::sql::Sql;

/// A set-up that can be undone.
pub(crate) struct Undo {
    pub(crate) record: Record,
    pub(crate) site: Site,
}

impl Undo {
    /// Of the instance of this name.
    ///
    /// # Errors
    /// Nothing is remembered of it, what is was not written by a set-up, or its server does not run.
    pub(crate) async fn load(config: &Config, name: &str) -> Result<Undo, SetupError> {
        let none = || SetupError::no_record(name);
        let record = Record::load(config, name).await?.ok_or_else(none)?;
        let refused = |why: &str| record::refused(&config.state_directory.join(name), why);
        let path = config.fragments().join(format!("{name}.toml"));
        let mut known = config
            .instance(name)
            .map(|instance| (config.clone(), instance.clone()));
        let is_configured = known.is_some();
        for step in record.steps.iter().rev() {
            match step {
                Step::DropIn(step) if !service::writes(name, &step.text) => {
                    return Err(refused("holds a drop-in of the unit that no set-up writes"));
                }
                Step::Fragment(step) if !is_configured => {
                    let config = Config::load_with(&config.file, &path, &step.text)?;
                    let instance = config.instance(name).cloned().ok_or_else(none)?;
                    let written = FragmentEntry::find(&config, &instance)
                        .map(|entry| entry.fragment(&config.fragments()).text);
                    if written.as_ref() != Some(&step.text) {
                        return Err(refused("holds a fragment that no set-up writes"));
                    }
                    known.get_or_insert((config, instance));
                }
                _ => {}
            }
        }
        let (config, instance) = known.ok_or_else(none)?;
        if !is_same_file(instance.home(), &record.data_directory) {
            return Err(refused(&format!(
                "is about the server of {}, and the config has {} for this instance: correct that there",
                record.data_directory.display(),
                instance.home().display()
            )));
        }
        let server = SetupServer::at(instance.home()).await?;
        let site = Site {
            config,
            instance,
            server,
        };
        Ok(Undo { record, site })
    }

    /// What will be done, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let steps = self.record.steps.iter().rev();
        steps
            .flat_map(|step| step.describe_undo(&self.site))
            .collect()
    }

    /// Undoes it; gives what could not be undone.
    ///
    /// # Errors
    /// The instance's files cannot be worked on at all.
    pub(crate) async fn carry_out(
        &self,
        sql: &Sql,
        prober: &Prober,
        tell: &mut dyn FnMut(SetupProgress),
    ) -> Result<Vec<String>, SetupError> {
        let mut scene = Scene::open(&self.site, sql, prober, tell).await?;
        undo_all(&self.record.steps, &mut scene).await;
        if scene.left.is_empty() {
            Record::forget(&mut scene.keeper.instance).await?;
        }
        Ok(scene.left)
    }
}
