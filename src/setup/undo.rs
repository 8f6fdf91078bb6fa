//! Takes a set-up back: at once, where a step failed; later, where the operator says so; after a crash.
//!
//! What somebody has changed since is left as it is, and said. It can be done again where it stopped.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::fragment::{EntryRemoval, Fragment, FragmentEntry};
use super::host_line::AddedLine;
use super::record::{Record, Was};
use super::require_tls::TighteningError;
use super::{SetupError, SetupProgress, SetupServer, service};
use crate::config::{self, Config};
use crate::host::look::is_same_file;
use crate::server::files::Found;
use crate::server::hosts::{self, Hosts};
use crate::server::probe::Prober;
use crate::server::program::tls_settings;
use crate::server::sql::{ServerSettings, Sql, SqlError};
use crate::server::{Instance, Purpose};

/// How long a session may take to see what a reload has changed.
const RELOAD: Duration = Duration::from_secs(10);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct UndoScene<'a> {
    pub(super) server: &'a SetupServer,
    pub(super) sql: &'a Sql,
    pub(super) instance: &'a mut Instance,
    /// Where the fragment of the record is.
    pub(super) fragment: Option<PathBuf>,
    pub(super) drop_in: Option<Fragment>,
    pub(super) state: PathBuf,
    /// What was in the place of the files, where this process knows it.
    pub(super) found: Option<Vec<Found>>,
}

/// A set-up that can be taken back.
#[derive(Debug)]
pub(crate) struct Undo {
    pub(crate) record: Record,
    pub(crate) instance: config::InstanceConfig,
    pub(crate) server: SetupServer,
    /// Where its fragment is, if it wrote one.
    pub(crate) fragment: Option<PathBuf>,
    /// The unit's drop-in, if it wrote one.
    pub(crate) drop_in: Option<Fragment>,
    config: Config,
}

impl Undo {
    /// Of the instance of this name.
    ///
    /// # Errors
    /// Nothing is remembered of it, or its server does not run.
    pub(crate) async fn load(config: &Config, name: &str) -> Result<Undo, SetupError> {
        let none = || SetupError::NoRecord(name.to_owned());
        let record = Record::load(config, name).await?.ok_or_else(none)?;
        let refused = |why: String| SetupError::Record {
            path: config.state_directory.join(name).join("setup.json"),
            why,
        };
        let drop_in = match &record.drop_in {
            None => None,
            Some(text) => Some(service::written(name, text).ok_or_else(|| {
                refused("holds a drop-in of the unit that no set-up writes".into())
            })?),
        };
        let path = config.fragments().join(format!("{name}.toml"));
        let fragment = record.fragment.as_ref().map(|_| path.clone());
        let (config, instance) = match (config.instance(name), &record.fragment) {
            (Some(instance), _) => (config.clone(), instance.clone()),
            (None, Some(text)) => {
                let config = Config::load_with(&config.file, &path, text)?;
                let instance = config.instance(name).cloned().ok_or_else(none)?;
                // The record is the server's user's: what it says counts as far as a set-up says it.
                if FragmentEntry::find(&config, &instance).is_none_or(|fragment_entry| {
                    fragment_entry.fragment(&config.fragments()).text != *text
                }) {
                    return Err(refused("holds a fragment that no set-up writes".into()));
                }
                (config, instance)
            }
            (None, None) => return Err(none()),
        };
        if !is_same_file(instance.home(), &record.data_directory) {
            return Err(refused(format!(
                "is about the server of {}, and the config has {} for this instance: correct that there",
                record.data_directory.display(),
                instance.home().display()
            )));
        }
        let server = SetupServer::at(instance.home()).await?;
        Ok(Undo {
            record,
            instance,
            server,
            fragment,
            drop_in,
            config,
        })
    }

