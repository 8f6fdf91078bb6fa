//! The configuration of the server itself, where it changes while the right certificate is served.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    stage::{NAME, Stage, problem, says},
    world::{SOON, World, command, daemon::Launch, eventually, give, process::run},
};

/// Makes the configuration name a copy of what is installed: clients see no difference until a renewal.
fn serve_a_copy(stage: &mut Stage<'_>) -> PathBuf {
    let copy = stage
        .world
        .postgres_directory("copies", 0o700)
        .join("copy.pem");
    fs::copy(&stage.cert, &copy).unwrap();
    give(&copy, stage.world.postgres(), 0o600);
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, copy.to_str().unwrap());
    }
    copy
}

/// The daemon's own view, which asks nobody.
fn view(stage: &Stage<'_>) -> Value {
    let file = stage.config.runtime_directory().join("status.json");
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn told_by_daemon(stage: &Stage<'_>) -> Value {
    view(stage)["instances"][0].clone()
}

#[track_caller]
fn daemon_tells(stage: &Stage<'_>, state: &str) -> Value {
    eventually(SOON, &format!("the daemon's view is {state}"), || {
        let told = told_by_daemon(stage);
        if told["state"] == state {
            Ok(told)
        } else {
            Err(told.to_string())
        }
    })
}

#[test]
fn a_copy_of_the_installed_pair_in_use_is_told_before_a_renewal_shows_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let copy = serve_a_copy(&mut stage);
    stage.cluster.reload_by_hand();
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);

    let told = [copy.to_str().unwrap(), "does not write"];
    let seen = stage.pgcertd(&["status", "--json"]).instance(NAME);
    assert_eq!(seen["state"], "not_used");
    says(&problem(&seen), &told);
    says(&problem(&stage.synced(&[], "installed", 1)), &told);
    // One that begins with it, and has nothing to do.
    let daemon = Launch::new(&world).daemon(&stage.config);
    says(&problem(&daemon_tells(&stage, "not_used")), &told);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Where a server's configuration lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    DataDirectory,
    Apart,
}

/// Neither a renewal nor a resync is needed: the configuration is watched, and after an edit the
/// server is looked at again and again until its reload shows.
fn edits_are_seen(home: Home) {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| match home {
            Home::DataDirectory => cluster,
            Home::Apart => cluster.config_apart(),
        })
        .start();
    let daemon = stage.daemon();
    let settings = fs::read_to_string(stage.cluster.settings_file()).unwrap();
    let copy = serve_a_copy(&mut stage);
    // In the midst of the edit it may have seen half a file.
    eventually(SOON, "the daemon names the copy", || {
        problem(&daemon_tells(&stage, "not_used")).contains(copy.to_str().unwrap())
    });
    stage.cluster.reload_by_hand();

    let second = stage.renew();
    eventually(SOON, "the renewal is installed", || {
        told_by_daemon(&stage)["installed"]["fingerprint"] == second.fingerprint
    });
    daemon_tells(&stage, "not_used");
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);

    // The administrator corrects it, and reloads a while later.
    fs::write(stage.cluster.settings_file(), &settings).unwrap();
    daemon_tells(&stage, "not_served");
    stage.cluster.reload_by_hand();
    daemon_tells(&stage, "in_sync");

    // Nothing is due any more: this is heard, or not seen for an hour.
    stage.cluster.set("ssl_cert_file", copy.to_str().unwrap());
    daemon_tells(&stage, "not_used");
    fs::write(stage.cluster.settings_file(), &settings).unwrap();
    daemon_tells(&stage, "in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn edits_of_a_configuration_in_the_data_directory_are_seen_at_once() {
    edits_are_seen(Home::DataDirectory);
}

#[test]
fn edits_of_a_configuration_that_lies_apart_are_seen_at_once() {
    edits_are_seen(Home::Apart);
}

#[test]
fn postgres_is_asked_for_its_settings_once_while_nothing_changes() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let daemon = Launch::new(&world)
        .strace(&["-s", "200", "-e", "trace=execve"])
        .daemon(&stage.config);
    daemon_tells(&stage, "in_sync");
    let asked = || {
        let log = fs::read_to_string(world.path().join("strace.log")).unwrap();
        // Each child begins as pgcertd itself.
        log.lines()
            .filter(|line| line.contains("\"-C\", \"ssl_cert_file\""))
            .filter(|line| !line.contains("--become"))
            .count()
    };
    let pid_file = stage.cluster.data_directory().join("postmaster.pid");
    for _ in 0..5 {
        let before = view(&stage)["checked"].clone();
        // A hint, which a comparison follows.
        run(command("touch").arg(&pid_file), SOON).result().unwrap();
        eventually(SOON, "it is compared again", || {
            view(&stage)["checked"] != before
        });
    }
    assert_eq!(asked(), 1);
    stage.cluster.set("work_mem", "5MB");
    eventually(SOON, "it is asked after an edit", || asked() == 2);
    assert_eq!(daemon.stop().code(), Some(0));
}
