//! How a deployment is told.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::day;
use super::event::Event;
use super::field::Field;
use super::kind::EventKind;
use crate::bundle::{Fingerprint, Piece};
use crate::config;
use crate::deploy::state::{Problem, State};
use crate::deploy::{Done, SyncOutcome};

/// What came of comparing an instance, as one line.
#[derive(Debug)]
pub(crate) struct DeploymentReport<'a> {
    pub(crate) config: &'a config::InstanceConfig,
    pub(crate) outcome: SyncOutcome,
    /// The leaf that was installed before.
    pub(crate) old: Option<Fingerprint>,
    /// The leaf that it was about.
    pub(crate) new: Option<Fingerprint>,
    /// What is not as it was before, see [`Done::changed`].
    pub(crate) changed: &'a [Piece],
    pub(crate) not_after: Option<Timestamp>,
    /// From the decision to its proof.
    pub(crate) took: Duration,
    /// Why it is not as it should be.
    pub(crate) problem: Option<&'a str>,
    /// Files whose other edits the reload applied.
    pub(crate) also_applied: &'a [PathBuf],
}

impl<'a> DeploymentReport<'a> {
    /// What was done about an instance.
    pub(crate) fn from_config(
        config: &'a config::InstanceConfig,
        done: &'a Done,
    ) -> DeploymentReport<'a> {
        DeploymentReport {
            config,
            outcome: done.outcome,
            old: done.old,
            new: done.fingerprint,
            changed: &done.changed,
            not_after: done.not_after,
            took: done.took,
            problem: done.problem.as_deref(),
            also_applied: &done.also_applied,
        }
    }

    pub(crate) fn message(&self) -> String {
        let lineage = &self.config.lineage.name;
        let short = self.new.map(|new| new.short());
        let leaf: Vec<&str> = std::iter::once(lineage.as_str())
            .chain(short.as_deref())
            .collect();
        let (leaf, verb) = (leaf.join(" "), self.verb());
        let mut line = format!("{}: ", self.config.name);
        match (self.is_beside(), self.beside()) {
            // The leaf is as it was, and so is its end.
            (true, Some(files)) => line.push_str(&format!("{files} beside {leaf} {verb}")),
            (_, files) => {
                let files = files
                    .map(|files| format!(" with {files}"))
                    .unwrap_or_default();
                line.push_str(&format!("{leaf}{files} {verb}"));
                if let Some(old) = self.old.filter(|old| Some(*old) != self.new) {
                    line.push_str(&format!(" (before: {})", old.short()));
                }
                if let Some(end) = self.not_after {
                    line.push_str(&format!(", expires {}", day(end)));
                }
            }
        }
        line.push_str(&format!(", {:.1} ms", self.took.as_secs_f64() * 1000.0));
        if let Some(problem) = self.problem {
            line.push_str(&format!(": {problem}"));
        }
        if !self.also_applied.is_empty() {
            let files: Vec<String> = self
                .also_applied
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            line.push_str("; the reload also applied whatever had changed since the last one in ");
            line.push_str(&files.join(", "));
        }
        line
    }

    /// Whether the certificate is as it was, and what changed is what lies beside it.
    fn is_beside(&self) -> bool {
        !self.changed.is_empty() && !self.changed.contains(&Piece::Certificate)
    }

    /// The CA and CRL files that changed.
    fn beside(&self) -> Option<String> {
        let changed = self
            .changed
            .iter()
            .filter(|piece| **piece != Piece::Certificate);
        let words: Vec<&str> = changed.map(|piece| piece.words()).collect();
        (!words.is_empty()).then(|| format!("new {}", words.join(" and ")))
    }

    fn changed_words(&self) -> Option<String> {
        let words: Vec<&str> = self.changed.iter().map(|piece| piece.as_str()).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn verb(&self) -> &'static str {
        let beside = self.is_beside();
        match self.outcome {
            // No handshake shows a CRL.
            SyncOutcome::Deployed if beside => "deployed",
            SyncOutcome::Deployed => "deployed and served",
            SyncOutcome::Installed if beside => "installed, not loaded yet",
            SyncOutcome::Installed => "installed, not served yet",
            SyncOutcome::Unverified if beside => "installed, loading not verified",
            SyncOutcome::Unverified => "installed, serving not verified",
            SyncOutcome::RolledBack => match self.config.kind() {
                config::ServerKind::Postgres => "refused by Postgres and rolled back",
                config::ServerKind::PgBouncer => "refused by PgBouncer and rolled back",
                config::ServerKind::Patroni => "refused by Patroni and rolled back",
            },
            SyncOutcome::TakenBack => "not proven served and taken back",
            SyncOutcome::Refused => "refused",
            SyncOutcome::Failed => "failed",
            SyncOutcome::Waiting => "waiting",
            SyncOutcome::WouldDeploy => "would be deployed",
            SyncOutcome::Unchanged => "unchanged",
        }
    }

    /// The event, where a deployment was begun, and the state that it left behind with what is
    /// wrong there; where that is said by itself, `left` has no problem and this event's is not
    /// repeated in the line.
    pub(crate) fn event(&self, kind: EventKind, state: State, left: Option<&Problem>) -> Event {
        let remedy = left.map(Problem::remedy).filter(|text| !text.is_empty());
        let mend = remedy.as_deref().filter(|mend| {
            // A sentence that ends with the remedy is not told it twice.
            !self.problem.is_some_and(|told| told.contains(mend))
        });
        let mut message = self.message();
        if let Some(mend) = mend {
            message.push_str("; ");
            message.push_str(mend);
        }
        Event::new(kind, message)
            .with(Field::Instance, &self.config.name)
            .with(Field::Lineage, &self.config.lineage.name)
            .with(Field::File, self.config.cert_file.display())
            .with(Field::Outcome, self.outcome.as_str())
            .with(Field::State, state.as_str())
            .with_some(Field::Fingerprint, self.new)
            .with_some(Field::OldFingerprint, self.old)
            .with_some(Field::Changed, self.changed_words())
            .with_some(Field::NotAfter, self.not_after)
            .with(Field::Milliseconds, self.took.as_millis())
            .with_some(Field::Problem, self.problem)
            .with_some(Field::Remedy, remedy.as_deref())
    }
}
