//! Several PgBouncer at one port (`so_reuseport`): the kernel chooses who answers.

use std::fs;

use super::stage::{NAME, Stage};
use crate::{
    stage::{HOST, problem, says},
    world::{
        SOON, World,
        ca::Issued,
        config::{Config, Instance},
        daemon::{Launch, eventually_state},
        eventually,
        pgbouncer::PgBouncer,
    },
};

/// Where all answer.
const SHARED: &str = "127.0.0.1";
/// Where the first one alone does.
const FIRST: &str = "127.0.0.2";
/// Where the second one alone does.
const SECOND: &str = "127.0.0.3";

const OTHER: &str = "pooler-2";

/// Two poolers at one port, each with a pid file, a configuration and a target of its own.
struct Pair<'w> {
    stage: Stage<'w>,
    second: PgBouncer,
}

impl<'w> Pair<'w> {
    fn new(world: &'w World) -> Self {
        let shares = |pooler: &mut PgBouncer, own: &str| {
            pooler.set("so_reuseport", "1");
            pooler.set("listen_addr", &format!("{SHARED}, {own}"));
        };
        let stage = Stage::build(world)
            .pooler(|pooler| shares(pooler, FIRST))
            .start();
        let mut second = stage.pooler.beside(world, &stage.cluster, OTHER);
        let target = world.target(OTHER);
        world.place(&stage.first, &target);
        second.tls(&target);
        shares(&mut second, SECOND);
        second.start().unwrap();
        Self { stage, second }
    }

    /// An instance for each; `more` is told at which address that one is alone.
    fn configure(&mut self, more: impl Fn(Instance, String) -> Instance) {
        let port = self.stage.pooler.port();
        let entry = |name: &str, pooler: &PgBouncer, own: &str| {
            let entry = Instance::of_pgbouncer(name, HOST, &pooler.config_file());
            more(entry, format!("{own}:{port}"))
        };
        self.stage.config = Config::new(self.stage.world)
            .watch("resync", "1h")
            .instance(entry(NAME, &self.stage.pooler, FIRST))
            .instance(entry(OTHER, &self.second, SECOND))
            .write();
    }

    #[track_caller]
    fn becomes(&self, state: &str) -> [serde_json::Value; 2] {
        let (world, config) = (self.stage.world, &self.stage.config);
        [NAME, OTHER].map(|name| eventually_state(world, config, name, state))
    }

    /// Waits until each of the two shows this certificate.
    #[track_caller]
    fn both_serve(&self, issued: &Issued) {
        eventually(SOON, "both show the certificate", || {
            let shown = [
                self.stage.pooler.peer_at(FIRST)?.fingerprint,
                self.second.peer_at(SECOND)?.fingerprint,
            ];
            let all = shown.iter().all(|peer| *peer == issued.fingerprint);
            if all { Ok(()) } else { Err(shown.concat()) }
        });
    }
}

#[test]
fn poolers_that_share_a_port_get_a_renewal_each_and_are_proven_where_each_is_alone() {
    let world = or_skip!(World::new());
    let mut pair = Pair::new(&world);
    let mut sessions: Vec<_> = (0..6)
        .map(|_| pair.stage.pooler.session(&pair.stage.cluster))
        .collect();
    pair.configure(|instance, own| instance.set("address", own));
    let daemon = Launch::new(&world)
        .like_the_unit()
        .daemon(&pair.stage.config);
    pair.becomes("in_sync");
    let second = pair.stage.renew();
    pair.both_serve(&second);
    for seen in pair.becomes("in_sync") {
        assert_eq!(seen["served"]["fingerprint"], *second.fingerprint);
    }
    assert_eq!((pair.stage.pooler.reloads(), pair.second.reloads()), (1, 1));
    for session in &mut sessions {
        assert_eq!(session.lives(), Ok(()));
    }
    assert_eq!(pair.stage.checked("served")["weight"], "good");
    assert_eq!(daemon.stop().code(), Some(0));

    // One after the other: what the other one still shows is never taken for this one's answer.
    for _ in 0..4 {
        let before = pair.second.peer_at(SECOND).unwrap();
        let renewed = pair.stage.renew();
        pair.stage.synced(&[NAME], "deployed", 0);
        let status = pair.stage.pgcertd(&["status", "--json"]);
        let (one, other) = (status.instance(NAME), status.instance(OTHER));
        assert_eq!(one["served"]["fingerprint"], *renewed.fingerprint, "{one}");
        assert_eq!(
            other["served"]["fingerprint"], *before.fingerprint,
            "{other}"
        );
        let rest = pair.stage.pgcertd(&["sync"]);
        assert_eq!(rest.code(), 0, "{rest:?}");
        pair.both_serve(&renewed);
    }
}