    /// What will be done, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(tightened) = &self.record.tightened {
            for file in tightened.files() {
                lines.push(format!("put {} back as it was", file.display()));
            }
        }
        for added in self.record.host_lines.iter().rev() {
            let line = added.line(&self.instance);
            lines.push(format!("take `{line}` out of pg_hosts.conf"));
        }
        for was in self.record.settings.iter().rev() {
            lines.push(match &was.before {
                Some(before) => format!("ALTER SYSTEM SET {} = '{before}'", was.setting.name()),
                None => format!("ALTER SYSTEM RESET {}", was.setting.name()),
            });
        }
        let drop_in = self.drop_in.as_ref().map(|fragment| &fragment.path);
        for path in drop_in.into_iter().chain(&self.fragment) {
            lines.push(format!("remove {}", path.display()));
        }
        lines
    }

    /// Takes it back; gives what could not be.
    ///
    /// # Errors
    /// The instance's files cannot be worked on at all.
    pub(crate) async fn carry_out(
        &self,
        sql: &Sql,
        prober: &Prober,
        tell: &mut dyn FnMut(SetupProgress),
    ) -> Result<Vec<String>, SetupError> {
        let mut instance = Instance::new(&self.config, &self.instance, prober.clone());
        instance.refresh(Purpose::Work).await?;
        let mut scene = UndoScene {
            server: &self.server,
            sql,
            instance: &mut instance,
            fragment: self.fragment.clone(),
            drop_in: self.drop_in.clone(),
            state: self.config.state_of(&self.instance),
            found: None,
        };
        let left = take_back(&mut scene, &self.record, tell).await;
        if left.is_empty() {
            forget(&mut instance).await?;
        }
        Ok(left)
    }
}

/// Takes back what `record` says; gives what could not be done, and might be at another time.
pub(super) async fn take_back(
    scene: &mut UndoScene<'_>,
    record: &Record,
    tell: &mut dyn FnMut(SetupProgress),
) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(tightened) = &record.tightened {
        match tightened.undo(scene.sql, scene.server.owner).await {
            Ok(()) => tell(SetupProgress::Done("pg_hba.conf is as before".into())),
            // It is a person's now.
            Err(error @ TighteningError::Edited { .. }) => {
                tell(SetupProgress::Left(error.to_string()))
            }
            Err(error) => left.push(error.to_string()),
        }
    }
    if let Err(error) = host_lines(scene, &record.host_lines, tell).await {
        left.push(error.to_string());
    }
    if let Err(error) = settings(scene.sql, &record.settings, tell).await {
        left.push(error.to_string());
    }
    if left.is_empty()
        && let Err(error) = files(scene, record).await
    {
        left.push(error.to_string());
    }
    if let Some(drop_in) = &scene.drop_in
        && let Err(error) = shut_out(drop_in, tell).await
    {
        left.push(error.to_string());
    }
    if let (Some(path), Some(text)) = (&scene.fragment, &record.fragment) {
        let fragment = Fragment {
            path: path.clone(),
            text: text.clone(),
        };
        match fragment.remove() {
            Ok(removed) => {
                if let (true, Some(directory)) = (record.directory_made, path.parent()) {
                    // Others may have put something there meanwhile.
                    let _in_use = std::fs::remove_dir(directory);
                }
                tell(removal(removed, path));
            }
            Err(error) => left.push(format!("{}: {error}", path.display())),
        }
    }
    for what in &left {
        tell(SetupProgress::Left(what.clone()));
    }
    left
}

/// Takes the unit's drop-in away, and with it the directory where nothing else is in it.
async fn shut_out(
    drop_in: &Fragment,
    tell: &mut dyn FnMut(SetupProgress),
) -> Result<(), SetupError> {
    let removed = drop_in.remove().map_err(|source| SetupError::Fragment {
        path: drop_in.path.clone(),
        source,
    })?;
    if let Some(directory) = drop_in.path.parent() {
        let _in_use = std::fs::remove_dir(directory);
    }
    tell(removal(removed, &drop_in.path));
    service::read_again().await
}

/// Takes the lines out of `pg_hosts.conf`, the last one first, and has the server take that.
async fn host_lines(
    scene: &UndoScene<'_>,
    lines: &[AddedLine],
    tell: &mut dyn FnMut(SetupProgress),
) -> Result<(), SetupError> {
    let (server, sql, config) = (scene.server, scene.sql, &scene.instance.config);
    for added in lines.iter().rev() {
        tell(added.take_out(server, sql, config, &scene.state).await?);
    }
    if !lines.is_empty() {
        let loaded = sql.server_settings().await?.loaded;
        sql.reload().await?;
        settled(sql, RELOAD, |now| now.loaded > loaded).await?;
    }
    Ok(())
}

