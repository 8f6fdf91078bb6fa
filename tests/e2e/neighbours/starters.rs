//! A PgBouncer under what started it, and one of another user than is expected.

use super::stage::Stage;
use crate::{
    stage::{problem, says},
    world::{World, daemon::eventually_state},
};

#[test]
fn a_pooler_is_found_under_what_started_it_and_one_of_another_user_is_not_down() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .pooler(|pooler| pooler.unset("pidfile"))
        .start();
    for starter in [
        &["tini", "-g", "--", "sudo", "-u", "postgres"][..],
        &["timeout", "1h", "runuser", "-u", "postgres", "--"],
    ] {
        println!("{starter:?}");
        stage.pooler.stop();
        stage.becomes("not_running");
        stage.pooler.start_by(starter);
        stage.pooler.start().unwrap();
        stage.becomes("in_sync");
        let next = stage.renew();
        stage.synced(&[], "deployed", 0);
        assert_eq!(stage.pooler.served(), next.fingerprint);
    }

    // Another user's than its file. It cannot read the key.
    stage.pooler.stop();
    stage.pooler.set("client_tls_sslmode", "disable");
    stage.pooler.set("unix_socket_dir", "");
    let nobody = [
        "setpriv",
        "--reuid=nobody",
        "--regid=postgres",
        "--clear-groups",
    ];
    stage.pooler.start_by(&nobody);
    stage.pooler.start().unwrap();
    let seen = eventually_state(&world, &stage.config, "pooler", "unverified");
    says(
        &problem(&seen),
        &[
            "cannot be taken for its PgBouncer",
            "its user is",
            "set owner",
        ],
    );
    assert_eq!(stage.pgcertd(&["status"]).code(), 1);
    // One that ends is down.
    stage.pooler.stop();
    eventually_state(&world, &stage.config, "pooler", "not_running");
}
