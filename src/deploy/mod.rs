//! Desired against actual, for one instance: look, decide, do, look again.
//!
//! [`Keeper::reconcile`] is the one way to a deployment, for the daemon and for `sync` alike; an
//! operator may go back by [`Keeper::roll_back`].
//! What it decides is in [`plan`], a pure function of what was seen; what it reports is in
//! [`state`], another. It changes nothing without the instance's lock, and asks what the lineage holds
//! once it has that: what was read before may be older than what another process has deployed meanwhile.

pub(crate) mod attempt;
mod decide;
mod done;
mod observe;
mod outcome;
pub(crate) mod plan;
mod remark;
mod rollback;
mod standards;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::attempt::{Content, DeploymentOrder, Ending};
use crate::bundle::{Bundle, Fingerprint, Pieces};
use crate::config::Mode;
use crate::lineage::{LineageReader, Source};
use crate::problem::Problem;
use crate::server::files::{FilesSnapshot, Lock};
use crate::server::probe::Served;
use crate::server::process::Process;
use crate::server::{Instance, InstanceError, InstanceSnapshot, Purpose, Server, Unseen};
pub(crate) use done::{Done, Reconciled};
pub use outcome::SyncOutcome;
use plan::{AttemptMemory, Intent, Plan, Readiness, Request, Trigger};
pub(crate) use remark::Remark;
use remark::oddities;
pub(crate) use rollback::Errand;
use state::{Observation, State};

/// How long `sync` and the daemon wait for each other.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Keeps one instance: its handle, and what this process remembers of it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) instance: Instance,
    memory: AttemptMemory,
    failure: Option<(Option<Fingerprint>, Problem)>,
    loaded: Option<(i64, SystemTime)>,
    /// What the server last loaded, as far as this process knows.
    pieces: Option<Pieces>,
    /// See [`Keeper::watched_by_another`].
    vouched: Option<Fingerprint>,
    /// When the server's configuration is asked while nothing seems amiss.
    pub(crate) asking: Asking,
}

/// When a server's configuration is asked while nothing seems amiss: each question starts a program, and nobody waits for the
/// answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// In the comparison.
    AtOnce,
    /// After it, by [`Keeper::ask`].
    Later,
    /// The last comparison has left a question for later.
    Owed,
}

/// What was seen of an instance, and what follows from it.
pub(super) struct Visit {
    pub(super) source: Source,
    pub(super) readiness: Readiness,
    pub(super) sight: InstanceSnapshot,
    /// Nothing where it was not looked at.
    pub(super) served: Option<Result<Served, Unseen>>,
    pub(super) plan: Plan,
}

impl Keeper {
    /// Keeps `instance`.
    pub(crate) fn new(instance: Instance) -> Keeper {
        Keeper {
            instance,
            memory: AttemptMemory::default(),
            failure: None,
            loaded: None,
            pieces: None,
            vouched: None,
            asking: Asking::AtOnce,
        }
    }

    /// Another process watches the server's configuration, and has seen that the server uses this installed leaf: while
    /// nothing else is amiss, the configuration is not asked as well.
    pub(crate) fn watched_by_another(&mut self, leaf: Fingerprint) {
        self.vouched = Some(leaf);
    }

    /// The directories in which the server's configuration lies, as far as it was asked.
    pub(crate) fn configuration_directories(&self) -> BTreeSet<PathBuf> {
        self.instance.configuration.directories()
    }

    /// Asks the server's configuration what a comparison has left for later; the next one finds the answer remembered.
    pub(crate) async fn ask(&mut self, seen: &Observation) {
        let sight = seen.sight.as_ref().ok();
        if let Some(sight) = sight
            && let Some(postmaster) = sight.server.postmaster()
        {
            let (data, server) = (&sight.targets.data, sight.targets.server);
            let configuration = &mut self.instance.configuration;
            // That it could not be asked is remembered, too.
            drop(configuration.tls_settings(postmaster, data, server).await);
        }
    }

    /// Compares, does what is needed, and compares again.
    pub(crate) async fn reconcile(
        &mut self,
        lineage: &mut impl LineageReader,
        intent: Intent,
        settle: Duration,
    ) -> Reconciled {
        let quiet = |_: &InstanceSnapshot| {};
        self.reconcile_telling(lineage, intent, settle, quiet).await
    }

