//! Desired against actual: what to do. Pure functions over what was seen.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, Unit};

use super::standards::Standards;
use crate::bundle::{Bundle, Expiry, Identity, Refusal};
use crate::config::{self, Mode, ServerKind, Verify};
use crate::deploy::attempt::{Proven, Replaced};
use crate::lineage::Source;
use crate::problem::Problem;
use crate::server::files::{FilesSnapshot, Held, HeldBy, Installed};
use crate::server::probe::Shown;
use crate::server::process::Process;
use crate::server::{InstanceSnapshot, Server};
use crate::trust::{self, Fault, Needed, Roots};

/// How long a bundle that Postgres refused is left alone if nothing else changes: a CA or CRL
/// file may have been at fault, and nothing tells when that is fixed.
const REFUSAL_HOLDS: SignedDuration = SignedDuration::from_hours(24);

/// How often within [`REWRITE_WINDOW`] something else may rewrite the installed files before
/// they are left to it.
const REWRITES: usize = 3;

/// See [`REWRITES`].
const REWRITE_WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// Whether a lineage's bundle may go to one instance now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// It may at a later time, without any event.
    Later {
        at: Timestamp,
        problem: Problem,
    },
    /// It is sound, and the configured `delay` holds it.
    Delayed {
        at: Timestamp,
        problem: Problem,
    },
    /// It may not as it is.
    Refused {
        problem: Problem,
        /// When that can change without any event.
        at: Option<Timestamp>,
    },
}

/// Weighs what the lineage holds against the instance's rules and what is installed.
pub(crate) fn readiness(
    source: &Source,
    installed: &Installed,
    config: &config::InstanceConfig,
    standards: &Standards,
) -> Readiness {
    let Standards { clock, roots, .. } = standards;
    let (bundle, changed) = match source {
        Source::Ready { bundle, changed } => (bundle, *changed),
        Source::Waiting { problem } => {
            return Readiness::Later {
                at: Timestamp::MAX,
                problem: problem.clone(),
            };
        }
        Source::Invalid { problem, .. } => {
            return Readiness::Refused {
                problem: problem.clone(),
                at: None,
            };
        }
    };
    let installed = installed.bundle();
    let needed_of = |bundle| Needed::of_bundle(bundle, roots, clock.now);
    let alive = installed.filter(|bundle| !needed_of(bundle).is_expired(clock.now));
    if let Err(refusal) = bundle.check(&config.server_names, clock.now) {
        let what = format!("lineage {}: {refusal}", config.lineage.name);
        let problem = Problem::new(what, refusal.remedy());
        return match refusal {
            Refusal::NotYetValid { not_before: at } if alive.is_some() => {
                Readiness::Later { at, problem }
            }
            refusal => Readiness::Refused {
                problem,
                at: refusal.until(),
            },
        };
    }
    let needed = needed_of(bundle);
    if let Some(fault) = needed.faults.first() {
        let problem = refused_by_clients(config, fault);
        return match fault.until {
            Some(at) if alive.is_some() => Readiness::Later { at, problem },
            at => Readiness::Refused { problem, at },
        };
    }
    if let Some(problem) = locks_out(bundle, installed, config, standards) {
        return Readiness::Refused { problem, at: None };
    }
    let Some(installed) = installed else {
        return Readiness::Ready;
    };
    if bundle.same_content(installed) {
        return Readiness::Ready;
    }
    let name = &config.lineage.name;
    if bundle.shorter_than(installed) {
        let at = clock.after(changed, clock.settle_timeout);
        if at > clock.now {
            let what = format!(
                "lineage {name}: its chain is shorter than the installed one of the same issuer, so the file may be half written; it counts as complete from {}",
                second(at)
            );
            return Readiness::Later {
                at,
                problem: what.into(),
            };
        }
    }
    let mut beside = installed.client_trust().ends(clock.now);
    let critical = needed_of(installed).expiry(clock.now, config.expiry) >= Expiry::Critical
        || beside.any(|end| end.expiry >= Expiry::Critical);
    let at = clock.after(changed, config.delay);
    if !config.delay.is_zero() && !critical && at > clock.now {
        let what = format!(
            "lineage {name}: held back by the configured delay until {}",
            second(at)
        );
        return Readiness::Delayed {
            at,
            problem: what.into(),
        };
    }
    Readiness::Ready
}

