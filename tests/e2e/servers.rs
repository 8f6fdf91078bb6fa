//! Servers that are down, or that use other files than pgcertd's.

use std::{fs, path::Path, time::Duration};

use crate::{
    stage::{HOST, NAME, Stage, place, problem, says},
    world::{
        SOON, World,
        ca::{DAY, Options},
        daemon::Daemon,
        eventually, throughout,
    },
};

#[test]
fn a_server_that_uses_another_file_is_said_to_even_where_both_held_the_same() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let other = world.postgres_directory("other", 0o700).join("server.pem");
    world.place(&stage.first, &other);
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, other.to_str().unwrap());
    }
    stage.cluster.restart().unwrap();
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": not_used");
    let second = stage.renew();
    let target = stage.cert.clone();
    daemon.wait_for_log("installed, not served yet");
    let seen = stage.becomes("not_used");
    says(
        &problem(&seen),
        &[
            "ssl_cert_file",
            other.to_str().unwrap(),
            "setup --instance",
            NAME,
        ],
    );
    assert_eq!(seen["installed"]["fingerprint"], *second.fingerprint);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    assert!(!stage.kept("held.json").exists());
    assert_eq!(stage.reloads(), 1);
    stage.synced(&[], "installed", 1);

    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, target.to_str().unwrap());
    }
    stage.cluster.reload_by_hand();
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_server_with_tls_off_is_told_to_turn_it_on() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("ssl", "off"))
        .start();
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log("ssl = off");
    let second = stage.renew();
    daemon.wait_for_log(&format!(
        "{} installed, not served yet",
        &second.fingerprint[..6]
    ));
    let seen = stage.becomes("not_used");
    says(&problem(&seen), &["ssl = off", "setup --instance", NAME]);
    assert_eq!(seen["installed"]["fingerprint"], *second.fingerprint);
    stage.synced(&[], "installed", 1);

    stage.cluster.set("ssl", "on");
    stage.cluster.reload_by_hand();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn while_postgres_is_down_a_sound_pair_waits_for_its_start() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    stage.cluster.stop();
    stage.becomes("not_running");
    let second = stage.renew();
    throughout(Duration::from_secs(1), "the sound pair stays", || {
        fs::read_to_string(&stage.cert).unwrap() == stage.first.combined_pem()
    });
    let seen = stage.becomes("not_running");
    assert_eq!(seen["problem"], serde_json::Value::Null);

    // The timer is an hour away: it is the start itself that is noticed.
    stage.cluster.start().unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    daemon.wait_for_log("deployed and served");
    stage.ends(daemon, &second);
}

#[test]
fn while_postgres_is_down_sync_installs() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let second = stage.renew();
    let row = stage.synced(&[], "installed", 0);
    assert_eq!(row["fingerprint"], *second.fingerprint);
    stage.synced(&[], "unchanged", 0);
    stage.becomes("not_running");
    stage.ends_serving(&second);
}

/// Postgres is down, its files suffer `damage`, and a daemon mends them before it starts.
fn mended_before_the_start(world: &World, two_files: bool, damage: impl FnOnce(&Stage<'_>)) {
    let home = world.path().join("tls");
    let (cert, key) = if two_files {
        (home.join("server.crt"), home.join("server.key"))
    } else {
        (world.target(NAME), world.target(NAME))
    };
    let mut stage = Stage::build_at(world, &cert, &key).start();
    stage.cluster.stop();
    damage(&stage);
    let second = stage.renew();
    let daemon = Daemon::start(world, &stage.config);
    // When it is ready, which Postgres is ordered after, it has done so.
    says(&daemon.log(), &[&second.fingerprint[..6], "installed"]);
    // Stopped first: it is what it left that has to load.
    assert_eq!(daemon.stop().code(), Some(0));
    let reloads = stage.reloads();
    stage.cluster.start().unwrap();
    assert_eq!(stage.cluster.served(), second.fingerprint);
    assert_eq!(stage.reloads(), reloads);
    stage.ends_serving(&second);
}

#[test]
fn a_missing_target_is_installed_before_postgres_starts() {
    let world = or_skip!(World::new());
    mended_before_the_start(&world, false, |stage| {
        fs::remove_file(&stage.cert).unwrap();
    });
}

#[test]
fn a_torn_pair_is_mended_before_postgres_starts() {
    let world = or_skip!(World::new());
    mended_before_the_start(&world, true, |stage| {
        let other = stage.ca.issue(&[HOST]);
        overwrite(&stage.key, &other.key_pem);
    });
}

#[test]
fn an_expired_pair_is_replaced_before_postgres_starts() {
    let world = or_skip!(World::new());
    mended_before_the_start(&world, true, |stage| {
        let now = std::time::SystemTime::now();
        let options = Options {
            not_before: now - 90 * DAY,
            not_after: now - DAY,
            ..Options::default()
        };
        let expired = stage.ca.issue_with(&[HOST], &options);
        place(stage.world, &expired, &stage.cert, &stage.key);
    });
}

#[test]
fn a_target_that_breaks_while_postgres_is_down_is_mended_at_once() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    stage.cluster.stop();
    stage.becomes("not_running");
    let first = stage.first.clone();
    for _ in 0..2 {
        overwrite(&stage.cert, &first.leaf_pem);
        eventually(SOON, "the pair is whole again", || {
            fs::read_to_string(&stage.cert).unwrap() == first.combined_pem()
        });
    }
    assert!(stage.cluster.start().is_ok());
    stage.ends(daemon, &first);
}

fn overwrite(file: &Path, content: &str) {
    fs::write(file, content).unwrap();
}
