//! `pg_hba.conf` requires TLS of clients of other hosts. What of a stored one is believed: [`crate::setup::require_tls`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::line::StepLine;
use crate::server::sql::HbaRule;
use crate::setup::error::SetupError;
use crate::setup::plaintext::{self, PlaintextAnswer};
use crate::setup::require_tls::{ExposedLine, Tightened, Tightening, TighteningError};
use crate::setup::scene::{PAUSE, RELOAD, Scene, SetupProgress};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TightenStep {
    pub(in crate::setup) tightened: Tightened,
    #[serde(skip)]
    pub(crate) exposed: Vec<ExposedLine>,
    #[serde(skip)]
    pub(in crate::setup) diff: String,
}

impl TightenStep {
    /// Who is let in without TLS, and the difference.
    pub(super) fn describe(&self) -> Vec<StepLine> {
        let mut lines = Vec::new();
        for exposed in &self.exposed {
            let place = format!("{}:{}", exposed.file.display(), exposed.line);
            lines.push(StepLine::ChangedFile(place));
            let whom = format!("lets in without TLS: {}", exposed.whom);
            lines.push(StepLine::Note(whom));
            lines.extend(
                exposed
                    .notes
                    .iter()
                    .map(|note| StepLine::Note((*note).into())),
            );
        }
        lines.extend(StepLine::texts(&self.diff));
        lines
    }

    pub(super) fn describe_undo(&self) -> Vec<String> {
        let files = self.tightened.files();
        files
            .map(|file| format!("put {} back as it was", file.display()))
            .collect()
    }

    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let (sql, owner, state) = (scene.sql, scene.site.server.owner, scene.site.state());
        let settings = sql.server_settings().await?;
        let tightening = Tightening::proposed(sql, owner).await?;
        // What was agreed to is what is shown, and what is stored is what can be undone.
        let same = |tightening: &Tightening| tightening.record(&state) == self.tightened;
        let Some(tightening) = tightening.filter(same) else {
            let file = settings.hba_file;
            return Err(TighteningError::Changed { file }.into());
        };
        tightening.apply(sql, &state).await?;
        scene.reloaded_since(settings.loaded).await?;
        if let Some(still) = Tightening::proposed(sql, owner).await? {
            let lines = still.diff().lines().count();
            return Err(SetupError::new(
                format!(
                    "pg_hba.conf still lets clients of other hosts in without TLS, as {lines} lines of difference show"
                ),
                "see whether somebody has edited it just now, and try again",
            ));
        }
        let lines = match self.exposed.len() {
            1 => "1 line".to_owned(),
            many => format!("{many} lines"),
        };
        scene.done(format!(
            "clients of other hosts need TLS: {lines} of pg_hba.conf"
        ));
        plaintext_is_refused(scene).await
    }

    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        match self
            .tightened
            .undo(scene.sql, scene.site.server.owner)
            .await
        {
            Ok(()) => scene.done("pg_hba.conf is as before".into()),
            // It is a person's now.
            Err(error @ TighteningError::Edited { .. }) => {
                (scene.tell)(SetupProgress::Left(error.problem().to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Tries a client without TLS, where one can be tried.
async fn plaintext_is_refused(scene: &mut Scene<'_>) -> Result<(), SetupError> {
    let port = scene.site.server.port();
    let samehost = |rule: &HbaRule| rule.address.as_deref() == Some("samehost");
    let own_are_let_in = scene.sql.hba_rules().await?.iter().any(samehost);
    let patience = if own_are_let_in {
        Duration::ZERO
    } else {
        RELOAD
    };
    let deadline = Instant::now() + patience;
    let let_in = loop {
        let answers = plaintext::tried(port, &scene.sql.role).await;
        let is_let_in = |(_, answer): &&(_, _)| *answer == PlaintextAnswer::LetIn;
        match (answers.iter().find(is_let_in), answers.first()) {
            (None, Some((ip, _))) => {
                scene.done(format!("a client at {ip} without TLS is refused"));
                return Ok(());
            }
            // The server listens on loopback alone.
            (None, None) => return Ok(()),
            (Some((ip, _)), _) if Instant::now() >= deadline => break *ip,
            // A postmaster takes a moment to load the file.
            _ => tokio::time::sleep(PAUSE).await,
        }
    };
    if !own_are_let_in {
        return Err(SetupError::new(
            format!(
                "a client at {let_in} is still let in without TLS, though no line of pg_hba.conf that pgcertd can judge \
                 does that"
            ),
            "see in the server's log which line does",
        ));
    }
    (scene.tell)(SetupProgress::Left(format!(
        "this host's own clients at {let_in} still need no TLS: a samehost line lets them in"
    )));
    Ok(())
}
