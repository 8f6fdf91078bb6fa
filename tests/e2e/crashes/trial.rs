//! pgcertd dies after it has put a bundle in place that only Postgres finds unfit, and Postgres is
//! restarted before pgcertd has run again.

use std::{fs, time::SystemTime};

use crate::stage::HOST;
use crate::world::{
    SOON, World,
    ca::{DAY, Issued, Options},
    daemon::{Launch, Outcome, eventually_state},
    eventually, give,
    postgres::STRICT,
    throughout,
};

use super::stage::{Files, Left, Stage};

/// A bundle that this Postgres refuses, left in place by a `sync` that was killed just before it
/// asked Postgres to load it, or `after` that.
fn left_in_place(stage: &mut Stage<'_>, killed: Killed) -> Issued {
    let weak = stage.weak();
    let bad = stage.ca.issue_with(&[HOST], &weak);
    stage.lineage.renew(&bad);
    killed.by(stage);
    assert_eq!(stage.left(), Left::holding(&bad));
    assert_eq!(stage.held(), "");
    assert_eq!(stage.cluster.served(), stage.now.fingerprint);
    bad
}

#[derive(Clone, Copy)]
enum Killed {
    /// At the signal, which Postgres does not get.
    BeforeReload,
    /// At the rename that would remember what came of it.
    BeforeRecord,
}

impl Killed {
    fn by(self, stage: &mut Stage<'_>) {
        let before = stage.cluster.log().matches("received SIGHUP").count();
        let (call, nth, reloads) = match self {
            Killed::BeforeReload => ("pidfd_send_signal", 1, 0),
            // What is on trial, the previous bundle and the targets come before it.
            Killed::BeforeRecord => ("renameat", 3 + stage.targets(), 1),
        };
        assert!(stage.kill(call, nth).is_none(), "it was not killed");
        let after = stage.cluster.log().matches("received SIGHUP").count();
        assert_eq!(after - before, reloads);
    }
}

/// What `status` says where no daemon runs.
fn told(stage: &Stage<'_>) -> String {
    let seen = stage.pgcertd(&["status", "--json"]).instance("16-main");
    assert_eq!(seen["state"], "not_running", "{seen}");
    seen["problem"].as_str().unwrap_or_default().to_owned()
}

fn synced(stage: &Stage<'_>) -> Outcome {
    stage.pgcertd(&["sync", "--json"])
}

#[track_caller]
fn names(text: &str, bundles: &[&Issued]) {
    for issued in bundles {
        let short = &issued.fingerprint[..6];
        assert!(text.contains(short), "{short} is not in {text:?}");
    }
}

fn daemon_mends(files: Files, killed: Killed) {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, files);
    let bad = left_in_place(&mut stage, killed);
    stage.cluster.stop();
    stage.does_not_start();
    names(&told(&stage), &[&bad, &stage.now]);

    // At boot, whatever waits for pgcertd starts once that is ready.
    let daemon = stage.unit();
    assert_eq!(stage.left(), Left::holding(&stage.now));
    let line = daemon.wait_for_log("not proven served and rolled back");
    names(&line, &[&bad, &stage.now]);
    names(&told(&stage), &[&bad, &stage.now]);

    stage.starts("after pgcertd");
    let mut session = stage.cluster.session();
    // It is deployed like any other now, and refused like any other.
    eventually_state(&world, &stage.config, "16-main", "rejected");
    stage.is_rejected(&bad);
    assert_eq!(session.lives(), Ok(()));
    stage.has_no_trial();
    assert_eq!(daemon.stop().code(), Some(0));
    let new = stage.renew();
    stage.synced(&new);
    stage.cluster.restart().unwrap();
}

#[test]
fn what_nobody_has_tried_is_taken_back_before_postgres_starts() {
    daemon_mends(Files::One, Killed::BeforeReload);
}

#[test]
fn what_nobody_has_tried_is_taken_back_before_postgres_starts_with_two_files() {
    daemon_mends(Files::Two, Killed::BeforeReload);
}

#[test]
fn a_refusal_that_was_not_remembered_is_taken_back_before_postgres_starts() {
    daemon_mends(Files::One, Killed::BeforeRecord);
}

#[test]
fn a_refusal_that_was_not_remembered_is_taken_back_before_postgres_starts_with_two_files() {
    daemon_mends(Files::Two, Killed::BeforeRecord);
}

