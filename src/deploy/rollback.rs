//! Back to the previous bundle, because the operator says so.
//!
//! The deployment is one like any other. What the lineage holds is held back first: a daemon
//! that comes after a crash finishes what was begun, and one that comes later leaves it alone.
//! The previous bundle stays the previous one, so that asking twice does not go forward again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::decide::unseen_targets;
use super::plan::Trigger;
use super::standards::{depends_on_roots, roots_where_they_matter};
use super::{Done, Keeper, LOCK_PATIENCE, Reconciled, SyncOutcome};
use crate::bundle::{Bundle, Identity};
use crate::config::{self, Mode};
use crate::deploy::attempt::{Content, DeploymentOrder, Replaced};
use crate::lineage::{LineageReader, Source};
use crate::problem::Problem;
use crate::server::files::{FilesSnapshot, Held, HeldBy, Lock};
use crate::server::{InstanceError, InstanceSnapshot, Purpose};
use crate::trust::{Needed, Roots};

/// Whether a roll-back is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    RollBack,
    /// It is only said what would be done.
    DryRun,
}

/// What a roll-back puts in, and what it holds back.
#[derive(Debug)]
struct Way {
    previous: Arc<Bundle>,
    /// What is not to be deployed; nothing where neither lineage nor files hold another bundle.
    hold: Option<Identity>,
    /// Whether the files hold the previous bundle already, by an earlier roll-back.
    there: bool,
}

/// What a roll-back would do, or why it may not.
fn way(
    look: &FilesSnapshot,
    source: &Source,
    config: &config::InstanceConfig,
    roots: &Roots,
    now: Timestamp,
) -> Result<Way, Problem> {
    let Some(previous) = look.previous.clone() else {
        return Err(Problem::new(
            "there is no previous bundle that can be loaded; pgcertd keeps one each time a deployment replaces what was served",
            RENEW,
        ));
    };
    let short = previous.fingerprint().short();
    let others = [source.bundle(), look.installed.bundle()];
    let hold = others
        .into_iter()
        .flatten()
        .find(|other| !other.holds(&previous))
        .map(|other| other.identity());
    let installed = look.installed.bundle();
    let there = installed.is_some_and(|bundle| bundle.holds(&previous));
    let again = look.held.as_ref().is_some_and(|held| {
        held.by == HeldBy::Operator && hold.is_some_and(|identity| held.is_of(identity))
    });
    if there && !again {
        return Err(Problem::new(
            format!(
                "the previous bundle, {short}, is already installed, and no earlier one is kept"
            ),
            RENEW,
        ));
    }
    if let Err(refusal) = previous.check(&config.server_names, now) {
        return Err(Problem::new(
            format!("the previous bundle, {short}: {refusal}; the installed files stay"),
            RENEW,
        ));
    }
    if let Some(fault) = Needed::of_bundle(&previous, roots, now).faults.first() {
        let why = &fault.problem.what;
        return Err(Problem::new(
            format!(
                "the previous bundle, {short}: clients would reject it: {why}; the installed files stay"
            ),
            RENEW,
        ));
    }
    Ok(Way {
        previous,
        hold,
        there,
    })
}

/// Whose the files are, where they are not pgcertd's.
fn not_ours(mode: Mode) -> Option<Problem> {
    match mode {
        Mode::Manage => None,
        Mode::Reload => Some(Problem::new(
            "with mode = \"reload\" something else places the files",
            "put the previous ones back with that",
        )),
        Mode::Observe => Some(Problem::new(
            "with mode = \"observe\" pgcertd changes nothing",
            "put the previous files back by hand",
        )),
    }
}

/// What is left to do where there is no way back.
const RENEW: &str = "renew instead";

impl Keeper {
    /// Puts the previous bundle back, and holds what the lineage holds until that changes.
    pub(crate) async fn roll_back(
        &mut self,
        lineage: &mut impl LineageReader,
        errand: Errand,
        settle: Duration,
    ) -> Reconciled {
        let began = Instant::now();
        let (outcome, problem) = match not_ours(self.instance.config.mode) {
            Some(problem) => (SyncOutcome::Refused, problem),
            None => match self.back(lineage, errand, settle, began).await {
                Ok(reconciled) => return reconciled,
                Err(error) => (SyncOutcome::Failed, error.problem()),
            },
        };
        let source = lineage.current().await;
        let seen = self.observe(&source, settle).await;
        Done::new(outcome, began).because(problem).seen(seen)
    }

