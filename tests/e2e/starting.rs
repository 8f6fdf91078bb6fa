//! When the daemon says that it is ready: Postgres is ordered after that at boot.

use std::fs;

use serde_json::Value;

use crate::{
    stage::{NAME, Stage, says},
    world::{
        SOON, World,
        daemon::{Daemon, Launch},
        eventually,
    },
};

/// What it says where it did not wait any longer.
const GIVEN_UP: &str = "could not be read within";

#[test]
fn ready_waits_for_no_server_to_answer() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.freeze();
    let mut daemon = Daemon::start(&world, &stage.config);
    // It came by itself and not because time was up; the server has yet to answer.
    let log = daemon.log();
    assert!(!log.contains(GIVEN_UP), "{log}");
    // Servers of other tests may be told of after it.
    let line = "STATUS=1 instance not checked yet";
    let told = daemon.notified();
    assert!(
        told.iter().any(|change| change.starts_with(line)),
        "{told:?}"
    );
    stage.cluster.thaw();
    stage.becomes("in_sync");
    says_soon(&mut daemon, "STATUS=1 instance in sync; ");
    stage.ends_as_it_began(daemon);
}

#[cfg(feature = "failpoints")]
#[test]
fn ready_waits_not_long_for_a_file_system_that_does_not_answer() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    // The fail point stands in for a network file system that has lost its server.
    let launch = Launch::new(&world).env("FAILPOINTS", "read=sleep(5000)");
    let mut daemon = launch.daemon(&stage.config);
    daemon.ready();
    let given_up = daemon.wait_for_log(GIVEN_UP);
    says(&given_up, &[NAME, "file systems", "answer"]);
    // Once it answers, all is as if it had done so at once.
    stage.cluster.start().unwrap();
    stage.becomes("in_sync");
    stage.ends_as_it_began(daemon);
}

#[test]
fn while_a_new_config_is_taken_in_the_view_still_has_what_was_seen() {
    let world = or_skip!(World::new());
    // A look that is under way is finished before a new config is taken in.
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("verify_timeout", "5s"))
        .start();
    let mut daemon = Daemon::start(&world, &stage.config);
    let view = stage.config.runtime_directory().join("status.json");
    let seen = || -> Value { serde_json::from_str(&fs::read_to_string(&view).unwrap()).unwrap() };
    // The daemon itself, and not only who looks beside it.
    eventually(SOON, "the daemon has seen it", || {
        seen()["instances"][0]["state"] == "in_sync"
    });
    // The next look takes its time.
    stage.cluster.freeze();
    daemon.hangup();
    eventually(SOON, "it is ready again", || {
        let ready = |line: &&String| *line == "READY=1";
        daemon.notified().iter().filter(ready).count() == 2
    });
    let view = seen();
    assert_eq!(view["instances"][0]["name"], NAME, "{view}");
    assert_eq!(view["instances"][0]["state"], "in_sync", "{view}");
    stage.cluster.thaw();
    stage.ends_as_it_began(daemon);
}

#[track_caller]
fn says_soon(daemon: &mut Daemon, start: &str) {
    eventually(SOON, start, || {
        daemon.notified().iter().any(|line| line.starts_with(start))
    });
}
