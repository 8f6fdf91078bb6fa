//! Faults in pgcertd itself, planted at its fail points.
#![cfg(feature = "failpoints")]

use crate::stage::Stage;
use crate::world::{
    SOON, World,
    daemon::{Launch, eventually_state},
    eventually,
};

#[test]
fn a_panic_in_any_thread_ends_the_daemon_with_a_failure() {
    for point in ["compare", "read", "commit"] {
        let world = or_skip!(World::new());
        let mut stage = Stage::new(&world);
        let second = stage.ca.issue(&["pg.example.com"]);
        stage.lineage.renew(&second);
        let launch = Launch::new(&world).env("FAILPOINTS", format!("{point}=panic"));
        let mut daemon = launch.daemon(&stage.config);
        let status = daemon.ended(SOON);
        assert!(!status.success(), "{point}: {status}");
        let log = daemon.log();
        assert!(log.contains("internal error; exiting"), "{point}: {log}");
        // Systemd starts it again, and the next one does what this one did not.
        let next = Launch::new(&world).daemon(&stage.config);
        eventually_state(&world, &stage.config, "16-main", "in_sync");
        assert_eq!(stage.cluster.served(), second.fingerprint);
        assert!(next.stop().success());
    }
}

#[test]
fn a_deployment_in_hand_is_finished_before_sigterm_ends_the_daemon() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let launch = Launch::new(&world).env("FAILPOINTS", "commit=sleep(1500)");
    let daemon = launch.daemon(&stage.config);
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    let second = stage.ca.issue(&["pg.example.com"]);
    stage.lineage.renew(&second);
    let staged = world
        .target("16-main")
        .with_file_name(".server.pem.pgcertd-new");
    eventually(SOON, "the deployment has begun", || staged.exists());
    assert!(daemon.stop().success());
    assert_eq!(stage.cluster.served(), second.fingerprint);
    stage.cluster.restart().unwrap();
}
