//! Who may look and who may not: the daemon without and with its capability, the curious user.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use crate::{
    stage::{HOST, NAME, Stage, assert_says, daemon_view, eventually_both},
    world::{
        SOON, World,
        config::Config,
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
        lineage::{KINDS, Kind, Lineage},
    },
};

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What the daemon says of a lineage that it may not read, once it says so.
#[track_caller]
fn eventually_denied(config: &Config) -> String {
    eventually(SOON, "the daemon may not read the lineage", || {
        let view = daemon_view(config)?;
        let problem = view["problem"].as_str().unwrap_or_default();
        match view["state"] == "source_invalid" && problem.contains("no permission to read") {
            true => Ok(problem.to_owned()),
            false => Err(view.to_string()),
        }
    })
}

const REMEDY: [&str; 4] = ["as root", "CAP_DAC_READ_SEARCH", "group", "root_squash"];

#[test]
fn a_lineage_that_the_daemon_may_not_read_is_a_problem_with_its_remedy() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        // Where it may not look, it may not watch either.
        .watch("resync", "2s")
        .instance(stage.instance(HOST))
        .write();
    let mut daemon = Launch::new(&world).by_user("postgres").daemon(&config);
    daemon.ready();

    // live is 0700 of root's.
    let problem = eventually_denied(&config);
    println!("{problem}");
    let place = lineage.path().to_str().unwrap();
    assert_says(&problem, &[place], "live may not be traversed");
    assert_says(&problem, &REMEDY, "live may not be traversed");
    daemon.wait_for_log("source_invalid: no permission to read");

    // root, who may read it, is told the same: it is the daemon that has to.
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    let seen = eventually_state(&world, &config, NAME, "source_invalid");
    println!("{seen}");
    assert_says(
        seen["problem"].as_str().unwrap(),
        &["daemon", "no permission to read"],
        "root asks",
    );
    assert_eq!(pgcertd(&world, &config, &["status"]).code(), 1);
    stage.keeps(&stage.first, "live may not be traversed");

    // The directories are opened, the key is not.
    for directory in ["letsencrypt/live", "letsencrypt/archive"] {
        mode(&world.path().join(directory), 0o755);
    }
    let key = lineage.archived(Kind::Privkey, 2);
    mode(&key, 0o000);
    let problem = eventually(SOON, "the key alone may not be read", || {
        let problem = eventually_denied(&config);
        problem.contains("privkey").then_some(problem)
    });
    println!("{problem}");
    assert_says(&problem, &REMEDY, "the key may not be read");
    stage.keeps(&stage.first, "the key may not be read");

    // The group lets it in, which is one of the remedies: noticed at once, by an event.
    chown(&key, None, Some(world.postgres().gid)).unwrap();
    mode(&key, 0o640);
    stage.eventually_serves(&second, "the group may read it");
    eventually_both(&world, &config, "in_sync", "the group may read it");
    stage.ends_with(daemon, &second);
}

#[test]
fn with_the_units_capability_a_lineage_of_roots_is_deployed() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
    daemon.ready();
    eventually_both(&world, &config, "in_sync", "at first");
    let mut served = stage.first.clone();
    for generation in 2..4 {
        served = stage.ca.issue(&[HOST]);
        lineage.renew(&served);
        stage.eventually_serves(&served, "it was renewed");
        assert_eq!(lineage.generation(), generation);
    }
    // Mode 0000 is no obstacle either.
    let last = stage.ca.issue(&[HOST]);
    lineage.renew(&last);
    for kind in KINDS {
        mode(&lineage.archived(kind, 4), 0o000);
    }
    stage.eventually_serves(&last, "the files have mode 0000");
    assert_ne!(served, last);
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &last);
}

#[test]
fn a_user_who_may_not_look_is_shown_what_the_daemon_sees_and_when() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let nobody = Launch::new(&world).by_user("nobody");
    let asked = |args: &[&str]| nobody.run(&config, args);

    // No daemon has looked yet.
    let alone = asked(&["status", "--json"]);
    assert_eq!(alone.code(), 1, "{}", alone.stderr());
    let seen = alone.instance(NAME);
    println!("{}", asked(&["status"]).stdout());
    assert_eq!(seen["state"], "unknown", "{seen}");
    assert_says(
        seen["problem"].as_str().unwrap(),
        &[
            "may not look",
            "no permission",
            "as root",
            "start the daemon",
        ],
        "nobody without a daemon",
    );

    let daemon = Daemon::start(&world, &config);
    eventually(SOON, "nobody sees what the daemon sees", || {
        let told = asked(&["status", "--json"]);
        let seen = told.instance(NAME);
        match told.code() == 0 && seen["state"] == "in_sync" {
            true => Ok(()),
            false => Err(seen.to_string()),
        }
    });
    let seen = asked(&["status", "--json"]).instance(NAME);
    for place in ["source", "installed", "served"] {
        let shown = &seen[place]["fingerprint"];
        assert_eq!(shown, stage.first.fingerprint.as_str(), "{place}");
    }
    eventually(SOON, "the view's age is told", || {
        let text = asked(&["status"]);
        match text.stdout().lines().next() {
            Some(header) if header.ends_with(" s ago") => Ok(()),
            _ => Err(text.stdout().to_owned()),
        }
    });

    // The daemon's bad news is nobody's as well.
    fs::remove_file(lineage.link(Kind::Fullchain)).unwrap();
    fs::create_dir(lineage.link(Kind::Fullchain)).unwrap();
    eventually(SOON, "nobody sees the problem", || {
        let told = asked(&["status", "--json"]);
        let seen = told.instance(NAME);
        match told.code() == 1 && seen["state"] == "source_invalid" {
            true => Ok(()),
            false => Err(seen.to_string()),
        }
    });

    // A daemon that has ended is no witness.
    let first = stage.first.clone();
    stage.ends_with(daemon, &first);
    let after = asked(&["status", "--json"]);
    assert_eq!(after.instance(NAME)["state"], "unknown");
    assert_eq!(after.code(), 1);
}