#[test]
fn sync_takes_back_what_nobody_has_tried_and_brings_it_once_postgres_runs() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, Files::One);
    let bad = left_in_place(&mut stage, Killed::BeforeReload);
    stage.cluster.stop();
    let dry = stage.pgcertd(&["sync", "--dry-run", "--json"]);
    assert_eq!(dry.instance("16-main")["outcome"], "would_deploy");
    assert_eq!(stage.left(), Left::holding(&bad));

    let done = synced(&stage);
    let row = done.instance("16-main");
    assert_eq!((&row["outcome"], done.code()), (&"taken_back".into(), 0));
    assert_eq!(row["fingerprint"], bad.fingerprint.as_str());
    names(row["problem"].as_str().unwrap(), &[&bad]);
    assert_eq!(stage.left(), Left::holding(&stage.now));
    // However often it is run.
    assert_eq!(synced(&stage).instance("16-main")["outcome"], "unchanged");
    // Who has brought it hears that it waits.
    let hook = ["sync", "--json", "--lineage", HOST];
    let hook = stage.pgcertd(&hook);
    assert_eq!(hook.code(), 1, "{hook:?}");
    assert_eq!(stage.left(), Left::holding(&stage.now));

    stage.starts("after sync");
    stage.rejected(&bad);
    stage.has_no_trial();
}

#[test]
fn a_good_bundle_that_was_taken_back_is_served_once_postgres_runs() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let good = stage.renew();
    Killed::BeforeReload.by(&mut stage);
    // Its administrator stops it, for a reason of his own.
    stage.cluster.stop();
    let daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    daemon.wait_for_log("not proven served and rolled back");
    assert_eq!(stage.left(), Left::holding(&stage.now));
    stage.starts("after that");
    eventually(SOON, "the renewal is served", || {
        stage.cluster.served() == good.fingerprint
    });
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
    stage.has_no_trial();
    stage.synced(&good);
}

#[test]
fn what_a_running_postgres_proves_after_a_crash_is_on_trial_no_more() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let good = stage.renew();
    Killed::BeforeReload.by(&mut stage);
    assert!(stage.trial().contains(&good.fingerprint));
    stage.synced(&good);
    stage.has_no_trial();
    stage.cluster.stop();
    assert_eq!(synced(&stage).instance("16-main")["outcome"], "unchanged");
    assert_eq!(stage.left(), Left::holding(&good));
    stage.starts("at last");
}

#[test]
fn nothing_is_taken_back_by_what_is_worse_or_for_what_others_have_placed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let now = SystemTime::now();
    let expired = Options {
        not_before: now - 9 * DAY,
        not_after: now - DAY,
        ..Options::default()
    };
    let expired = stage.ca.issue_with(&[HOST], &expired).combined_pem();
    let previous = stage.state.join("previous.pem");
    let kept = |text: &str| {
        fs::write(&previous, text).unwrap();
        give(&previous, world.postgres(), 0o600);
    };
    let new = stage.renew();
    Killed::BeforeReload.by(&mut stage);
    stage.cluster.stop();
    let proven = fs::read_to_string(&previous).unwrap();
    for worse in [expired, proven[..proven.len() / 2].to_owned()] {
        kept(&worse);
        assert_eq!(synced(&stage).instance("16-main")["outcome"], "unchanged");
        assert_eq!(stage.left(), Left::holding(&new));
    }

    kept(&proven);
    let by_hand = stage.ca.issue(&[HOST]);
    world.place(&by_hand, &world.target("16-main"));
    let daemon = stage.unit();
    throughout(std::time::Duration::from_millis(700), "it stays", || {
        stage.left() == Left::holding(&by_hand)
    });
    stage.starts("on what was placed by hand");
    eventually(SOON, "the renewal is served", || {
        stage.cluster.served() == new.fingerprint
    });
    assert_eq!(daemon.stop().code(), Some(0));
    stage.synced(&new);
    stage.has_no_trial();
}

#[test]
fn what_is_installed_on_purpose_while_postgres_is_down_stays() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let new = stage.renew();
    Killed::BeforeReload.by(&mut stage);
    stage.cluster.stop();
    assert_eq!(synced(&stage).instance("16-main")["outcome"], "taken_back");
    let forced = stage.pgcertd(&["sync", "--force", "--json"]);
    assert_eq!(forced.instance("16-main")["outcome"], "installed");
    stage.has_no_trial();
    assert_eq!(synced(&stage).instance("16-main")["outcome"], "unchanged");
    assert_eq!(stage.left(), Left::holding(&new));
    stage.starts("on it");
    stage.synced(&new);
}

#[test]
fn a_postgres_that_hung_at_the_install_and_is_restarted_starts_on_what_it_served() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, Files::One);
    let served = stage.now.clone();
    let weak = stage.weak();
    let bad = stage.ca.issue_with(&[HOST], &weak);
    stage.lineage.renew(&bad);
    stage.cluster.freeze();
    // Another process than the one that has proven what is installed.
    let done = synced(&stage);
    assert_eq!(done.instance("16-main")["outcome"], "unverified");
    let previous = fs::read_to_string(stage.state.join("previous.pem")).unwrap();
    assert_eq!(previous, served.combined_pem());
    stage.cluster.kill9();
    stage.does_not_start();

    assert_eq!(synced(&stage).instance("16-main")["outcome"], "taken_back");
    stage.starts("on what it served");
    assert_eq!(stage.cluster.served(), served.fingerprint);
    stage.rejected(&bad);
}
