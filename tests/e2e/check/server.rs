//! The server and its configuration.

use std::fs;

use rustix::process::Signal;

use super::finding::{line, sentence, typed};
use crate::{
    stage::{NAME, Stage, says},
    world::{
        SOON, World,
        ca::Ca,
        cluster::Cluster,
        command, eventually,
        faults::{Mounted, has_fuse},
        give, in_own_mounts,
        postgres::usual,
        process::{Process, run},
    },
};

#[test]
fn a_server_that_is_down_is_worth_a_note_until_it_runs() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    stage.cluster.stop();
    let found = stage.finds("server", "notice");
    says(found["seen"].as_str().unwrap(), &["not running"]);
    stage.cluster.start().unwrap();
    stage.is_well("server");
}

#[test]
fn a_server_that_is_down_and_would_not_start_is_mended_before_anybody_starts_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    stage.cluster.stop();
    fs::write(&stage.cert, "").unwrap();
    let found = stage.finds("restart", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &["would not start", stage.cert.to_str().unwrap()],
    );
    stage.cluster.start().unwrap_err();
    typed(&line(&found));
    assert_eq!(stage.checked().instance("restart")["weight"], "good");

    // The files of others are not for `sync`, and a set-up needs a server.
    let settings = stage.cluster.settings_file();
    let before = fs::read_to_string(&settings).unwrap();
    stage.cluster.set("ssl_cert_file", "/nonexistent");
    let found = stage.finds("restart", "problem");
    says(
        &sentence(&found),
        &["start the server", "setup", "ssl = off"],
    );
    fs::write(&settings, before).unwrap();
    stage.ends_serving_the_first();
}

#[test]
fn a_server_that_hangs_is_found_and_holds_nobody_up() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .server_names()
        .instance(|entry| entry.set("verify_timeout", "1s"))
        .start();
    stage.cluster.freeze();
    let found = stage.finds("served", "problem");
    says(found["seen"].as_str().unwrap(), &["did not answer"]);
    says(&sentence(&found), &["hangs"]);
    stage.cluster.thaw();
    stage.is_well("served");
}

/// Adds a line to the configuration, finds it as a fault that a restart does not survive, takes it
/// back, and finds it gone.
#[track_caller]
fn would_not_start(stage: &Stage<'_>, (setting, value): (&str, &str), told: &[&str]) {
    let file = stage.cluster.settings_file();
    let before = fs::read_to_string(&file).unwrap();
    stage.cluster.set(setting, value);
    let found = stage.finds("restart", "problem");
    println!("{}", found["seen"]);
    says(found["seen"].as_str().unwrap(), &["would not start"]);
    says(found["seen"].as_str().unwrap(), told);
    says(&sentence(&found), &["fix the file"]);
    fs::write(&file, before).unwrap();
    // Edited, although as before.
    typed(&line(&stage.finds("pending_edits", "notice")));
    eventually(SOON, "it is reloaded", || {
        stage.checked().instance("pending_edits")["weight"] == "good"
    });
    stage.is_well("restart");
}

#[test]
fn edits_that_a_restart_would_not_survive_are_found_with_their_line() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    would_not_start(&stage, ("nosuch", "3"), &["nosuch", "test.conf", "line"]);
    would_not_start(&stage, ("include", "missing.conf"), &["missing.conf"]);
    would_not_start(&stage, ("max_connections", "many"), &["max_connections"]);
    stage.ends_serving_the_first();
}

#[test]
fn a_file_of_the_configuration_that_does_not_load_is_found() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let ca = world.path().join("ca.pem");
    fs::write(&ca, stage.ca.root_pem()).unwrap();
    stage.cluster.set("ssl_ca_file", ca.to_str().unwrap());
    stage.cluster.reload_by_hand();
    stage.is_well("restart");

    fs::rename(&ca, ca.with_extension("away")).unwrap();
    let found = stage.finds("restart", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &["root certificate file", ca.to_str().unwrap()],
    );
    says(&sentence(&found), &["fix what is named"]);
    fs::rename(ca.with_extension("away"), &ca).unwrap();
    stage.is_well("restart");

    // The server's user may not read it, although root may.
    give(&ca, crate::world::Owner { uid: 0, gid: 0 }, 0o600);
    let found = stage.finds("restart", "problem");
    says(found["seen"].as_str().unwrap(), &["Permission denied"]);
    fs::set_permissions(&ca, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    stage.is_well("restart");
    // The server agrees.
    stage.ends_serving_the_first();
}

#[test]
fn a_line_of_pg_hba_conf_that_the_server_refuses_is_found() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let hba = stage.cluster.config_directory().join("pg_hba.conf");
    let before = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, format!("{before}host all all 10.0.0.0/33 md5\n")).unwrap();
    let found = stage.finds("restart", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &[hba.to_str().unwrap(), "line", "CIDR"],
    );
    // A restart indeed fails.
    let log = stage.cluster.restart().unwrap_err();
    says(&log, &["could not load"]);
    fs::write(&hba, before).unwrap();
    stage.cluster.start().unwrap();
    stage.is_well("restart");
}

