//! What is told when: how long a change lasts, what goes together, what is said again.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A ledger, its rules, and a clock that the test moves.
struct World {
    ledger: Ledger,
    rules: Notify,
    now: NoticeMoment,
}

fn instance(name: &str) -> NoticeSubject {
    NoticeSubject::new(About::Instance, name)
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").unwrap();
        World {
            ledger: Ledger::default(),
            rules: crate::config::Config::load(&file).unwrap().notify,
            now: NoticeMoment {
                wall: "2026-11-25T03:00:00Z".parse().unwrap(),
                at: Instant::now(),
            },
        }
    }

    fn telling(occasions: &[Occasion]) -> World {
        let mut world = World::new();
        world.rules.on = occasions.iter().copied().collect();
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now.at += time;
        self.now.wall += time;
    }

    fn see(&mut self, subject: NoticeSubject, standing: Standing) {
        let seen = BTreeMap::from([(subject, standing)]);
        self.ledger.see(&seen, self.now);
    }

    fn fails(&mut self, name: &str) {
        self.see(instance(name), Standing::unwell("not_served"));
    }

    fn is_well(&mut self, name: &str) {
        self.see(instance(name), Standing::well("in_sync"));
    }

    /// What is told now, and arrives.
    fn tells(&mut self) -> Vec<(Occasion, String)> {
        let Some(batch) = self.ledger.due(&self.rules, self.now) else {
            return Vec::new();
        };
        self.ledger.delivered(&batch, self.now);
        let changes = batch.changes.into_iter();
        changes
            .map(|change| (change.occasion, change.subject.name))
            .collect()
    }

    /// The same after a time.
    fn tells_after(&mut self, time: Duration) -> Vec<(Occasion, String)> {
        self.pass(time);
        self.tells()
    }

    fn restart(&mut self) {
        let kept = self.ledger.to_json().unwrap();
        self.ledger = Ledger::from_json(kept.as_bytes()).unwrap();
    }
}

fn failure(name: &str) -> (Occasion, String) {
    (Occasion::Failure, name.into())
}

fn recovery(name: &str) -> (Occasion, String) {
    (Occasion::Recovery, name.into())
}

#[test]
fn what_was_well_from_the_beginning_is_not_told() {
    let mut world = World::new();
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn a_failure_and_its_end_are_told_once_each() {
    let mut world = World::new();
    world.is_well("a");
    world.fails("a");
    assert_eq!(world.tells_after(29 * SECOND), []);
    assert_eq!(world.tells_after(SECOND), [failure("a")]);
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), []);
    world.is_well("a");
    assert_eq!(world.tells(), []);
    assert_eq!(world.tells_after(MINUTE), [recovery("a")]);
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn a_failure_that_was_there_before_us_is_told() {
    let mut world = World::new();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
}

#[test]
fn what_is_over_soon_is_not_told() {
    let mut world = World::new();
    world.is_well("a");
    world.fails("a");
    world.pass(20 * SECOND);
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn a_trouble_that_changes_its_face_has_lasted_since_it_began() {
    let mut world = World::new();
    world.is_well("a");
    world.fails("a");
    world.pass(20 * SECOND);
    world.see(instance("a"), Standing::unwell("unverified"));
    world.pass(10 * SECOND);
    let batch = world.ledger.due(&world.rules, world.now).unwrap();
    let [change] = batch.changes.as_slice() else {
        panic!("{batch:?}")
    };
    assert_eq!(change.new, Standing::unwell("unverified"));
    assert_eq!(change.old, Some(Standing::well("in_sync")));
    let begun = world.now.wall - 30 * SECOND;
    assert_eq!(change.since, Some(begun));
    world.ledger.delivered(&batch, world.now);
    // Another face after it was told is told, and the trouble is as old as it is.
    world.fails("a");
    world.pass(MINUTE);
    let batch = world.ledger.due(&world.rules, world.now).unwrap();
    assert_eq!(batch.changes[0].since, Some(begun));
    assert_eq!(batch.changes[0].old, Some(Standing::unwell("unverified")));
}

#[test]
fn what_changes_together_is_told_together() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.fails(name);
        world.pass(10 * SECOND);
    }
    // The third has not lasted half as long as is asked for.
    assert_eq!(world.tells(), [failure("a"), failure("b")]);
    assert_eq!(world.tells_after(20 * SECOND), [failure("c")]);
}

#[test]
fn what_was_not_delivered_stays_due_as_it_then_is() {
    let mut world = World::new();
    world.fails("a");
    world.pass(MINUTE);
    let lost = world.ledger.due(&world.rules, world.now);
    assert!(lost.is_some());
    assert_eq!(world.ledger.due(&world.rules, world.now), lost);
    world.see(instance("a"), Standing::unwell("rejected"));
    let newer = world.ledger.due(&world.rules, world.now).unwrap();
    assert_eq!(newer.changes[0].new, Standing::unwell("rejected"));
    // And what is over by then is not told.
    world.see(instance("a"), Standing::well("in_sync"));
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn what_changes_while_it_is_delivered_is_told_after_it() {
    let mut world = World::new();
    world.fails("a");
    world.pass(MINUTE);
    let batch = world.ledger.due(&world.rules, world.now).unwrap();
    world.is_well("a");
    world.ledger.delivered(&batch, world.now);
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), [recovery("a")]);
}