/// That clients would refuse what the lineage holds, whatever they trust.
fn refused_by_clients(config: &config::InstanceConfig, fault: &Fault) -> Problem {
    let subject = format!("lineage {}: clients would reject it", config.lineage.name);
    fault.problem.clone().about(subject)
}

/// Why clients would not get in with `bundle` who may have got in with what is `installed`, where nobody
/// insists.
fn locks_out(
    bundle: &Bundle,
    installed: Option<&Arc<Bundle>>,
    config: &config::InstanceConfig,
    standards: &Standards,
) -> Option<Problem> {
    if standards.forced {
        return None;
    }
    let lineage = &config.lineage.name;
    let insist = config.command(&["sync", "--force"]);
    let digestless = |bundle: &Bundle| !bundle.leaf().facts().has_digest;
    let is_new = !installed.is_some_and(|bundle| digestless(bundle));
    if config.kind() == ServerKind::Postgres && digestless(bundle) && is_new {
        return Some(Problem::new(
            format!("lineage {lineage}: {}", trust::no_digest(bundle.leaf())),
            format!(
                "have it issued by a CA with an RSA or ECDSA key, or, if no client uses a password, install it with \
                 `{insist}`"
            ),
        ));
    }
    let client_use = standards.client_use.as_ref()?;
    (bundle.leaf().facts().may_authenticate == Some(false)).then(|| {
        let what = format!(
            "lineage {lineage}: the certificate is not for clients (extended key usage without clientAuth), and {client_use}"
        );
        Problem::new(
            what,
            "use a separate certificate there, since public CAs no longer issue both uses in one, or have it issued with clientAuth",
        )
    })
}

/// A time as a person reads it.
fn second(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

/// Whether `held` still speaks against its bundle.
pub(crate) fn still_held(held: &Held, server: &Server, now: Timestamp) -> bool {
    match held.by {
        HeldBy::Operator => true,
        HeldBy::Postgres => {
            let another = server
                .process()
                .is_some_and(|process| Some(process.run()) != held.postmaster_start);
            let old = now.duration_since(held.since) >= REFUSAL_HOLDS;
            // While the server is down nobody could refuse it again before it is a disaster.
            !server.is_up() || !(another || old)
        }
    }
}

/// When a refused bundle is tried again without any event.
pub(crate) fn held_until(held: &Held) -> Option<Timestamp> {
    match held.by {
        HeldBy::Operator => None,
        HeldBy::Postgres => held.since.checked_add(REFUSAL_HOLDS).ok(),
    }
}

/// What a command or the daemon wants of a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Intent {
    /// Install, reload and verify although nothing changed, and try what is held.
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    /// Somebody stays and follows up (the daemon): while the server is down, a sound pair waits.
    pub(crate) follow_up: bool,
    /// Who renews says that it has just done so: what a reload brings and nothing shows is reloaded.
    pub(crate) renewed: bool,
}

/// A server was asked to load a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// The run of the server ([`Process::run`]).
    pub(crate) run: i64,
    pub(crate) bundle: Identity,
    /// Whether it was seen what came of it.
    pub(crate) is_answered: bool,
}

/// What one process remembers of an instance; losing it costs one attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptMemory {
    /// What the server was last asked to load.
    pub(crate) asked: Option<Request>,
    /// What was last seen both installed and served.
    pub(crate) proven: Option<Proven>,
    /// What this process last saw rightly installed.
    pub(crate) settled: Option<Identity>,
    /// What was installed when this process last had a server load it, or first saw it: a CRL
    /// that others place shows in nothing else.
    pub(crate) loaded: Option<Identity>,
    /// When something else was found to have rewritten the installed files.
    pub(crate) rewrites: Vec<Timestamp>,
}

