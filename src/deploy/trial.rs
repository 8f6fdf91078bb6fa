//! A bundle that was put in place and not yet proven served: when its trial is over, and what is reported if the
//! previous one takes its place again.
//!
//! The decision to put that back is part of [`plan`](super::plan): it is taken only while the server
//! is down, where it might not start on what nobody has tried.

use std::sync::Arc;

use super::plan::Trigger;
use super::remark::Remark;
use super::state::Observation;
use super::{Keeper, Reconciled, SyncOutcome};
use crate::bundle::{Bundle, Identity};
use crate::config::{self, Mode, Verify};
use crate::problem::Problem;
use crate::server::files::{FilesSnapshot, Lock};
use crate::server::{InstanceError, InstanceSnapshot};

/// What is to be remembered after a look at an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lesson {
    /// New clients get this bundle, which is installed.
    Proven(Identity),
    /// What is said to be on trial is not, or no server can prove it.
    NoTrial,
}

impl Observation {
    /// What a look teaches of the installed bundle; nothing where that is known, or nothing is learned.
    fn lesson(&self, config: &config::InstanceConfig) -> Option<Lesson> {
        let sight = self.sight.as_ref().ok()?;
        let look = &sight.look;
        if config.mode != Mode::Manage || !sight.server.is_up() {
            return None;
        }
        let installed = look.installed.bundle();
        let served = self.served.as_ref().ok().map(|served| served.shown());
        let same =
            |source: &Arc<Bundle>| installed.is_some_and(|bundle| bundle.same_content(source));
        // The wire shows no CRL, and nobody has meant a part of a bundle, but for who has it so.
        let torn = look.is_torn() && !self.source.bundle().is_some_and(same);
        if let (Some(installed), Some(served)) = (installed, served)
            && served.is_of(installed)
            && !torn
        {
            let bundle = installed.identity();
            let known = look.proven == Some(bundle) && look.trial.is_none();
            return (!known).then_some(Lesson::Proven(bundle));
        }
        let pointless = config.verify == Verify::None && !torn || !look.is_on_trial();
        (look.trial.is_some() && pointless).then_some(Lesson::NoTrial)
    }

    /// What is to be said of a bundle of the lineage that is on trial while its server is down.
    pub(super) fn of_trial(
        &self,
        look: &FilesSnapshot,
        config: &config::InstanceConfig,
    ) -> Option<Problem> {
        if config.mode != Mode::Manage {
            return None;
        }
        let trial = look.trial()?;
        let (new, name) = (trial.leaf.short(), config.kind().name());
        if look.is_on_trial() {
            let previous = look.previous.as_ref()?;
            if self.needed(previous).is_expired(self.at) {
                return None;
            }
            let previous = previous.fingerprint().short();
            let what = format!(
                "{new} is installed but {name} has not been seen to serve it yet, and it may be why {name} does not start"
            );
            let fix = format!("to put back {previous}, which was served before it");
            return Some(Problem::new(what, fix).with(config.command(&["sync"])));
        }
        let installed = look.installed.bundle().filter(|_| self.is_taken_back())?;
        let what = format!(
            "{new} had not been proven served when {name} went down; {} is back in its place",
            installed.fingerprint().short()
        );
        let fix = format!("{new} will be deployed once {name} is running");
        Some(Problem::new(what, fix))
    }
}

impl Observation {
    /// Whether the lineage's bundle was put in place, not proven, and taken back, so that it waits for the server.
    pub(crate) fn is_taken_back(&self) -> bool {
        let look = self.sight.as_ref().ok().map(|sight| &sight.look);
        let source = self.source.bundle().map(|bundle| bundle.identity());
        look.is_some_and(|look| {
            !look.is_on_trial() && look.trial().is_some() && look.trial() == source
        })
    }
}

impl Keeper {
    /// Remembers what was learned of the installed bundle, where the instance's lock is held.
    pub(super) async fn learn(&mut self, lock: Option<&Lock>, reconciled: &mut Reconciled) {
        if lock.is_none() {
            return;
        }
        let learned = match reconciled.seen.lesson(&self.instance.config) {
            Some(Lesson::Proven(bundle)) => self.instance.on_files(move |t| t.proven(bundle)).await,
            Some(Lesson::NoTrial) => self.instance.on_files(|t| t.end_trial()).await,
            None => Ok(()),
        };
        reconciled.done.remarks.extend(not_forgotten(learned));
    }

    /// Forgets a trial because a bundle was put in place while the server was down that is not on
    /// trial itself: it is what the server is to start on, since a person insists or there is none to
    /// go back to. It may be the one that was on trial, or share a file with that.
    pub(super) async fn started_on(&mut self, sight: &InstanceSnapshot) -> Option<Remark> {
        let before = sight.look.trial.filter(|_| !sight.server.is_up())?;
        let ended = self.instance.on_files(move |t| t.end_trial_of(before));
        not_forgotten(ended.await)
    }

    /// Reports a deployment by its cause: the previous bundle, put in the place of one on trial,
    /// is about that one.
    pub(super) fn told_by_cause(
        &mut self,
        mut reconciled: Reconciled,
        cause: Trigger,
        look: &FilesSnapshot,
    ) -> Reconciled {
        let Reconciled { done, seen } = &mut reconciled;
        let (Trigger::Untried, SyncOutcome::Installed, Some(trial)) =
            (cause, done.outcome, look.trial())
        else {
            return reconciled;
        };
        let name = self.instance.config.kind().name();
        let short = trial.leaf.short();
        let source = seen.source.bundle();
        let source = source.filter(|bundle| bundle.fingerprint() == trial.leaf);
        let tried = source.or(look.installed.bundle());
        let not_after = tried.map(|bundle| seen.end_of(bundle));
        done.outcome = SyncOutcome::TakenBack;
        done.old = done.fingerprint.replace(trial.leaf);
        done.not_after = not_after;
        done.problem = Some(Problem::new(
            format!("{name} is down and has not been seen to serve {short}, which may be why"),
            format!("{short} will be deployed once {name} is running"),
        ));
        // It was taken out by nobody else.
        self.memory.settled = None;
        reconciled
    }
}

fn not_forgotten(result: Result<(), InstanceError>) -> Option<Remark> {
    result.err().map(|e| Remark::NotForgotten(e.to_string()))
}
