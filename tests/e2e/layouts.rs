//! Where PostgreSQL lives: versions, places of the configuration and of the targets, standbys, many at once.

mod copies;
mod many;
mod rewinds;
mod rhel;
mod standbys;
mod strangers;
mod versions;

use crate::{
    stage::HOST,
    world::{
        World,
        cluster::Cluster,
        config::{Config, Instance},
    },
};

/// The files of a cluster that lie elsewhere than pgcertd would have them.
fn instance(cluster: &Cluster, cert: &std::path::Path, key: &std::path::Path) -> Instance {
    Instance::for_cluster(cluster, HOST)
        .set("cert_file", cert.to_str().unwrap())
        .set("key_file", key.to_str().unwrap())
}

/// A configuration in which nothing waits for the timer, or is mended by it.
fn config(world: &World, instances: impl IntoIterator<Item = Instance>) -> Config {
    let config = Config::new(world).watch("resync", "1h");
    instances.into_iter().fold(config, Config::instance).write()
}
