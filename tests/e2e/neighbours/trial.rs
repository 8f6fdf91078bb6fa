//! pgcertd dies after it has put a pair in place that only the pooler finds unfit, and the pooler
//! is restarted before pgcertd has run again.
#![cfg(feature = "failpoints")]

use std::fs;

use super::stage::{NAME, Stage};
use crate::{
    stage::{problem, says},
    world::{
        SOON, World,
        ca::Issued,
        daemon::{Launch, pgcertd},
        eventually,
        postgres::STRICT,
    },
};

/// Where pgcertd dies, and how often it has asked the pooler to reload by then.
const DEATHS: [(&str, usize); 2] = [("renamed", 0), ("reloaded", 1)];

impl Stage<'_> {
    /// The pooler's renewal is put in place by a daemon that dies at this point, and the pooler is
    /// stopped.
    fn dies_with(&mut self, death: (&str, usize), renewed: &Issued) {
        let (point, more) = death;
        let reloads = self.pooler.reloads() + more;
        let launch = Launch::new(self.world).like_the_unit();
        let launch = launch.env("FAILPOINTS", format!("{point}=panic"));
        let mut daemon = launch.daemon(&self.config);
        let status = daemon.ended(SOON);
        assert!(!status.success(), "{point}: {status}");
        eventually(SOON, "the pooler has heard of it", || {
            self.pooler.reloads() == reloads
        });
        self.holds(renewed);
        assert_eq!(self.pooler.served(), self.first.fingerprint);
        self.pooler.stop();
    }

    #[track_caller]
    fn holds(&self, issued: &Issued) {
        let text = fs::read_to_string(&self.cert).unwrap();
        assert_eq!(text, issued.combined_pem());
    }

    fn is_on_trial(&self) -> bool {
        let trial = self.cert.with_file_name("trial");
        fs::symlink_metadata(trial).is_ok()
    }

    /// What `status` says while the pooler is down.
    fn told(&self) -> String {
        let seen = pgcertd(self.world, &self.config, &["status", "--json"]).instance(NAME);
        assert_eq!(seen["state"], "not_running", "{seen}");
        problem(&seen)
    }
}

/// A pooler that has been given a pair by a deployment, so that there is one to go back to.
fn strict(world: &World) -> Stage<'_> {
    let stage = Stage::strict(world);
    stage.synced(&["--force"], "deployed", 0);
    stage
}

#[test]
fn what_no_pooler_has_taken_goes_back_before_it_starts() {
    for death in DEATHS {
        let world = or_skip!(World::with_debians(STRICT));
        let mut stage = strict(&world);
        let weak = stage.renew_weak();
        stage.dies_with(death, &weak);
        let log = stage.pooler.start().expect_err("it takes the pair");
        says(&log, &["ee key too small"]);
        let first = stage.first.fingerprint.clone();
        let names = [&weak.fingerprint[..6], &first[..6]];
        says(&stage.told(), &names);

        // At boot, whatever waits for pgcertd starts once that is ready.
        let daemon = stage.unit();
        stage.holds(&stage.first);
        let line = daemon.wait_for_log("not proven served and rolled back");
        says(&line, &[NAME, names[0], names[1], "PgBouncer is down"]);
        stage.pooler.start().unwrap();
        let mut session = stage.pooler.session(&stage.cluster);
        // It is deployed like any other now, and refused like any other.
        let line = daemon.wait_for_log("rejected by PgBouncer and rolled back");
        says(&line, &names[..1]);
        stage.becomes("rejected");
        stage.holds(&stage.first);
        assert_eq!(stage.pooler.served(), stage.first.fingerprint);
        assert_eq!(session.lives(), Ok(()));
        assert!(!stage.is_on_trial());

        let good = stage.renew();
        stage.serves(&good);
        stage.becomes("in_sync");
        assert_eq!(daemon.stop().code(), Some(0));
        stage.pooler.stop();
        stage.pooler.start().unwrap();
    }
}

#[test]
fn sync_takes_back_what_no_pooler_has_taken_and_brings_it_once_it_runs() {
    for death in DEATHS {
        let world = or_skip!(World::with_debians(STRICT));
        let mut stage = strict(&world);
        let weak = stage.renew_weak();
        stage.dies_with(death, &weak);
        stage.synced(&["--dry-run"], "would_deploy", 0);
        stage.holds(&weak);
        let row = stage.synced(&[], "taken_back", 0);
        says(&problem(&row), &[&weak.fingerprint[..6], "PgBouncer"]);
        stage.holds(&stage.first);
        // However often it is run.
        stage.synced(&[], "unchanged", 0);
        stage.holds(&stage.first);

        stage.pooler.start().unwrap();
        stage.synced(&[], "rolled_back", 1);
        stage.holds(&stage.first);
        assert_eq!(stage.pooler.served(), stage.first.fingerprint);
        assert!(!stage.is_on_trial());
        stage.pooler.stop();
        stage.pooler.start().unwrap();
    }
}

#[test]
fn a_good_pair_that_was_taken_back_is_served_once_the_pooler_runs() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.synced(&["--force"], "deployed", 0);
    let good = stage.renew();
    stage.dies_with(DEATHS[0], &good);
    let daemon = stage.unit();
    stage.holds(&stage.first);
    stage.pooler.start().unwrap();
    stage.serves(&good);
    stage.becomes("in_sync");
    assert!(!stage.is_on_trial());
    assert_eq!(daemon.stop().code(), Some(0));
}
