//! How a deployment is told.

use super::event::Event;
use super::field::Field;
use super::kind::EventKind;
use crate::bundle::Piece;
use crate::config;
use crate::deploy::state::State;
use crate::deploy::{Done, SyncOutcome};
use crate::problem::Problem;
use crate::text::day;

/// What came of comparing an instance, as one line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeploymentReport<'a> {
    pub(crate) config: &'a config::InstanceConfig,
    pub(crate) done: &'a Done,
}

impl DeploymentReport<'_> {
    pub(crate) fn message(&self) -> String {
        let lineage = &self.config.lineage.name;
        let short = self.done.fingerprint.map(|new| new.short());
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
                if let Some(old) = self
                    .done
                    .old
                    .filter(|old| Some(*old) != self.done.fingerprint)
                {
                    line.push_str(&format!(" (before: {})", old.short()));
                }
                if let Some(end) = self.done.not_after {
                    line.push_str(&format!(", expires {}", day(end)));
                }
            }
        }
        line.push_str(&format!(
            ", {:.1} ms",
            self.done.took.as_secs_f64() * 1000.0
        ));
        if let Some(problem) = &self.done.problem {
            line.push_str(&format!(": {problem}"));
        }
        if !self.done.also_applied.is_empty() {
            let files: Vec<String> = self
                .done
                .also_applied
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            line.push_str("; the reload also applied other changes in ");
            line.push_str(&files.join(", "));
        }
        line
    }

    /// Whether the certificate is as it was, and what changed is what lies beside it.
    fn is_beside(&self) -> bool {
        !self.done.changed.is_empty() && !self.done.changed.contains(&Piece::Certificate)
    }

    /// The CA and CRL files that changed.
    fn beside(&self) -> Option<String> {
        let changed = self
            .done
            .changed
            .iter()
            .filter(|piece| **piece != Piece::Certificate);
        let words: Vec<String> = changed.map(Piece::to_string).collect();
        (!words.is_empty()).then(|| format!("new {}", words.join(" and ")))
    }

    fn changed_words(&self) -> Option<String> {
        let words: Vec<&str> = self
            .done
            .changed
            .iter()
            .map(|piece| piece.as_str())
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn verb(&self) -> String {
        let beside = self.is_beside();
        let verb = match self.done.outcome {
            // No handshake shows a CRL.
            SyncOutcome::Deployed if beside => "deployed",
            SyncOutcome::Deployed => "deployed and served",
            SyncOutcome::Installed if beside => "installed, not loaded yet",
            SyncOutcome::Installed => "installed, not served yet",
            SyncOutcome::Unverified if beside => "installed, loading not verified",
            SyncOutcome::Unverified => "installed, serving not verified",
            SyncOutcome::RolledBack => {
                return format!("rejected by {} and rolled back", self.config.kind().name());
            }
            SyncOutcome::TakenBack => "not proven served and rolled back",
            SyncOutcome::Refused => "refused",
            SyncOutcome::Failed => "failed",
            SyncOutcome::Waiting => "waiting",
            SyncOutcome::WouldDeploy => "would be deployed",
            SyncOutcome::Unchanged => "unchanged",
        };
        verb.to_owned()
    }

    /// Whether this says what is wrong in the state that the deployment left behind.
    pub(crate) fn tells(&self, state: State, left: &Problem) -> bool {
        let told = self.done.problem.as_ref();
        // The reason of a refusal is remembered, and what became of the files is told here alone.
        state == State::Rejected && self.done.outcome == SyncOutcome::RolledBack
            || told.is_some_and(|problem| problem.what == left.what)
    }

    /// The event, where a deployment was begun, and the state that it left behind with what is
    /// wrong there; where that is said by itself, `left` has no problem.
    pub(crate) fn event(&self, kind: EventKind, state: State, left: Option<&Problem>) -> Event {
        let remedy = left.map(Problem::remedy).filter(|text| !text.is_empty());
        let told = self.done.problem.as_ref().map(Problem::remedy);
        let mut message = self.message();
        if let Some(remedy) = remedy.as_ref().filter(|_| told != remedy) {
            message.push_str("; ");
            message.push_str(remedy);
        }
        Event::new(kind, message)
            .with(Field::Instance, &self.config.name)
            .with(Field::Lineage, &self.config.lineage.name)
            .with(Field::File, self.config.cert_file.display())
            .with(Field::Outcome, self.done.outcome.as_str())
            .with(Field::State, state.as_str())
            .with_some(Field::Fingerprint, self.done.fingerprint)
            .with_some(Field::OldFingerprint, self.done.old)
            .with_some(Field::Changed, self.changed_words())
            .with_some(Field::NotAfter, self.done.not_after)
            .with(Field::Milliseconds, self.done.took.as_millis())
            .with_some(Field::Problem, self.done.problem.as_ref())
            .with_some(Field::Remedy, remedy.as_deref())
    }
}
