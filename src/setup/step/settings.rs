//! `ssl`, `ssl_cert_file` and `ssl_key_file`, set by ALTER SYSTEM. An undo changes no other setting.

use serde::{Deserialize, Serialize};

use super::line::StepLine;
use crate::server::sql::{Setting, Sql, SqlError};
use crate::setup::error::SetupError;
use crate::setup::scene::{Scene, SetupProgress, Site};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsStep {
    pub(crate) settings: Vec<AlteredSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlteredSetting {
    pub(crate) setting: Setting,
    /// What ALTER SYSTEM had set before; none where it had not.
    pub(crate) before: Option<String>,
    pub(crate) set: String,
    /// What is in force now.
    #[serde(skip)]
    pub(crate) now: String,
}

impl AlteredSetting {
    pub(crate) fn planned(setting: Setting, now: &str, set: String) -> AlteredSetting {
        AlteredSetting {
            setting,
            before: None,
            set,
            now: now.to_owned(),
        }
    }
}

impl SettingsStep {
    pub(super) fn describe(&self, site: &Site) -> Vec<StepLine> {
        let file = site.server.data_directory.join("postgresql.auto.conf");
        let mut lines = vec![
            StepLine::ChangedFile(file.display().to_string()),
            StepLine::Note("by ALTER SYSTEM, then a reload".into()),
        ];
        for altered in &self.settings {
            let name = altered.setting.name();
            lines.push(StepLine::Text(format!("- {name} = '{}'", altered.now)));
            lines.push(StepLine::Text(format!("+ {name} = '{}'", altered.set)));
        }
        lines
    }

    pub(super) fn describe_undo(&self) -> Vec<String> {
        let last_first = self.settings.iter().rev();
        let line = |altered: &AlteredSetting| match &altered.before {
            Some(before) => format!("ALTER SYSTEM SET {} = '{before}'", altered.setting.name()),
            None => format!("ALTER SYSTEM RESET {}", altered.setting.name()),
        };
        last_first.map(line).collect()
    }

    pub(super) async fn note_before(&mut self, sql: &Sql) -> Result<(), SqlError> {
        for altered in &mut self.settings {
            altered.before = sql.altered(altered.setting).await?;
        }
        Ok(())
    }

    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        for altered in &self.settings {
            scene
                .sql
                .alter_system(altered.setting, &altered.set)
                .await?;
        }
        let names = names(&self.settings.iter().collect::<Vec<_>>());
        scene.done(format!("set {names} by ALTER SYSTEM"));
        Ok(())
    }

    /// The last setting first, and has the server load that.
    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let sql = scene.sql;
        let mut undone = Vec::new();
        for altered in self.settings.iter().rev() {
            let now = sql.altered(altered.setting).await?;
            if now == altered.before {
                continue;
            }
            if now.as_ref() != Some(&altered.set) {
                let now = now.map_or_else(|| "nothing".into(), |text| format!("'{text}'"));
                (scene.tell)(SetupProgress::Left(format!(
                    "ALTER SYSTEM has set {} to {now} since: that stays",
                    altered.setting.name()
                )));
                continue;
            }
            match &altered.before {
                Some(before) => sql.alter_system(altered.setting, before).await?,
                None => sql.reset_system(altered.setting).await?,
            }
            undone.push(altered);
        }
        // What was undone before a crash may wait for its reload still.
        scene.reload().await?;
        if !undone.is_empty() {
            scene.done(format!("{} as before, and reloaded", names(&undone)));
        }
        Ok(())
    }
}

fn names(settings: &[&AlteredSetting]) -> String {
    let names: Vec<&str> = settings
        .iter()
        .map(|altered| altered.setting.name())
        .collect();
    names.join(", ")
}
