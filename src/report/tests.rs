//! What is said, once, and with which fields.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::field::Visit;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::event::Event;
use super::event::RAISED;
use super::kind::Priority;
use super::told::ReportedState;
use super::view::InstanceView;
use super::{Announcer, DeploymentReport, EventKind, Field};
use crate::bundle::{Fingerprint, Piece, Thresholds, TrustFiles};
use crate::config::{self, Config};
use crate::deploy::state::State;
use crate::deploy::{Done, Remark, SyncOutcome};
use crate::problem::Problem;

fn instance() -> config::InstanceConfig {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgcertd.toml");
    let text = "[[instance]]\nname = \"16-main\"\nlineage = \"pg.example.com\"\ndata_directory = \"/data\"\n";
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap().instances.remove(0)
}

fn problem(why: &str, mend: &str) -> Problem {
    Problem::new(why, mend)
}

/// One instance, seen again and again.
struct Heeded {
    config: config::InstanceConfig,
    told: Announcer,
    now: Instant,
}

impl Heeded {
    fn new() -> Heeded {
        Heeded {
            config: instance(),
            told: Announcer::default(),
            now: Instant::now(),
        }
    }

    fn hears(
        &mut self,
        state: State,
        details: Option<&Problem>,
        done: Option<(SyncOutcome, Option<&Problem>)>,
        danger: Option<&Problem>,
    ) -> Vec<Event> {
        let view = InstanceView {
            name: self.config.name.clone(),
            lineage: self.config.lineage.name.clone(),
            state,
            problem: details.map(Problem::to_string),
            details: details.cloned(),
            source: None,
            installed: None,
            served: None,
            trust_files: TrustFiles::default(),
            thresholds: Thresholds::default(),
        };
        let unchanged = Done::new(SyncOutcome::Unchanged, Instant::now());
        let done = done.map_or(unchanged, |(outcome, problem)| Done {
            problem: problem.cloned(),
            ..deployment(outcome)
        });
        let events = self.told.hear(
            ReportedState {
                config: &self.config,
                view: &view,
                done: &done,
                danger,
            },
            self.now,
        );
        for event in &events {
            assert!(event.is_as_documented(), "{event:?}");
        }
        events
    }

    fn sees(&mut self, state: State, details: Option<&Problem>) -> Vec<Event> {
        self.hears(state, details, None, None)
    }
}

fn deployment(outcome: SyncOutcome) -> Done {
    Done {
        fingerprint: Some(leaf()),
        not_after: Some("2026-04-01T00:00:00Z".parse().unwrap()),
        took: Duration::from_millis(36),
        acted: true,
        ..Done::new(outcome, Instant::now())
    }
}

fn leaf() -> Fingerprint {
    "ab".repeat(32).parse().unwrap()
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(Event::kind).collect()
}

#[test]
fn a_state_is_said_once_and_its_end_says_how_long_it_lasted() {
    let mut world = Heeded::new();
    assert_eq!(kinds(&world.sees(State::InSync, None)), [EventKind::InSync]);
    assert!(world.sees(State::InSync, None).is_empty());
    let elsewhere = problem("ssl_cert_file = /old.pem", "set it");
    let begun = world.sees(State::NotUsed, Some(&elsewhere));
    assert_eq!(kinds(&begun), [EventKind::NotUsed]);
    assert_eq!(
        begun[0].message(),
        "16-main: not_used: ssl_cert_file = /old.pem; set it"
    );
    assert_eq!(
        begun[0].value(Field::Problem),
        Some("ssl_cert_file = /old.pem")
    );
    assert_eq!(begun[0].value(Field::Remedy), Some("set it"));
    assert!(world.sees(State::NotUsed, Some(&elsewhere)).is_empty());
    world.now += Duration::from_secs(3600);
    let hangs = problem("no answer", "see whether it hangs");
    assert_eq!(
        kinds(&world.sees(State::Unverified, Some(&hangs))),
        [EventKind::Unverified]
    );
    world.now += Duration::from_secs(125);
    let ended = world.sees(State::InSync, None);
    assert_eq!(kinds(&ended), [EventKind::Recovered]);
    assert_eq!(
        ended[0].message(),
        "16-main: in_sync; the problem before it (unverified) lasted 1h 2m 5s"
    );
    assert_eq!(ended[0].value(Field::OldState), Some("unverified"));
    assert_eq!(ended[0].value(Field::Milliseconds), Some("3725000"));
}

#[test]
fn a_deployment_that_leaves_a_trouble_behind_is_followed_by_it() {
    let mut world = Heeded::new();
    world.sees(State::InSync, None);
    let elsewhere = problem("ssl_cert_file = /old.pem", "set it");
    let done = Some((SyncOutcome::Installed, Some(&elsewhere)));
    let said = world.hears(State::NotUsed, Some(&elsewhere), done, None);
    assert_eq!(kinds(&said), [EventKind::Installed, EventKind::NotUsed]);
    assert!(
        !said[0].message().contains("/old.pem"),
        "{}",
        said[0].message()
    );
    assert_eq!(said[0].value(Field::Problem), None);
    assert_eq!(said[0].value(Field::State), Some("not_used"));
    assert!(said[1].message().contains("/old.pem"));
    // The next one leaves the same, which was said.
    let again = world.hears(State::NotUsed, Some(&elsewhere), done, None);
    assert_eq!(kinds(&again), [EventKind::Installed]);
}

