//! Servers whose certificate cannot be looked at: the files stay, and it is looked at again.

use std::{fs, net::TcpListener};

use crate::{
    stage::{HOST, NAME, Stage, problem, says},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        cluster::Cluster,
        config::Instance,
        daemon::Daemon,
        eventually,
        port::Port,
        postgres::STRICT,
    },
};

const UNVERIFIED: &str = "serving not verified";

/// A stage whose looks give up soon.
fn impatient<'w>(world: &'w World, instance: impl FnOnce(Instance) -> Instance) -> Stage<'w> {
    Stage::build(world)
        .instance(|entry| instance(entry.set("verify_timeout", "1s")))
        .start()
}

/// Renews under the daemon, which cannot see what is served, and leaves the files.
#[track_caller]
fn renewed_unseen(stage: &mut Stage<'_>, daemon: &Daemon, told: &[&str]) -> Issued {
    let second = stage.renew();
    let line = daemon.wait_for_log(&format!(
        "{} installed, {UNVERIFIED}",
        &second.fingerprint[..6]
    ));
    says(&line, told);
    let seen = stage.becomes_and_says("unverified", told);
    assert_eq!(seen["installed"]["fingerprint"], *second.fingerprint);
    assert!(!stage.kept("held.json").exists());
    let row = stage.synced(&[], "unverified", 1);
    says(&problem(&row), told);
    second
}