    /// The same; tells `looked` what files and process look like, before anything is done about
    /// it or a server is connected to.
    pub(crate) async fn reconcile_telling(
        &mut self,
        lineage: &mut impl LineageReader,
        intent: Intent,
        settle: Duration,
        looked: impl FnOnce(&InstanceSnapshot) + Send,
    ) -> Reconciled {
        let began = Instant::now();
        // On the heap, as what else is large on the way: a poll would have a place for all of it on the stack.
        let attempt = Box::pin(self.attempt(lineage, intent, settle, began, looked));
        let mut reconciled = match attempt.await {
            Ok(reconciled) => reconciled,
            Err(error) => {
                let source = lineage.current().await;
                let problem = error.problem();
                self.failure = Some((source.bundle().map(|b| b.fingerprint()), problem.clone()));
                let seen = self.observe(&source, settle).await;
                Done::new(SyncOutcome::Failed, began)
                    .about(source.bundle().map(|bundle| &**bundle), &seen)
                    .because(problem)
                    .seen(seen)
            }
        };
        let look = reconciled.seen.sight.as_ref().map(|sight| &sight.look);
        let fault = look.ok().and_then(|look| look.memory_fault.clone());
        let remarks = &mut reconciled.done.remarks;
        remarks.extend(fault.map(Remark::MemoryUnreadable));
        reconciled
    }

    async fn attempt(
        &mut self,
        lineage: &mut impl LineageReader,
        intent: Intent,
        settle: Duration,
        began: Instant,
        looked: impl FnOnce(&InstanceSnapshot) + Send,
    ) -> Result<Reconciled, InstanceError> {
        let (lock, look) = self.enter(intent).await?;
        let is_locked = lock.is_some();
        let looking = async {
            let mut sight = self.instance.with_server(look).await?;
            looked(&sight);
            if is_locked {
                sight.pinned = Some(self.instance.pinned(&sight).await);
            }
            Ok::<_, InstanceError>(sight)
        };
        // The lineage is asked under the lock: nobody deploys what is newer meanwhile.
        let (sight, mut opened) = tokio::join!(Box::pin(looking), lineage.at_hand());
        let mut sight = sight?;
        if is_locked && sight.server.is_starting() {
            // No key is kept while a server starts.
            drop(opened);
            sight = Box::pin(self.instance.once_started(sight)).await?;
            opened = lineage.at_hand().await;
        }
        let decided = Box::pin(self.decided(lineage, opened, sight, intent, settle));
        let (visit, keyed) = decided.await;
        let source = &visit.source;
        let mut reconciled = match visit.plan {
            Plan::Deploy { bundle, .. } if intent.dry_run => {
                let old = visit.sight.look.installed.bundle();
                let seen = self.observe(source, settle).await;
                let done = Done {
                    remarks: oddities(source, &visit.sight),
                    ..Done::new(SyncOutcome::WouldDeploy, began)
                };
                done.about(Some(&bundle), &seen)
                    .would_replace(old.map(|bundle| &**bundle), &bundle)
                    .seen(seen)
            }
            Plan::Deploy {
                bundle,
                write,
                cause,
            } => {
                let look = Arc::clone(&visit.sight.look);
                let content = match keyed {
                    Some(keyed) => Content::New(keyed),
                    None if write => Content::New(self.previous_with_key(bundle).await?),
                    None => Content::Installed(bundle),
                };
                let order = DeploymentOrder {
                    content,
                    sight: visit.sight,
                    served: visit.served.and_then(Result::ok),
                    proven: self.memory.proven,
                    replaced: cause.replaced(),
                    forced: intent.force,
                };
                let deployed = self.deploy(order, source, cause, settle, began);
                let reconciled = Box::pin(deployed).await;
                self.told_by_cause(reconciled, cause, &look)
            }
            Plan::Nothing => {
                let installed = visit.sight.look.installed.bundle();
                let installed = installed.map(Arc::clone);
                let Visit {
                    source,
                    readiness,
                    sight,
                    served,
                    ..
                } = visit;
                let seen = Box::pin(self.finish(&source, readiness, sight, served)).await;
                self.unchanged(seen, installed, began)
            }
        };
        self.learn(lock.as_ref(), &mut reconciled).await;
        drop(lock);
        Ok(reconciled)
    }

    /// Looks at the instance's files, with its lock where something may be changed.
    async fn enter(
        &mut self,
        intent: Intent,
    ) -> Result<(Option<Lock>, FilesSnapshot), InstanceError> {
        if intent.dry_run || self.instance.config.mode == Mode::Observe {
            self.instance.refresh(Purpose::Look).await?;
            let look = self.instance.on_files(|targets| targets.look());
            return Ok((None, look.await?));
        }
        self.instance.ready_to_work().await?;
        let (lock, look) = self.instance.enter(LOCK_PATIENCE).await?;
        Ok((Some(lock), look))
    }

