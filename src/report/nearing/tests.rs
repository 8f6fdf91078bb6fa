//! Certificates that near their end, with a clock that moves.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

use jiff::SignedDuration;

use super::*;
use crate::bundle::{Fingerprint, TrustFiles};
use crate::config::Config;
use crate::report::kind::Priority;
use crate::report::view::EndView;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// One instance, whose clock begins at the start of its first certificate.
struct World {
    config: config::InstanceConfig,
    warned: Warned,
    view: InstanceView,
    wall: Timestamp,
    now: Instant,
}

fn lasting(begin: Timestamp, days: u64) -> CertificateView {
    let not_after = begin + Duration::from_secs(days * DAY);
    CertificateView {
        fingerprint: Fingerprint::from_der(begin.to_string().as_bytes()),
        not_before: begin,
        not_after,
        chain_end: None,
        names: Vec::new(),
        issuer: String::new(),
        serial: String::new(),
        expiry: Expiry::Fine,
    }
}

impl World {
    /// All in sync, with a certificate of so many days.
    fn with_days(days: u64) -> World {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        let text = "[[instance]]\nname = \"16-main\"\nlineage = \"pg.example.com\"\ndata_directory = \"/data\"\n";
        std::fs::write(&file, text).unwrap();
        let wall = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = Some(lasting(wall, days));
        World {
            config: Config::load(&file).unwrap().instances.remove(0),
            warned: Warned::default(),
            view: InstanceView {
                name: "16-main".into(),
                lineage: "pg.example.com".into(),
                state: State::InSync,
                problem: None,
                details: None,
                source: first.clone(),
                installed: first.clone(),
                served: first,
                trust_files: TrustFiles::default(),
                thresholds: Thresholds::default(),
            },
            wall,
            now: Instant::now(),
        }
    }

    /// What is said of all pieces.
    fn hears(&mut self) -> Vec<Event> {
        let events = self
            .warned
            .hear(&self.config, &self.view, self.wall, self.now);
        for event in &events {
            assert!(event.is_as_documented(), "{event:?}");
        }
        events
    }

    /// What is said, which is at most one thing.
    fn looks(&mut self) -> Option<Event> {
        let mut events = self.hears();
        assert!(events.len() < 2, "{events:#?}");
        events.pop()
    }

    fn passes(&mut self, seconds: u64) {
        self.wall += SignedDuration::from_secs(seconds.cast_signed());
        self.now += Duration::from_secs(seconds);
    }

    /// What is said until so many days have passed, with a look every ten minutes.
    fn lives(&mut self, days: u64) -> Vec<(u64, Event)> {
        let begun = self.now;
        let mut said = Vec::new();
        for _ in 0..days * DAY / 600 {
            self.passes(600);
            let at = self.now.duration_since(begun).as_secs();
            said.extend(self.looks().map(|event| (at, event)));
        }
        said
    }

    /// The lineage holds a new certificate, and all the rest too.
    fn renews(&mut self, days: u64) {
        let new = Some(lasting(self.wall, days));
        self.view.source.clone_from(&new);
        self.view.installed.clone_from(&new);
        self.view.served = new;
    }
}

fn kinds(said: &[(u64, Event)]) -> Vec<EventKind> {
    said.iter().map(|(_, event)| event.kind()).collect()
}

#[test]
fn one_that_is_renewed_with_a_third_left_is_never_warned_of() {
    for days in [6, 45, 47, 90, 365] {
        let mut world = World::with_days(days);
        for cycle in 0..3 {
            let said = world.lives(days - days / 3);
            assert_eq!(kinds(&said), [], "{days} days, cycle {cycle}");
            world.renews(days);
        }
    }
}

#[test]
fn each_crossing_is_said_at_once_and_what_lasts_once_a_day() {
    let mut world = World::with_days(90);
    let said = world.lives(93);
    let of = |kind: EventKind| -> Vec<u64> {
        let those = said.iter().filter(|(_, event)| event.kind() == kind);
        those.map(|(at, _)| *at).collect()
    };
    let daily = |first: u64, count: u64| -> Vec<u64> {
        (0..count).map(|n| (first * DAY + 600) + n * DAY).collect()
    };
    // 21 days, then 7 days before the end, then at it: the first look after each.
    assert_eq!(of(EventKind::ExpiryNear), daily(69, 14));
    assert_eq!(of(EventKind::ExpiryCritical), daily(83, 7));
    assert_eq!(of(EventKind::Expired), daily(90, 3));
    assert_eq!(said.len(), 24);
    world.renews(90);
    let over = world.looks().unwrap();
    assert_eq!(over.kind(), EventKind::ExpiryOver);
    assert_eq!(over.kind().priority(), Priority::Notice);
    let lasted = ((93 - 69) * DAY - 600) * 1000;
    let lasted = lasted.to_string();
    assert_eq!(over.value(Field::Milliseconds), Some(lasted.as_str()));
    assert_eq!(kinds(&world.lives(60)), []);
}

