//! The certificate and its key, by the one way there is to a deployment: `reconcile`.
//!
//! After a crash an undo removes what is installed where nothing was, unless the server uses it; the files are those of
//! the config.

use serde::{Deserialize, Serialize};

use super::line::StepLine;
use crate::config::Verify;
use crate::deploy::SyncOutcome;
use crate::deploy::plan::Intent;
use crate::host::look::is_same_file;
use crate::lineage::{Spec, Tracked};
use crate::server::files::Found;
use crate::server::hosts::{self, Hosts};
use crate::server::program::tls_settings;
use crate::setup::error::SetupError;
use crate::setup::scene::{Scene, Site};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct InstallStep {
    /// Whether nothing was in the place of the files.
    pub(in crate::setup) was_absent: bool,
    /// What was there.
    #[serde(skip)]
    pub(in crate::setup) found: Vec<Found>,
    /// What it would come to.
    #[serde(skip)]
    pub(in crate::setup) outcome: Option<SyncOutcome>,
    /// Whether the files are the server's own.
    #[serde(skip)]
    pub(crate) takes_over: bool,
    /// Whether the server uses the files only once it has reloaded its configuration.
    #[serde(skip)]
    pub(in crate::setup) needs_reload: bool,
}

impl InstallStep {
    pub(super) fn is_change(&self) -> bool {
        self.outcome != Some(SyncOutcome::Unchanged)
    }

    pub(super) fn describe(&self, site: &Site) -> Vec<StepLine> {
        let instance = &site.instance;
        let (line, what): (fn(String) -> StepLine, _) = if self.takes_over {
            let what = "taken over: the server uses it already, and pgcertd writes it from now on";
            (StepLine::ChangedFile, what)
        } else if self.outcome == Some(SyncOutcome::WouldDeploy) {
            let what = "chain and key; the server's user alone may read the key";
            (StepLine::NewFile, what)
        } else {
            return Vec::new();
        };
        let key = (!instance.single_file()).then_some(&instance.key_file);
        let files = std::iter::once(&instance.cert_file).chain(key);
        let mut lines: Vec<StepLine> = files.map(|file| line(file.display().to_string())).collect();
        lines.push(StepLine::Note(what.into()));
        lines
    }

    pub(super) async fn note_before(&mut self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let instance = &mut scene.keeper.instance;
        self.found = instance.on_files(|targets| targets.look()).await?.found;
        self.was_absent = self
            .found
            .iter()
            .all(|found| matches!(found, Found::Absent));
        Ok(())
    }

    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let Site {
            config, instance, ..
        } = scene.site;
        let settle = config.watch.settle_timeout;
        let mut lineage = Tracked::new(Spec::from(instance), config.watch.debounce, settle);
        // It may have been renewed since the plan was made.
        let source = lineage.settled().await?;
        let done = scene
            .keeper
            .reconcile(&mut lineage, Intent::default(), settle)
            .await
            .done;
        scene.wanted = done.fingerprint;
        scene.bundle = source.bundle().cloned();
        let leaf = done
            .fingerprint
            .map(|leaf| leaf.short())
            .unwrap_or_default();
        let (lineage, file) = (&instance.lineage.name, instance.cert_file.display());
        let is_unused = self.needs_reload || instance.verify == Verify::None;
        let said = match done.outcome {
            SyncOutcome::Unchanged => format!("{lineage} {leaf} is in {file} and served"),
            SyncOutcome::Deployed => format!("installed {lineage} {leaf} in {file}, served"),
            SyncOutcome::Installed | SyncOutcome::Unverified if is_unused => {
                format!("installed {lineage} {leaf} in {file}")
            }
            outcome => {
                let meaning = || outcome.meaning().into();
                return Err(done.problem.unwrap_or_else(meaning).into());
            }
        };
        scene.done(said);
        Ok(())
    }

    /// Puts back what was found, where this process knows it. What the server uses stays.
    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        if !scene.left.is_empty() {
            // The server may still use the files.
            return Ok(());
        }
        let config = &scene.site.instance;
        let found = if !self.found.is_empty() {
            self.found.clone()
        } else if self.was_absent {
            vec![Found::Absent; if config.single_file() { 1 } else { 2 }]
        } else {
            return Ok(());
        };
        let now = scene.sql.server_settings().await?;
        let data = &scene.site.server.data_directory;
        let is_named = is_same_file(&data.join(&now.cert_file), &config.cert_file);
        let is_used = now.ssl && (is_named || is_used_by_name(scene).await);
        let is_gone = found.iter().all(|found| matches!(found, Found::Absent));
        if is_used && is_gone {
            return Ok(());
        }
        let put_back = scene.keeper.instance.on_files(move |targets| {
            let holds = targets.holds(&found)?;
            if !holds {
                targets.put_back(&found)?;
            }
            Ok(!holds)
        });
        if put_back.await? && is_used {
            scene.reload().await?;
        }
        Ok(())
    }
}

/// Whether a line of `pg_hosts.conf` names the instance's files; that is assumed where it is not known.
async fn is_used_by_name(scene: &Scene<'_>) -> bool {
    if scene.sql.version < hosts::FIRST {
        return false;
    }
    let Site {
        server, instance, ..
    } = scene.site;
    let asked = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
    asked.map_or(true, |tls| {
        let uses = |hosts: &Hosts| instance.targets().any(|file| hosts.uses(file) != Ok(false));
        tls.hosts().is_some_and(uses)
    })
}
