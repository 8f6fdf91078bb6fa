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

use jiff::Timestamp;

use self::attempt::{Content, DeploymentOrder, Ending, Proven};
use crate::bundle::{Bundle, Fingerprint, Pieces};
use crate::config::{Address, Mode, Verify};
use crate::lineage::{LineageReader, Source};
use crate::problem::Problem;
use crate::server::configuration::Configuration;
use crate::server::files::Lock;
use crate::server::mounts::pinned_by;
use crate::server::probe::{AskedName, Served, Shown};
use crate::server::process::Process;
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{
    Instance, InstanceError, InstanceSnapshot, Purpose, Server, Unseen, as_server,
};
use crate::trust::Needed;
use decide::Visit;
pub(crate) use done::{Done, Reconciled};
pub use outcome::SyncOutcome;
use plan::{AttemptMemory, Intent, Plan, Readiness, Request, Trigger};
pub(crate) use remark::Remark;
use remark::oddities;
pub(crate) use rollback::Errand;
use standards::Clock;
pub(crate) use standards::Standards;
use standards::{SystemRoots, depends_on_roots};
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
    configuration: Configuration,
    roots: SystemRoots,
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
            configuration: Configuration::default(),
            roots: SystemRoots::default(),
        }
    }

    /// The directories in which the server's configuration lies, as far as it was asked.
    pub(crate) fn configuration_directories(&self) -> BTreeSet<PathBuf> {
        self.configuration.directories()
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
        let (lock, sight) = self.enter(intent).await?;
        looked(&sight);
        let decided = Box::pin(self.decided(lineage, sight, intent, settle));
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

    /// Looks at the instance, with its lock where something may be changed.
    async fn enter(
        &mut self,
        intent: Intent,
    ) -> Result<(Option<Lock>, InstanceSnapshot), InstanceError> {
        if intent.dry_run || self.instance.config.mode == Mode::Observe {
            self.instance.refresh(Purpose::Look).await?;
            return Ok((None, self.instance.look().await?));
        }
        self.instance.refresh(Purpose::Work).await?;
        let (lock, sight) = self.instance.enter(LOCK_PATIENCE).await?;
        Ok((Some(lock), sight))
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
        let seen = self.observe(source, settle).await;
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
                Some(Process::PgBouncer(pgbouncer)) => pgbouncer.began(),
                Some(Process::Patroni(patroni)) => patroni.began(),
                _ => self.instance.started(run),
            },
        }
    }

    /// Looks at everything, and changes nothing.
    pub(crate) async fn observe(&mut self, source: &Source, settle: Duration) -> Observation {
        let looked = match self.instance.refresh(Purpose::Look).await {
            Ok(()) => self.instance.look().await,
            Err(error) => Err(error),
        };
        let sight = match looked {
            Ok(sight) => sight,
            Err(error) => return self.blind(source, error).await,
        };
        let clock = Clock {
            now: Timestamp::now(),
            settle_timeout: settle,
        };
        let intent = Intent::default();
        let standards = self.standards(source, &sight, intent, clock).await;
        let installed = &sight.look.installed;
        let readiness = plan::readiness(source, installed, &self.instance.config, &standards);
        let served = self.served(&sight).await;
        Box::pin(self.finish(source, readiness, sight, Some(served))).await
    }

    async fn blind(&mut self, source: &Source, error: InstanceError) -> Observation {
        let absent = crate::server::files::Installed::Absent;
        let clock = Clock {
            now: Timestamp::now(),
            settle_timeout: Duration::ZERO,
        };
        let they_matter = depends_on_roots(source.bundle(), clock.now);
        let standards = Standards {
            clock,
            roots: self.roots.where_they_matter(they_matter).await,
            forced: false,
            client_use: None,
        };
        Observation {
            source: source.clone(),
            readiness: plan::readiness(source, &absent, &self.instance.config, &standards),
            sight: Err(error),
            served: Err(Unseen::Down),
            settings: None,
            faults: Vec::new(),
            pinned: None,
            contended: false,
            failure: None,
            roots: standards.roots,
            at: clock.now,
        }
    }

    async fn finish(
        &mut self,
        source: &Source,
        readiness: Readiness,
        sight: InstanceSnapshot,
        served: Option<Result<Served, Unseen>>,
    ) -> Observation {
        let served = match served {
            Some(served) => served,
            None => self.served(&sight).await,
        };
        let installed = sight.look.installed.bundle();
        let amiss = match (&served, installed) {
            (Ok(served), Some(installed)) => !served.shown().is_of(installed),
            (seen, installed) => seen.is_ok() || installed.is_some(),
        };
        let identity = installed.map(|bundle| bundle.identity());
        if let (Some(bundle), false, Some(process)) = (identity, amiss, sight.server.process()) {
            let run = process.run();
            self.memory.proven = Some(Proven { bundle, run });
        }
        self.memory.loaded = self.memory.loaded.or(identity);
        self.pieces = self
            .pieces
            .or_else(|| installed.map(|bundle| bundle.pieces()));
        let config = &self.instance.config;
        let wanted = config.verify == Verify::Handshake;
        // Whether a CRL is used shows nowhere else, nor always whether a CA file is.
        let ask = amiss || config.ca.is_some();
        let about = source.bundle().map(|b| b.fingerprint());
        let pinned = if amiss || about != installed.map(|found| found.fingerprint()) {
            // It only explains what is amiss, and is not needed to say that something is.
            pinned_by(&sight).await.unwrap_or(None)
        } else {
            None
        };
        let settings = match (&sight.server, ask, installed) {
            // What the server has under the name that they give may be a file of before.
            _ if pinned.is_some() => None,
            (Server::Up(process), true, _) if wanted => Some(self.settings(process, &sight).await),
            // The right leaf may be read from another file, which no renewal reaches.
            (Server::Up(process), false, Some(_)) if wanted => {
                self.settings_at_leisure(process, &sight).await
            }
            _ => None,
        };
        let at = Timestamp::now();
        let sent_depends = served.as_ref().is_ok_and(|candidate| {
            Needed::depends_on_roots(&candidate.leaf, &candidate.rest(), at)
        });
        let they_matter = sent_depends
            || depends_on_roots([source.bundle(), installed].into_iter().flatten(), at);
        let roots = self.roots.where_they_matter(they_matter).await;
        let faults = match &settings {
            Some(Ok(settings)) if amiss && served.is_ok() => {
                self.faults_elsewhere(settings.clone(), &sight).await
            }
            _ => Vec::new(),
        };
        Observation {
            source: source.clone(),
            readiness,
            sight: Ok(sight),
            served,
            settings,
            faults,
            pinned,
            contended: self.memory.contended(),
            failure: self
                .failure
                .as_ref()
                .filter(|(of, _)| *of == about)
                .map(|(_, problem)| problem.clone()),
            roots,
            at,
        }
    }

    /// What the lineage's bundle is judged by.
    async fn standards(
        &mut self,
        source: &Source,
        sight: &InstanceSnapshot,
        intent: Intent,
        clock: Clock,
    ) -> Standards {
        let bundles = [source.bundle(), sight.look.installed.bundle()];
        let they_matter = depends_on_roots(bundles.into_iter().flatten(), clock.now);
        let roots = self.roots.where_they_matter(they_matter).await;
        let serves_alone =
            |bundle: &Arc<Bundle>| bundle.leaf().facts().may_authenticate == Some(false);
        let client_use = if source.bundle().is_some_and(serves_alone) {
            self.instance.client_use(sight).await
        } else {
            None
        };
        Standards {
            clock,
            roots,
            forced: intent.force,
            client_use,
        }
    }

    /// What the server's configuration says; Postgres is asked where that may have changed.
    async fn settings(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Result<TlsSettings, SettingsError> {
        let (data, server) = (&sight.targets.data, sight.targets.server);
        match process.postmaster() {
            Some(postmaster) => {
                let asked = self.configuration.tls_settings(postmaster, data, server);
                let settings = asked.await?;
                Ok(self.by_name(settings, sight))
            }
            None => self.instance.tls_settings(process, sight).await,
        }
    }

    /// The settings for the names that count with what is installed.
    fn by_name(&mut self, settings: TlsSettings, sight: &InstanceSnapshot) -> TlsSettings {
        let installed = sight.look.installed.bundle();
        self.instance
            .with_names(settings, installed.map(|bundle| &**bundle))
    }

    /// What keeps the server from loading anything new beside the files of the instance, as far as that shows.
    async fn faults_elsewhere(
        &self,
        settings: TlsSettings,
        sight: &InstanceSnapshot,
    ) -> Vec<Problem> {
        let config = self.instance.config.clone();
        let looked = as_server(sight.targets.server, move || {
            settings.faults_elsewhere(&config)
        });
        looked.await.unwrap_or_default()
    }

    /// The same where nothing seems amiss.
    async fn settings_at_leisure(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Option<Result<TlsSettings, SettingsError>> {
        let (data, server) = (&sight.targets.data, sight.targets.server);
        match process.postmaster() {
            Some(it) => {
                let known = &mut self.configuration;
                let asked = known.tls_settings_at_leisure(it, data, server);
                let settings = asked.await?;
                Some(settings.map(|settings| self.by_name(settings, sight)))
            }
            None => Some(self.instance.tls_settings(process, sight).await),
        }
    }

    /// Whether the server's configuration is known to name other files, or no TLS. Where it
    /// serves the installed leaf as it is, it is the CA and CRL files that a reload is due for.
    async fn uses_other_files(&mut self, sight: &InstanceSnapshot, shown: Option<Shown>) -> bool {
        let Server::Up(process) = &sight.server else {
            return false;
        };
        let settings = self.settings(process, sight).await;
        let config = &self.instance.config;
        let leaf = sight
            .look
            .installed
            .bundle()
            .map(|bundle| bundle.fingerprint());
        let serves_leaf = shown.is_some_and(|shown| Some(shown.leaf) == leaf);
        settings.is_ok_and(|tls_settings| {
            let is_known = |not_used| matches!(not_used, Ok(Some(_)));
            is_known(tls_settings.not_used(&config.cert_file, &config.key_file))
                || serves_leaf && is_known(tls_settings.companions_not_used(config))
        })
    }

    /// Whether the server was asked to load what is installed, and something else was known to keep it from that, which
    /// still does.
    async fn is_blocked(&mut self, sight: &InstanceSnapshot) -> bool {
        let installed = sight
            .look
            .installed
            .bundle()
            .map(|bundle| bundle.identity());
        let run = sight.server.process().map(Process::run);
        let asked = self.memory.asked.filter(|asked| !asked.is_answered);
        if asked.is_none_or(|request| Some(request.bundle) != installed || Some(request.run) != run)
        {
            return false;
        }
        let Server::Up(process) = &sight.server else {
            return false;
        };
        match Box::pin(self.settings(process, sight)).await {
            Ok(settings) => !self.faults_elsewhere(settings, sight).await.is_empty(),
            Err(_) => false,
        }
    }

    async fn served(&mut self, sight: &InstanceSnapshot) -> Result<Served, Unseen> {
        if self.instance.config.verify == Verify::None {
            return Err(Unseen::NotWanted);
        }
        let Server::Up(process) = &sight.server else {
            return Err(Unseen::Down);
        };
        let addresses = self.instance.addresses(process).map_err(Unseen::Nowhere)?;
        let limit = self.instance.config.verify_timeout;
        let served = match sight.look.installed.bundle() {
            Some(installed) => {
                let looked = self.served_by_name(process, sight, &addresses, installed);
                Box::pin(looked).await?
            }
            None => self.instance.served(&addresses, limit).await?,
        };
        let installed = sight.look.installed.bundle().map(|b| b.fingerprint());
        if Some(served.leaf.fingerprint()) != installed
            && let Some(another) = self.instance.another(process, &served, limit).await
        {
            return Err(another);
        }
        Ok(served)
    }

    /// What the names that count get. Where those who ask for none get something else, the configuration tells whether
    /// that is meant so.
    async fn served_by_name(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
        addresses: &[Address],
        installed: &Bundle,
    ) -> Result<Served, Unseen> {
        let limit = self.instance.config.verify_timeout;
        let looked = self.instance.served_by_name(addresses, installed, limit);
        let looked = looked.await;
        let is_odd = match &looked {
            Ok(served) => served.is_divided && served.asked == AskedName::Absent,
            Err(unseen) => unseen.is_alert(),
        };
        if !is_odd {
            return looked;
        }
        let names = self.instance.asked_names(Some(installed));
        let asked = self.settings(process, sight).await;
        if asked.is_err() || self.instance.asked_names(Some(installed)) == names {
            return looked;
        }
        let again = self.instance.served_by_name(addresses, installed, limit);
        again.await
    }
}
