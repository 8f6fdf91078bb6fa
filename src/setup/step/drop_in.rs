//! The drop-in of the unit. A stored one counts only if it is, word for word, what a set-up writes for this instance.

use serde::{Deserialize, Serialize};

use super::line::StepLine;
use super::new_file::NewFile;
use crate::setup::error::SetupError;
use crate::setup::scene::{Scene, Site};
use crate::setup::service::{self, drop_in_file};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DropInStep {
    pub(crate) text: String,
}

impl DropInStep {
    pub(crate) fn file(&self, site: &Site) -> NewFile {
        NewFile {
            path: drop_in_file(&site.instance.name),
            text: self.text.clone(),
        }
    }

    pub(super) fn describe(&self, site: &Site) -> Vec<StepLine> {
        let mut lines = self.file(site).describe();
        let what = "so that the service may get at these paths; a daemon that runs is restarted";
        lines.push(StepLine::Note(what.into()));
        lines
    }

    /// It counts from the daemon's next start on.
    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        self.file(scene.site).apply(scene)?;
        service::read_again().await
    }

    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        self.file(scene.site).undo(true, scene)?;
        service::read_again().await
    }
}
