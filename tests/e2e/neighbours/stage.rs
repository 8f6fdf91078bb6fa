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

/// A scene whose pooler is not started yet.
#[must_use]
pub struct StageBuilder<'w> {
    stage: Stage<'w>,
    entry: Instance,
}

impl<'w> StageBuilder<'w> {
    /// With other settings of the pooler.
    pub fn pooler(mut self, change: impl FnOnce(&mut PgBouncer)) -> Self {
        change(&mut self.stage.pooler);
        self
    }

    /// With other keys of the instance.
    pub fn instance(mut self, change: impl FnOnce(Instance) -> Instance) -> Self {
        self.entry = change(self.entry);
        self
    }

    /// Starts the pooler, and writes the configuration.
    #[track_caller]
    pub fn start(self) -> Stage<'w> {
        let Self { mut stage, entry } = self;
        stage.pooler.start().unwrap();
        stage.config = Config::new(stage.world)
            .watch("resync", "1h")
            .instance(entry)
            .write();
        stage
    }
}

impl<'w> Stage<'w> {
    /// A pooler in session mode, with nothing special.
    pub fn new(world: &'w World) -> Self {
        Self::build(world).start()
    }

    /// A pooler that refuses RSA-2048, which pgcertd lets pass.
    pub fn strict(world: &'w World) -> Self {
        let strict = StrictOpenssl::new(world);
        let conf = strict.conf.to_str().unwrap();
        Self::build(world)
            .pooler(|pooler| pooler.with_env("OPENSSL_CONF", conf))
            .start()
    }

    /// Begins one in session mode.
    pub fn build(world: &'w World) -> StageBuilder<'w> {
        Self::build_with_key(world, KeyType::default())
    }

    /// The same with a first certificate of this kind of key.
    pub fn build_with_key(world: &'w World, kind: KeyType) -> StageBuilder<'w> {
        let target = world.target(NAME);
        let mut scene = crate::stage::Stage::build_at(world, &target, &target)
            .key(kind)
            .cluster(|_| Cluster::build(world))
            .start();
        scene.name = NAME;
        let mut pooler = PgBouncer::before(world, &scene.cluster, NAME);
        pooler.tls(&target);
        let entry = Instance::of_pgbouncer(NAME, HOST, &pooler.config_file());
        StageBuilder {
            stage: Self { scene, pooler },
            entry,
        }
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
