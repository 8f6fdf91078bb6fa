//! PostgreSQL 19 with `ssl_sni = on`: the name that a client asks for decides which certificate it gets
//! (`pg_hosts.conf`).

mod random_lines;
mod setup;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use pgcertd::testing::{
    config::Address,
    host::privilege::Ids,
    server::{
        hosts::Hosts,
        probe::{AskedName, Opening, Prober},
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config as Runs, TestRunner},
};
use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, of_kind, problem, says},
    world::{
        SOON, World,
        ca::{Issued, KeyType, Options},
        cluster::ClusterBuilder,
        config::{Config, Instance},
        daemon::{Launch, Outcome, eventually_state},
        eventually, give,
        lineage::Lineage,
        postgres::BY_NAME,
    },
};

/// A server by names, which has a certificate of the instance and others.
struct Named<'w> {
    stage: Stage<'w>,
    /// Where the files of certificates lie that pgcertd has nothing to do with.
    others: PathBuf,
}

impl<'w> Named<'w> {
    fn new(world: &'w World) -> Self {
        Self::with(world, |cluster| cluster)
    }

    fn with(
        world: &'w World,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
    ) -> Self {
        let stage = Stage::build(world)
            .cluster(|build| cluster(build.version(BY_NAME).setting("ssl_sni", "on")))
            .instance(|instance| {
                let instance = instance.set("verify_timeout", "3s");
                instance.set("server_names", vec![HOST])
            })
            .start();
        let others = world.postgres_directory("others", 0o700);
        Named { stage, others }
    }

    /// A certificate of somebody else on this server, for this name, and its file.
    fn other(&self, name: &str) -> (Issued, String) {
        let issued = self.stage.ca.issue(&[name]);
        let file = self.others.join(format!("{name}.pem"));
        fs::write(&file, issued.combined_pem()).unwrap();
        give(&file, self.stage.world.postgres(), 0o600);
        (issued, file.to_str().unwrap().to_owned())
    }

    /// Our file, twice: certificate and key.
    fn ours(&self) -> String {
        let file = self.stage.cert.display();
        format!("{file} {file}")
    }

    fn hosts_file(&self) -> PathBuf {
        self.stage.cluster.data_directory().join("pg_hosts.conf")
    }

    fn line(&self, number: u32) -> String {
        format!("{} line {number}", self.hosts_file().display())
    }

    fn write_hosts(&self, text: &str) {
        fs::write(self.hosts_file(), text).unwrap();
        give(&self.hosts_file(), self.stage.world.postgres(), 0o600);
    }

    /// The server takes these lines at once.
    #[track_caller]
    fn with_hosts(&mut self, text: &str) {
        self.write_hosts(text);
        self.stage.cluster.reload_by_hand();
    }

    #[track_caller]
    fn serves_by(&self, name: &str, issued: &Issued) {
        eventually(SOON, &format!("{name} gets it"), || {
            let peer = self.stage.cluster.peer_named(name)?;
            if peer.fingerprint == issued.fingerprint {
                Ok(())
            } else {
                Err(peer.fingerprint)
            }
        });
    }

    fn status(&self) -> Value {
        self.stage.pgcertd(&["status", "--json"]).instance(NAME)
    }
}

#[test]
fn the_line_that_gives_our_name_another_certificate_is_named() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, file) = (named.ours(), named.hosts_file().display().to_string());
    let (_, other) = named.other("other.example.com");
    let loud = HOST.to_uppercase();
    let wrong = [
        (
            format!("{HOST} {other} {other}\n* {ours}\n"),
            named.line(1),
            &*other,
        ),
        (
            format!("# us\n\n\"{loud}\"\\\n {other} {other}\n"),
            named.line(3),
            HOST,
        ),
        (format!("* {other} {other}\n"), named.line(1), HOST),
        (
            format!("/no_sni/ {ours}\nelse.example {ours}\n"),
            file,
            HOST,
        ),
    ];
    for (text, place, word) in wrong {
        named.with_hosts(&text);
        let seen = named.status();
        assert_eq!(seen["state"], "not_used", "{text}: {seen}");
        says(&problem(&seen), &[&place, word]);
    }
    let right = [
        format!("{HOST} {ours}\n* {other} {other}\n"),
        format!("* {ours}\nelse.example {other} {other}\n"),
        format!("a.example,{loud} {ours} # us\n/no_sni/ {other} {other}\n"),
        // ssl_cert_file is ours.
        "# nobody\n".to_owned(),
    ];
    for text in right {
        named.with_hosts(&text);
        let seen = named.status();
        assert_eq!(seen["state"], "in_sync", "{text}: {seen}");
    }
}

#[test]
fn a_renewal_is_proven_by_the_names_of_the_instance_and_by_no_others() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    named.with_hosts(&format!("{HOST} {ours}\n/no_sni/ {other} {other}\n"));
    let second = named.stage.renew();
    named.stage.synced(&[], "deployed", 0);
    named.serves_by(HOST, &second);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);
    assert_eq!(named.status()["state"], "in_sync");

    // Whoever asks for no name is turned away, which says nothing of the certificate.
    named.with_hosts(&format!("{HOST} {ours}\n"));
    let third = named.stage.renew();
    named.stage.synced(&[], "deployed", 0);
    named.serves_by(HOST, &third);

    // Without server_names the leaf's own name counts, where the file gives others something else.
    let instance = Instance::for_cluster(&named.stage.cluster, HOST);
    named.stage.config = Config::new(&world).instance(instance).write();
    for text in [
        format!("{HOST} {ours}\n/no_sni/ {other} {other}\n"),
        format!("{HOST} {ours}\n"),
        format!("{HOST} {ours}\n* {other} {other}\n"),
    ] {
        named.with_hosts(&text);
        let next = named.stage.renew();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        assert_eq!(named.status()["state"], "in_sync", "{text}");
    }
}