#[test]
fn a_pair_of_others_that_does_not_fit_is_found_before_a_restart_fails() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let ca = Ca::new(&world, "Other Root");
    let (one, other) = (ca.issue(&["a.example.com"]), ca.issue(&["b.example.com"]));
    let home = world.postgres_directory("others", 0o700);
    let (cert, key) = (home.join("a.crt"), home.join("b.key"));
    fs::write(&cert, one.fullchain_pem()).unwrap();
    fs::write(&key, other.key_pem).unwrap();
    give(&cert, world.postgres(), 0o644);
    give(&key, world.postgres(), 0o600);
    let settings = stage.cluster.settings_file();
    let before = fs::read_to_string(&settings).unwrap();
    stage.cluster.set("ssl_cert_file", cert.to_str().unwrap());
    stage.cluster.set("ssl_key_file", key.to_str().unwrap());
    let found = stage.finds("restart", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &[key.to_str().unwrap(), "key values mismatch"],
    );
    let log = stage.cluster.restart().unwrap_err();
    says(&log, &["key values mismatch"]);
    fs::write(&settings, &before).unwrap();
    stage.cluster.start().unwrap();
    stage.is_well("restart");

    // Found while it runs and knows nothing of the edit, it is pointed at files that load.
    stage.cluster.set("ssl_cert_file", cert.to_str().unwrap());
    stage.is_mended("restart", "problem");
    stage.ends_serving_the_first();
}

#[test]
fn an_edit_that_waits_is_applied_by_the_mend_and_one_that_needs_a_restart_is_named() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    stage.cluster.set("work_mem", "8MB");
    let found = stage.finds("pending_edits", "notice");
    says(found["seen"].as_str().unwrap(), &["test.conf"]);
    typed(&line(&found));
    eventually(SOON, "it is reloaded", || {
        stage.checked().instance("pending_edits")["weight"] == "good"
    });
    assert_eq!(stage.cluster.sql("show work_mem"), "8MB");

    stage.cluster.set("max_connections", "33");
    stage.cluster.reload_by_hand();
    let found = eventually(SOON, "the edit needs a restart", || {
        let found = stage.checked().instance("pending_edits");
        (found["weight"] == "notice").then_some(found)
    });
    says(found["seen"].as_str().unwrap(), &["max_connections"]);
    stage.cluster.restart().unwrap();
    stage.is_well("pending_edits");
}

#[test]
fn tls_that_is_off_is_turned_on_by_the_set_up() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    stage.cluster.set("ssl", "off");
    stage.cluster.reload_by_hand();
    let found = stage.is_mended("ssl", "problem");
    says(line(&found).as_str(), &["pgcertd", "setup", "--yes", NAME]);
    stage.ends_serving_the_first();
}

#[test]
fn a_server_that_names_other_files_is_pointed_at_ours_by_the_set_up() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let other = world.postgres_directory("others", 0o700).join("server.pem");
    let strange = Ca::new(&world, "Other Root").issue(&["a.example.com"]);
    world.place(&strange, &other);
    let cluster = &mut stage.cluster;
    cluster.set("ssl_cert_file", other.to_str().unwrap());
    cluster.set("ssl_key_file", other.to_str().unwrap());
    cluster.reload_by_hand();
    assert_eq!(cluster.served(), strange.fingerprint);
    let found = stage.is_mended("server_files", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &["ssl_cert_file", other.to_str().unwrap()],
    );
    stage.ends_serving_the_first();
}

#[test]
fn a_server_that_no_instance_covers_is_found_with_its_version_and_set_up() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let left = Cluster::build(&world).name("left").start();
    let found = stage.checked().host("uncovered");
    assert_eq!(found["weight"], "notice");
    let data = left.data_directory().to_str().unwrap();
    let version = format!("PostgreSQL {}", usual());
    says(found["seen"].as_str().unwrap(), &[&version, data]);
    typed(&line(&found));
    assert_eq!(stage.checked().ill(), Vec::<String>::new());
    assert_eq!(left.served(), stage.first.fingerprint);
}

#[test]
fn a_server_whose_directory_is_elsewhere_is_told_what_to_do() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let left = Cluster::build(&world).name("left").start();
    // As a container's: not at its path here. An empty directory lies there instead.
    let data = left.data_directory().to_str().unwrap();
    let empty = world.directory("empty");
    let program = env!("CARGO_BIN_EXE_pgcertd");
    let script = "mount --bind \"$1\" \"$2\" && exec \"$3\" check --json --config \"$4\"";
    let done = run(
        in_own_mounts(script)
            .arg(&empty)
            .args([data, program])
            .arg(stage.config.path()),
        SOON,
    );
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let found = json["host"].as_array().unwrap().iter().find(|finding| {
        finding["id"] == "uncovered" && finding["seen"].as_str().unwrap().contains(data)
    });
    let found = found.unwrap();
    says(&sentence(found), &["container", "[[instance]]"]);
}

#[test]
fn a_file_of_the_configuration_that_hangs_is_told_and_hides_nothing_else() {
    let world = or_skip!(World::new());
    or_skip!(has_fuse());
    let stage = Stage::build(&world).server_names().start();
    let exported = world.postgres_directory("exported", 0o755);
    fs::write(exported.join("ca.pem"), stage.ca.root_pem()).unwrap();
    let mounted = world.directory("mounted");
    let mut server = Process::spawn(command("bindfs").arg("-f").arg(&exported).arg(&mounted));
    let mounted = Mounted(mounted);
    let ca = mounted.0.join("ca.pem");
    eventually(SOON, "it is mounted", || ca.exists());
    stage.cluster.set("ssl_ca_file", ca.to_str().unwrap());
    assert_eq!(stage.checked().instance("restart")["weight"], "good");

    server.signal(Signal::STOP);
    let seen = stage.checked();
    server.signal(Signal::CONT);
    let found = seen.instance("restart");
    assert_eq!(found["weight"], "problem", "{found}");
    says(
        found["seen"].as_str().unwrap(),
        &[ca.to_str().unwrap(), "does not answer"],
    );
    assert_eq!(seen.instance("served")["weight"], "good");
}