impl AttemptMemory {
    /// Notes what is installed before anything is done; true if something else rewrote it.
    pub(crate) fn note(
        &mut self,
        source: Option<&Bundle>,
        installed: &Installed,
        held: Option<&Held>,
        now: Timestamp,
    ) -> bool {
        self.rewrites
            .retain(|at| now.duration_since(*at) < REWRITE_WINDOW);
        let Some(source) = source else { return false };
        let rolled_back =
            held.is_some_and(|held| held.by == HeldBy::Operator && held.is_of(source.identity()));
        if rolled_back {
            // The operator took it out, and nobody else.
            self.settled = None;
            return false;
        }
        let same = installed.bundle().is_some_and(|i| i.same_content(source));
        let rewritten = !same && self.settled == Some(source.identity());
        if same {
            if self.contended() {
                // pgcertd has left the files alone: somebody else has put them right.
                self.rewrites.clear();
            }
            self.settled = Some(source.identity());
        } else if rewritten {
            self.settled = None;
            self.rewrites.push(now);
        }
        rewritten
    }

    /// Whether the installed files are left to whatever keeps rewriting them.
    pub(crate) fn contended(&self) -> bool {
        self.rewrites.len() >= REWRITES
    }
}

/// Why what is served is not known, as far as it matters for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSeen {
    /// It is not to be looked at.
    NotWanted,
    /// It could not be seen.
    Failed,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Nothing: all is equal, or nothing may be done; the state says which.
    Nothing,
    Deploy {
        bundle: Arc<Bundle>,
        /// Whether the files are written, or are right as they are.
        write: bool,
        cause: Trigger,
    },
}

/// Why a bundle is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Source,
    /// It is the previous one in place of what cannot load or was refused, or what others have placed.
    Mend,
    /// It is the previous one in place of what was not proven before the server went down.
    Untried,
}

impl Trigger {
    /// What becomes of the bundle that is installed.
    pub(crate) fn replaced(self) -> Replaced {
        match self {
            Trigger::Source => Replaced::KeptIfProven,
            Trigger::Mend | Trigger::Untried => Replaced::NotKept,
        }
    }
}

/// Everything that [`plan`] weighs.
pub(crate) struct Comparison<'a> {
    pub(crate) source: &'a Source,
    pub(crate) readiness: &'a Readiness,
    pub(crate) sight: &'a InstanceSnapshot,
    /// What is served, where it was looked at.
    pub(crate) served: Option<&'a Result<Shown, NotSeen>>,
    pub(crate) config: &'a config::InstanceConfig,
    pub(crate) memory: &'a AttemptMemory,
    pub(crate) intent: Intent,
    /// The roots that are known.
    pub(crate) roots: &'a Roots,
    pub(crate) now: Timestamp,
}

/// Decides what to do for one instance.
pub(crate) fn plan(scene: &Comparison<'_>) -> Plan {
    match scene.config.mode {
        Mode::Observe => Plan::Nothing,
        Mode::Reload => scene.reload_alone(),
        Mode::Manage => scene.manage(),
    }
}