    async fn back(
        &mut self,
        lineage: &mut impl LineageReader,
        errand: Errand,
        settle: Duration,
        began: Instant,
    ) -> Result<Reconciled, InstanceError> {
        let (lock, sight) = self.arrive(errand).await?;
        // What is held back is what the lineage holds now, and not what it held before the lock was free.
        let source = &lineage.current().await;
        let now = Timestamp::now();
        let they_matter = depends_on_roots(sight.look.previous.as_ref(), now);
        let roots = roots_where_they_matter(they_matter).await;
        let way = match way(&sight.look, source, &self.instance.config, &roots, now) {
            Ok(way) => way,
            Err(problem) => {
                let seen = self.observe(source, settle).await;
                return Ok(Done::new(SyncOutcome::Refused, began)
                    .because(problem)
                    .seen(seen));
            }
        };
        if errand == Errand::DryRun {
            let installed = sight.look.installed.bundle();
            let seen = self.observe(source, settle).await;
            return Ok(Done::new(SyncOutcome::WouldDeploy, began)
                .about(Some(&way.previous), &seen)
                .would_replace(installed.map(|bundle| &**bundle), &way.previous)
                .seen(seen));
        }
        let pinned = if way.there {
            Ok(None)
        } else {
            sight.pinned().await
        };
        let against = match pinned {
            Ok(pinned) => pinned.map(|pinned| pinned.problem()),
            Err(cannot) => Some(unseen_targets(&cannot)),
        };
        if let Some(problem) = against {
            let seen = self.observe(source, settle).await;
            return Ok(Done::new(SyncOutcome::Refused, began)
                .because(problem)
                .seen(seen));
        }
        let content = if way.there {
            Content::Installed(Arc::clone(&way.previous))
        } else {
            Content::New(self.previous_with_key(Arc::clone(&way.previous)).await?)
        };
        if let Some(bundle) = way.hold.filter(|_| !way.there) {
            self.hold(bundle, &way.previous).await?;
        }
        let before = sight.look.held.clone();
        let order = DeploymentOrder {
            content,
            replaced: Replaced::NotKept,
            sight,
            served: None,
            proven: self.memory.proven,
            forced: false,
        };
        let mut reconciled = self
            .deploy(order, source, Trigger::Mend, settle, began)
            .await;
        if reconciled.done.outcome == SyncOutcome::Unchanged {
            // It was there already, and the server ended before it loaded it.
            reconciled.done.outcome = SyncOutcome::Installed;
        }
        let in_place = reconciled.seen.sight.as_ref().is_ok_and(|sight| {
            let installed = sight.look.installed.bundle();
            installed.is_some_and(|bundle| bundle.holds(&way.previous))
        });
        if !in_place || reconciled.done.outcome == SyncOutcome::RolledBack {
            self.let_go(before, &mut reconciled.done).await;
            reconciled.seen = self.observe(source, settle).await;
        }
        self.learn(lock.as_ref(), &mut reconciled).await;
        drop(lock);
        Ok(reconciled)
    }

    /// Looks at the instance, with its lock where something is to be changed.
    async fn arrive(
        &mut self,
        errand: Errand,
    ) -> Result<(Option<Lock>, InstanceSnapshot), InstanceError> {
        if errand == Errand::DryRun {
            self.instance.refresh(Purpose::Look).await?;
            return Ok((None, self.instance.look().await?));
        }
        self.instance.refresh(Purpose::Work).await?;
        let (lock, look) = self.instance.enter(LOCK_PATIENCE).await?;
        let sight = self.instance.with_server(look).await?;
        let sight = self.instance.once_started(sight).await?;
        Ok((Some(lock), sight))
    }

    async fn hold(&mut self, bundle: Identity, previous: &Bundle) -> Result<(), InstanceError> {
        let (new, old) = (bundle.leaf.short(), previous.fingerprint().short());
        let reason = if new == old {
            format!(
                "the CA and CRL files beside {new} are held: an operator rolled back to the previous ones"
            )
        } else {
            format!("{new} is held: an operator rolled back to {old}")
        };
        let held = Held {
            fingerprint: bundle.leaf,
            companions: bundle.companions,
            by: HeldBy::Operator,
            reason,
            since: Timestamp::now(),
            postmaster_start: None,
        };
        self.instance.on_files(move |t| t.hold(&held)).await
    }

    /// The previous bundle did not stay: what was held is what was held before. What Postgres
    /// said of the previous one is remembered where nothing else was.
    async fn let_go(&mut self, before: Option<Held>, done: &mut Done) {
        let refused = done.outcome == SyncOutcome::RolledBack;
        let released = match before {
            Some(held) => self.instance.on_files(move |t| t.hold(&held)).await,
            None if refused => Ok(()),
            None => self.instance.on_files(|t| t.release()).await,
        };
        if let Err(error) = released {
            let told = done.problem.take().unwrap_or_default();
            done.problem = Some(told.and(format_args!("the hold could not be removed: {error}")));
        }
    }
}
