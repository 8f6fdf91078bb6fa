//! `pgcertd probe`: what it shows, and that its verdict is psql's.

mod answers;
mod table;
mod verdicts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::world::{
    SOON, World,
    ca::Ca,
    cluster::{Cluster, ClusterBuilder},
    command, give,
    process::{Done, run},
};

/// Runs `pgcertd probe` as a user without a configuration does.
#[track_caller]
fn probe(args: &[&str]) -> Done {
    run(
        command(env!("CARGO_BIN_EXE_pgcertd"))
            .arg("probe")
            .args(args),
        SOON,
    )
}

/// The document of one probe.
#[track_caller]
fn document(done: &Done) -> Value {
    match serde_json::from_str(&done.stdout) {
        Ok(document) => document,
        Err(error) => panic!("not one JSON document: {error}: {done:?}"),
    }
}

/// A cluster whose certificate can be changed.
struct Desk {
    cluster: Cluster,
    target: PathBuf,
}

impl Desk {
    fn new(world: &World) -> Self {
        Self::built(world, |cluster| cluster)
    }

    /// On a server that is built otherwise than usual.
    fn built(
        world: &World,
        otherwise: impl FnOnce(ClusterBuilder<'_>) -> ClusterBuilder<'_>,
    ) -> Self {
        let target = world.target("16-main");
        world.place(&Ca::new(world, "First").issue(&["localhost"]), &target);
        Self {
            cluster: otherwise(Cluster::build(world).tls(&target)).start(),
            target,
        }
    }

    /// Serves this chain and key from now on.
    #[track_caller]
    fn serve(&mut self, pem: &str) {
        fs::write(&self.target, pem).unwrap();
        give(&self.target, self.cluster.owner(), 0o600);
        self.cluster.reload_by_hand();
    }

    /// Probes it under this name.
    #[track_caller]
    fn probe(&self, host: &str, root: &Path, more: &[&str]) -> Done {
        let port = self.cluster.port();
        let address = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let root = root.to_str().unwrap();
        let mut args = vec![&*address, "--hostaddr", "127.0.0.1", "--ca", root];
        args.extend(more);
        probe(&args)
    }
}