#[test]
fn a_deployment_that_says_all_of_a_trouble_is_not_followed_by_it() {
    for (outcome, state, kind) in [
        (
            SyncOutcome::RolledBack,
            State::Rejected,
            EventKind::RolledBack,
        ),
        (SyncOutcome::Failed, State::OutOfDate, EventKind::Failed),
        (
            SyncOutcome::Unverified,
            State::Unverified,
            EventKind::InstalledUnverified,
        ),
    ] {
        let mut world = Heeded::new();
        world.sees(State::InSync, None);
        let why = problem("it would not", "make it");
        let told = Problem::new(&why.what, "");
        let done = Some((outcome, Some(&told)));
        let said = world.hears(state, Some(&why), done, None);
        assert_eq!(kinds(&said), [kind]);
        let message = said[0].message();
        assert!(message.ends_with(": it would not; make it"), "{message}");
        assert_eq!(said[0].value(Field::Remedy), Some("make it"));
        assert!(world.sees(state, Some(&why)).is_empty());
        // And its end is said, whatever brought it.
        let ended = world.hears(
            State::InSync,
            None,
            Some((SyncOutcome::Deployed, None)),
            None,
        );
        assert_eq!(kinds(&ended), [EventKind::Deployed, EventKind::Recovered]);
    }
}

#[test]
fn a_trouble_that_weighs_more_than_the_deployment_is_said_by_itself() {
    let mut world = Heeded::new();
    let why = problem("the old one is still served", "run sync");
    let done = Some((SyncOutcome::Unverified, Some(&why)));
    let said = world.hears(State::NotServed, Some(&why), done, None);
    assert_eq!(
        kinds(&said),
        [EventKind::InstalledUnverified, EventKind::NotServed]
    );
    assert_eq!(said[0].value(Field::Problem), None);
}

#[test]
fn what_is_well_after_a_deployment_needs_no_line() {
    let mut world = Heeded::new();
    let done = Some((SyncOutcome::Deployed, None));
    assert_eq!(
        kinds(&world.hears(State::InSync, None, done, None)),
        [EventKind::Deployed]
    );
    assert!(world.sees(State::InSync, None).is_empty());
}

#[test]
fn that_a_server_could_not_start_again_is_critical_until_it_could() {
    let mut world = Heeded::new();
    let why = problem("no file", "do not restart it");
    let said = world.hears(State::SourceInvalid, Some(&why), None, Some(&why));
    assert_eq!(
        kinds(&said),
        [EventKind::SourceInvalid, EventKind::WouldNotStart]
    );
    assert_eq!(said[1].kind().priority(), Priority::Critical);
    assert!(
        world
            .hears(State::SourceInvalid, Some(&why), None, Some(&why))
            .is_empty()
    );
    let over = world.sees(State::SourceInvalid, Some(&why));
    assert_eq!(kinds(&over), [EventKind::WouldStartAgain]);
}

#[test]
fn a_remark_is_made_once() {
    let mut world = Heeded::new();
    let view = InstanceView {
        name: "16-main".into(),
        lineage: "pg.example.com".into(),
        state: State::InSync,
        problem: None,
        details: None,
        source: None,
        installed: None,
        served: None,
        trust_files: TrustFiles::default(),
        thresholds: Thresholds::default(),
    };
    let remarks = vec![
        Remark::Odd {
            fingerprint: leaf(),
            what: "its chain is shorter".into(),
        },
        Remark::MemoryUnreadable("held.json: not readable".into()),
    ];
    let done = Done {
        remarks,
        ..Done::new(SyncOutcome::Unchanged, Instant::now())
    };
    let mut said = || {
        let heard = ReportedState {
            config: &world.config,
            view: &view,
            done: &done,
            danger: None,
        };
        kinds(&world.told.hear(heard, world.now))
    };
    assert_eq!(
        said(),
        [
            EventKind::Odd,
            EventKind::MemoryUnreadable,
            EventKind::InSync
        ]
    );
    assert_eq!(said(), []);
}

#[test]
fn every_kind_has_an_id_and_a_name_of_its_own() {
    let ids: BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.id()).collect();
    let names: BTreeSet<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(ids.len(), EventKind::ALL.len());
    assert_eq!(names.len(), EventKind::ALL.len());
    for id in ids {
        assert_eq!(id.len(), 32, "{id}");
        assert!(
            id.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{id}"
        );
    }
}

