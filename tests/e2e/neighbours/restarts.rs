//! A PgBouncer that ends, starts again or hands over: a renewal of that time is served all the same.

use super::stage::Stage;
use crate::world::{World, daemon::eventually_at_rest, pgbouncer::is_newer, skipped::Skipped};

#[test]
fn a_renewal_of_the_time_of_a_hand_over_is_served_by_the_process_that_took_over() {
    if is_newer() {
        return Skipped::because("only Debian's PgBouncer hands over (-R)").count();
    }
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    for _ in 0..3 {
        // The one of before may load it, and the one that takes over have read the files before.
        let old = stage.pooler.pid();
        let before = stage.renew();
        stage.pooler.take_over();
        assert_ne!(stage.pooler.pid(), old);
        stage.serves(&before);
        stage.becomes("in_sync");
        stage.pooler.take_over();
        let behind = stage.renew();
        stage.serves(&behind);
        stage.becomes("in_sync");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_pooler_that_was_killed_is_told_at_once_and_its_successor_gets_the_renewal() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    eventually_at_rest(&stage.config);
    stage.pooler.kill9();
    // Its pid file is left as it is: only its process tells.
    daemon.wait_for_log(": not_running");
    let second = stage.renew();
    stage.pooler.start().unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
}
