//! What pgcertd does for others' files, against others' writes, and for several servers.

use std::{fs, time::Duration};

use crate::{
    stage::{HOST, NAME, Stage, leaf_of, says},
    world::{
        SOON, World,
        ca::Issued,
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, eventually_state},
        eventually,
        inventory::Inventory,
        throughout,
    },
};

#[test]
fn in_mode_reload_what_others_place_is_loaded_and_proven() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("mode", "reload"))
        .start();
    let daemon = stage.daemon();

    let second = stage.renew();
    let problem = stage.both_say("out_of_date");
    println!("{problem}");
    says(
        &problem,
        &["something else writes the file", "find out why"],
    );
    stage.keeps(&stage.first);
    world.place(&second, &stage.cert);
    stage.serves(&second);
    stage.both_say("in_sync");

    // What is not the lineage's is loaded as well: whoever places the files decides.
    let other = stage.ca.issue(&[HOST]);
    world.place(&other, &stage.cert);
    stage.serves(&other);
    stage.both_say("out_of_date");
    stage.ends(daemon, &other);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_server_that_ends_while_it_is_asked_to_load_what_is_there_is_told_to_be_down() {
    use crate::world::daemon::Launch;

    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("mode", "reload"))
        .start();
    let launch = Launch::new(&world).env("FAILPOINTS", "reloaded=1*sleep(3000)");
    let daemon = launch.daemon(&stage.config);
    daemon.wait_for_log(": in_sync");
    let second = stage.renew();
    world.place(&second, &stage.cert);
    eventually(SOON, "the server is signalled", || {
        stage.cluster.log().contains("received SIGHUP")
    });
    stage.cluster.stop();
    daemon.wait_for_log(": not_running");
    assert!(!daemon.log().contains("installed"), "{}", daemon.log());
    stage.cluster.start().unwrap();
    stage.serves(&second);
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn in_mode_observe_nothing_is_touched_and_all_is_told() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("mode", "observe"))
        .start();
    // What another program would have left there is not pgcertd's to remove.
    let state = stage.cert.parent().unwrap().to_owned();
    fs::write(state.join(".server.pem.pgcertd-new"), "").unwrap();
    let before = Inventory::under([&state]);
    let daemon = stage.daemon();

    let second = stage.renew();
    let problem = stage.both_say("out_of_date");
    println!("{problem}");
    says(&problem, &["something else writes the file"]);
    before.is_untouched();
    world.place(&second, &stage.cert);
    let problem = stage.both_say("not_served");
    println!("{problem}");
    says(&problem, &["reload"]);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    let log = stage.cluster.log();
    assert!(!log.contains("received SIGHUP"), "{log}");
    stage.cluster.reload_by_hand();
    stage.serves(&second);
    stage.pgcertd(&["sync"]);
    stage.becomes("in_sync");
    fs::remove_file(state.join(".server.pem.pgcertd-new")).unwrap();
    stage.ends(daemon, &second);
}

#[test]
fn an_instance_that_something_else_keeps_rewriting_is_contended_and_left_alone() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();

    let foreign = stage.ca.issue(&[HOST]);
    for _ in 0..2 {
        world.place(&foreign, &stage.cert);
        eventually(SOON, "the lineage's certificate is back", || {
            leaf_of(&stage.cert).is_ok_and(|leaf| leaf == stage.first.leaf_pem)
        });
        stage.both_say("in_sync");
    }
    world.place(&foreign, &stage.cert);
    let problem = stage.both_say("contended");
    println!("{problem}");
    let target = stage.cert.to_str().unwrap();
    says(&problem, &[target, "sync --force"]);
    throughout(Duration::from_secs(2), "it is left alone", || {
        leaf_of(&stage.cert).is_ok_and(|leaf| leaf == foreign.leaf_pem)
    });
    assert_eq!(stage.pgcertd(&["status"]).code(), 1);

    // The operator has found the cause and does as the sentence says.
    let done = stage.pgcertd(&["sync", "--force"]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout(), done.stderr());
    stage.both_say("in_sync");
    let second = stage.renewal_is_served();
    stage.ends(daemon, &second);
}

#[test]
fn two_instances_that_share_a_lineage_both_get_the_renewal() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let target = world.target("16-other");
    world.place(&stage.first, &target);
    let mut other = Cluster::build(&world).name("16-other").tls(&target).start();
    stage.config = Config::new(&world)
        .instance(stage.instance(HOST))
        .instance(Instance::for_cluster(&other, HOST))
        .write();
    let daemon = Daemon::start(&world, &stage.config);
    let serves = |cluster: &Cluster, issued: &Issued| {
        eventually(SOON, "the other one serves it too", || {
            cluster
                .peer()
                .is_ok_and(|served| served.fingerprint == issued.fingerprint)
        });
    };
    let second = stage.renewal_is_served();
    serves(&other, &second);

    // One that is frozen delays the other by nothing.
    other.freeze();
    let third = stage.renewal_is_served();
    other.thaw();
    serves(&other, &third);
    eventually_state(&world, &stage.config, "16-other", "in_sync");
    eventually_state(&world, &stage.config, NAME, "in_sync");
    stage.ends(daemon, &third);
    other.restart().unwrap();
    assert_eq!(other.served(), third.fingerprint);
}