/// Names that journald keeps (systemd.journal-fields(7)).
#[test]
fn every_field_has_a_name_that_the_journal_takes() {
    let names: BTreeSet<_> = Field::ALL.iter().map(|field| field.as_str()).collect();
    assert_eq!(names.len(), Field::ALL.len());
    for name in names {
        assert!(name.starts_with("PGCERTD_") && name.len() <= 64, "{name}");
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
            "{name}"
        );
    }
    for kind in EventKind::ALL {
        for field in kind.always().iter().chain(kind.may()) {
            assert!(Field::ALL.contains(field), "{field:?} of {kind:?}");
        }
    }
}

/// What a subscriber gets: target, level, fields.
type Got = (String, tracing::Level, BTreeMap<String, String>);

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Got>>>);

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Ear {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let place = event.metadata();
        self.0
            .lock()
            .unwrap()
            .push((place.target().into(), *place.level(), fields.0));
    }
}

#[test]
fn every_kind_is_sent_whole_and_at_its_priority() {
    let ear = Ear::default();
    let subscriber = tracing_subscriber::registry().with(ear.clone());
    tracing::subscriber::with_default(subscriber, || {
        for kind in EventKind::ALL {
            let mut event = Event::new(*kind, format!("a {}", kind.as_str()));
            for field in kind.always().iter().chain(kind.may()) {
                event = event.with(*field, format!("<{}>", field.as_str()));
            }
            event.emit();
        }
    });
    let heard = ear.0.lock().unwrap();
    assert_eq!(heard.len(), EventKind::ALL.len());
    for (kind, (target, level, fields)) in EventKind::ALL.iter().zip(heard.iter()) {
        let raised = target == RAISED;
        let expected = match kind.priority() {
            Priority::Critical => (tracing::Level::ERROR, true),
            Priority::Error => (tracing::Level::ERROR, false),
            Priority::Warning => (tracing::Level::WARN, false),
            Priority::Notice => (tracing::Level::INFO, true),
            Priority::Info => (tracing::Level::INFO, false),
        };
        assert_eq!((*level, raised), expected, "{kind:?}");
        let mut wanted: BTreeMap<String, String> = kind
            .always()
            .iter()
            .chain(kind.may())
            .map(|field| {
                let name = field.as_str();
                (name.to_lowercase(), format!("<{name}>"))
            })
            .collect();
        wanted.insert("message".into(), format!("a {}", kind.as_str()));
        wanted.insert("message_id".into(), kind.id().into());
        wanted.insert("pgcertd_event".into(), kind.as_str().into());
        wanted.insert("pgcertd_topic".into(), kind.topic().as_str().into());
        assert_eq!(*fields, wanted, "{kind:?}");
    }
}

#[test]
fn a_deployment_says_what_is_new() {
    let config = instance();
    let old: Fingerprint = "cd".repeat(32).parse().unwrap();
    let deployed = |changed: &[Piece], old, outcome| Done {
        old: Some(old),
        changed: changed.to_vec(),
        ..deployment(outcome)
    };
    let served = "ababab deployed and served (before: cdcdcd), expires 2026-04-01";
    let with =
        "ababab with new CA and CRL deployed and served (before: cdcdcd), expires 2026-04-01";
    use SyncOutcome::{Deployed, Installed, RolledBack, Unverified, WouldDeploy};
    for (changed, old, outcome, words) in [
        (
            &[Piece::Certificate][..],
            old,
            Deployed,
            format!("pg.example.com {served}"),
        ),
        (
            &Piece::RENEWED,
            old,
            Deployed,
            format!("pg.example.com {with}"),
        ),
        (
            &[Piece::Crl],
            leaf(),
            Deployed,
            "new CRL beside pg.example.com ababab deployed".into(),
        ),
        (
            &[Piece::Ca, Piece::Crl],
            leaf(),
            WouldDeploy,
            "new CA and CRL beside pg.example.com ababab would be deployed".into(),
        ),
        (
            &[Piece::Ca],
            leaf(),
            RolledBack,
            "new CA beside pg.example.com ababab rejected by Postgres and rolled back".into(),
        ),
        (
            &[Piece::Ca],
            leaf(),
            Installed,
            "new CA beside pg.example.com ababab installed, not loaded yet".into(),
        ),
        (
            &[Piece::Crl],
            leaf(),
            Unverified,
            "new CRL beside pg.example.com ababab installed, loading not verified".into(),
        ),
        // The drill: all of it was there already.
        (
            &[],
            leaf(),
            Deployed,
            "pg.example.com ababab deployed and served, expires 2026-04-01".into(),
        ),
    ] {
        let done = &deployed(changed, old, outcome);
        let config = &config;
        let message = DeploymentReport { config, done }.message();
        assert_eq!(message, format!("16-main: {words}, 36.0 ms"));
    }
    let event = |changed: &[Piece]| {
        let done = &deployed(changed, leaf(), Deployed);
        let config = &config;
        DeploymentReport { config, done }.event(EventKind::Deployed, State::InSync, None)
    };
    let both = event(&[Piece::Ca, Piece::Crl]);
    assert!(both.is_as_documented(), "{both:?}");
    assert_eq!(both.value(Field::Changed), Some("ca crl"));
    assert_eq!(event(&[]).value(Field::Changed), None);
}
