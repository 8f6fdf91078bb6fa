//! A server that is late: what it cuts for that says nothing of its certificate.

use std::fs;

use super::Attached;
use crate::{
    stage::Stage,
    world::{SOON, World, ca::Issued, daemon::eventually_at_rest, eventually},
};

#[test]
fn a_handshake_that_a_busy_server_cuts_for_being_late_takes_no_certificate_back() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("authentication_timeout", "1s"))
        .instance(|instance| instance.set("verify_timeout", "4s"))
        .start();
    let daemon = stage.daemon();
    // It asks nothing of its own accord while the server is slow.
    eventually_at_rest(&stage.config);
    // Every server process reads the request for TLS at once, and the client's hello too late.
    let late = "inject=recvfrom:delay_enter=1500ms:when=2+";
    let slow = ["-e", "trace=recvfrom", "-e", late].map(str::to_owned);
    let slow = Attached::to(&world, stage.cluster.pid(), &slow);
    let second = stage.renew();
    let installed =
        |issued: &Issued| fs::read_to_string(&stage.cert).unwrap() == issued.combined_pem();
    eventually(SOON, "the renewal is installed", || installed(&second));
    // The rush is over just when the certificate would have gone back.
    let verdict = format!(
        "{} installed, serving not verified",
        &second.fingerprint[..6]
    );
    eventually(SOON, "the verdict", || {
        daemon.log().contains(&verdict) || installed(&stage.first)
    });
    slow.detach();
    assert!(installed(&second), "the certificate was taken back");
    println!("{}", daemon.wait_for_log(&verdict));
    assert!(!stage.kept("held.json").exists());
    stage.serves(&second);
    stage.becomes("in_sync");
    assert_eq!(stage.reloads(), 1);
    stage.ends(daemon, &second);
}
