//! What is decided, for each way in which source, installed and served can differ.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

mod cost;
mod delay;
mod torn;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::plan::{
    AttemptMemory, Comparison, Intent, NotSeen, Plan, Readiness, Request, plan, readiness,
    still_held,
};
use super::standards::Clock;
use super::standards::Standards;
use super::state::{Observation, State};
use crate::bundle::{Bundle, KeyedBundle, TrustFiles};
use crate::config::{self, Config, ServerKind};
use crate::host::look::FileId;
use crate::host::privilege::Ids;
use crate::lineage::Source;
use crate::server::files::{FilesSnapshot, Held, HeldBy, Installed, Seal, Targets, TrialFile};
use crate::server::postmaster::{Absence, PidFile, Postmaster};
use crate::server::probe::Shown;
use crate::server::process::Process;
use crate::server::{InstanceSnapshot, Server, Unseen};
use crate::trust::Roots;

const BEGIN: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-04-01T00:00:00Z";
const NOW: &str = "2026-02-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A CA that also issues chains that were cut short.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Ca {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn issue(&self, begin: &str, end: &str, whole: bool) -> Arc<Bundle> {
        let day = |text: &str| {
            let date = at(text).to_zoned(jiff::tz::TimeZone::UTC).date();
            let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
            rcgen::date_time_ymd(date.year().into(), month, day)
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pg.example.com".to_owned()]).unwrap();
        params.not_before = day(begin);
        params.not_after = day(end);
        let mut chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        if whole {
            chain.push_str(&self.pem);
        }
        let key = key.serialize_pem();
        let keyed = KeyedBundle::parse(&[chain.as_bytes()], key.as_bytes()).unwrap();
        Arc::clone(keyed.bundle())
    }

    fn bundle(&self) -> Arc<Bundle> {
        self.issue(BEGIN, END, true)
    }
}

fn instance(keys: &str) -> config::InstanceConfig {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgcertd.toml");
    let text = format!(
        "[[instance]]\nname = \"16-main\"\nlineage = \"pg.example.com\"\ndata_directory = \"/data\"\n{keys}\n"
    );
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap().instances.remove(0)
}

/// What a server shows that has loaded this.
fn shown(bundle: &Bundle) -> Shown {
    Shown {
        leaf: bundle.fingerprint(),
        authorities: bundle.client_trust().names().unwrap_or_default(),
    }
}

fn ready(bundle: &Arc<Bundle>) -> Source {
    Source::Ready {
        bundle: Arc::clone(bundle),
        changed: at(NOW),
    }
}

/// What is judged by where no root is known and nobody insists.
fn standards(now: Timestamp) -> Standards {
    Standards {
        clock: Clock {
            now,
            settle_timeout: Duration::from_secs(600),
        },
        roots: Arc::new(Roots::none()),
        forced: false,
        client_use: None,
    }
}

/// One moment of one instance; each test changes what it is about.
struct Moment {
    config: config::InstanceConfig,
    source: Source,
    installed: Installed,
    previous: Option<Arc<Bundle>>,
    held: Option<Held>,
    trial: Option<TrialFile>,
    brought: bool,
    up_since: Option<i64>,
    absence: Absence,
    served: Option<Result<Shown, NotSeen>>,
    memory: AttemptMemory,
    intent: Intent,
    now: Timestamp,
}

impl Moment {
    /// All in sync, seen by the daemon.
    fn with_bundle(bundle: &Arc<Bundle>) -> Moment {
        Moment {
            config: instance(""),
            source: ready(bundle),
            installed: Installed::Usable(Arc::clone(bundle)),
            previous: None,
            held: None,
            trial: None,
            brought: false,
            up_since: Some(1),
            absence: Absence::NoPidFile,
            served: Some(Ok(shown(bundle))),
            memory: AttemptMemory::default(),
            intent: Intent {
                follow_up: true,
                ..Intent::default()
            },
            now: at(NOW),
        }
    }

    fn with_source(mut self, source: Source) -> Moment {
        self.source = source;
        self
    }

    fn with_installed(mut self, installed: Installed) -> Moment {
        self.installed = installed;
        self
    }

    fn down(mut self) -> Moment {
        self.up_since = None;
        self.served = Some(Err(NotSeen::Failed));
        self
    }

    fn held(mut self, bundle: &Bundle, by: HeldBy) -> Moment {
        self.held = Some(held(bundle, by));
        self
    }

