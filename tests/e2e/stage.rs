//! What the tests of sources share: a server, its authority, and the proof at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::world::{
    SOON, World,
    ca::{Ca, Issued},
    cluster::Cluster,
    config::{Config, Instance},
    daemon::{Daemon, eventually_state},
    eventually,
};

/// The name of the one instance.
pub const NAME: &str = "16-main";

/// The name that its clients verify.
pub const HOST: &str = "pg.example.com";

/// A cluster that serves `first`, which lies in its target.
pub struct Stage {
    pub cluster: Cluster,
    pub ca: Ca,
    pub first: Issued,
    pub target: PathBuf,
}

impl Stage {
    pub fn new(world: &World) -> Stage {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&[HOST]);
        Stage::serving(world, ca, first)
    }

    /// With a certificate of the test's own choice.
    pub fn serving(world: &World, ca: Ca, first: Issued) -> Stage {
        let target = world.target(NAME);
        world.place(&first, &target);
        let cluster = Cluster::build(world).name(NAME).tls(&target).start();
        Stage {
            cluster,
            ca,
            first,
            target,
        }
    }

    /// The instance, whose lineage is this name or absolute directory.
    pub fn instance(&self, lineage: impl AsRef<Path>) -> Instance {
        Instance::of(&self.cluster, lineage)
    }

    /// Waits until new clients get this certificate.
    #[track_caller]
    pub fn eventually_serves(&self, issued: &Issued, what: &str) {
        eventually(SOON, what, || self.still(issued));
    }

    /// New clients still get this certificate, for [`throughout`](crate::world::throughout).
    pub fn still(&self, issued: &Issued) -> Result<(), String> {
        match self.cluster.peer()?.fingerprint {
            served if served == issued.fingerprint => Ok(()),
            other => Err(format!("{other} is served")),
        }
    }

    /// New clients get this certificate, and the file that Postgres would load holds it.
    #[track_caller]
    pub fn keeps(&self, issued: &Issued, what: &str) {
        assert_eq!(self.cluster.served(), issued.fingerprint, "{what}");
        assert_eq!(leaf_of(&self.target), Ok(issued.leaf_pem.clone()), "{what}");
    }

    /// Ends the test: the daemon stops in time, and the server comes up again with this one.
    #[track_caller]
    pub fn ends_with(mut self, daemon: Daemon, issued: &Issued) {
        assert_eq!(daemon.stop().code(), Some(0));
        self.cluster.restart().unwrap();
        self.keeps(issued, "after the restart");
    }
}

/// The daemon's own view of the instance, from `status.json`.
pub fn daemon_view(config: &Config) -> Result<Value, String> {
    daemon_view_of(config, NAME)
}

/// The same of any instance.
pub fn daemon_view_of(config: &Config, name: &str) -> Result<Value, String> {
    let file = config.runtime_directory().join("status.json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let view: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let instances = view["instances"].as_array().ok_or("no instances")?;
    instances
        .iter()
        .find(|instance| instance["name"] == name)
        .cloned()
        .ok_or_else(|| format!("{name} is not in {view}"))
}

/// Waits until the daemon and a live `status` both say this state; gives the problem's sentence,
/// which must be the same from both.
#[track_caller]
pub fn eventually_both(world: &World, config: &Config, state: &str, what: &str) -> String {
    let of_daemon = eventually(SOON, &format!("{what}: the daemon says {state}"), || {
        let view = daemon_view(config)?;
        if view["state"] == state {
            Ok(view)
        } else {
            Err(format!("{view}"))
        }
    });
    let live = eventually_state(world, config, NAME, state);
    assert_eq!(live["problem"], of_daemon["problem"], "{what}");
    live["problem"].as_str().unwrap_or_default().to_owned()
}

/// The sentence has all of these.
#[track_caller]
pub fn assert_says(problem: &str, words: &[&str], what: &str) {
    for word in words {
        assert!(
            problem.contains(word),
            "{what}: {word:?} is not in {problem:?}"
        );
    }
}

/// The first certificate in a file, as the authority wrote it.
pub fn leaf_of(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let end = "-----END CERTIFICATE-----\n";
    let length = text.find(end).ok_or("no certificate")? + end.len();
    // The authority ends its lines as RFC 7468 allows, and pgcertd as it recommends.
    Ok(text[..length].to_owned())
}
