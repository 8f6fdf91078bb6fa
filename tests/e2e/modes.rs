//! What pgcertd does for others' files, against others' writes, and for several servers.

use std::{fs, time::Duration};

use crate::{
    stage::{HOST, NAME, Stage, assert_says, eventually_both, leaf_of},
    world::{
        SOON, World,
        ca::Issued,
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, eventually_state, pgcertd},
        eventually,
        inventory::Inventory,
        lineage::Lineage,
        throughout,
    },
};

#[test]
fn in_mode_reload_what_others_place_is_loaded_and_proven() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("mode", "reload"))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually_both(&world, &config, "in_sync", "at first");

    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    let problem = eventually_both(&world, &config, "out_of_date", "nobody has placed it");
    println!("{problem}");
    assert_says(
        &problem,
        &["does not write", "whoever does"],
        "nobody has placed it",
    );
    stage.keeps(&stage.first, "nobody has placed it");
    world.place(&second, &stage.target);
    stage.eventually_serves(&second, "it was placed");
    eventually_both(&world, &config, "in_sync", "it was placed");

    // What is not the lineage's is loaded as well: whoever places the files decides.
    let other = stage.ca.issue(&[HOST]);
    world.place(&other, &stage.target);
    stage.eventually_serves(&other, "another one was placed");
    eventually_both(&world, &config, "out_of_date", "another one was placed");
    stage.ends_with(daemon, &other);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_server_that_ends_while_it_is_asked_to_load_what_is_there_is_told_to_be_down() {
    use crate::world::daemon::Launch;

    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("mode", "reload"))
        .write();
    let launch = Launch::new(&world).env("FAILPOINTS", "reloaded=1*sleep(3000)");
    let daemon = launch.daemon(&config);
    daemon.wait_for_log(": in_sync");
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    world.place(&second, &stage.target);
    eventually(SOON, "the server is signalled", || {
        stage.cluster.log().contains("received SIGHUP")
    });
    stage.cluster.stop();
    daemon.wait_for_log(": not_running");
    assert!(!daemon.log().contains("installed"), "{}", daemon.log());
    stage.cluster.start().unwrap();
    stage.eventually_serves(&second, "it has started");
    eventually_both(&world, &config, "in_sync", "it has started");
    stage.ends_with(daemon, &second);
}

#[test]
fn in_mode_observe_nothing_is_touched_and_all_is_told() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("mode", "observe"))
        .write();
    // What another program would have left there is not pgcertd's to remove.
    let state = stage.target.parent().unwrap().to_owned();
    fs::write(state.join(".server.pem.pgcertd-new"), "").unwrap();
    let before = Inventory::of([&state]);
    let daemon = Daemon::start(&world, &config);
    eventually_both(&world, &config, "in_sync", "at first");

    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    let problem = eventually_both(&world, &config, "out_of_date", "it was renewed");
    println!("{problem}");
    assert_says(&problem, &["does not write"], "it was renewed");
    before.is_untouched();
    world.place(&second, &stage.target);
    let problem = eventually_both(&world, &config, "not_served", "it was placed");
    println!("{problem}");
    assert_says(&problem, &["reload"], "it was placed");
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    let log = stage.cluster.log();
    assert!(!log.contains("received SIGHUP"), "{log}");
    stage.cluster.reload_by_hand();
    stage.eventually_serves(&second, "it was reloaded by hand");
    pgcertd(&world, &config, &["sync"]);
    eventually_state(&world, &config, NAME, "in_sync");
    stage.ends_with(daemon, &second);
}

#[test]
fn an_instance_that_something_else_keeps_rewriting_is_contended_and_left_alone() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let daemon = Daemon::start(&world, &config);
    eventually_both(&world, &config, "in_sync", "at first");

    let foreign = stage.ca.issue(&[HOST]);
    for _ in 0..2 {
        world.place(&foreign, &stage.target);
        eventually(SOON, "the lineage's certificate is back", || {
            leaf_of(&stage.target).is_ok_and(|leaf| leaf == stage.first.leaf_pem)
        });
        eventually_both(&world, &config, "in_sync", "mended");
    }
    world.place(&foreign, &stage.target);
    let problem = eventually_both(&world, &config, "contended", "the third time");
    println!("{problem}");
    let target = stage.target.to_str().unwrap();
    assert_says(&problem, &[target, "sync --force"], "the third time");
    throughout(Duration::from_secs(2), "it is left alone", || {
        leaf_of(&stage.target).is_ok_and(|leaf| leaf == foreign.leaf_pem)
    });
    assert_eq!(pgcertd(&world, &config, &["status"]).code(), 1);

    // The operator has found the cause and does as the sentence says.
    let done = pgcertd(&world, &config, &["sync", "--force"]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout(), done.stderr());
    eventually_both(&world, &config, "in_sync", "after the operator");
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    stage.eventually_serves(&second, "a renewal after that");
    stage.ends_with(daemon, &second);
}

#[test]
fn two_instances_that_share_a_lineage_both_get_the_renewal() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let target = world.target("16-other");
    world.place(&stage.first, &target);
    let mut other = Cluster::build(&world).name("16-other").tls(&target).start();
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .instance(stage.instance(HOST))
        .instance(Instance::of(&other, HOST))
        .write();
    let daemon = Daemon::start(&world, &config);
    let serves = |cluster: &Cluster, issued: &Issued| {
        eventually(SOON, "the other one serves it too", || {
            cluster
                .peer()
                .is_ok_and(|served| served.fingerprint == issued.fingerprint)
        });
    };
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    stage.eventually_serves(&second, "the first one serves it");
    serves(&other, &second);

    // One that is frozen delays the other by nothing.
    other.freeze();
    let third = stage.ca.issue(&[HOST]);
    lineage.renew(&third);
    stage.eventually_serves(&third, "the other one is frozen");
    other.thaw();
    serves(&other, &third);
    eventually_state(&world, &config, "16-other", "in_sync");
    eventually_state(&world, &config, NAME, "in_sync");
    stage.ends_with(daemon, &third);
    other.restart().unwrap();
    assert_eq!(other.served(), third.fingerprint);
}
