//! A Patroni that is down.

use std::fs;

use super::{API, Stage, weighs};
use crate::{
    stage::{problem, says},
    world::{
        World,
        daemon::{eventually_at_rest, eventually_state},
        patroni::Settings,
        postgres::PATRONI,
    },
};

#[test]
fn a_patroni_that_is_down_is_told_with_its_remedy_and_gets_the_renewal_when_it_starts() {
    let world = or_skip!(World::with_debians(PATRONI));
    let mut stage = Stage::new(&world, Settings::with_tls);
    let daemon = stage.daemon();
    eventually_at_rest(&stage.config);
    stage.solo.node.kill9();
    let remedy = ["no Patroni runs with", "systemctl start patroni"];
    let seen = eventually_state(&world, &stage.config, API, "not_running");
    says(&problem(&seen), &remedy);
    weighs(stage.checked("server"), "notice", &remedy);

    // The daemon sees the end of the process, though no file tells of it.
    daemon.wait_for_log(": not_running");
    // A sound pair waits until it is up; no event tells of the start.
    let second = stage.renew();
    stage.becomes("not_running");
    let installed = fs::read_to_string(&stage.target).unwrap();
    assert_eq!(installed, stage.first.combined_pem());
    stage.solo.node.start();
    stage.serves(&second);
    daemon.wait_for_log(&format!("{} deployed and served", &second.fingerprint[..6]));

    // Nobody follows up a `sync`: it installs, and Patroni starts on that.
    assert_eq!(daemon.stop().code(), Some(0));
    stage.solo.node.kill9();
    let third = stage.renew();
    stage.done(&["sync"], "installed", 0);
    stage.becomes("not_running");
    stage.solo.node.start();
    stage.serves(&third);
}