    fn sight(&mut self) -> InstanceSnapshot {
        let server = match self.up_since {
            None => Server::Down(self.absence.clone()),
            Some(start) => Server::Up(Arc::new(Process::Postmaster(Postmaster::stand_in(start)))),
        };
        let ids = Ids { uid: 1, gid: 1 };
        InstanceSnapshot {
            look: Arc::new(FilesSnapshot {
                installed: std::mem::replace(&mut self.installed, Installed::Absent),
                found: Vec::new(),
                pid_file: Err(Absence::NoPidFile),
                seal: Seal::of_targets(&[]),
                real_paths: Vec::new(),
                held: self.held.clone(),
                memory_fault: None,
                trial: self.trial,
                brought: self.brought,
                proven: None,
                companions_fault: None,
                reload_due: false,
                previous: self.previous.clone(),
            }),
            server,
            targets: Arc::new(Targets {
                cert: self.config.cert_file.clone(),
                key: self.config.key_file.clone(),
                trust_files: TrustFiles::default(),
                state: "/state".into(),
                lock_directory: "/state".into(),
                kind: ServerKind::Postgres,
                data: "/data".into(),
                data_id: FileId::NONE,
                owner: ids,
                server: ids,
                by_others: false,
            }),
            pinned: None,
        }
    }

    fn standards(&self) -> Standards {
        Standards {
            forced: self.intent.force,
            ..standards(self.now)
        }
    }

    fn plan(mut self) -> Done {
        let standards = self.standards();
        let readiness = readiness(&self.source, &self.installed, &self.config, &standards);
        let sight = self.sight();
        Done(plan(&Comparison {
            source: &self.source,
            readiness: &readiness,
            sight: &sight,
            served: self.served.as_ref(),
            config: &self.config,
            memory: &self.memory,
            intent: self.intent,
            roots: &standards.roots,
            now: self.now,
        }))
    }

    fn state(self) -> State {
        let (seen, config) = self.seen();
        seen.state(&config).0
    }

    fn seen(mut self) -> (Observation, config::InstanceConfig) {
        let standards = self.standards();
        let readiness = readiness(&self.source, &self.installed, &self.config, &standards);
        let sight = self.sight();
        let seen = Observation {
            source: self.source.clone(),
            readiness,
            sight: Ok(sight),
            served: Err(Unseen::Down),
            settings: None,
            faults: Vec::new(),
            pinned: None,
            contended: self.memory.contended(),
            failure: None,
            roots: standards.roots,
            at: self.now,
        };
        (seen, self.config)
    }
}

fn held(bundle: &Bundle, by: HeldBy) -> Held {
    Held {
        fingerprint: bundle.fingerprint(),
        companions: None,
        by,
        reason: "refused".into(),
        since: at(NOW),
        postmaster_start: Some(1),
    }
}

/// A plan, to be compared.
struct Done(Plan);

impl Done {
    #[track_caller]
    fn is_nothing(&self) {
        assert!(matches!(self.0, Plan::Nothing), "{:?}", self.0);
    }

    #[track_caller]
    fn deploys(&self, wanted: &Bundle, wanted_write: bool) {
        match &self.0 {
            Plan::Deploy { bundle, write, .. } => {
                assert_eq!(bundle.fingerprint(), wanted.fingerprint());
                assert_eq!(*write, wanted_write);
            }
            Plan::Nothing => panic!("nothing is planned"),
        }
    }
}

#[test]
fn what_is_equal_everywhere_is_left_alone() {
    let bundle = Ca::new().bundle();
    Moment::with_bundle(&bundle).plan().is_nothing();
}

#[test]
fn a_new_bundle_is_installed_and_a_forced_one_again() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let renewed = Moment::with_bundle(&old).with_source(ready(&new));
    renewed.plan().deploys(&new, true);
    let mut forced = Moment::with_bundle(&old);
    forced.intent.force = true;
    forced.plan().deploys(&old, true);
}

#[test]
fn what_is_installed_and_not_served_is_reloaded_once_for_each_postmaster() {
    let ca = Ca::new();
    let (bundle, other) = (ca.bundle(), ca.bundle());
    let stale = |asked: Option<i64>| {
        let mut moment = Moment::with_bundle(&bundle);
        moment.served = Some(Ok(shown(&other)));
        moment.memory.asked = asked.map(|start| asked_to_load(&bundle, start, true));
        moment.plan()
    };
    stale(None).deploys(&bundle, false);
    stale(Some(1)).is_nothing();
    stale(Some(2)).deploys(&bundle, false);
}

