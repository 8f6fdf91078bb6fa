//! pgcertd in a container of its own, in the pid namespace of the server's.

use std::path::Path;

use super::{Ground, holds};
use crate::stage::{HOST, NAME};
use crate::world::{SOON, World, config::Instance, container::DATA, daemon::Launch, eventually};

/// Both see the server as number 1, which in their namespace it is.
#[test]
fn a_container_beside_the_servers_that_shares_its_processes_and_volumes_keeps_it() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let container = ground.started(&cluster);
    assert_eq!(container.inner_number(), 1);
    let config = ground.config([Instance::new(NAME, HOST, Path::new(DATA))]);
    let launch = Launch::new(&world)
        .beside(&container, cluster.data_directory())
        .like_the_unit();
    let mut daemon = launch.daemon(&config);
    daemon.ready();
    daemon.wait_for_log(": in_sync");

    let second = ground.renew();
    eventually(SOON, "the renewal is served", || {
        cluster.served() == second.fingerprint
    });
    holds(&world.target(NAME), &second);
    assert_eq!(container.reloads(), 1);
    let seen = launch.run(&config, &["status", "--json"]).instance(NAME);
    assert_eq!(seen["state"], "in_sync", "{seen}");

    // What it refuses goes back, as anywhere.
    cluster.set("ssl_ca_file", "/nowhere/ca.pem");
    ground.renew();
    daemon.wait_for_log("rolled back");
    holds(&world.target(NAME), &second);
    assert_eq!(cluster.served(), second.fingerprint);
    drop(daemon);
    ground.host.was_left_alone();
}