#[test]
fn poolers_that_share_a_port_are_told_of_and_kept_without_a_look_where_that_is_wanted() {
    let world = or_skip!(World::new());
    let mut pair = Pair::new(&world);
    pair.configure(|instance, _| instance);
    for seen in pair.becomes("unverified") {
        says(
            &problem(&seen),
            &["so_reuseport", "address", "verify = \"none\""],
        );
    }
    let found = pair.stage.checked("served");
    assert_eq!(found["weight"], "problem", "{found}");
    says(&found.to_string(), &["so_reuseport", "listen_addr"]);
    // Nobody can tell, so that nothing goes back.
    let second = pair.stage.renew();
    pair.stage.synced(&[], "unverified", 1);
    pair.both_serve(&second);

    pair.configure(|instance, _| instance.set("verify", "none"));
    let daemon = Launch::new(&world)
        .like_the_unit()
        .daemon(&pair.stage.config);
    pair.becomes("in_sync");
    let third = pair.stage.renew();
    pair.both_serve(&third);
    pair.becomes("in_sync");
    let checked = pair.stage.pgcertd(&["check", "--json"]).json();
    let findings = checked["instances"][0]["findings"].as_array().unwrap();
    assert!(
        findings.iter().all(|finding| finding["id"] != "served"),
        "{checked}"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

/// As by a socket of systemd with `ReusePort=`, which no configuration of PgBouncer tells.
#[test]
fn a_port_that_is_shared_unsaid_is_found_out_and_the_others_answer_takes_nothing_back() {
    let world = or_skip!(World::new());
    let mut pair = Pair::new(&world);
    // What it has is what it began with: no reload changes it.
    pair.stage.pooler.unset("so_reuseport");
    pair.stage.pooler.set("listen_addr", SHARED);
    let shared = format!("{SHARED}:{}", pair.stage.pooler.port());
    for address in [None, Some(&shared)] {
        pair.configure(|instance, _| match address {
            Some(address) => instance.set("address", address.as_str()),
            None => instance,
        });
        let seen = pair.stage.becomes("unverified");
        says(
            &problem(&seen),
            &[&shared, "SO_REUSEPORT", "verify = \"none\""],
        );
        let found = pair.stage.checked("served");
        says(&found.to_string(), &[&shared, "SO_REUSEPORT"]);
        // The second one goes on with the old certificate.
        let renewed = pair.stage.renew();
        pair.stage.synced(&[NAME], "unverified", 1);
        let installed = fs::read_to_string(&pair.stage.cert).unwrap();
        assert_eq!(installed, renewed.combined_pem());
        let shown = pair.stage.pooler.peer_at(FIRST).unwrap();
        assert_eq!(shown.fingerprint, renewed.fingerprint);
    }
}

#[test]
fn processes_that_share_a_configuration_cannot_be_told_apart_and_that_is_not_well() {
    let world = or_skip!(World::new());
    let shares = |pooler: &mut PgBouncer| {
        pooler.set("so_reuseport", "1");
        pooler.set("unix_socket_dir", "");
        pooler.unset("pidfile");
    };
    let mut stage = Stage::build(&world).pooler(shares).start();
    let entry = Instance::of_pgbouncer(NAME, HOST, &stage.pooler.config_file());
    let address = format!("{SHARED}:{}", stage.pooler.port());
    stage.config = Config::new(&world)
        .instance(entry.set("address", address))
        .write();
    let second = stage.pooler.another();
    let seen = stage.becomes("unverified");
    says(
        &problem(&seen),
        &["2 processes", "pgbouncer.ini", "%include", "pidfile"],
    );
    let renewed = stage.renew();
    let row = stage.synced(&[], "unverified", 1);
    says(&problem(&row), &["2 processes"]);
    assert_eq!(stage.pooler.reloads(), 0);

    // The other one ends: this one is meant again, and alone there. Nothing was written for it meanwhile.
    drop(second);
    stage.becomes("out_of_date");
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.pooler.served(), renewed.fingerprint);
}
