//! The first install of all is refused, and there is nothing to go back to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    stage::{HOST, NAME, Stage, problem, says},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::Daemon,
        eventually,
        lineage::Lineage,
        postgres::STRICT,
    },
};

/// A server on a pair that its administrator made, whose configuration names the target since
/// the last edit and was not reloaded yet. Gives the stage and the pair in use.
fn moved_over<'w>(world: &'w World, placed: Option<&Issued>) -> (Stage<'w>, Issued, PathBuf) {
    let ca = Ca::new(world, "Test Root");
    let old = ca.issue(&[HOST]);
    let old_file = world.postgres_directory("old", 0o700).join("server.pem");
    world.place(&old, &old_file);
    let cluster = Cluster::build(world)
        .name(NAME)
        .tls(&old_file)
        .setting("log_min_messages", "info")
        .strict()
        .start();
    let target = world.target(NAME);
    if let Some(placed) = placed {
        world.place(placed, &target);
    }
    cluster.set("ssl_cert_file", target.to_str().unwrap());
    cluster.set("ssl_key_file", target.to_str().unwrap());
    let config = Config::new(world)
        .watch("resync", "1h")
        .instance(Instance::for_cluster(&cluster, HOST))
        .write();
    let stage = Stage {
        world,
        name: NAME,
        lineage: Lineage::new(world, HOST),
        cluster,
        ca,
        first: old.clone(),
        config,
        cert: target.clone(),
        key: target,
    };
    (stage, old, old_file)
}

#[test]
fn a_refused_first_install_leaves_no_file() {
    let world = or_skip!(World::with_debians(STRICT));
    let (mut stage, old, old_file) = moved_over(&world, None);
    let daemon = Daemon::start(&world, &stage.config);
    stage.renew_weak();
    let line = daemon.wait_for_log("rolled back");
    says(&line, &["there was no file before"]);
    let seen = stage.becomes("rejected");
    says(&problem(&seen), &["log"]);
    assert!(!stage.cert.exists());
    assert!(!stage.kept("previous.pem").exists());
    assert_eq!(stage.cluster.served(), old.fingerprint);
    stage.synced(&["--force"], "rolled_back", 1);
    assert!(!stage.cert.exists());

    // The administrator goes back: pgcertd leaves nothing in the way of a start.
    assert_eq!(daemon.stop().code(), Some(0));
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, old_file.to_str().unwrap());
    }
    stage.ends_serving(&old);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_configuration_that_names_the_file_a_moment_after_the_signal_is_no_refusal() {
    use crate::world::daemon::Launch;

    let world = or_skip!(World::with_debians(STRICT));
    let (mut stage, old, old_file) = moved_over(&world, None);
    let good = stage.renew();
    let name_in_settings = |file: &Path| {
        for setting in ["ssl_cert_file", "ssl_key_file"] {
            stage.cluster.set(setting, file.to_str().unwrap());
        }
    };
    name_in_settings(&old_file);
    // The moment lasts until the edit is made, however busy the machine is.
    let launch = Launch::new(&world).env("FAILPOINTS", "reloaded=1*sleep(3000)");
    let daemon = launch.daemon(&stage.config);
    eventually(SOON, "the server is signalled", || stage.reloads() > 0);
    assert_eq!(stage.cluster.served(), old.fingerprint);
    name_in_settings(&stage.cert);
    stage.serves(&good);
    stage.becomes("in_sync");
    assert!(!daemon.log().contains("rolled back"), "{}", daemon.log());
    stage.ends(daemon, &good);
}

#[test]
fn a_good_renewal_after_a_refused_first_install_is_served() {
    let world = or_skip!(World::with_debians(STRICT));
    let (mut stage, _, _) = moved_over(&world, None);
    let daemon = Daemon::start(&world, &stage.config);
    stage.renew_weak();
    daemon.wait_for_log("rolled back");
    let good = stage.renewal_is_served();
    stage.becomes("in_sync");
    stage.ends(daemon, &good);
}

#[test]
fn a_refused_first_install_leaves_a_pair_that_was_placed_by_hand() {
    let world = or_skip!(World::with_debians(STRICT));
    let by_hand = Ca::new(&world, "By Hand").issue(&[HOST]);
    let (mut stage, old, _) = moved_over(&world, Some(&by_hand));
    assert_eq!(stage.cluster.served(), old.fingerprint);
    stage.renew_weak();
    let row = stage.synced(&[], "rolled_back", 1);
    says(&problem(&row), &["the previous files are back"]);
    let left = fs::read_to_string(&stage.cert).unwrap();
    assert_eq!(left, by_hand.combined_pem());
    stage.becomes("rejected");
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": rejected");
    stage.ends(daemon, &by_hand);
}
