//! What tests of poolers begin with.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    stage::{HOST, of_kind},
    world::{
        SOON, World,
        ca::{Ca, Issued, KeyType},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
        faults::StrictOpenssl,
        lineage::Lineage,
        pgbouncer::PgBouncer,
    },
};

/// The one instance of most tests.
pub const NAME: &str = "pooler";

/// A pooler that shows `first` out of its target, whose lineage holds it too.
pub struct Stage<'w> {
    pub world: &'w World,
    pub ca: Ca,
    pub first: Issued,
    pub lineage: Lineage,
    pub target: PathBuf,
    pub config: Config,
    pub pooler: PgBouncer,
    pub cluster: Cluster,
}

impl<'w> Stage<'w> {
    /// A pooler in session mode, with nothing special.
    pub fn new(world: &'w World) -> Self {
        Self::with(world, |_| {}, |instance| instance)
    }

    /// A pooler that refuses RSA-2048, which pgcertd lets pass.
    pub fn strict(world: &'w World) -> Self {
        let strict = StrictOpenssl::new(world);
        let conf = strict.conf.to_str().unwrap();
        Self::with(
            world,
            |pooler| pooler.with_env("OPENSSL_CONF", conf),
            |instance| instance,
        )
    }

    /// With other settings of the pooler, before it starts, and of the instance.
    pub fn with(
        world: &'w World,
        pooled: impl FnOnce(&mut PgBouncer),
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        Self::of_key(world, KeyType::default(), pooled, instance)
    }

    /// The same with a first certificate of this kind of key.
    pub fn of_key(
        world: &'w World,
        kind: KeyType,
        pooled: impl FnOnce(&mut PgBouncer),
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue_with(&[HOST], &of_kind(kind));
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        let target = world.target(NAME);
        world.place(&first, &target);
        let cluster = Cluster::build(world).start();
        let mut pooler = PgBouncer::before(world, &cluster, NAME);
        pooler.tls(&target);
        pooled(&mut pooler);
        pooler.start().unwrap();
        let entry = Instance::of_pgbouncer(NAME, HOST, &pooler.config_file());
        let config = Config::new(world)
            .watch("resync", "1h")
            .instance(instance(entry))
            .write();
        Self {
            world,
            ca,
            first,
            lineage,
            target,
            config,
            pooler,
            cluster,
        }
    }

    /// Starts the daemon, and waits until it has found all in order.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        let daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.wait_for_log(": in_sync");
        daemon
    }

    /// A renewal that the pooler takes.
    pub fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    /// A renewal with an RSA key of 2048 bits.
    pub fn renew_weak(&mut self) -> Issued {
        let weak = of_kind(KeyType::Rsa2048);
        let issued = self.ca.issue_with(&[HOST], &weak);
        self.lineage.renew(&issued);
        issued
    }

    /// Waits until new clients of the pooler are shown this certificate.
    #[track_caller]
    pub fn serves(&self, issued: &Issued) {
        eventually(SOON, "the certificate is served", || {
            let peer = self.pooler.peer();
            peer.is_ok_and(|peer| peer.fingerprint == issued.fingerprint)
        });
    }

    /// Waits until `status` shows this state; gives the instance's object.
    #[track_caller]
    pub fn becomes(&self, state: &str) -> Value {
        eventually_state(self.world, &self.config, NAME, state)
    }

    /// `sync` comes to this outcome, and exits with this status.
    #[track_caller]
    pub fn synced(&self, arguments: &[&str], outcome: &str, code: i32) -> Value {
        let all = [&["sync", "--json"], arguments].concat();
        let done = pgcertd(self.world, &self.config, &all);
        let row = done.instance(NAME);
        println!("sync {arguments:?}: {row}");
        assert_eq!(row["outcome"], outcome, "{row}");
        assert_eq!(done.code(), code, "{row}");
        row
    }

    /// What `check` finds under this id.
    #[track_caller]
    pub fn checked(&self, id: &str) -> Value {
        let done = pgcertd(self.world, &self.config, &["check", "--json"]);
        let seen = done.json();
        println!("check: {seen}");
        let findings = seen["instances"][0]["findings"].as_array().unwrap();
        let found = findings.iter().find(|it| it["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {seen}")).clone()
    }
}
