//! Ways to reload, what a reload brings along, and what happens in the middle of one.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    stage::{NAME, Stage, next_second, says},
    world::{
        SOON, World,
        config::Instance,
        daemon::{Daemon, Launch, pgcertd},
        eventually, throughout,
    },
};

const RELOAD: &str = "kill -HUP \"$(head -n 1 \"$PGDATA/postmaster.pid\")\"";

/// A shell script of the test.
fn script(world: &World, text: &str) -> PathBuf {
    let file = world.path().join("reload.sh");
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn by_command(instance: Instance, command: &Path) -> Instance {
    instance
        .set("reload", "command")
        .set("reload_command", vec![command.to_str().unwrap()])
}

/// A reload by a script that says that it has begun, and waits until it may go on.
fn gated(world: &World) -> (Stage<'_>, PathBuf, PathBuf) {
    let (begun, gate) = (world.path().join("begun"), world.path().join("gate"));
    let text = format!(
        "touch {}\nwhile [ ! -e {} ]; do sleep 0.05; done\n{RELOAD}",
        begun.display(),
        gate.display()
    );
    let file = script(world, &text);
    let stage = Stage::build(world)
        .instance(|instance| by_command(instance, &file))
        .start();
    (stage, begun, gate)
}

#[test]
fn pg_ctl_reloads_as_the_servers_user() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("reload", "pg_ctl"))
        .start();
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_command_reloads_and_is_told_which_instance() {
    let world = or_skip!(World::new());
    let told = world.path().join("told");
    let text = format!("echo \"$PGCERTD_INSTANCE\" > {}\n{RELOAD}", told.display());
    let file = script(&world, &text);
    let mut stage = Stage::build(&world)
        .instance(|instance| by_command(instance, &file))
        .start();
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    assert_eq!(fs::read_to_string(told).unwrap(), format!("{NAME}\n"));
    stage.ends(daemon, &second);
}

#[test]
fn a_command_that_fails_is_named_with_its_words_and_run_again() {
    let world = or_skip!(World::new());
    let file = script(&world, "echo first >&2; echo 'no leader' >&2; exit 3");
    let mut stage = Stage::build(&world)
        .instance(|instance| by_command(instance, &file))
        .start();
    let daemon = stage.daemon();
    let second = stage.renew();
    let told = [file.to_str().unwrap(), "exit status: 3", "no leader"];
    says(&daemon.wait_for_log("failed"), &told);
    stage.becomes_and_says("not_served", &told);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);

    script(&world, RELOAD);
    stage.serves(&second);
    stage.becomes("in_sync");
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.ends(daemon, &second);
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let world = or_skip!(World::new());
    let file = world.path().join("no-such-script");
    let mut stage = Stage::build(&world)
        .instance(|instance| by_command(instance, &file))
        .start();
    let second = stage.renew();
    let row = stage.synced(&[], "failed", 1);
    says(
        &crate::stage::problem(&row),
        &[file.to_str().unwrap(), "No such file"],
    );
    // It is installed: a restart serves it, and so does a reload by hand.
    stage.cluster.reload_by_hand();
    stage.serves(&second);
    stage.synced(&[], "unchanged", 0);
    stage.ends_serving(&second);
}

#[test]
fn sigterm_in_the_middle_of_a_deployment_finishes_it() {
    let world = or_skip!(World::new());
    let (mut stage, begun, gate) = gated(&world);
    let mut daemon = stage.daemon();
    let second = stage.renew();
    eventually(SOON, "the reload has begun", || begun.exists());
    assert!(daemon.signal(Signal::TERM));
    eventually(SOON, "it is stopping", || {
        daemon.notified().iter().any(|line| line == "STOPPING=1")
    });
    throughout(Duration::from_millis(300), "it waits for the end", || {
        daemon.is_running()
    });
    fs::write(gate, "").unwrap();
    assert_eq!(daemon.ended(SOON).code(), Some(0));
    daemon.wait_for_log("deployed and served");
    assert_eq!(stage.cluster.served(), second.fingerprint);
    stage.ends_serving(&second);
}

#[test]
fn sync_waits_while_the_daemon_is_at_work() {
    let world = or_skip!(World::new());
    let (mut stage, begun, gate) = gated(&world);
    let daemon = stage.daemon();
    let second = stage.renew();
    eventually(SOON, "the reload has begun", || begun.exists());
    let config = &stage.config;
    let world = stage.world;
    let row = std::thread::scope(|scope| {
        let sync = scope.spawn(|| {
            let done = pgcertd(world, config, &["sync", "--json"]);
            (done.code(), done.instance(NAME))
        });
        throughout(Duration::from_millis(500), "sync waits", || {
            !sync.is_finished()
        });
        fs::write(&gate, "").unwrap();
        sync.join().unwrap()
    });
    assert_eq!(row.0, 0, "{row:?}");
    assert_eq!(row.1["outcome"], "unchanged");
    assert_eq!(stage.reloads(), 1);
    stage.ends(daemon, &second);
}

#[test]
fn what_else_waits_in_the_configuration_is_named() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let also = "the reload also applied";

    // Nothing was edited since the start.
    let _second = stage.renewal_is_served();
    let line = daemon.wait_for_log("deployed and served");
    assert!(!line.contains(also), "{line}");

    next_second();
    stage.cluster.sql("alter system set work_mem = '5MB'");
    stage.cluster.set("log_min_duration_statement", "1h");
    let third = stage.renewal_is_served();
    let line = daemon.wait_for_log(&format!("{} deployed", &third.fingerprint[..6]));
    says(&line, &[also, "postgresql.auto.conf", "conf.d/test.conf"]);
    assert!(!line.contains("pg_hba.conf"), "{line}");

    // Once applied, they are old.
    let fourth = stage.renewal_is_served();
    let line = daemon.wait_for_log(&format!("{} deployed", &fourth.fingerprint[..6]));
    assert!(!line.contains(also), "{line}");
    stage.ends(daemon, &fourth);
}

#[test]
fn a_deployment_leaves_no_trace_in_the_servers_log_but_its_reload() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("log_min_messages", "debug1"))
        .start();
    let daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    daemon.wait_for_log(": in_sync");
    let second = stage.renew();
    daemon.wait_for_log("deployed and served");
    let before_openssl = stage.cluster.log();
    for noise in [
        "could not accept SSL",
        "could not receive data",
        "SSL error",
        "handshake",
        "alert",
        "incomplete startup packet",
        "FATAL",
    ] {
        assert!(
            !before_openssl.contains(noise),
            "{noise:?} is in {before_openssl}"
        );
    }
    assert_eq!(stage.reloads(), 1);
    stage.ends(daemon, &second);
}

#[test]
fn a_daemon_that_starts_on_what_is_in_order_asks_for_nothing() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    for _ in 0..3 {
        let daemon: Daemon = stage.daemon();
        assert_eq!(daemon.stop().code(), Some(0));
    }
    stage.synced(&[], "unchanged", 0);
    assert_eq!(stage.reloads(), 0);
    stage.ends_serving_the_first();
}
