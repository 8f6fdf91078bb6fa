//! CAs and CRLs that near their end: the daemon says so ahead without an event, `status` and the
//! metrics show it, and a renewal ends it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::gate::{Gate, bring, keyed};
use crate::{
    stage::{HOST, NAME, says},
    world::{
        World,
        ca::{Ca, DAY},
        config::{Config, Instance},
        daemon::{Daemon, pgcertd},
    },
};

/// So soon after it was made a CA or a CRL crosses a border.
const SHORTLY: Duration = Duration::from_secs(8);

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A CRL of 10 days of its CA, of which so much is left.
fn list(clients: &Ca, left: Duration) -> String {
    let until = SystemTime::now() + left;
    clients.crl_of(&[], until - 10 * DAY, until)
}

/// A CA of clients that lasts 90 days, of which so much is left.
fn authority(world: &World, left: Duration) -> Ca {
    let until = SystemTime::now() + left;
    Ca::new_with(world, "Old clients", |_, params| {
        params.not_before = (until - 90 * DAY).into();
        params.not_after = until.into();
    })
}

/// The gate's config, with a comparison every second.
fn restless(gate: &Gate<'_>) -> Config {
    let instance = keyed(
        gate.world(),
        Instance::for_cluster(&gate.stage.cluster, HOST),
    );
    Config::new(gate.world())
        .watch("resync", "1s")
        .instance(instance)
        .write()
}

/// What `status` draws, and its exit status.
fn drawn(gate: &Gate<'_>, config: &Config) -> (String, i32) {
    let outcome = pgcertd(gate.world(), config, &["status"]);
    (outcome.stdout().to_owned(), outcome.code())
}

/// How close a file is to expiry, in its source and installed.
fn expiries(gate: &Gate<'_>, config: &Config, file: &str) -> [Value; 2] {
    let seen = pgcertd(gate.world(), config, &["status", "--json"]).instance(NAME);
    ["source", "installed"].map(|place| seen[file][place]["first_end"]["expiry"].clone())
}

/// What the daemon has said of ends so far.
fn said(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let of_ends = |line: &&str| {
        line.contains("file has not been renewed: ") || line.contains("is about to expire any more")
    };
    log.lines().filter(of_ends).map(str::to_owned).collect()
}

#[track_caller]
fn said_in_order(daemon: &Daemon, expected: &[&str]) {
    let said = said(daemon);
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, words) in said.iter().zip(expected) {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn a_crl_that_is_not_replaced_is_warned_of_until_it_is() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let config = restless(&gate);
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for_log(": in_sync");
    assert_eq!(expiries(&gate, &config, "crl"), ["fine"; 2]);

    // Nothing happens but that time passes.
    bring(&world, "crl.pem", &list(&gate.clients, 60 * HOUR + SHORTLY));
    let near = daemon.wait_for_log("the CRL of CN=Clients expires in 2 days");
    assert!(
        near.starts_with("warning: 16-main: the CRL file "),
        "{near}"
    );
    let (text, code) = drawn(&gate, &config);
    says(
        &text,
        &[
            "? 16-main",
            "16-main needs a new CRL before ",
            "fix   find out why the program that makes or fetches it",
        ],
    );
    assert_eq!(code, 0, "{text}");
    assert_eq!(expiries(&gate, &config, "crl"), ["warning"; 2]);
    gate.lets_in(&gate.one);

    bring(&world, "crl.pem", &list(&gate.clients, 24 * HOUR + SHORTLY));
    let near = daemon.wait_for_log("the CRL of CN=Clients expires in 23 hours");
    assert!(near.starts_with("error: 16-main: the CRL file "), "{near}");
    let (text, code) = drawn(&gate, &config);
    says(&text, &["1 problem", "! 16-main"]);
    assert_eq!(code, 1, "{text}");
    assert_eq!(expiries(&gate, &config, "crl"), ["critical"; 2]);

    bring(&world, "crl.pem", &list(&gate.clients, 2 * SHORTLY));
    gate.stage.becomes("in_sync");
    let expired = daemon.wait_for_log(" ago; every client of that CA is refused");
    assert!(expired.starts_with("error: 16-main"), "{expired}");
    gate.keeps_out(&gate.one, "expired");

    bring(&world, "crl.pem", &gate.clients.crl(&[]));
    daemon.wait_for_log("no CRL is about to expire any more");
    gate.stage.becomes("in_sync");
    let (text, code) = drawn(&gate, &config);
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("needs a new"), "{text}");
    gate.lets_in(&gate.one);

    // Each once, and in this order, for all that it was compared every second.
    let expected = [
        "expires in 2 days",
        "expires in 23 hours",
        "expired ",
        "is about to expire any more",
    ];
    said_in_order(&daemon, &expected);
    assert_eq!(daemon.stop().code(), Some(0));
    gate.ends();
}

#[test]
fn a_ca_that_ends_is_warned_of_until_it_is_issued_anew_or_taken_out() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let config = restless(&gate);
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for_log(": in_sync");
    let old = authority(&world, 21 * DAY + SHORTLY);
    gate.admits(&old);
    let near = daemon.wait_for_log("the CA CN=Old clients expires in 20 days");
    assert!(near.starts_with("warning: 16-main: the CA file "), "{near}");
    let (text, code) = drawn(&gate, &config);
    says(
        &text,
        &["? 16-main", "16-main needs a new CA of its clients before "],
    );
    assert_eq!(code, 0, "{text}");
    assert_eq!(expiries(&gate, &config, "ca"), ["warning"; 2]);
    assert_eq!(expiries(&gate, &config, "crl"), ["fine"; 2]);

    bring(&world, "ca.pem", &gate.clients.root_pem());
    bring(&world, "crl.pem", &gate.clients.crl(&[]));
    daemon.wait_for_log("no CA is about to expire any more");
    assert_eq!(expiries(&gate, &config, "ca"), ["fine"; 2]);
    said_in_order(
        &daemon,
        &["expires in 20 days", "is about to expire any more"],
    );
    assert_eq!(daemon.stop().code(), Some(0));
    gate.ends();
}

#[test]
fn a_crl_that_nears_its_end_is_found_and_one_past_it_is_said() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let now = SystemTime::now();
    let soon = Duration::from_secs(40 * 60 * 60);
    bring(
        &world,
        "crl.pem",
        &gate.clients.crl_of(&[], now - 8 * DAY, now + soon),
    );
    gate.stage.synced(&[], "deployed", 0);
    let check = gate.stage.pgcertd(&["check", "--json"]);
    says(
        check.stdout(),
        &["client_ca_expiry", "CRL of CN=Clients", "next"],
    );
    gate.lets_in(&gate.one);

    let end = Duration::from_secs(2);
    bring(
        &world,
        "crl.pem",
        &gate
            .clients
            .crl_of(&[], now - 8 * DAY, SystemTime::now() + end),
    );
    let daemon = Daemon::start(&world, &gate.stage.config);
    gate.stage
        .becomes_and_says("source_invalid", &["CRL of CN=Clients", "was due"]);
    gate.keeps_out(&gate.one, "expired");
    bring(&world, "crl.pem", &gate.clients.crl(&[]));
    gate.stage.becomes("in_sync");
    gate.lets_in(&gate.one);
    assert_eq!(daemon.stop().code(), Some(0));
}
