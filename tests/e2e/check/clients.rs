//! What clients get, and how they are let in.

use std::fs;

use super::finding::{checked, line, sentence, typed};
use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        World,
        ca::{DAY, Options},
        network::{ADDRESS, in_own_network},
    },
};

#[test]
fn names_that_the_config_lacks_are_asked_for() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let found = checked(&world, &stage.config, &[]).instance("server_names");
    assert_eq!(found["weight"], "notice");
    let text = sentence(&found);
    says(&text, &[NAME, "server_names = [\"pg.example.com\"]"]);
    // What it says to write is TOML.
    let (_, toml) = text.split_once("server_names").unwrap();
    stage.configured_with(&format!("server_names{toml}"));
    let seen = checked(&world, &stage.config, &[]);
    assert_eq!(seen.instance("server_names")["weight"], "good");
}

#[test]
fn what_is_served_and_not_installed_is_deployed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let second = stage.renew();
    // Installed by another hand, and nobody told the server.
    world.place(&second, &stage.cert);
    let found = stage.is_mended("served", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &[&stage.first.fingerprint[..6], &second.fingerprint[..6]],
    );
    stage.ends_serving(&second);
}

#[test]
fn a_root_of_ones_own_is_worth_a_note() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    // The system's own roots.
    let seen = checked(&world, &stage.config, &[]);
    let found = seen.instance("served_trusted");
    assert_eq!(found["weight"], "notice", "{found}");
    says(&sentence(&found), &["sslrootcert"]);
    assert!(seen.ill().iter().all(|finding| finding.contains("notice")));
    stage.is_well("served_trusted");
}

#[test]
fn what_verify_full_refuses_is_a_problem_until_it_is_renewed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let day_old = Options {
        not_before: std::time::SystemTime::now() - 90 * DAY,
        not_after: std::time::SystemTime::now() - DAY,
        ..Options::default()
    };
    let expired = stage.ca.issue_with(&[HOST], &day_old);
    let other = stage.ca.issue(&["other.example.com"]);
    let mut alone = stage.ca.issue(&[HOST]);
    alone.intermediates.clear();
    let sound = stage.ca.issue(&[HOST]);
    for (served, told) in [
        (&expired, "expired"),
        (&other, "other.example.com"),
        (&alone, "issuer"),
    ] {
        world.place(served, &stage.cert);
        stage.cluster.reload_by_hand();
        let found = stage.finds("served_trusted", "problem");
        println!("{} - {}", found["seen"], found["mend"]);
        says(
            found["seen"].as_str().unwrap(),
            &["verify-full rejects", "127.0.0.1", told],
        );
    }
    stage.lineage.renew(&sound);
    // As a renewal is deployed.
    stage.synced(&[], "deployed", 0);
    stage.is_well("served_trusted");
}

#[test]
fn each_address_that_the_server_listens_on_is_looked_at() {
    let _can_run = or_skip!(World::new());
    in_own_network(|| {
        let world = or_skip!(World::new());
        let stage = Stage::build(&world)
            .server_names()
            .cluster(|cluster| cluster.setting("listen_addresses", "*"))
            .start();
        let found = stage.finds("served_trusted", "good");
        let port = stage.cluster.port();
        for address in [ADDRESS, "127.0.0.1", "[::1]"] {
            says(
                found["seen"].as_str().unwrap(),
                &[&format!("{address}:{port}")],
            );
        }
        assert_eq!(stage.checked().ill(), Vec::<String>::new());
    });
}

#[test]
fn a_line_that_lets_clients_of_other_hosts_in_unencrypted_is_found() {
    let _can_run = or_skip!(World::new());
    in_own_network(|| {
        let world = or_skip!(World::new());
        let mut stage = Stage::build(&world)
            .server_names()
            .cluster(|cluster| cluster.setting("listen_addresses", "*"))
            .start();
        let found = exposed(&mut stage, "problem");
        says(&line(&found), &["setup", "--require-tls", "--yes", NAME]);
        typed(&line(&found));
        stage.is_well("plaintext");
    });
}

#[test]
fn on_loopback_alone_such_a_line_is_worth_a_note() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let found = exposed(&mut stage, "notice");
    says(found["why"].as_str().unwrap(), &["loopback alone"]);
}

#[track_caller]
fn exposed(stage: &mut Stage<'_>, weight: &str) -> serde_json::Value {
    let hba = stage.cluster.config_directory().join("pg_hba.conf");
    let text = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, format!("{text}host all all 0.0.0.0/0 trust\n")).unwrap();
    stage.cluster.reload_by_hand();
    let found = stage.finds("plaintext", weight);
    println!("{}", found["seen"]);
    says(
        found["seen"].as_str().unwrap(),
        &[
            hba.to_str().unwrap(),
            "line",
            "host all all 0.0.0.0/0 trust",
        ],
    );
    found
}
