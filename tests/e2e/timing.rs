//! When a bundle is taken: not before its time, not half, and without an event where none comes.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use crate::{
    stage::{HOST, NAME, Stage, assert_says, daemon_view, eventually_both},
    world::{
        SOON, World,
        ca::{Ca, DAY, Options},
        config::Config,
        daemon::{Daemon, Launch, eventually_state},
        eventually,
        in_place::InPlace,
        lineage::Lineage,
        throughout,
    },
};

/// Waits until the daemon says `waiting` for a reason with these words; gives the sentence.
#[track_caller]
fn eventually_waits(config: &Config, words: &str) -> String {
    eventually(SOON, &format!("the daemon waits: {words}"), || {
        let view = daemon_view(config)?;
        let problem = view["problem"].as_str().unwrap_or_default();
        match view["state"] == "waiting" && problem.contains(words) {
            true => Ok(problem.to_owned()),
            false => Err(view.to_string()),
        }
    })
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_taken_when_its_time_comes() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let daemon = Daemon::start(&world, &config);

    // Certificates count in whole seconds.
    let not_before = SystemTime::now() + Duration::from_secs(5);
    let options = Options {
        not_before,
        ..Options::default()
    };
    let second = stage.ca.issue_with(&[HOST], &options);
    lineage.renew(&second);
    let waiting = eventually_waits(&config, "is not valid before");
    println!("{waiting}");
    assert_says(&waiting, &["lineage pg.example.com", "clock"], "too early");
    stage.eventually_serves(&second, "its time has come");
    assert!(SystemTime::now() + Duration::from_secs(1) > not_before);
    eventually_both(&world, &config, "in_sync", "its time has come");
    stage.ends_with(daemon, &second);
}

#[test]
fn a_lineage_that_appears_later_is_deployed_as_soon_as_it_is_there() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    // Not even the watched directory exists: the ACME client is not installed yet.
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let daemon = Daemon::start(&world, &config);
    let problem = eventually_both(&world, &config, "source_invalid", "no lineage yet");
    println!("{problem}");
    let place = world.path().join("letsencrypt/live/pg.example.com");
    assert_says(
        &problem,
        &[
            "no directory",
            place.to_str().unwrap(),
            "issue the certificate",
        ],
        "no lineage yet",
    );
    stage.keeps(&stage.first, "no lineage yet");

    let second = stage.ca.issue(&[HOST]);
    Lineage::new(&world, HOST).renew(&second);
    stage.eventually_serves(&second, "the first certificate was issued");
    eventually_both(&world, &config, "in_sync", "issued");
    stage.ends_with(daemon, &second);
}

#[test]
fn a_lineage_that_is_deleted_and_made_again_is_followed_again() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    // As the unit does: the reader's Landlock rules are of the directories that are deleted.
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
    daemon.ready();
    eventually_both(&world, &config, "in_sync", "at first");

    let mut served = stage.first.clone();
    for _ in 0..2 {
        lineage.delete();
        let problem = eventually_both(&world, &config, "source_invalid", "deleted");
        assert_says(
            &problem,
            &["no directory", "issue the certificate"],
            "deleted",
        );
        stage.keeps(&served, "deleted");
        let next = stage.ca.issue(&[HOST]);
        lineage.renew(&next);
        stage.eventually_serves(&next, "made again");
        let renewed = stage.ca.issue(&[HOST]);
        lineage.renew(&renewed);
        stage.eventually_serves(&renewed, "renewed after that");
        served = renewed;
    }
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &served);
}

#[test]
fn a_chain_that_is_cut_after_the_leaf_waits_and_is_taken_with_a_warning() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let files = InPlace::new(&world, "files");
    files.renew(&stage.first);
    let config = Config::new(&world)
        .watch("settle_timeout", "6s")
        .instance(stage.instance(files.path()))
        .write();
    let daemon = Daemon::start(&world, &config);

    // The rest comes in time: one deployment, and of the whole.
    let second = stage.ca.issue(&[HOST]);
    files.swap("privkey.pem", second.key_pem.as_bytes());
    files.swap("fullchain.pem", second.leaf_pem.as_bytes());
    let waiting = eventually_waits(&config, "shorter than the installed one");
    println!("{waiting}");
    stage.keeps(&stage.first, "the chain is cut");
    files.swap("fullchain.pem", second.fullchain_pem().as_bytes());
    stage.eventually_serves(&second, "the chain is whole");
    assert_eq!(stage.cluster.peer().unwrap().certificates, 2);
    let log = daemon.log();
    assert!(!log.contains("warning: 16-main"), "{log}");

    // The rest never comes: the CA has changed what it gives.
    let third = stage.ca.issue(&[HOST]);
    files.swap("privkey.pem", third.key_pem.as_bytes());
    files.swap("fullchain.pem", third.leaf_pem.as_bytes());
    eventually_waits(&config, "shorter than the installed one");
    stage.eventually_serves(&third, "settle_timeout has passed");
    assert_eq!(stage.cluster.peer().unwrap().certificates, 1);
    let warning = daemon.wait_for_log("warning: 16-main: its chain is shorter");
    println!("{warning}");
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &third);
}

#[test]
fn a_delay_holds_a_renewal_back_until_it_has_passed() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("delay", "6s"))
        .write();
    let daemon = Daemon::start(&world, &config);
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    let waiting = eventually_waits(&config, "delay");
    println!("{waiting}");
    let seen = eventually_state(&world, &config, NAME, "waiting");
    assert_eq!(seen["source"]["fingerprint"], second.fingerprint.as_str());
    stage.keeps(&stage.first, "the delay runs");
    stage.eventually_serves(&second, "the delay has passed");
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &second);
}

#[test]
fn a_delay_is_waived_when_the_installed_certificate_is_about_to_expire() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let now = SystemTime::now();
    let options = Options {
        not_before: now - 89 * DAY,
        not_after: now + DAY,
        ..Options::default()
    };
    let first = ca.issue_with(&[HOST], &options);
    let stage = Stage::serving(&world, ca, first);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("delay", "1h"))
        .write();
    let daemon = Daemon::start(&world, &config);
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    stage.eventually_serves(&second, "it is not held back");

    // What is installed now has its time: the next one is held back.
    let third = stage.ca.issue(&[HOST]);
    lineage.renew(&third);
    eventually_waits(&config, "delay");
    stage.ends_with(daemon, &second);
}

#[test]
fn a_silent_file_system_is_polled() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    // A file that is written by another name of its own raises no event where pgcertd watches.
    let files = InPlace::new(&world, "elsewhere");
    files.renew(&stage.first);
    let watched = world.directory("silent");
    for name in ["fullchain.pem", "privkey.pem"] {
        fs::hard_link(files.path().join(name), watched.join(name)).unwrap();
    }
    let config = Config::new(&world)
        .watch("poll", "1s")
        .instance(stage.instance(&watched))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually_both(&world, &config, "in_sync", "at first");
    let mut served = stage.first.clone();
    for _ in 0..2 {
        let next = stage.ca.issue(&[HOST]);
        files.renew(&next);
        stage.eventually_serves(&next, "the poll has found it");
        served = next;
    }
    let deployments = || daemon.log().matches("deployed and served").count();
    // A client may see the last one before the log does.
    eventually(SOON, "both are told", || deployments() == 2);
    // Looking again and again changes nothing.
    throughout(Duration::from_secs(3), "one deployment each", || {
        deployments() == 2
    });
    stage.ends_with(daemon, &served);
}
