//! What tests of poolers begin with.

use std::ops::{Deref, DerefMut};

use serde_json::Value;

use crate::{
    stage::HOST,
    world::{
        SOON, World,
        ca::{Issued, KeyType},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, Launch, pgcertd},
        eventually,
        faults::StrictOpenssl,
        pgbouncer::PgBouncer,
    },
};

/// The one instance of most tests.
pub const NAME: &str = "pooler";

/// The usual scene with a pooler before the server, which has no TLS: the instance and its target are the pooler's.
pub struct Stage<'w> {
    scene: crate::stage::Stage<'w>,
    pub pooler: PgBouncer,
}

impl<'w> Deref for Stage<'w> {
    type Target = crate::stage::Stage<'w>;

    fn deref(&self) -> &Self::Target {
        &self.scene
    }
}

impl DerefMut for Stage<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.scene
    }
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
        let target = world.target(NAME);
        let mut scene = crate::stage::Stage::build_at(world, &target, &target)
            .key(kind)
            .cluster(|_| Cluster::build(world))
            .start();
        let mut pooler = PgBouncer::before(world, &scene.cluster, NAME);
        pooler.tls(&target);
        pooled(&mut pooler);
        pooler.start().unwrap();
        let entry = Instance::of_pgbouncer(NAME, HOST, &pooler.config_file());
        scene.name = NAME;
        scene.config = Config::new(world)
            .watch("resync", "1h")
            .instance(instance(entry))
            .write();
        Self { scene, pooler }
    }

    /// Starts the daemon, and waits until it has found all in order.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        let daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.wait_for_log(": in_sync");
        daemon
    }

    /// Waits until new clients of the pooler are shown this certificate.
    #[track_caller]
    pub fn serves(&self, issued: &Issued) {
        eventually(SOON, "the certificate is served", || {
            let peer = self.pooler.peer();
            peer.is_ok_and(|peer| peer.fingerprint == issued.fingerprint)
        });
    }

    /// What `check` finds under this id.
    #[track_caller]
    pub fn checked(&self, id: &str) -> Value {
        let done = pgcertd(self.world, &self.config, &["check", "--json"]);
        let seen = done.json();
        println!("check: {seen}");
        let findings = seen["instances"][0]["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {seen}")).clone()
    }
}
