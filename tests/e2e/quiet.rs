//! That pgcertd looks at what is served leaves nothing in the server's log.

use crate::{
    stage::{NAME, Stage, daemon_view},
    world::{SOON, World, daemon::Daemon, eventually},
};

#[test]
fn the_daemon_and_the_commands_are_quiet_in_the_servers_log() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = Daemon::start(&world, &stage.config);
    let run = |args: &[&str]| stage.pgcertd(args);
    let address = format!("127.0.0.1:{}", stage.cluster.port());
    for _ in 0..10 {
        assert_eq!(run(&["status"]).code(), 0);
        assert_eq!(run(&["sync", NAME]).code(), 0);
        assert_eq!(run(&["sync", "--force"]).code(), 0);
        run(&["check"]);
        // The root is none of the system's.
        assert_eq!(run(&["probe", &address]).code(), 1);
    }
    let second = stage.renew();
    eventually(SOON, "the renewal is served", || {
        daemon_view(&stage.config)
            .is_ok_and(|view| view["served"]["fingerprint"] == second.fingerprint.as_str())
    });
    // The test itself has not connected: what is there is pgcertd's.
    let status = daemon.stop();
    let log = stage.cluster.log();
    for noise in ["SSL", "could not", "client", "protocol", "unexpected"] {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
    assert_eq!(status.code(), Some(0));
    let mut cluster = stage.cluster;
    cluster.restart().unwrap();
    assert_eq!(cluster.served(), second.fingerprint);
}
