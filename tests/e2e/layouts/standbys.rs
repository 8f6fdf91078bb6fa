//! A hot standby is deployed to like any other server, and replication goes on.

use super::config;
use crate::{
    stage::{HOST, Stage, next_second, says},
    world::{
        SOON, World,
        cluster::Cluster,
        config::Instance,
        daemon::{Daemon, Launch, eventually_state},
        eventually,
        inventory::Inventory,
    },
};

const STANDBY: &str = "16-standby";

/// A primary and a standby, both of which serve the lineage's certificate from a file of their own.
struct Pair<'w> {
    stage: Stage<'w>,
    standby: Cluster,
}

impl<'w> Pair<'w> {
    fn new(world: &'w World) -> Self {
        let stage = Stage::build(world)
            .cluster(|cluster| cluster.strict())
            .start();
        let mut standby = stage.cluster.standby(world, STANDBY);
        let target = world.target(STANDBY);
        world.place(&stage.first, &target);
        for setting in ["ssl_cert_file", "ssl_key_file"] {
            standby.set(setting, target.to_str().unwrap());
        }
        standby.start().unwrap();
        let mut pair = Self { stage, standby };
        pair.configure("manage");
        pair.streams();
        pair
    }

    fn configure(&mut self, mode: &str) {
        let servers = [&self.stage.cluster, &self.standby];
        let instances = servers.map(|server| Instance::for_cluster(server, HOST).set("mode", mode));
        self.stage.config = config(self.stage.world, instances);
    }

    /// A first week: a renewal is told of both, and no file and no server touched.
    fn is_observed(&mut self) {
        self.configure("observe");
        let first = self.stage.first.fingerprint.clone();
        let inventory = Inventory::under([self.stage.config.state_directory()]);
        let launch = Launch::new(self.stage.world).like_the_unit();
        let daemon = launch.daemon(&self.stage.config);
        self.both_are("in_sync");
        self.stage.renew();
        self.both_are("out_of_date");
        for name in [self.stage.cluster.name(), STANDBY] {
            daemon.wait_for_log(&format!("{name}: out_of_date"));
        }
        let done = self.stage.sync(&["--force"]);
        assert_eq!(done.instance(STANDBY)["outcome"], "failed", "{done:?}");
        assert_eq!(daemon.stop().code(), Some(0));
        inventory.is_untouched();
        for server in [&self.stage.cluster, &self.standby] {
            assert_eq!(server.served(), first);
            assert!(!server.log().contains("received SIGHUP"));
        }
        self.configure("manage");
    }

    /// What is written to the primary is read from the standby, over TLS.
    #[track_caller]
    fn streams(&self) {
        let primary = &self.stage.cluster;
        primary.sql("create table if not exists seen (at timestamptz)");
        primary.sql("insert into seen values (now())");
        self.standby.catches_up_with(primary);
        let count = "select count(*) from seen";
        assert_eq!(self.standby.sql(count), primary.sql(count));
        assert_eq!(self.standby.sql("select pg_is_in_recovery()"), "t");
    }

    /// Who sends, who receives, and since when both servers run.
    fn identity(&self) -> String {
        let primary = &self.stage.cluster;
        let sender = "select pid, backend_start, ssl from pg_stat_replication \
                      join pg_stat_ssl using (pid)";
        let started = "select pg_postmaster_start_time()";
        [
            primary.sql(sender),
            primary.sql(started),
            self.standby.sql("select pid from pg_stat_wal_receiver"),
            self.standby.sql(started),
        ]
        .join(" ")
    }

    #[track_caller]
    fn both_are(&self, state: &str) {
        for name in [self.stage.cluster.name(), STANDBY] {
            eventually_state(self.stage.world, &self.stage.config, name, state);
        }
    }

    #[track_caller]
    fn standby_serves(&self, fingerprint: &str) {
        eventually(SOON, "the standby serves it", || {
            self.standby
                .peer()
                .is_ok_and(|peer| peer.fingerprint == fingerprint)
        });
    }
}

#[test]
fn a_renewal_reaches_primary_and_standby_without_a_restart_or_a_failover() {
    let world = or_skip!(World::new());
    let mut pair = Pair::new(&world);
    let before = pair.identity();
    pair.is_observed();
    let daemon = pair.stage.unit();
    pair.both_are("in_sync");
    let mut reader = pair.standby.session();

    let second = pair.stage.renew();
    pair.stage.serves(&second);
    pair.standby_serves(&second.fingerprint);
    pair.both_are("in_sync");
    let verified = pair.standby.verify_full(pair.stage.ca.root(), HOST);
    assert_eq!(verified.as_deref(), Ok("TLSv1.3"));

    // Neither takes this, and each goes back by itself.
    pair.stage.renew_weak();
    pair.both_are("rejected");
    assert_eq!(pair.standby.served(), second.fingerprint);
    assert_eq!(pair.stage.cluster.served(), second.fingerprint);

    let third = pair.stage.renew();
    pair.stage.serves(&third);
    pair.standby_serves(&third.fingerprint);
    pair.both_are("in_sync");
    assert_eq!(pair.identity(), before);
    assert!(
        before.contains('t'),
        "replication is not encrypted: {before}"
    );
    assert_eq!(reader.lives(), Ok(()));
    drop(reader);
    pair.streams();
    let sessions = pair.stage.pgcertd(&["sessions", STANDBY]);
    assert_eq!(sessions.code(), 0, "{sessions:?}");

    pair.standby.restart().unwrap();
    assert_eq!(pair.standby.served(), third.fingerprint);
    pair.streams();
    pair.stage.ends(daemon, &third);
}

#[test]
fn a_renewal_while_the_standby_is_down_is_served_once_it_runs_and_when_it_leads() {
    let world = or_skip!(World::new());
    let mut pair = Pair::new(&world);
    let daemon = Daemon::start(&world, &pair.stage.config);
    pair.both_are("in_sync");
    pair.standby.stop();
    let config = &pair.stage.config;
    eventually_state(&world, config, STANDBY, "not_running");
    let second = pair.stage.renew();
    pair.stage.serves(&second);
    next_second();
    pair.standby.start().unwrap();
    pair.standby_serves(&second.fingerprint);
    pair.both_are("in_sync");
    pair.streams();

    pair.stage.cluster.stop();
    pair.standby.promote();
    let third = pair.stage.renew();
    pair.standby_serves(&third.fingerprint);
    let seen = eventually_state(&world, &pair.stage.config, STANDBY, "in_sync");
    assert_eq!(seen["served"]["fingerprint"], *third.fingerprint);
    let shown = pair.stage.pgcertd(&["status"]);
    says(shown.stdout(), &["not_running", "in_sync"]);
    pair.stage.cluster.start().unwrap();
    pair.stage.serves(&third);
    pair.stage.ends(daemon, &third);
}