#[test]
fn another_hosts_pair_that_cannot_load_is_named_and_ours_waits_for_it() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (other_pair, other)) = (named.ours(), named.other("other.example.com"));
    let good = format!("{HOST} {ours}\nother.example.com {other} {other}\n");
    named.with_hosts(&good);
    let (stranger, _) = named.other("stranger.example.com");
    let weak = Options {
        key: KeyType::Rsa1024,
        ..Options::default()
    };
    let broken = [
        other_pair.leaf_pem.clone(),
        String::new(),
        stranger.leaf_pem.clone() + &other_pair.combined_pem(),
        // Only the server's OpenSSL knows that it takes no such key.
        named
            .stage
            .ca
            .issue_with(&["other.example.com"], &weak)
            .combined_pem(),
    ];
    let mut served = named.stage.first.fingerprint.clone();
    for text in broken {
        fs::write(&other, &text).unwrap();
        let next = named.stage.renew();
        let row = named.stage.synced(&[], "unverified", 1);
        says(&problem(&row), &[&other, "restart"]);
        let seen = named.status();
        assert_eq!(seen["state"], "not_served", "{seen}");
        let check = named.stage.pgcertd(&["check", "--json"]);
        assert_eq!(check.code(), 1, "{check:?}");
        let findings = check.json()["instances"][0]["findings"].clone();
        let findings = findings.as_array().unwrap();
        let restart = findings.iter().find(|finding| finding["id"] == "restart");
        let restart = restart.unwrap()["seen"].as_str().unwrap();
        says(restart, &["would not start", &other]);
        if !text.contains("PRIVATE KEY") || text.matches("CERTIFICATE").count() > 4 {
            for said in [&problem(&row), &problem(&seen), restart] {
                says(said, &[&named.line(2), &other, "fix that first"]);
            }
        }
        let peer = named.stage.cluster.peer_named(HOST).unwrap();
        assert_eq!(peer.fingerprint, served);
        let installed = fs::read_to_string(&named.stage.cert).unwrap();
        assert_eq!(installed, next.combined_pem());

        fs::write(&other, other_pair.combined_pem()).unwrap();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        assert_eq!(named.status()["state"], "in_sync");
        served.clone_from(&next.fingerprint);
    }
    // The lines themselves, while a daemon watches, which hears of the edit that mends them.
    let daemon = named.stage.daemon();
    for line in [
        "stray.example.com\n",
        "include nowhere.conf\n",
        "* @nobody k\n",
    ] {
        named.write_hosts(&format!("{good}{line}"));
        let next = named.stage.renew();
        named
            .stage
            .becomes_and_says("not_served", &[&named.line(3), "restart"]);
        named.write_hosts(&good);
        named.serves_by(HOST, &next);
        named.stage.becomes("in_sync");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Each has a lineage, files and names of its own; a reload of one loads the files of both.
#[test]
fn the_names_of_one_server_are_an_instance_each() {
    const SECOND: &str = "second";
    const SECOND_HOST: &str = "second.example.com";
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let target = world.target(SECOND);
    let mut lineage = Lineage::new(&world, SECOND_HOST);
    let first = named.stage.ca.issue(&[SECOND_HOST]);
    lineage.renew(&first);
    world.place(&first, &target);
    let (ours, theirs) = (named.ours(), target.display());
    named.with_hosts(&format!("{HOST} {ours}\n{SECOND_HOST} {theirs} {theirs}\n"));
    let cluster = &named.stage.cluster;
    let names = |instance: Instance, host: &str| instance.set("server_names", vec![host]);
    named.stage.config = Config::new(&world)
        .watch("resync", "1h")
        .instance(names(Instance::for_cluster(cluster, HOST), HOST))
        .instance(names(
            Instance::new(SECOND, SECOND_HOST, cluster.data_directory()),
            SECOND_HOST,
        ))
        .write();
    let daemon = named.stage.daemon();
    for _ in 0..3 {
        let next = named.stage.ca.issue(&[SECOND_HOST]);
        lineage.renew(&next);
        let ours = named.stage.renew();
        named.serves_by(HOST, &ours);
        named.serves_by(SECOND_HOST, &next);
    }
    for name in [NAME, SECOND] {
        eventually_state(&world, &named.stage.config, name, "in_sync");
    }
    // What one is to blame for is not the other's: a name that is given away.
    named.with_hosts(&format!("{HOST} {ours}\n{SECOND_HOST} {ours}\n"));
    let ours = named.stage.renew();
    named.serves_by(HOST, &ours);
    eventually_state(&world, &named.stage.config, NAME, "in_sync");
    let seen = eventually_state(&world, &named.stage.config, SECOND, "not_used");
    says(&problem(&seen), &[&named.line(2), SECOND_HOST]);
    assert_eq!(daemon.stop().code(), Some(0));
}
