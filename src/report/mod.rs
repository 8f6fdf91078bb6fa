//! What pgcertd says: the journal (or standard error), and the view that `status` shows.
//!
//! An [`Event`] says one thing once. It goes to the journal with fields when pgcertd runs
//! under systemd, and as a plain line to standard error otherwise. [`view`] turns what was
//! seen of an instance into what is shown of it; nothing in it is secret.

pub mod headline;
pub mod log;
pub mod view;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::bundle::Fingerprint;
use crate::reconcile::{Done, SyncOutcome};

/// What happened to an instance, as one line.
#[derive(Debug)]
pub struct Event<'a> {
    /// The instance's name.
    pub instance: &'a str,
    /// Its lineage's name.
    pub lineage: &'a str,
    /// How it came out.
    pub outcome: SyncOutcome,
    /// The leaf that was installed before.
    pub old: Option<Fingerprint>,
    /// The leaf that it was about.
    pub new: Option<Fingerprint>,
    /// When that one expires.
    pub not_after: Option<Timestamp>,
    /// From the decision to its proof.
    pub took: Duration,
    /// Why it is not as it should be.
    pub problem: Option<&'a str>,
    /// Files whose other edits the reload applied.
    pub also_applied: &'a [PathBuf],
}

impl<'a> Event<'a> {
    /// The event of a deployment, where one was begun.
    #[must_use]
    pub fn of(instance: &'a str, lineage: &'a str, done: &'a Done) -> Event<'a> {
        let leaf = done.bundle().map(|b| b.leaf());
        Event {
            instance,
            lineage,
            outcome: done.outcome,
            old: done.old,
            new: done.fingerprint,
            not_after: leaf
                .filter(|l| Some(l.fingerprint()) == done.fingerprint)
                .map(|l| l.not_after()),
            took: done.took,
            problem: done.problem.as_deref(),
            also_applied: &done.also_applied,
        }
    }

    /// The line.
    #[must_use]
    pub fn message(&self) -> String {
        let verb = match self.outcome {
            SyncOutcome::Deployed => "deployed and served",
            SyncOutcome::Installed => "installed, not served yet",
            SyncOutcome::Unverified => "installed, serving not verified",
            SyncOutcome::RolledBack => "refused by Postgres and rolled back",
            SyncOutcome::Refused => "refused",
            SyncOutcome::Failed => "failed",
            SyncOutcome::Waiting => "waiting",
            SyncOutcome::WouldDeploy => "would be deployed",
            SyncOutcome::Unchanged => "unchanged",
        };
        let mut line = format!("{}: {} ", self.instance, self.lineage);
        if let Some(new) = self.new {
            line.push_str(&new.short());
            line.push(' ');
        }
        line.push_str(verb);
        if let Some(old) = self.old.filter(|old| Some(*old) != self.new) {
            line.push_str(&format!(" (before: {})", old.short()));
        }
        if let Some(end) = self.not_after {
            line.push_str(&format!(", expires {}", day(end)));
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

    /// Says it.
    pub fn emit(&self) {
        let message = self.message();
        let old = self.old.map(|f| f.to_string());
        let new = self.new.map(|f| f.to_string());
        let not_after = self.not_after.map(|t| t.to_string());
        let outcome = self.outcome.as_str();
        let milliseconds = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    pgcertd_instance = self.instance,
                    pgcertd_lineage = self.lineage,
                    pgcertd_outcome = outcome,
                    pgcertd_fingerprint = new,
                    pgcertd_old_fingerprint = old,
                    pgcertd_not_after = not_after,
                    pgcertd_milliseconds = milliseconds,
                    "{message}"
                )
            };
        }
        match self.outcome {
            SyncOutcome::Failed | SyncOutcome::RolledBack | SyncOutcome::Refused => say!(error),
            SyncOutcome::Unverified => say!(warn),
            SyncOutcome::Installed if self.problem.is_some() => say!(warn),
            _ => say!(info),
        }
    }
}

/// A date as a person reads it, UTC.
#[must_use]
pub fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