#[test]
fn what_ends_before_its_leaf_is_said_and_named() {
    let mut world = World::with_days(90);
    let above = lasting(world.wall, 60);
    let served = world.view.served.as_mut().unwrap();
    served.chain_end = Some(EndView {
        name: "CN=Above".into(),
        fingerprint: above.fingerprint,
        not_before: above.not_before,
        not_after: above.not_after,
        expiry: Expiry::Fine,
    });
    let leaf = served.fingerprint;
    world.passes(55 * DAY);
    let said = world.looks().unwrap();
    assert_eq!(said.kind(), EventKind::ExpiryCritical);
    let problem = Nearing::from_view(&world.view, world.wall)
        .unwrap()
        .problem();
    assert_eq!(
        problem.what,
        format!(
            "the certificate that clients get, {}, expires in 5 days (CN=Above, above the leaf, expires first)",
            leaf.short()
        )
    );
    let seen = world.view.clone().seen_at(world.wall).served.unwrap();
    let end = seen.chain_end.unwrap();
    assert_eq!(
        (seen.expiry, end.expiry),
        (Expiry::Critical, Expiry::Critical)
    );
}

#[test]
fn a_look_every_second_doubles_nothing() {
    let mut world = World::with_days(90);
    world.passes(84 * DAY);
    assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryCritical);
    for _ in 1..DAY {
        world.passes(1);
        assert_eq!(world.looks(), None);
    }
    world.passes(1);
    assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryCritical);
}

#[test]
fn a_clock_that_is_set_does_not_bring_the_next_days_line_forward() {
    let mut world = World::with_days(90);
    world.passes(70 * DAY);
    world.looks().unwrap();
    world.wall += SignedDuration::from_hours(48);
    assert_eq!(world.looks(), None);
    world.wall -= SignedDuration::from_hours(48);
    assert_eq!(world.looks(), None);
}

#[test]
fn a_daemon_that_starts_again_says_it_once_more() {
    let mut world = World::with_days(90);
    world.passes(70 * DAY);
    for _ in 0..2 {
        world.warned = Warned::default();
        assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryNear);
        world.passes(600);
        assert_eq!(world.looks(), None);
    }
}

#[test]
fn the_worst_of_the_three_counts_and_the_lineage_is_the_first_cause() {
    let mut world = World::with_days(90);
    world.passes(80 * DAY);
    let event = world.looks().unwrap();
    assert_eq!(event.value(Field::Place), Some("source"));
    let remedy = event.value(Field::Remedy).unwrap();
    for word in ["systemctl list-timers", "certbot renew --dry-run"] {
        assert!(remedy.contains(word), "{remedy}");
    }
    assert!(event.message().contains("expires in 10 days"), "{event:?}");

    // The lineage is renewed, and its certificate does not get further.
    world.view.source = Some(lasting(world.wall, 90));
    world.view.state = State::NotServed;
    assert_eq!(world.looks(), None, "it is no nearer than before");
    world.passes(5 * DAY);
    let event = world.looks().unwrap();
    assert_eq!(event.kind(), EventKind::ExpiryCritical);
    assert_eq!(event.value(Field::Place), Some("installed"));
    assert!(
        event
            .value(Field::Remedy)
            .unwrap()
            .contains("pgcertd status")
    );
    let old = world.view.installed.take();
    world.view.installed.clone_from(&world.view.source);
    assert_eq!(world.looks(), None);
    world.passes(DAY);
    let event = world.looks().unwrap();
    assert_eq!(event.value(Field::Place), Some("served"));
    let short = old.unwrap().fingerprint.short().to_string();
    assert!(event.message().contains(&short), "{event:?}");
}

#[test]
fn what_cannot_be_seen_for_a_moment_is_not_over() {
    let mut world = World::with_days(90);
    world.passes(85 * DAY);
    world.view.source = Some(lasting(world.wall, 90));
    world.view.installed.clone_from(&world.view.source);
    world.view.state = State::NotServed;
    let old = world.view.served.clone();
    let event = world.looks().unwrap();
    assert_eq!(event.value(Field::Place), Some("served"));
    world.view.served = None;
    world.view.state = State::Unverified;
    assert_eq!(world.looks(), None);
    world.view.served = old;
    world.view.state = State::NotServed;
    assert_eq!(world.looks(), None);
    // A server that is down starts with what is installed.
    world.view.served = None;
    world.view.state = State::NotRunning;
    assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryOver);
}

