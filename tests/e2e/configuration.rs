//! The configuration of the server itself, where it changes while the right certificate is served.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    stage::{NAME, Stage, next_second, problem, says},
    world::{
        SOON, World, command,
        daemon::{Launch, eventually_at_rest},
        eventually, give,
        process::run,
    },
};

/// What a deployment says of edits that its reload has applied as well, before it names the files.
const ALSO: &str = "the reload also applied";

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

/// The questions to the server's own program that the traced daemon has asked so far, by the setting.
fn asked(world: &World) -> Vec<String> {
    let log = fs::read_to_string(world.path().join("strace.log")).unwrap();
    // Each child begins as pgcertd itself.
    let executed = log.lines().filter(|line| !line.contains("--become"));
    executed
        .filter_map(|line| {
            Some(
                line.split_once("\"-C\", \"")?
                    .1
                    .split_once('"')?
                    .0
                    .to_owned(),
            )
        })
        .collect()
}

fn append(file: &Path, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// How often the traced daemon has asked for this setting so far.
fn count(world: &World, setting: &str) -> usize {
    asked(world).iter().filter(|name| *name == setting).count()
}

#[test]
fn postgres_is_asked_for_its_settings_once_while_nothing_changes() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let daemon = Launch::new(&world)
        .strace(&["-s", "200", "-e", "trace=execve"])
        .daemon(&stage.config);
    daemon_tells(&stage, "in_sync");
    let asked = || count(&world, "ssl_cert_file");
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

#[test]
fn a_renewal_starts_no_program_and_names_what_was_edited_before_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = Launch::new(&world)
        .strace(&["-s", "200", "-e", "trace=execve"])
        .daemon(&stage.config);
    daemon_tells(&stage, "in_sync");
    let first = asked(&world);
    let renewed = |stage: &mut Stage<'_>| {
        let issued = stage.renewal_is_served();
        daemon.wait_for_log(&format!("{} deployed", &issued.fingerprint[..6]))
    };
    let line = renewed(&mut stage);
    assert!(!line.contains(ALSO), "{line}");
    eventually_at_rest(&stage.config);
    assert_eq!(asked(&world), first);

    // What they say of TLS may be something else now, and the files are the same.
    next_second();
    let before = view(&stage)["checked"].clone();
    stage.cluster.set("log_min_duration_statement", "1h");
    let new = stage.cluster.config_directory().join("conf.d/new.conf");
    fs::write(&new, "work_mem = '5MB'\n").unwrap();
    give(&new, world.postgres(), 0o600);
    eventually(SOON, "it is asked and compared after an edit", || {
        count(&world, "ssl_cert_file") >= 2 && view(&stage)["checked"] != before
    });
    eventually_at_rest(&stage.config);
    let edited = asked(&world);
    let rules = stage.cluster.config_directory().join("pg_hba.conf");
    append(&rules, "# a rule to come");
    let line = renewed(&mut stage);
    let files = ["conf.d/test.conf", "conf.d/new.conf", "pg_hba.conf"];
    says(&line, &[&[ALSO][..], &files].concat());
    assert_eq!(asked(&world), edited);
    let line = renewed(&mut stage);
    assert!(!line.contains(ALSO), "{line}");
    assert_eq!(count(&world, "hba_file"), 1);

    // A server that starts may read others.
    let moved = stage.cluster.config_directory().join("rules.conf");
    fs::copy(&rules, &moved).unwrap();
    give(&moved, world.postgres(), 0o600);
    stage.cluster.set("hba_file", moved.to_str().unwrap());
    stage.restart_postgres();
    eventually(SOON, "it is asked after a start", || {
        count(&world, "hba_file") == 2
    });
    daemon_tells(&stage, "in_sync");
    next_second();
    append(&rules, "# nobody reads this any more");
    append(&moved, "# a rule to come");
    let line = renewed(&mut stage);
    says(&line, &[ALSO, "rules.conf"]);
    assert!(!line.contains("pg_hba.conf"), "{line}");
    assert_eq!(daemon.stop().code(), Some(0));

    // One that remembers nothing asks.
    append(&moved, "# another one");
    let last = stage.renew();
    let told = stage.sync(&[]);
    says(told.stderr(), &[&last.fingerprint[..6], ALSO, "rules.conf"]);
    stage.ends_serving(&last);
}