/// Whether a line of `pg_hosts.conf` names the instance's files; that is assumed where it is not known.
async fn is_used_by_name(scene: &UndoScene<'_>) -> bool {
    if scene.sql.version < hosts::FIRST {
        return false;
    }
    let server = scene.server;
    let asked = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
    let config = &scene.instance.config;
    asked.map_or(true, |tls| {
        let uses = |hosts: &Hosts| config.targets().any(|file| hosts.uses(file) != Ok(false));
        tls.hosts().is_some_and(uses)
    })
}

/// Puts the settings back, the last one first, and has the server take that.
async fn settings(
    sql: &Sql,
    settings: &[Was],
    tell: &mut dyn FnMut(SetupProgress),
) -> Result<(), SqlError> {
    let mut back = Vec::new();
    for was in settings.iter().rev() {
        let now = sql.altered(was.setting).await?;
        if now == was.before {
            continue;
        }
        let name = was.setting.name();
        if now.as_ref() != Some(&was.set) {
            let now = now.map_or_else(|| "nothing".into(), |text| format!("'{text}'"));
            tell(SetupProgress::Left(format!(
                "ALTER SYSTEM has set {name} to {now} since: that stays"
            )));
            continue;
        }
        match &was.before {
            Some(before) => sql.alter_system(was.setting, before).await?,
            None => sql.reset_system(was.setting).await?,
        }
        back.push(was);
    }
    if settings.is_empty() {
        return Ok(());
    }
    // What was put back before a crash may wait for its reload still.
    let loaded = sql.server_settings().await?.loaded;
    sql.reload().await?;
    settled(sql, RELOAD, |now| now.loaded > loaded).await?;
    if !back.is_empty() {
        let names: Vec<&str> = back.iter().map(|was| was.setting.name()).collect();
        tell(SetupProgress::Done(format!(
            "{} as before, and reloaded",
            names.join(", ")
        )));
    }
    Ok(())
}

/// Waits until this session sees that a reload has come through.
pub(super) async fn settled(
    sql: &Sql,
    patience: Duration,
    is_so: impl Fn(&ServerSettings) -> bool,
) -> Result<(), SqlError> {
    let deadline = Instant::now() + patience;
    loop {
        if is_so(&sql.server_settings().await?) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(SqlError::Silent {
                what: "a reload",
                seconds: patience.as_secs(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts the files back, where this process knows them; takes away what an interrupted set-up installed where
/// nothing was. What is in use stays.
async fn files(scene: &mut UndoScene<'_>, record: &Record) -> Result<(), SetupError> {
    let interrupted = record.finished.is_none() && record.target_was_absent;
    let config = &scene.instance.config;
    let count = if config.single_file() { 1 } else { 2 };
    let found = match scene.found.take() {
        Some(found) if !found.is_empty() => found,
        _ if interrupted => vec![Found::Absent; count],
        _ => return Ok(()),
    };
    let now = scene.sql.server_settings().await?;
    let named =
        |file: &str| is_same_file(&scene.server.data_directory.join(file), &config.cert_file);
    let used = now.ssl && (named(&now.cert_file) || is_used_by_name(scene).await);
    let gone = found.iter().all(|found| matches!(found, Found::Absent));
    if used && gone {
        // The server needs what is there.
        return Ok(());
    }
    let changed = scene
        .instance
        .on_files(move |targets| {
            let same = targets.holds(&found)?;
            if !same {
                targets.put_back(&found)?;
            }
            Ok(!same)
        })
        .await?;
    if used && changed {
        let loaded = now.loaded;
        scene.sql.reload().await?;
        settled(scene.sql, RELOAD, |now| now.loaded > loaded).await?;
    }
    Ok(())
}

/// Forgets the set-up, and leaves no lock behind.
pub(super) async fn forget(instance: &mut Instance) -> Result<(), SetupError> {
    let forgotten = instance.on_files(|targets| {
        targets.forget_setup()?;
        targets.remove_lock()
    });
    Ok(forgotten.await?)
}

/// What became of a fragment, for a sentence.
fn removal(removal: EntryRemoval, path: &std::path::Path) -> SetupProgress {
    match removal {
        EntryRemoval::Removed => SetupProgress::Done(format!("removed {}", path.display())),
        EntryRemoval::Absent => SetupProgress::Done(format!("{} is gone already", path.display())),
        EntryRemoval::Changed => SetupProgress::Left(format!(
            "{} was changed since, and stays: remove what you do not want of it",
            path.display()
        )),
    }
}
