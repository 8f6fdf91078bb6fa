//! A REST API whose files others place, and an operator who goes back.

use std::fs;

use rustix::process::Signal;

use super::{API, Stage, weighs};
use crate::{
    stage::{HOST, problem, says},
    world::{
        SOON, World,
        ca::{Issued, KeyType, Options},
        daemon::Daemon,
        eventually,
        inventory::Inventory,
        patroni::Settings,
        postgres::PATRONI,
    },
};

/// What pgcertd might touch.
fn inventory(stage: &Stage<'_>) -> Inventory {
    Inventory::under([
        stage.target.parent().unwrap(),
        stage.solo.node.config_file(),
    ])
}

#[test]
fn a_rest_api_is_observed_then_reloaded_for_others_then_kept_and_rolled_back() {
    let world = or_skip!(World::with_debians(PATRONI));
    let mut stage = Stage::with(
        &world,
        |target| Settings {
            restapi: vec![
                ("certfile", target.display().to_string()),
                // At this level OpenSSL takes no RSA key of 2048 bits.
                ("ciphers", "DEFAULT@SECLEVEL=3".into()),
            ],
            ..Settings::default()
        },
        |instance| instance.set("mode", "observe"),
    );
    let mut daemon = stage.daemon();
    observes(&mut stage, &daemon);
    stage.configure(&mut daemon, |instance| instance.set("mode", "reload"));
    let third = loads_what_others_place(&mut stage);
    leaves_alone_what_it_would_not_load(&mut stage, &third);
    stage.configure(&mut daemon, |instance| instance);
    is_kept_and_rolled_back(&mut stage, &daemon);
    assert_eq!(daemon.stop().code(), Some(0));
    let log = stage.solo.node.log();
    for fault in ["Traceback", "Exception", "Failed to reload"] {
        assert!(!log.contains(fault), "{fault}");
    }
}

/// The first week: whoever places and reloads finds all told, and nothing done.
fn observes(stage: &mut Stage<'_>, daemon: &Daemon) {
    let first = stage.first.clone();
    let before = inventory(stage);
    stage.done(&["sync"], "unchanged", 0);
    let second = stage.renew();
    says(
        &problem(&stage.becomes("out_of_date")),
        &["something else writes the file"],
    );
    daemon.wait_for_log(": out_of_date");
    for arguments in [&["sync"][..], &["sync", "--force"]] {
        let row = stage.done(arguments, "failed", 1);
        says(&problem(&row), &["something else writes the file"]);
    }
    let row = stage.done(&["rollback", API], "refused", 1);
    says(&problem(&row), &["mode = \"observe\"", "by hand"]);
    weighs(stage.checked("server_files"), "good", &[]);
    weighs(stage.checked("served"), "good", &[&first.fingerprint[..6]]);
    before.is_untouched();

    stage.world.place(&second, &stage.target);
    let placed = inventory(stage);
    says(
        &problem(&stage.becomes("not_served")),
        &["in mode observe pgcertd does not"],
    );
    stage.done(&["sync", "--force"], "failed", 1);
    let reload = "in mode observe pgcertd does not";
    weighs(stage.checked("served"), "problem", &[reload]);
    stage.keeps(&first);
    assert_eq!(stage.solo.node.reloads(), 0);

    assert!(stage.solo.node.signal(Signal::HUP));
    stage.serves(&second);
    stage.done(&["sync"], "unchanged", 0);
    placed.is_untouched();
    assert_eq!(stage.solo.node.reloads(), 1);
}

/// Others place; pgcertd has Patroni load it, and looks. Gives what is served then.
fn loads_what_others_place(stage: &mut Stage<'_>) -> Issued {
    let third = stage.renew();
    stage.becomes("out_of_date");
    stage.done(&["sync"], "failed", 1);
    let row = stage.done(&["rollback", API], "refused", 1);
    says(&problem(&row), &["something else places the files"]);
    assert_eq!(stage.solo.node.reloads(), 1);

    stage.world.place(&third, &stage.target);
    let placed = inventory(stage);
    stage.serves(&third);
    assert_eq!(stage.solo.node.reloads(), 2);
    placed.is_untouched();
    stage.done(&["sync"], "unchanged", 0);

    // By a command, without the daemon's help, since nothing has changed.
    stage.done(&["sync", "--force"], "deployed", 0);
    eventually(SOON, "Patroni has loaded it in its next loop", || {
        stage.solo.node.reloads() == 3
    });
    third
}

/// What others place is theirs, and Patroni is not asked to load what would cost it its REST API.
fn leaves_alone_what_it_would_not_load(stage: &mut Stage<'_>, good: &Issued) {
    let reloads = stage.solo.node.reloads();
    let weak = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    let weak = stage.ca.issue_with(&[HOST], &weak);
    stage.lineage.renew(&weak);
    stage.world.place(&weak, &stage.target);
    let placed = inventory(stage);
    stage.becomes("not_served");
    let row = stage.done(&["sync", "--force"], "unverified", 1);
    says(&problem(&row), &["was not asked", "KEY_TOO_SMALL"]);
    // What a restart of Patroni would come to is told before somebody does it.
    weighs(stage.checked("restart"), "problem", &["KEY_TOO_SMALL"]);
    stage.keeps(good);
    assert_eq!(stage.solo.node.reloads(), reloads);
    placed.is_untouched();

    let fourth = stage.renew();
    stage.world.place(&fourth, &stage.target);
    stage.serves(&fourth);
    weighs(stage.checked("restart"), "good", &[]);
}

/// pgcertd places and loads, and an operator goes back and on again.
fn is_kept_and_rolled_back(stage: &mut Stage<'_>, daemon: &Daemon) {
    let fifth = stage.renew();
    stage.serves(&fifth);
    daemon.wait_for_log(&format!("{} deployed and served", &fifth.fingerprint[..6]));
    let sixth = stage.renew();
    stage.serves(&sixth);

    stage.done(&["rollback", "--dry-run", API], "would_deploy", 0);
    stage.keeps(&sixth);
    stage.done(&["rollback", API], "deployed", 0);
    stage.keeps(&fifth);
    stage.becomes("held");
    stage.done(&["sync"], "refused", 1);
    stage.keeps(&fifth);
    let installed = fs::read_to_string(&stage.target).unwrap();
    assert_eq!(installed, fifth.combined_pem());
    stage.done(&["sync", "--force"], "deployed", 0);
    stage.keeps(&sixth);
    stage.becomes("in_sync");
}