fn asked_to_load(bundle: &Bundle, run: i64, answered: bool) -> Request {
    Request {
        run,
        bundle: bundle.identity(),
        is_answered: answered,
    }
}

#[test]
fn a_server_that_cannot_be_seen_is_asked_to_reload_once() {
    let bundle = Ca::new().bundle();
    let unseen = || {
        let mut unseen = Moment::with_bundle(&bundle);
        unseen.served = Some(Err(NotSeen::Failed));
        unseen
    };
    unseen().plan().deploys(&bundle, false);
    let mut asked = unseen();
    asked.memory.asked = Some(asked_to_load(&bundle, 1, false));
    asked.plan().is_nothing();
    let mut unwanted = Moment::with_bundle(&bundle);
    unwanted.served = Some(Err(NotSeen::NotWanted));
    unwanted.plan().is_nothing();
}

#[test]
fn a_server_that_hung_when_it_was_asked_is_asked_again_where_it_shows_another_leaf() {
    let ca = Ca::new();
    let (bundle, other) = (ca.bundle(), ca.bundle());
    let mut awake = Moment::with_bundle(&bundle);
    awake.memory.asked = Some(asked_to_load(&bundle, 1, false));
    awake.served = Some(Ok(shown(&other)));
    awake.plan().deploys(&bundle, false);
}

#[test]
fn a_target_that_is_missing_while_its_bundle_is_held_becomes_the_previous_one() {
    let ca = Ca::new();
    let (old, refused) = (ca.bundle(), ca.bundle());
    let mut missing = Moment::with_bundle(&old)
        .with_source(ready(&refused))
        .with_installed(Installed::Absent)
        .held(&refused, HeldBy::Postgres);
    missing.previous = Some(Arc::clone(&old));
    missing.plan().deploys(&old, true);
}

#[test]
fn while_the_server_is_down_the_daemon_replaces_only_what_cannot_load_or_has_expired() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let expired = ca.issue("2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", true);
    let down = |installed| {
        Moment::with_bundle(&old)
            .with_source(ready(&new))
            .with_installed(installed)
            .down()
    };
    down(Installed::Usable(Arc::clone(&old)))
        .plan()
        .is_nothing();
    down(Installed::Usable(expired)).plan().deploys(&new, true);
    down(Installed::Absent).plan().deploys(&new, true);
    down(Installed::Unusable("torn".into()))
        .plan()
        .deploys(&new, true);
    // Nobody follows up on `sync`.
    let mut sync = down(Installed::Usable(old.clone()));
    sync.intent.follow_up = false;
    sync.plan().deploys(&new, true);
}

#[test]
fn a_refused_bundle_waits_for_another_postmaster_or_a_day_or_a_person() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let refused = || {
        Moment::with_bundle(&old)
            .with_source(ready(&new))
            .held(&new, HeldBy::Postgres)
    };
    refused().plan().is_nothing();
    assert_eq!(refused().state(), State::Rejected);
    refused().down().plan().is_nothing();
    let mut down_sync = refused().down();
    down_sync.intent.follow_up = false;
    down_sync.plan().is_nothing();
    let mut restarted = refused();
    restarted.up_since = Some(2);
    restarted.plan().deploys(&new, true);
    let mut next_day = refused();
    next_day.now = at(NOW) + SignedDuration::from_hours(24);
    next_day.plan().deploys(&new, true);
    let mut forced = refused();
    forced.intent.force = true;
    forced.plan().deploys(&new, true);
    let third = ca.bundle();
    let renewed = refused().with_source(ready(&third));
    renewed.plan().deploys(&third, true);
}

#[test]
fn what_the_operator_held_waits_for_the_lineage_whatever_restarts() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut moment = Moment::with_bundle(&old)
        .with_source(ready(&new))
        .held(&new, HeldBy::Operator);
    moment.up_since = Some(2);
    moment.now = at(NOW) + SignedDuration::from_hours(48);
    moment.plan().is_nothing();
}

#[test]
fn a_chain_that_was_cut_waits_for_the_settle_timeout() {
    let ca = Ca::new();
    let (old, cut) = (ca.bundle(), ca.issue(BEGIN, END, false));
    let waiting = Moment::with_bundle(&old).with_source(ready(&cut));
    waiting.plan().is_nothing();
    let mut later = Moment::with_bundle(&old).with_source(ready(&cut));
    later.now = at(NOW) + SignedDuration::from_secs(600);
    later.plan().deploys(&cut, true);
}

