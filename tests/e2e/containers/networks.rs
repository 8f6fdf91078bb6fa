//! A server in a network of its own.

use std::path::Path;

use super::{Ground, is_well, says};
use crate::stage::{HOST, NAME};
use crate::world::{
    SOON, World, ca::describe, cluster::Cluster, command, config::Instance,
    network::in_own_network, pgbouncer::PgBouncer, process::run,
};

/// The container's address and the host's (RFC 5737).
const CONTAINER: &str = "198.51.100.2";
const GATEWAY: &str = "198.51.100.1";

/// Joins a process's network with the test's by a pair of interfaces, as an engine does.
fn join(number: u32) {
    let number = number.to_string();
    let pair = ["link", "add", "pg0", "type", "veth", "peer", "name", "eth0"];
    ip(&[&pair[..], &["netns", &number]].concat(), &[]);
    ip(
        &["address", "add", &format!("{GATEWAY}/24"), "dev", "pg0"],
        &[],
    );
    ip(&["link", "set", "pg0", "up"], &[]);
    let inside = ["--target", &number, "--net", "ip"];
    let address = format!("{CONTAINER}/24");
    ip(&["address", "add", &address, "dev", "eth0"], &inside);
    ip(&["link", "set", "eth0", "up"], &inside);
}

/// Runs `ip`, here or through nsenter with what stands before it.
#[track_caller]
fn ip(arguments: &[&str], nsenter: &[&str]) {
    let program = if nsenter.is_empty() { "ip" } else { "nsenter" };
    let done = run(command(program).args(nsenter).args(arguments), SOON).result();
    assert_eq!(done.as_deref(), Ok(""), "{nsenter:?} {arguments:?}");
}

/// The leaf that a new connection to the container is shown, by `openssl s_client`.
fn served(port: u16) -> String {
    let mut client = command("openssl");
    client.args(["s_client", "-starttls", "postgres", "-connect"]);
    let shown = run(client.arg(format!("{CONTAINER}:{port}")), SOON);
    describe(&shown.stdout).0
}

#[test]
fn a_server_in_a_network_of_its_own_is_verified_at_its_address_and_no_other_server_in_its_place() {
    let world = or_skip!(World::new());
    in_own_network(move || {
        let mut ground = Ground::new(&world);
        let cluster = ground.cluster_with(NAME, |cluster| cluster.setting("listen_addresses", "*"));
        let container = ground.container(&cluster).network().postgres(&cluster);
        let second = ground.renew();
        // A server of the host has the same port, and serves the very certificate that is due.
        let file = world.target("namesake");
        world.place(&second, &file);
        let namesake = Cluster::build(&world)
            .name("namesake")
            .tls(&file)
            .setting("port", &cluster.port().to_string())
            .start();
        let config = ground.config_of(&cluster);

        let remedy = ["a network namespace of its own", "set address"];
        says(ground.synced(&config, NAME), "unverified", &remedy);
        says(ground.state(&config, NAME), "unverified", &remedy);
        says(ground.found(&config, "served"), "problem", &remedy);
        assert_eq!(container.reloads(), 1);

        join(container.postmaster());
        assert_eq!(served(cluster.port()), second.fingerprint);
        let address = format!("{CONTAINER}:{}", cluster.port());
        let config =
            ground.config([Instance::for_cluster(&cluster, HOST).set("address", &*address)]);
        is_well(ground.state(&config, NAME), "in_sync");
        // What the namesake serves, where postmaster.pid says, is no argument against it.
        let third = ground.renew();
        is_well(ground.synced(&config, NAME), "deployed");
        assert_eq!(served(cluster.port()), third.fingerprint);
        let (weight, _) = ground.found(&config, "served");
        assert_eq!(weight, "good");
        is_well(ground.state(&config, NAME), "in_sync");
        let peer = run(
            command("openssl")
                .args(["s_client", "-starttls", "postgres", "-connect"])
                .arg(format!("127.0.0.1:{}", cluster.port())),
            SOON,
        );
        assert_eq!(
            describe(&peer.stdout).0,
            second.fingerprint,
            "the namesake's"
        );
        drop(namesake);
        container.stop();
    });
}

#[test]
fn a_pooler_in_a_network_of_its_own_is_verified_at_its_address_and_no_other_in_its_place() {
    let world = or_skip!(World::new());
    in_own_network(move || {
        let mut ground = Ground::new(&world);
        let cluster = ground.cluster(NAME);
        let mut pooler = PgBouncer::before(&world, &cluster, NAME);
        pooler.set("listen_addr", "*");
        pooler.tls(Path::new("/certificates/server.pem"));
        let container = ground.container(&cluster).network().pgbouncer(&pooler);
        let second = ground.renew();
        // A pooler of the host has the same port, and serves the very certificate that is due.
        let file = world.target("namesake");
        world.place(&second, &file);
        let mut namesake = pooler.beside(&world, &cluster, "namesake");
        namesake.tls(&file);
        namesake.start().unwrap();
        let instance = || Instance::of_pgbouncer(NAME, HOST, &pooler.config_file());
        let config = ground.config([instance()]);

        let remedy = ["a network namespace of its own", "set address"];
        says(ground.synced(&config, NAME), "unverified", &remedy);
        says(ground.state(&config, NAME), "unverified", &remedy);
        says(ground.found(&config, "served"), "problem", &remedy);
        assert_eq!((pooler.reloads(), namesake.reloads()), (1, 0));

        join(container.number());
        assert_eq!(served(pooler.port()), second.fingerprint);
        let address = format!("{CONTAINER}:{}", pooler.port());
        let config = ground.config([instance().set("address", &*address)]);
        is_well(ground.state(&config, NAME), "in_sync");
        let third = ground.renew();
        is_well(ground.synced(&config, NAME), "deployed");
        assert_eq!(served(pooler.port()), third.fingerprint);
        let (weight, _) = ground.found(&config, "served");
        assert_eq!(weight, "good");
        assert_eq!(namesake.served(), second.fingerprint, "the namesake's");
        assert_eq!(namesake.reloads(), 0);
        container.stop();
    });
}