#[test]
fn a_server_that_hangs_keeps_the_new_files_and_serves_them_when_it_goes_on() {
    let world = or_skip!(World::new());
    let mut stage = impatient(&world, |instance| instance);
    let daemon = stage.daemon();
    stage.cluster.freeze();
    let second = renewed_unseen(&mut stage, &daemon, &["did not answer", "hangs"]);
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.cluster.thaw();
    stage.serves(&second);
    eventually(SOON, "the daemon sees it by itself", || {
        daemon.log().matches(": in_sync").count() == 2
    });
    // The daemon's request, and that of `sync`.
    assert_eq!(stage.reloads(), 1);
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_server_that_hangs_and_then_refuses_gets_its_old_certificate_back() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.strict())
        .instance(|instance| instance.set("verify_timeout", "1s"))
        .start();
    let daemon = stage.daemon();
    stage.cluster.freeze();
    stage.renew_weak();
    daemon.wait_for_log(UNVERIFIED);
    stage.cluster.thaw();
    daemon.wait_for_log("rolled back");
    stage.becomes("rejected");
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_closed_port_is_named_and_the_corrected_address_is_well() {
    let world = or_skip!(World::new());
    let nobody = Port::claim();
    let mut stage = impatient(&world, |instance| instance.set("address", nobody.address()));
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(UNVERIFIED);
    let second = renewed_unseen(
        &mut stage,
        &daemon,
        &[&nobody.address(), "cannot be reached", "set address"],
    );
    stage.serves(&second);
    let text = stage.config.text().replace(
        &nobody.address(),
        &format!("127.0.0.1:{}", stage.cluster.port()),
    );
    stage.config.replace(&text);
    let mut daemon = daemon;
    daemon.hangup();
    daemon.wait_for_log(": in_sync");
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn another_server_on_the_address_is_no_proof_of_anything() {
    let world = or_skip!(World::new());
    let strange = Ca::new(&world, "Other Root").issue(&[HOST]);
    let file = world
        .postgres_directory("strange", 0o700)
        .join("server.pem");
    world.place(&strange, &file);
    let mut other = Cluster::build(&world).name("strange").tls(&file).start();
    let address = format!("127.0.0.1:{}", other.port());
    let mut stage = impatient(&world, |instance| instance.set("address", address.as_str()));
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(UNVERIFIED);
    let own = format!("127.0.0.1:{}", stage.cluster.port());
    let second = renewed_unseen(
        &mut stage,
        &daemon,
        &[
            &address,
            "another server",
            &own,
            &strange.fingerprint[..6],
            "correct address",
        ],
    );
    stage.serves(&second);
    assert_eq!(other.log().matches("received SIGHUP").count(), 0);
    assert_eq!(other.served(), strange.fingerprint);
    other.restart().unwrap();
    stage.ends(daemon, &second);
}

#[test]
fn another_server_with_the_same_certificate_is_no_proof_either() {
    let world = or_skip!(World::new());
    let file = world.postgres_directory("twin", 0o700).join("server.pem");
    let first = Ca::new(&world, "Other Root").issue(&[HOST]);
    world.place(&first, &file);
    let twin = Cluster::build(&world).name("twin").tls(&file).create();
    let address = format!("127.0.0.1:{}", twin.port());
    let mut twin = twin;
    let mut stage = impatient(&world, |instance| instance.set("address", address.as_str()));
    world.place(&stage.first, &file);
    twin.start().unwrap();
    // Until the renewal all looks well.
    let daemon = stage.daemon();
    let second = renewed_unseen(&mut stage, &daemon, &[&address, "another server"]);
    stage.serves(&second);
    assert_eq!(twin.served(), stage.first.fingerprint);
    stage.ends(daemon, &second);
}

#[test]
fn a_server_that_hangs_has_not_refused_what_another_at_its_address_does_not_show() {
    let world = or_skip!(World::new());
    let file = world.postgres_directory("twin", 0o700).join("server.pem");
    let first = Ca::new(&world, "Other Root").issue(&[HOST]);
    world.place(&first, &file);
    let mut twin = Cluster::build(&world).name("twin").tls(&file).create();
    let address = format!("127.0.0.1:{}", twin.port());
    let mut stage = impatient(&world, |instance| instance.set("address", address.as_str()));
    world.place(&stage.first, &file);
    twin.start().unwrap();
    stage.synced(&[], "unchanged", 0);
    stage.cluster.freeze();
    let second = stage.renew();
    let row = stage.synced(&[], "unverified", 1);
    let own = format!("127.0.0.1:{} did not answer", stage.cluster.port());
    says(&problem(&row), &[&own]);
    stage.cluster.thaw();
    stage.serves(&second);
    stage.ends_serving(&second);
}

#[test]
fn a_server_on_sockets_alone_is_told_what_to_set() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("listen_addresses", ""))
        .start();
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(UNVERIFIED);
    let second = renewed_unseen(
        &mut stage,
        &daemon,
        &["Unix sockets", "listen_addresses", "verify = \"none\""],
    );
    stage.cluster.set("listen_addresses", "127.0.0.1");
    stage.cluster.restart().unwrap();
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_listener_that_says_nothing_holds_nobody_up() {
    let world = or_skip!(World::new());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut stage = impatient(&world, |instance| instance.set("address", address.as_str()));
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(UNVERIFIED);
    let second = renewed_unseen(
        &mut stage,
        &daemon,
        &[&address, "did not answer", "address"],
    );
    stage.serves(&second);
    drop(silent);
    stage.ends(daemon, &second);
}

#[test]
fn without_verification_a_server_on_sockets_alone_is_in_sync() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("listen_addresses", ""))
        .instance(|instance| instance.set("verify", "none"))
        .start();
    let daemon = stage.daemon();
    let second = stage.renew();
    daemon.wait_for_log("deployed");
    let seen = stage.becomes("in_sync");
    assert_eq!(seen["served"], serde_json::Value::Null);
    let third = stage.renew();
    eventually(SOON, "the third is installed", || {
        fs::read_to_string(&stage.cert).unwrap() == third.combined_pem()
    });
    eventually(SOON, "each was reloaded", || stage.reloads() == 2);
    assert_ne!(second, third);
    stage.synced(&[NAME], "unchanged", 0);
    stage.cluster.set("listen_addresses", "127.0.0.1");
    stage.ends(daemon, &third);
}