#[test]
fn a_renewal_that_does_not_last_is_said_as_what_it_is() {
    let mut world = World::with_days(90);
    world.passes(91 * DAY);
    assert_eq!(world.looks().unwrap().kind(), EventKind::Expired);
    world.renews(90);
    world.passes(75 * DAY);
    assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryNear);
}

/// A file whose first end is that of a CA of clients.
fn file(begin: Timestamp, hours: u64) -> CompanionView {
    let fingerprint = Fingerprint::from_der(format!("{begin} {hours}").as_bytes());
    CompanionView {
        digest: fingerprint,
        first_end: Some(EndView {
            name: "CN=Clients".into(),
            fingerprint,
            not_before: begin,
            not_after: begin + Duration::from_secs(hours * HOUR),
            expiry: Expiry::Fine,
        }),
    }
}

fn everywhere(file: CompanionView) -> CompanionPlaces {
    CompanionPlaces {
        source: Some(file.clone()),
        installed: Some(file),
    }
}

fn with_files(config: &mut config::InstanceConfig) {
    let beside = |name: &str| config::Companion {
        source: name.into(),
        file: format!("/state/{name}").into(),
    };
    config.ca = Some(beside("ca.pem"));
    config.crl = Some(beside("crl.pem"));
}

#[test]
fn a_crl_that_is_renewed_daily_is_never_warned_of() {
    for hours in [25, 36, 7 * 24] {
        let mut world = World::with_days(365);
        for day in 0..20 {
            world.view.trust_files.crl = everywhere(file(world.wall, hours));
            assert_eq!(kinds(&world.lives(1)), [], "{hours} hours, day {day}");
        }
    }
}

#[test]
fn each_piece_is_warned_of_by_itself_and_the_certificate_hides_none() {
    let mut world = World::with_days(90);
    with_files(&mut world.config);
    world.passes(70 * DAY);
    assert_eq!(world.looks().unwrap().kind(), EventKind::ExpiryNear);
    let crl = file(world.wall, 10 * 24);
    let (digest, end) = (crl.digest.to_string(), crl.first_end.clone().unwrap());
    world.view.trust_files.crl = everywhere(crl);
    // Fewer than 60 hours of 240 are left.
    world.passes(180 * HOUR + 1);
    let said = world.hears();
    let crl: Vec<&Event> = said
        .iter()
        .filter(|event| event.value(Field::Piece) == Some("crl"))
        .collect();
    let [near] = crl.as_slice() else {
        panic!("{said:#?}")
    };
    assert_eq!(near.kind(), EventKind::ExpiryNear);
    assert_eq!(
        near.message(),
        "16-main: the CRL file has not been renewed: in its source, the CRL of CN=Clients expires in 2 days; \
         after that, every client of that CA is refused; find out why the program that makes or fetches it is not doing so: \
         check its timer (systemctl list-timers) or crontab"
    );
    for (field, value) in [
        (Field::File, "/state/crl.pem"),
        (Field::Place, "source"),
        (Field::Fingerprint, &digest),
        (Field::NotAfter, &end.not_after.to_string()),
    ] {
        assert_eq!(near.value(field), Some(value), "{field:?}");
    }
    // The source is renewed, and what is installed is not.
    world.view.trust_files.crl.source = Some(file(world.wall, 10 * 24));
    assert_eq!(world.looks(), None, "it is no nearer than before");
    world.view.trust_files.crl = everywhere(file(world.wall, 10 * 24));
    let over = world.looks().unwrap();
    assert_eq!(over.kind(), EventKind::ExpiryOver);
    assert_eq!(over.value(Field::Piece), Some("crl"));
    assert!(
        over.message()
            .starts_with("16-main: no CRL is about to expire any more, after ")
    );
}

#[test]
fn a_ca_is_said_to_expire_where_it_is_installed_though_its_source_has_another() {
    let mut world = World::with_days(365);
    with_files(&mut world.config);
    world.view.trust_files.ca = CompanionPlaces {
        source: Some(file(world.wall, 365 * 24)),
        installed: Some(file(world.wall, 90 * 24)),
    };
    world.passes(84 * DAY);
    let event = world.looks().unwrap();
    assert_eq!(event.kind(), EventKind::ExpiryCritical);
    assert_eq!(event.value(Field::Place), Some("installed"));
    assert_eq!(event.value(Field::File), Some("/state/ca.pem"));
    let begin = "16-main: in the installed CA file, the CA CN=Clients expires in 6 days; ";
    assert!(event.message().starts_with(begin), "{event:?}");
    world.passes(6 * DAY + 1);
    let event = world.looks().unwrap();
    assert_eq!(event.kind(), EventKind::Expired);
    let refused = "; every client of that CA is refused; ";
    assert!(event.message().contains(refused), "{event:?}");
    assert!(!world.view.is_well(world.wall));
}