#[test]
fn a_bundle_of_tomorrow_waits_and_one_of_yesterday_is_refused() {
    let ca = Ca::new();
    let old = ca.bundle();
    let ready_for = |bundle: &Arc<Bundle>, installed: &Installed| {
        readiness(
            &ready(bundle),
            installed,
            &instance(""),
            &standards(at(NOW)),
        )
    };
    let tomorrow = ca.issue("2026-02-02T00:00:00Z", END, true);
    let installed = Installed::Usable(Arc::clone(&old));
    let waits = ready_for(&tomorrow, &installed);
    assert!(
        matches!(waits, Readiness::Later { at: time, .. } if time == at("2026-02-02T00:00:00Z"))
    );
    let nothing_else = ready_for(&tomorrow, &Installed::Absent);
    assert!(matches!(
        nothing_else,
        Readiness::Refused { at: Some(_), .. }
    ));
    let yesterday = ca.issue("2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", true);
    let over = ready_for(&yesterday, &installed);
    assert!(matches!(over, Readiness::Refused { at: None, .. }));
}

#[test]
fn three_foreign_rewrites_within_an_hour_are_contended_and_a_person_may_still_force() {
    let ca = Ca::new();
    let (ours, theirs) = (ca.bundle(), ca.bundle());
    let mut memory = AttemptMemory::default();
    let mut now = at(NOW);
    for _ in 0..3 {
        assert!(!memory.note(Some(&ours), &Installed::Usable(ours.clone()), None, now));
        now += SignedDuration::from_mins(10);
        assert!(memory.note(Some(&ours), &Installed::Usable(theirs.clone()), None, now));
    }
    assert!(memory.contended());
    let fought_over = |force| {
        let mut moment = Moment::with_bundle(&theirs).with_source(ready(&ours));
        moment.memory = memory.clone();
        moment.intent.force = force;
        moment
    };
    fought_over(false).plan().is_nothing();
    assert_eq!(fought_over(false).state(), State::Contended);
    fought_over(true).plan().deploys(&ours, true);
    // An hour later it is tried again.
    memory.note(
        Some(&ours),
        &Installed::Usable(theirs),
        None,
        now + SignedDuration::from_hours(1),
    );
    assert!(!memory.contended());
}

#[test]
fn what_the_operator_takes_out_is_no_foreign_rewrite() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let held = held(&new, HeldBy::Operator);
    let mut memory = AttemptMemory::default();
    memory.note(Some(&new), &Installed::Usable(new.clone()), None, at(NOW));
    let back = Installed::Usable(old);
    assert!(!memory.note(Some(&new), &back, Some(&held), at(NOW)));
    assert!(!memory.note(Some(&new), &back, None, at(NOW)));
}

#[test]
fn a_renewal_is_no_foreign_rewrite() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut memory = AttemptMemory::default();
    memory.note(Some(&old), &Installed::Usable(old.clone()), None, at(NOW));
    assert!(!memory.note(Some(&new), &Installed::Usable(old), None, at(NOW)));
}

#[test]
fn in_mode_observe_nothing_is_done_and_in_mode_reload_nothing_is_written() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut observed = Moment::with_bundle(&old).with_source(ready(&new));
    observed.config = instance("mode = \"observe\"");
    observed.plan().is_nothing();
    let mut placed = Moment::with_bundle(&new);
    placed.config = instance("mode = \"reload\"");
    placed.served = Some(Ok(shown(&old)));
    placed.plan().deploys(&new, false);
    let mut absent = Moment::with_bundle(&new).with_installed(Installed::Absent);
    absent.config = instance("mode = \"reload\"");
    absent.plan().is_nothing();
}

#[test]
fn a_refusal_counts_while_the_server_is_down_however_old() {
    let bundle = Ca::new().bundle();
    let held = held(&bundle, HeldBy::Postgres);
    let down = Server::Down(Absence::NoPidFile);
    assert!(still_held(&held, &down, at(END)));
}

impl Postmaster {
    /// Stands in for a postmaster, which a decision looks at only for its start time: it is
    /// this test's own process.
    fn stand_in(start_time: i64) -> Postmaster {
        let file = format!("{}\n/data\n{start_time}\n", std::process::id());
        Postmaster::of_this_process(PidFile::parse(&file).unwrap())
    }
}
