//! The rights of each thread of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
};

use crate::stage::Stage;
use crate::world::{
    SOON, World, command,
    daemon::{Daemon, Launch, eventually_state},
    process::run,
};

const NONE: &str = "0000000000000000";
const DAC_READ_SEARCH: &str = "0000000000000004";

/// The fields of `/proc/PID/task/TID/status`.
type Status = BTreeMap<String, String>;

/// The daemon's threads by their names.
fn threads(daemon: &Daemon) -> Vec<(String, Status)> {
    fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .filter_map(|task| {
            // One that has ended meanwhile cannot be read.
            let text = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let status: Status = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect();
            Some((status["Name"].clone(), status))
        })
        .collect()
}

/// Whether it is the thread that reads a lineage, or one of those that watch directories.
fn looks(name: &str) -> bool {
    name.starts_with("r:") || name == "watcher" || name.starts_with("notify-rs")
}

/// Brings one deployment, so that every thread has come to life and done its work.
fn deployed(world: &World, stage: &mut Stage, daemon: &mut Daemon) {
    daemon.ready();
    let second = stage.ca.issue(&["pg.example.com"]);
    stage.lineage.renew(&second);
    daemon.wait_for_log("deployed and served");
    eventually_state(world, &stage.config, "16-main", "in_sync");
}

#[test]
fn only_the_threads_that_read_lineages_have_the_one_capability() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    deployed(&world, &mut stage, &mut daemon);

    let all = threads(&daemon);
    for (name, status) in &all {
        let effective = if looks(name) { DAC_READ_SEARCH } else { NONE };
        assert_eq!(status["CapEff"], effective, "{name}: {all:?}");
        assert_eq!(status["CapAmb"], NONE, "{name}");
        assert_eq!(status["CapInh"], NONE, "{name}");
        assert_eq!(status["CapBnd"], DAC_READ_SEARCH, "{name}");
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        if name.starts_with("w:") {
            assert_eq!(status["CapPrm"], NONE, "{name}");
        }
    }
    for expected in ["pgcertd", "w:16-main", "r:", "watcher", "notify-rs"] {
        let there = all.iter().any(|(name, _)| name.starts_with(expected));
        assert!(there, "no thread {expected} in {all:?}");
    }
    // The kernel gives what cannot be dumped to root, whoever the process runs as.
    let memory = fs::metadata(format!("/proc/{}/mem", daemon.pid())).unwrap();
    assert_eq!(
        memory.uid(),
        0,
        "a process of the same user may read its memory"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn as_root_the_writer_has_the_owners_rights_and_the_reader_may_only_read() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = Launch::new(&world).daemon(&stage.config);
    deployed(&world, &mut stage, &mut daemon);

    let all = threads(&daemon);
    let of = |prefix: &str| {
        let mut found = all.iter().filter(|(name, _)| name.starts_with(prefix));
        &found
            .next()
            .unwrap_or_else(|| panic!("no thread {prefix}"))
            .1
    };
    let writer = of("w:16-main");
    assert_eq!((&*writer["CapEff"], &*writer["CapPrm"]), (NONE, NONE));
    let owner = world.postgres();
    let file_system_id = |ids: &str| ids.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(file_system_id(&writer["Uid"]), owner.uid.to_string());
    assert_eq!(file_system_id(&writer["Gid"]), owner.gid.to_string());
    // All groups of the owner, as a service of his has them.
    let id = run(command("id").args(["-G", "postgres"]), SOON);
    let sorted = |groups: &str| -> BTreeSet<u32> {
        let numbers = groups.split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!(sorted(&writer["Groups"]), sorted(&id.result().unwrap()));
    for (name, status) in all.iter().filter(|(name, _)| looks(name)) {
        assert_eq!(status["CapEff"], DAC_READ_SEARCH, "{name}");
        assert_eq!(status["CapPrm"], DAC_READ_SEARCH, "{name}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}