impl Comparison<'_> {
    fn look(&self) -> &FilesSnapshot {
        &self.sight.look
    }

    fn installed(&self) -> Option<&Arc<Bundle>> {
        self.look().installed.bundle()
    }

    /// The source's bundle, if nothing speaks against it.
    fn candidate(&self) -> Option<&Arc<Bundle>> {
        let bundle = self.source.bundle()?;
        if *self.readiness != Readiness::Ready {
            return None;
        }
        (self.intent.force || !self.is_held(bundle.identity())).then_some(bundle)
    }

    fn is_held(&self, bundle: Identity) -> bool {
        self.look().held.as_ref().is_some_and(|held| {
            held.is_of(bundle) && still_held(held, &self.sight.server, self.now)
        })
    }

    /// Whether what is installed would keep the server from starting, or clients from trusting it.
    fn broken(&self) -> bool {
        let of_companions = self.look().companions_fault.is_some();
        self.installed().is_none_or(|i| {
            let expired = Needed::of_bundle(i, self.roots, self.now).is_expired(self.now);
            expired || of_companions || self.is_held(i.identity())
        })
    }

    fn manage(&self) -> Plan {
        if self.memory.contended() && !self.intent.force {
            return Plan::Nothing;
        }
        match self.candidate() {
            Some(bundle) => self.towards(bundle),
            None => self.repair(),
        }
    }

    fn towards(&self, bundle: &Arc<Bundle>) -> Plan {
        let deploy = |write| Plan::Deploy {
            bundle: Arc::clone(bundle),
            write,
            cause: Trigger::Source,
        };
        let same = self.installed().is_some_and(|i| i.same_content(bundle));
        let down = !self.sight.server.is_up();
        if self.intent.force {
            return deploy(true);
        }
        let tried_in_vain = self.look().trial() == Some(bundle.identity());
        let waits = self.intent.follow_up || tried_in_vain || self.sight.server.may_run();
        if down && waits {
            // The server will start on what was proven. The source may still be refused, which
            // nobody sees before it is up; then it is deployed like any other.
            return match self.repair() {
                Plan::Nothing if !same && self.broken() => deploy(true),
                proven_or_nothing => proven_or_nothing,
            };
        }
        if !same {
            return deploy(true);
        }
        if !down && (self.look().reload_due || self.reload_is_due(bundle)) {
            return deploy(false);
        }
        Plan::Nothing
    }

    /// What cannot load is replaced by what could, without the source.
    fn repair(&self) -> Plan {
        let look = self.look();
        let held = |identity: Identity| self.is_held(identity);
        let installed_is_held = self.installed().is_some_and(|i| held(i.identity()));
        let is_no_trial = installed_is_held || look.trial().is_some_and(held);
        let cause = match self.installed() {
            Some(_) if !is_no_trial && self.is_untried() => Trigger::Untried,
            _ => Trigger::Mend,
        };
        let unusable = self.installed().is_none() || look.is_torn();
        match &look.previous {
            Some(previous)
                if (unusable || installed_is_held || cause == Trigger::Untried)
                    && !self.is_held(previous.identity())
                    && !previous.leaf().is_expired(self.now) =>
            {
                Plan::Deploy {
                    bundle: Arc::clone(previous),
                    write: true,
                    cause,
                }
            }
            _ => Plan::Nothing,
        }
    }

    /// Whether the server is down, and might not start on what is installed: nobody has seen it
    /// served. A server that cannot be looked at may be up.
    fn is_untried(&self) -> bool {
        let server = &self.sight.server;
        !server.is_up() && !server.may_run() && self.look().is_on_trial()
    }

    fn reload_alone(&self) -> Plan {
        let Some(installed) = self.installed() else {
            return Plan::Nothing;
        };
        let up = self.sight.server.is_up();
        let identity = installed.identity();
        let replaced = self.memory.loaded.is_some_and(|entry| entry != identity)
            || self.intent.renewed && self.loads_unseen();
        if up && (self.intent.force || replaced || self.reload_is_due(installed)) {
            let of_source = |source: &Arc<Bundle>| installed.same_content(source);
            return Plan::Deploy {
                bundle: Arc::clone(installed),
                write: false,
                cause: if self.source.bundle().is_some_and(of_source) {
                    Trigger::Source
                } else {
                    Trigger::Mend
                },
            };
        }
        Plan::Nothing
    }

    /// Whether the server may load what nobody sees it serve.
    fn loads_unseen(&self) -> bool {
        self.config.verify == Verify::None || self.config.crl.is_some()
    }

    /// Whether the server serves something else than what is installed, and this process has
    /// not yet seen its answer to a request to load it: a server that hung then may have refused
    /// it since, which only another request proves. Unseen, it is asked once: a signal may have
    /// been lost.
    fn reload_is_due(&self, installed: &Bundle) -> bool {
        let run = self.sight.server.process().map(Process::run);
        let asked = self
            .memory
            .asked
            .filter(|request| Some(request.run) == run && request.bundle == installed.identity());
        match self.served {
            Some(Ok(shown)) => {
                !shown.is_of(installed) && asked.is_none_or(|asked| !asked.is_answered)
            }
            // Whether it was asked before a crash, nothing shows.
            Some(Err(NotSeen::NotWanted)) => self.look().is_on_trial(),
            Some(Err(_)) => asked.is_none(),
            None => false,
        }
    }
}