#[test]
fn a_restart_neither_repeats_nor_loses() {
    let mut world = World::new();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.restart();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), []);
    // It is fixed while nobody follows.
    world.restart();
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), [recovery("a")]);
}

#[test]
fn what_lasts_is_told_again_with_all_else_that_lasts() {
    let mut world = World::new();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.pass(5 * MINUTE);
    world.fails("b");
    assert_eq!(world.tells_after(MINUTE), [failure("b")]);
    world.pass(world.rules.repeat - MINUTE);
    assert_eq!(world.ledger.due(&world.rules, world.now), None);
    world.pass(MINUTE);
    let batch = world.ledger.due(&world.rules, world.now).unwrap();
    assert!(batch.changes.is_empty());
    let lasting: Vec<_> = batch
        .lasting
        .iter()
        .map(|lasting| &lasting.subject.name)
        .collect();
    assert_eq!(lasting, ["a", "b"]);
    world.ledger.delivered(&batch, world.now);
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn a_change_is_told_with_what_is_not_well_beside_it() {
    let mut world = World::new();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.fails("b");
    world.pass(MINUTE);
    let batch = world.ledger.due(&world.rules, world.now).unwrap();
    assert_eq!(batch.lasting.len(), 1);
    assert_eq!(batch.lasting[0].subject, instance("a"));
}

#[test]
fn what_comes_and_goes_is_told_soon_then_seldom_and_ends_with_the_trouble() {
    let mut world = World::new();
    world.is_well("a");
    // Never as long as is asked for.
    for _ in 0..3 {
        world.fails("a");
        assert_eq!(world.tells_after(10 * SECOND), []);
        world.is_well("a");
        assert_eq!(world.tells_after(10 * SECOND), []);
    }
    world.fails("a");
    assert_eq!(world.tells(), [failure("a")]);

    // Each lasts long enough to be told.
    let mut told = vec![failure("a")];
    for _ in 0..20 {
        world.is_well("a");
        told.extend(world.tells_after(MINUTE));
        world.fails("a");
        told.extend(world.tells_after(MINUTE));
    }
    assert_eq!(told.len(), MOST - 1, "{told:?}");
    assert_eq!(told.last(), Some(&failure("a")));
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), []);
    assert_eq!(world.tells_after(WINDOW), [recovery("a")]);
}

#[test]
fn nobody_is_told_what_he_does_not_want_to_hear() {
    let mut world = World::telling(&[Occasion::Recovery]);
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), []);
    assert_eq!(world.tells_after(2 * world.rules.repeat), []);
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), [recovery("a")]);
    let mut world = World::telling(&[Occasion::Failure]);
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), []);
}

#[test]
fn another_certificate_is_told_where_that_is_asked_for() {
    let subject = || NoticeSubject::new(About::Deployment, "a");
    for (on, told) in [
        (
            &[Occasion::Deployed][..],
            vec![(Occasion::Deployed, "a".to_owned())],
        ),
        (&[Occasion::Failure], Vec::new()),
    ] {
        let mut world = World::telling(on);
        world.see(subject(), Standing::well("aa"));
        assert_eq!(world.tells_after(MINUTE), []);
        world.see(subject(), Standing::well("bb"));
        assert_eq!(world.tells_after(MINUTE), told);
        world.see(subject(), Standing::well("bb"));
        assert_eq!(world.tells_after(MINUTE), []);
    }
}

#[test]
fn what_is_gone_is_forgotten_without_a_word() {
    let mut world = World::new();
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.ledger.keep(|_, open| {
        assert!(open);
        false
    });
    assert_eq!(world.tells_after(2 * world.rules.repeat), []);
}

#[test]
fn a_clock_that_is_set_back_or_forth_makes_nothing_new() {
    let mut world = World::new();
    world.fails("a");
    world.now.wall += 3 * MINUTE;
    assert_eq!(world.tells(), []);
    assert_eq!(world.tells_after(MINUTE), [failure("a")]);
    world.now.wall -= 24 * 60 * MINUTE;
    world.fails("a");
    assert_eq!(world.tells_after(MINUTE), []);
    world.is_well("a");
    assert_eq!(world.tells_after(MINUTE), [recovery("a")]);
}

#[test]
fn it_wakes_when_the_first_change_has_lasted() {
    let mut world = World::new();
    assert_eq!(world.ledger.wake(30 * SECOND, world.now), None);
    world.fails("a");
    world.pass(10 * SECOND);
    world.fails("b");
    let left = world.ledger.wake(30 * SECOND, world.now);
    assert_eq!(left, Some(20 * SECOND));
    world.pass(20 * SECOND);
    let left = world.ledger.wake(30 * SECOND, world.now);
    assert_eq!(left, Some(10 * SECOND));
}
