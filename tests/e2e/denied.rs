//! Who may look and who may not: the daemon without and with its capability, the curious user.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use crate::{
    stage::{NAME, Stage, says},
    world::{
        SOON, World,
        daemon::{Daemon, Launch, eventually_state},
        eventually,
        lineage::{KINDS, Kind},
    },
};

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const REMEDY: [&str; 4] = ["as root", "CAP_DAC_READ_SEARCH", "group", "root_squash"];

#[test]
fn a_lineage_that_the_daemon_may_not_read_is_a_problem_with_its_remedy() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .config(|config| {
            config // Where it may not look, it may not watch either.
                .watch("resync", "2s")
        })
        .start();
    let mut daemon = Launch::new(&world)
        .by_user("postgres")
        .daemon(&stage.config);
    daemon.ready();

    // live is 0700 of root's.
    let problem = stage.daemon_says("source_invalid", "no permission to read");
    println!("{problem}");
    let place = stage.lineage.path().to_str().unwrap();
    says(&problem, &[place]);
    says(&problem, &REMEDY);
    daemon.wait_for_log("source_invalid: no permission to read");

    // root, who may read it, is told the same: it is the daemon that has to.
    let second = stage.renew();
    let seen = eventually_state(&world, &stage.config, NAME, "source_invalid");
    println!("{seen}");
    says(
        seen["problem"].as_str().unwrap(),
        &["daemon", "no permission to read"],
    );
    assert_eq!(stage.pgcertd(&["status"]).code(), 1);
    stage.keeps(&stage.first);

    // The directories are opened, the key is not.
    for directory in ["letsencrypt/live", "letsencrypt/archive"] {
        mode(&world.path().join(directory), 0o755);
    }
    let key = stage.lineage.archived(Kind::Privkey, 2);
    mode(&key, 0o000);
    let problem = eventually(SOON, "the key alone may not be read", || {
        let problem = stage.daemon_says("source_invalid", "no permission to read");
        problem.contains("privkey").then_some(problem)
    });
    println!("{problem}");
    says(&problem, &REMEDY);
    stage.keeps(&stage.first);

    // The group lets it in, which is one of the remedies: noticed at once, by an event.
    chown(&key, None, Some(world.postgres().gid)).unwrap();
    mode(&key, 0o640);
    stage.serves(&second);
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn with_the_units_capability_a_lineage_of_roots_is_deployed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.unit();
    stage.both_say("in_sync");
    let mut served = stage.first.clone();
    for generation in 2..4 {
        served = stage.renew();
        stage.serves(&served);
        assert_eq!(stage.lineage.generation(), generation);
    }
    // Mode 0000 is no obstacle either.
    let last = stage.renew();
    for kind in KINDS {
        mode(&stage.lineage.archived(kind, 4), 0o000);
    }
    stage.serves(&last);
    assert_ne!(served, last);
    stage.both_say("in_sync");
    stage.ends(daemon, &last);
}

#[test]
fn a_user_who_may_not_look_is_shown_what_the_daemon_sees_and_when() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let nobody = Launch::new(&world).by_user("nobody");
    let asked = |args: &[&str]| nobody.run(&stage.config, args);

    // No daemon has looked yet.
    let alone = asked(&["status", "--json"]);
    assert_eq!(alone.code(), 1, "{}", alone.stderr());
    let seen = alone.instance(NAME);
    println!("{}", asked(&["status"]).stdout());
    assert_eq!(seen["state"], "unknown", "{seen}");
    says(
        seen["problem"].as_str().unwrap(),
        &[
            "no permission to look",
            "no permission",
            "as root",
            "start the daemon",
        ],
    );

    let daemon = Daemon::start(&world, &stage.config);
    eventually(SOON, "nobody sees what the daemon sees", || {
        let told = asked(&["status", "--json"]);
        let seen = told.instance(NAME);
        if told.code() == 0 && seen["state"] == "in_sync" {
            Ok(())
        } else {
            Err(seen.to_string())
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
    fs::remove_file(stage.lineage.link(Kind::Fullchain)).unwrap();
    fs::create_dir(stage.lineage.link(Kind::Fullchain)).unwrap();
    eventually(SOON, "nobody sees the problem", || {
        let told = asked(&["status", "--json"]);
        let seen = told.instance(NAME);
        if told.code() == 1 && seen["state"] == "source_invalid" {
            Ok(())
        } else {
            Err(seen.to_string())
        }
    });

    // A daemon that has ended is no witness.
    assert_eq!(daemon.stop().code(), Some(0));
    let after = asked(&["status", "--json"]);
    assert_eq!(after.instance(NAME)["state"], "unknown");
    assert_eq!(after.code(), 1);
    stage.ends_serving_the_first();
}
