//! The steps of a set-up: what each changes, how that is shown, applied and undone.
//!
//! A plan is a list of steps. It is shown, stored in `setup.json`, and applied in order; an undo goes through what was
//! stored, the last step first. A step stores all that its undo needs, and its undo can be repeated: after a crash
//! nobody knows how far the list was applied. Fields that are not stored are for showing and applying it alone.
//!
//! What is stored belongs to the server's user, so an undo distrusts it: each step says what of it cannot be forged.

pub(crate) mod drop_in;
pub(crate) mod fragment;
pub(crate) mod host_line;
pub(crate) mod install;
mod line;
pub(crate) mod new_file;
pub(crate) mod settings;
pub(crate) mod tighten;
mod verify;

use serde::{Deserialize, Serialize};

use super::error::SetupError;
use super::scene::{Scene, SetupProgress, Site};
use drop_in::DropInStep;
use fragment::FragmentStep;
use host_line::HostLineStep;
use install::InstallStep;
pub(crate) use line::StepLine;
use settings::SettingsStep;
use tighten::TightenStep;

/// In the order in which a plan has them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// Writes `conf.d/NAME.toml`.
    Fragment(FragmentStep),
    /// Writes the drop-in that lets the service at the instance's paths.
    DropIn(DropInStep),
    /// Installs the certificate. Where the server uses its files already, it loads them here.
    Install(InstallStep),
    /// Sets `ssl` and the files by ALTER SYSTEM.
    Settings(SettingsStep),
    /// Adds the line for the instance's names to `pg_hosts.conf`.
    HostLine(HostLineStep),
    Reload,
    /// Looks at what new clients get.
    Verify,
    /// Makes `pg_hba.conf` require TLS of clients of other hosts.
    Tighten(TightenStep),
}

impl Step {
    /// Whether it changes something. Installing what is installed already does not.
    pub(crate) fn is_change(&self) -> bool {
        match self {
            Step::Install(step) => step.is_change(),
            Step::Reload | Step::Verify => false,
            _ => true,
        }
    }

    /// What a person is shown before it is applied.
    pub(crate) fn describe(&self, site: &Site) -> Vec<StepLine> {
        match self {
            Step::Fragment(step) => step.file(site).describe(),
            Step::DropIn(step) => step.describe(site),
            Step::Install(step) => step.describe(site),
            Step::Settings(step) => step.describe(site),
            Step::HostLine(step) => step.describe(),
            Step::Tighten(step) => step.describe(),
            Step::Reload | Step::Verify => Vec::new(),
        }
    }

    /// What its undo does, a line each.
    pub(crate) fn describe_undo(&self, site: &Site) -> Vec<String> {
        match self {
            Step::Fragment(step) => vec![step.file(site).describe_undo()],
            Step::DropIn(step) => vec![step.file(site).describe_undo()],
            Step::Settings(step) => step.describe_undo(),
            Step::HostLine(step) => vec![step.describe_undo(site)],
            Step::Tighten(step) => step.describe_undo(),
            Step::Install(_) | Step::Reload | Step::Verify => Vec::new(),
        }
    }

    /// Takes note of what is there before anything is changed.
    pub(super) async fn note_before(&mut self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        match self {
            Step::Fragment(step) => step.note_before(scene.site),
            Step::Install(step) => step.note_before(scene).await?,
            Step::Settings(step) => step.note_before(scene.sql).await?,
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        match self {
            Step::Fragment(step) => step.file(scene.site).apply(scene),
            Step::DropIn(step) => step.apply(scene).await,
            Step::Install(step) => step.apply(scene).await,
            Step::Settings(step) => step.apply(scene).await,
            Step::HostLine(step) => step.apply(scene).await,
            Step::Reload => {
                scene.sql.reload().await?;
                scene.done("reloaded the server".into());
                Ok(())
            }
            Step::Verify => verify::apply(scene).await,
            Step::Tighten(step) => step.apply(scene).await,
        }
    }

    /// Undoes it, if it was applied. The undo of a change that needs a reload has its own.
    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        match self {
            Step::Fragment(step) => step.undo(scene),
            Step::DropIn(step) => step.undo(scene).await,
            Step::Install(step) => step.undo(scene).await,
            Step::Settings(step) => step.undo(scene).await,
            Step::HostLine(step) => step.undo(scene).await,
            Step::Tighten(step) => step.undo(scene).await,
            Step::Reload | Step::Verify => Ok(()),
        }
    }

    /// Whether a set-up that has succeeded is undone with it. The certificate stays installed, for the server to use as
    /// long as it likes.
    pub(super) fn outlasts_success(&self) -> bool {
        !matches!(self, Step::Install(_) | Step::Reload | Step::Verify)
    }

    /// The point after it where a test plants a fault.
    #[cfg(feature = "failpoints")]
    pub(super) fn failpoint(&self) -> &'static str {
        match self {
            Step::Fragment(_) => "setup_written",
            Step::DropIn(_) => "setup_admitted",
            Step::Install(_) => "setup_installed",
            Step::Settings(_) => "setup_set",
            Step::HostLine(_) => "setup_listed",
            Step::Reload => "setup_reloaded",
            Step::Verify => "setup_verified",
            Step::Tighten(_) => "setup_tightened",
        }
    }
}

/// Whether they write or remove the instance's file in `conf.d`.
pub(crate) fn change_config(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Fragment(_)))
}

/// Whether they write or remove a drop-in, which a daemon follows from its next start on.
pub(crate) fn change_unit(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::DropIn(_)))
}

/// The last step first; what could not be undone is reported, and put into `scene.left`.
pub(super) async fn undo_all(steps: &[Step], scene: &mut Scene<'_>) {
    for step in steps.iter().rev() {
        if let Err(error) = step.undo(scene).await {
            scene.left.push(error.to_string());
        }
    }
    for what in &scene.left {
        (scene.tell)(SetupProgress::Left(what.clone()));
    }
}
