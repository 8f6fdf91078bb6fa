//! pg_rewind, which makes a data directory another one's again, TLS files included.

use super::{
    config,
    copies::{in_data, renewed_during, spawned, tls_files},
    instance,
};
use crate::{
    stage::{NAME, next_second},
    world::{
        SOON, World,
        daemon::{Daemon, eventually_state},
        eventually,
    },
};

const STANDBY: &str = "16-standby";

#[test]
fn pg_rewind_runs_across_deployments_in_both_data_directories() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, "server.crt", "server.key");
    let mut other = stage.cluster.standby(&world, STANDBY);
    other.start().unwrap();
    let data = other.data_directory().to_owned();
    let others = [data.join("server.crt"), data.join("server.key")];
    let instances = [
        instance(&stage.cluster, &stage.cert, &stage.key),
        instance(&other, &others[0], &others[1]),
    ];
    stage.config = config(&world, instances);
    let daemon = Daemon::start(&world, &stage.config);
    for name in [NAME, STANDBY] {
        eventually_state(&world, &stage.config, name, "in_sync");
    }
    // Both go on, each by itself; then the first one follows the second.
    other.catches_up_with(&stage.cluster);
    other.promote();
    stage.cluster.sql("create table lost (x int)");
    other.sql("create table kept as select generate_series(1, 100000) as x");
    stage.cluster.stop();

    std::mem::swap(&mut stage.cluster, &mut other);
    let (rewind, report) = spawned(&world, other.rewind(&stage.cluster));
    let deployed = renewed_during(&mut stage, rewind, &report);
    let latest = deployed.last().unwrap().clone();
    for file in tls_files(other.data_directory()) {
        assert_eq!(file.1, world.postgres().uid, "{}", file.0);
    }
    next_second();
    other.start().unwrap();
    other.catches_up_with(&stage.cluster);
    assert_eq!(other.sql("select count(*) from kept"), "100000");
    eventually(SOON, "both serve the newest", || {
        other.served() == latest.fingerprint && stage.cluster.served() == latest.fingerprint
    });
    for name in [NAME, STANDBY] {
        eventually_state(&world, &stage.config, name, "in_sync");
    }
    std::mem::swap(&mut stage.cluster, &mut other);
    stage.ends(daemon, &latest);
}
