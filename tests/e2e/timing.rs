//! When a bundle is taken: not before its time, not half, and without an event where none comes.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        ca::{DAY, Options},
        daemon::{Daemon, eventually_state},
        eventually,
        in_place::InPlace,
        lineage::Lineage,
        throughout,
    },
};

#[test]
fn a_certificate_that_is_not_valid_yet_is_taken_when_its_time_comes() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = Daemon::start(&world, &stage.config);

    // Certificates count in whole seconds.
    let not_before = SystemTime::now() + Duration::from_secs(5);
    let options = Options {
        not_before,
        ..Options::default()
    };
    let second = stage.ca.issue_with(&[HOST], &options);
    stage.lineage.renew(&second);
    let waiting = stage.daemon_says("waiting", "is not valid before");
    println!("{waiting}");
    says(&waiting, &["lineage pg.example.com", "clock"]);
    stage.serves(&second);
    assert!(SystemTime::now() + Duration::from_secs(1) > not_before);
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_lineage_that_appears_later_is_deployed_as_soon_as_it_is_there() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    // Not even the watched directory exists: the ACME client is not installed yet.
    fs::remove_dir_all(world.path().join("letsencrypt")).unwrap();
    let daemon = Daemon::start(&world, &stage.config);
    let problem = stage.both_say("source_invalid");
    println!("{problem}");
    let place = world.path().join("letsencrypt/live/pg.example.com");
    says(
        &problem,
        &[
            "no directory",
            place.to_str().unwrap(),
            "issue the certificate",
        ],
    );
    stage.keeps(&stage.first);

    stage.lineage = Lineage::new(&world, HOST);
    let second = stage.renewal_is_served();
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_lineage_that_is_deleted_and_made_again_is_followed_again() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    // As the unit does: the reader's Landlock rules are of the directories that are deleted.
    let daemon = stage.unit();
    stage.both_say("in_sync");

    let mut served = stage.first.clone();
    for _ in 0..2 {
        stage.lineage.delete();
        let problem = stage.both_say("source_invalid");
        says(&problem, &["no directory", "issue the certificate"]);
        stage.keeps(&served);
        let _next = stage.renewal_is_served();
        let renewed = stage.renewal_is_served();
        served = renewed;
    }
    stage.both_say("in_sync");
    stage.ends(daemon, &served);
}

#[test]
fn a_chain_that_is_cut_after_the_leaf_waits_and_is_taken_with_a_warning() {
    let world = or_skip!(World::new());
    let files = InPlace::new(&world, "files");
    let stage = Stage::build(&world)
        .config(|config| config.watch("settle_timeout", "6s"))
        .files(files.path())
        .start();
    files.renew(&stage.first);
    let daemon = Daemon::start(&world, &stage.config);

    // The rest comes in time: one deployment, and of the whole.
    let second = stage.ca.issue(&[HOST]);
    files.swap("privkey.pem", second.key_pem.as_bytes());
    files.swap("fullchain.pem", second.leaf_pem.as_bytes());
    let waiting = stage.daemon_says("waiting", "shorter than the installed one");
    println!("{waiting}");
    stage.keeps(&stage.first);
    files.swap("fullchain.pem", second.fullchain_pem().as_bytes());
    stage.serves(&second);
    assert_eq!(stage.cluster.peer().unwrap().certificates, 2);
    let log = daemon.log();
    assert!(!log.contains("warning: 16-main"), "{log}");

    // The rest never comes: the CA has changed what it gives.
    let third = stage.ca.issue(&[HOST]);
    files.swap("privkey.pem", third.key_pem.as_bytes());
    files.swap("fullchain.pem", third.leaf_pem.as_bytes());
    stage.daemon_says("waiting", "shorter than the installed one");
    stage.serves(&third);
    assert_eq!(stage.cluster.peer().unwrap().certificates, 1);
    let warning = daemon.wait_for_log("warning: 16-main: its chain is shorter");
    println!("{warning}");
    stage.both_say("in_sync");
    stage.ends(daemon, &third);
}

#[test]
fn a_delay_holds_a_renewal_back_until_it_has_passed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("delay", "6s"))
        .start();
    let daemon = Daemon::start(&world, &stage.config);
    let second = stage.renew();
    let waiting = stage.daemon_says("waiting", "delay");
    println!("{waiting}");
    let seen = eventually_state(&world, &stage.config, NAME, "waiting");
    assert_eq!(seen["source"]["fingerprint"], second.fingerprint.as_str());
    stage.keeps(&stage.first);
    stage.serves(&second);
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_delay_is_waived_when_the_installed_certificate_is_about_to_expire() {
    let world = or_skip!(World::new());
    let now = SystemTime::now();
    let options = Options {
        not_before: now - 89 * DAY,
        not_after: now + DAY,
        ..Options::default()
    };
    let mut stage = Stage::build(&world)
        .first(options)
        .instance(|instance| instance.set("delay", "1h"))
        .start();
    let daemon = Daemon::start(&world, &stage.config);
    let second = stage.renewal_is_served();

    // What is installed now has its time: the next one is held back.
    stage.renew();
    stage.daemon_says("waiting", "delay");
    stage.ends(daemon, &second);
}

#[test]
fn a_silent_file_system_is_polled() {
    let world = or_skip!(World::new());
    // A file that is written by another name of its own raises no event where pgcertd watches.
    let files = InPlace::new(&world, "elsewhere");
    let watched = world.directory("silent");
    let stage = Stage::build(&world)
        .config(|config| config.watch("poll", "1s"))
        .files(&watched)
        .start();
    files.renew(&stage.first);
    for name in ["fullchain.pem", "privkey.pem"] {
        fs::hard_link(files.path().join(name), watched.join(name)).unwrap();
    }
    let daemon = stage.daemon();
    let mut served = stage.first.clone();
    for _ in 0..2 {
        let next = stage.ca.issue(&[HOST]);
        files.renew(&next);
        stage.serves(&next);
        served = next;
    }
    let deployments = || daemon.log().matches("deployed and served").count();
    // A client may see the last one before the log does.
    eventually(SOON, "both are told", || deployments() == 2);
    // Looking again and again changes nothing.
    throughout(Duration::from_secs(3), "one deployment each", || {
        deployments() == 2
    });
    stage.ends(daemon, &served);
}
