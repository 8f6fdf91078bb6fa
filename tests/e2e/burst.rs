//! What many instances cost together: counts of system calls, since a time says nothing on a shared machine.

use std::fs;

use crate::{
    stage::{HOST, NAME, Stage, daemon_view, daemon_view_of},
    world::{
        SOON, World,
        ca::Ca,
        config::{Config, Instance},
        daemon::{Daemon, Launch},
        eventually,
        lineage::Lineage,
    },
};

/// How many instances change at once.
const MANY: usize = 40;

/// Lines of what strace saw so far.
fn traced(world: &World, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let log = fs::read_to_string(world.path().join("strace.log")).unwrap();
    let lines = log.lines().filter(|line| wanted(line));
    lines.map(str::to_owned).collect()
}

/// The writings of `status.json`: each call that writes of it, and each rename that puts it in its place.
fn writings(world: &World) -> (usize, usize) {
    let count = |what: &str| traced(world, |line| line.contains(what)).len();
    (count(r#""{\"version\":1,\"#), count(r#", "status.json""#))
}

#[test]
fn the_view_of_many_instances_that_change_at_once_is_written_a_few_times() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&ca.issue(&[HOST]));
    let mut config = Config::new(&world).watch("resync", "1h");
    let names: Vec<String> = (0..MANY).map(|number| format!("n{number}")).collect();
    for name in &names {
        // Data directories whose servers are down.
        let data = world.postgres_directory(name, 0o700);
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        config = config.instance(Instance::new(name, HOST, &data));
    }
    let config = config.write();
    let arguments = ["-s", "40", "-e", "trace=write,renameat,renameat2"];
    let mut daemon = Launch::new(&world).strace(&arguments).daemon(&config);
    daemon.ready();
    let all_hold = |place: &str, fingerprint: &str| {
        eventually(SOON * 2, place, || {
            names.iter().all(|name| {
                daemon_view_of(&config, name)
                    .is_ok_and(|view| view[place]["fingerprint"] == fingerprint)
            })
        });
    };
    let second = ca.issue(&[HOST]);
    let before = writings(&world);
    lineage.renew(&second);
    all_hold("source", &second.fingerprint);
    let (written, renamed) = writings(&world);
    println!("{before:?} {written} {renamed}");
    assert_eq!(written, renamed, "not one write each");
    let since = renamed - before.1;
    assert!((1..=10).contains(&since), "{since} for {MANY} instances");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn until_it_is_ready_it_asks_no_server_and_searches_no_processes() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut daemon = Launch::new(&world)
        .strace(&[
            "-s",
            "80",
            "-e",
            "trace=execve,write,sendto,sendmsg,connect,readlink",
        ])
        .daemon(&stage.config);
    daemon.ready();
    eventually(SOON, "it is in sync", || {
        daemon_view(&stage.config).is_ok_and(|view| view["state"] == "in_sync")
    });
    let seen = traced(&world, |_| true);
    let is_at = |what: &'static str| seen.iter().position(|line| line.contains(what));
    let ready = is_at("READY=1").unwrap();
    let asked = is_at("\"-C\"").unwrap();
    let searched = is_at("\"/proc/1/exe\"").unwrap();
    let probed = is_at("inet_addr(\"127.0.0.1\")").unwrap();
    assert!(
        ready < asked && ready < searched && ready < probed,
        "ready at {ready}, asked at {asked}, searched at {searched}, probed at {probed}"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn status_reads_a_lineage_once_and_leaves_the_configuration_to_the_daemon() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let look = |config: &Config| {
        let strace = ["-s", "200", "-e", "trace=execve,openat"];
        let status = Launch::new(&world)
            .strace(&strace)
            .run(config, &["status", "--json"]);
        assert_eq!(status.instance(NAME)["state"], "in_sync", "{status:?}");
        let count = |what: &str| traced(&world, |line| line.contains(what)).len();
        (count("\"-C\""), count("\"privkey1.pem\""))
    };
    let (asked, read) = look(&stage.config);
    assert!(asked > 0, "nobody else has asked the server");
    let mut config = Config::new(&world).watch("resync", "1h");
    config = config.instance(stage.instance(HOST));
    for name in ["down-1", "down-2"] {
        let down = world.postgres_directory(name, 0o700);
        fs::write(down.join("PG_VERSION"), "15\n").unwrap();
        config = config.instance(Instance::new(name, HOST, &down));
    }
    stage.config = config.write();
    let daemon = Daemon::start(&world, &stage.config);
    eventually(SOON, "it is in sync", || {
        daemon_view(&stage.config).is_ok_and(|view| view["state"] == "in_sync")
    });
    assert_eq!(look(&stage.config), (0, read));
    // What the daemon has seen is no longer so, and it may be about to find out.
    let settings = fs::read_to_string(stage.cluster.settings_file()).unwrap();
    stage.cluster.set("ssl", "off");
    eventually(SOON, "the edit is seen", || {
        let status = stage.pgcertd(&["status", "--json"]);
        status.instance(NAME)["state"] == "not_used"
    });
    fs::write(stage.cluster.settings_file(), settings).unwrap();
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
}