    async fn deploy(
        &mut self,
        order: DeploymentOrder,
        source: &Source,
        cause: Trigger,
        settle: Duration,
        began: Instant,
    ) -> Reconciled {
        let from_source = cause == Trigger::Source;
        let sight = order.sight.clone();
        let bundle = Arc::clone(order.content.bundle());
        let (fingerprint, identity) = (bundle.fingerprint(), bundle.identity());
        let old = sight.look.installed.bundle().map(|b| b.fingerprint());
        let pieces = bundle.pieces();
        let changed = match order.content {
            Content::New(_) => pieces.since(sight.look.installed.bundle().map(|b| b.pieces())),
            Content::Installed(_) => pieces.since(self.pieces.or(Some(pieces))),
        };

        let mut remarks = if from_source {
            oddities(source, &sight)
        } else {
            Vec::new()
        };
        let loaded = self.last_load(&sight);
        let Ending {
            outcome,
            problem,
            is_answered,
            served,
        } = Box::pin(attempt::deploy(&mut self.instance, order)).await;
        let done = Done::new(outcome, began);
        if outcome == SyncOutcome::Unchanged {
            // It loads the files when it starts, and nobody has done anything.
            let seen = self.observe(source, settle).await;
            let installed = sight.look.installed.bundle().map(Arc::clone);
            return self.unchanged(seen, installed, began);
        }
        let reloaded = outcome != SyncOutcome::Failed;
        let mut also_applied = Vec::new();
        if let (Server::Up(process), true) = (&sight.server, reloaded) {
            let run = process.run();
            self.memory.asked = Some(Request {
                run,
                bundle: identity,
                is_answered,
            });
            self.loaded = Some((run, SystemTime::now()));
            self.memory.loaded = Some(identity);
            self.pieces = Some(pieces);
            let edited = self.instance.changed_since(process, &sight, loaded);
            also_applied = edited.await;
        }
        // A server that is down loads the files when it starts.
        if reloaded
            && identity.companions.is_some()
            && let Err(e) = self.instance.on_files(|t| t.reloaded()).await
        {
            remarks.push(Remark::NotForgotten(e.to_string()));
        }
        if matches!(
            outcome,
            SyncOutcome::Deployed | SyncOutcome::Unverified | SyncOutcome::Installed
        ) && from_source
        {
            self.memory.settled = Some(identity);
            if sight.look.held.is_some()
                && let Err(e) = self.instance.on_files(|t| t.release()).await
            {
                remarks.push(Remark::NotForgotten(e.to_string()));
            }
            remarks.extend(self.started_on(&sight).await);
        }
        self.failure = problem
            .clone()
            .filter(|_| !matches!(outcome, SyncOutcome::Installed))
            .map(|why| (Some(fingerprint), why));
        // What the server has shown after the signal need not be asked for again.
        let proof = served
            .map(|served| *served)
            .zip(sight.server.process().map(Process::run));
        let seen = self.observe_after(source, settle, proof).await;
        let done = Done {
            old,
            changed,
            problem,
            remarks,
            also_applied,
            acted: true,
            ..done
        };
        done.about(Some(&bundle), &seen).seen(seen)
    }

    fn unchanged(
        &mut self,
        seen: Observation,
        installed: Option<Arc<Bundle>>,
        began: Instant,
    ) -> Reconciled {
        let (state, problem) = seen.state(&self.instance.config);
        let outcome = match state {
            State::InSync | State::NotRunning => SyncOutcome::Unchanged,
            State::Waiting => SyncOutcome::Waiting,
            State::SourceInvalid | State::Held | State::Rejected => SyncOutcome::Refused,
            State::Unverified => SyncOutcome::Unverified,
            State::NotUsed => SyncOutcome::Installed,
            State::Unknown | State::Contended | State::OutOfDate | State::NotServed => {
                SyncOutcome::Failed
            }
        };
        if state == State::InSync {
            self.failure = None;
        }
        let about = seen.source.bundle().or(installed.as_ref());
        let done = Done {
            old: installed.as_ref().map(|bundle| bundle.fingerprint()),
            problem,
            ..Done::new(outcome, began)
        };
        done.about(about.map(|bundle| &**bundle), &seen).seen(seen)
    }

    /// When the server last loaded its configuration, as far as this process knows.
    fn last_load(&self, sight: &InstanceSnapshot) -> SystemTime {
        let run = sight.server.process().map_or(0, Process::run);
        match self.loaded {
            Some((of, at)) if of == run => at,
            _ => match sight.server.process() {
                Some(Process::Postmaster(_)) | None => self.instance.started(run),
                Some(other) => other.began(),
            },
        }
    }
}
