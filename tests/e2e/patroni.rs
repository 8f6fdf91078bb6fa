//! Patroni with etcd: the PostgreSQL of each node, and the certificate of its REST API.

mod apart;
mod cluster;
mod environment;
mod modes;
mod rest_api;
mod settings;
mod silent;
mod starters;
mod starts;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    stage::{HOST, says},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
        lineage::Lineage,
        patroni::{Settings, Solo},
    },
};

/// The REST API of the node that leads.
const API: &str = "api";

/// An authority, the first certificate of it, and the lineage that holds that.
fn issued(world: &World) -> (Ca, Issued, Lineage) {
    let ca = Ca::new(world, "Test Root");
    let first = ca.issue(&[HOST]);
    let mut lineage = Lineage::new(world, HOST);
    lineage.renew(&first);
    (ca, first, lineage)
}

/// A node alone, whose REST API shows `first` out of its target. The lineage holds it too.
struct Stage<'w> {
    world: &'w World,
    solo: Solo,
    ca: Ca,
    first: Issued,
    lineage: Lineage,
    target: PathBuf,
    config: Config,
}

impl<'w> Stage<'w> {
    /// With what `settings` makes of the target.
    fn new(world: &'w World, settings: impl FnOnce(&Path) -> Settings) -> Self {
        Self::with(world, settings, |instance| instance)
    }

    /// The same with other keys of the instance.
    fn with(
        world: &'w World,
        settings: impl FnOnce(&Path) -> Settings,
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let (ca, first, lineage) = issued(world);
        let target = world.target(API);
        world.place(&first, &target);
        let solo = Solo::start(world, settings(&target));
        let config = written(world, &solo, instance);
        Self {
            world,
            solo,
            ca,
            first,
            lineage,
            target,
            config,
        }
    }

    /// Writes the config anew, with other keys of the instance.
    fn write(&mut self, instance: impl FnOnce(Instance) -> Instance) {
        self.config = written(self.world, &self.solo, instance);
    }

    /// The same for a daemon, which takes it in.
    #[track_caller]
    fn configure(&mut self, daemon: &mut Daemon, instance: impl FnOnce(Instance) -> Instance) {
        self.write(instance);
        let before = daemon.log().len();
        daemon.hangup();
        eventually(SOON, "the new configuration counts", || {
            daemon.log()[before..].contains("reloaded; pgcertd now keeps")
        });
    }

    /// As the unit has it; it has found all in order.
    #[track_caller]
    fn daemon(&self) -> Daemon {
        let daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.wait_for_log(": in_sync");
        daemon
    }

    fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    #[track_caller]
    fn becomes(&self, state: &str) -> Value {
        let seen = eventually_state(self.world, &self.config, API, state);
        println!("{state}: {}", seen["problem"]);
        seen
    }

    /// Waits until the REST API shows this, and all is well.
    #[track_caller]
    fn serves(&self, issued: &Issued) {
        self.solo.node.rest_serves(&issued.fingerprint);
        self.becomes("in_sync");
    }

    /// The REST API shows this at the first look.
    #[track_caller]
    fn keeps(&self, issued: &Issued) {
        let shown = self.solo.node.rest_peer(None);
        assert_eq!(shown.as_deref(), Ok(&*issued.fingerprint));
    }

    /// Runs a command, which must come to this outcome and exit status.
    #[track_caller]
    fn done(&self, arguments: &[&str], outcome: &str, code: i32) -> Value {
        let done = pgcertd(self.world, &self.config, &[arguments, &["--json"]].concat());
        let row = done.instance(API);
        println!("{arguments:?}: {row}");
        assert_eq!(
            (row["outcome"].as_str(), done.code()),
            (Some(outcome), code)
        );
        row
    }

    /// What `check` says under this id: its weight, what was seen, and what mends it.
    #[track_caller]
    fn checked(&self, id: &str) -> (String, String) {
        self.checked_by(&Launch::new(self.world), id)
    }

    #[track_caller]
    fn checked_by(&self, launch: &Launch, id: &str) -> (String, String) {
        let all = launch.run(&self.config, &["check", "--json"]).instance(API);
        let findings = all["findings"].as_array().unwrap();
        let Some(found) = findings.iter().find(|finding| finding["id"] == id) else {
            panic!("no {id} in {all}");
        };
        println!("check: {found}");
        let weight = found["weight"].as_str().unwrap();
        let told = format!("{}; {}", found["seen"], found["mend"]["sentence"]);
        (weight.to_owned(), told)
    }
}

/// A config of the one instance, in which nothing waits for the timer or is mended by it.
fn written(world: &World, solo: &Solo, instance: impl FnOnce(Instance) -> Instance) -> Config {
    let entry = Instance::of_patroni(API, HOST, solo.node.config_file());
    Config::new(world)
        .watch("resync", "1h")
        .instance(instance(entry.set("verify_timeout", "20s")))
        .write()
}

/// Asserts a finding's weight, and that it says all of these.
#[track_caller]
fn weighs((weight, told): (String, String), expected: &str, words: &[&str]) {
    assert_eq!(weight, expected, "{told}");
    says(&told, words);
}
