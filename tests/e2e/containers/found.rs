//! Which process is asked to reload.

use std::{fs, path::PathBuf};

use super::{Ground, is_well, says};
use crate::stage::{HOST, NAME};
use crate::world::{
    World, ca::Issued, cluster::Cluster, config::Instance, container::Container,
    inventory::Inventory,
};

/// A first week: a renewal is told of each server, and no file and no process touched. Gives the renewal.
fn is_observed(ground: &mut Ground<'_>, servers: [(&Cluster, &Container); 2]) -> Issued {
    let observed = |(cluster, _)| Instance::for_cluster(cluster, HOST).set("mode", "observe");
    let config = ground.config(servers.map(observed));
    let inventory = Inventory::under([config.state_directory()]);
    is_well(ground.state(&config, "one"), "in_sync");
    let renewed = ground.renew();
    for (cluster, container) in servers {
        let name = cluster.name();
        says(
            ground.state(&config, name),
            "out_of_date",
            &["something else writes the file"],
        );
        let forced = ground.pgcertd(&config, &["sync", "--force", "--json", name]);
        assert_eq!(forced.instance(name)["outcome"], "failed", "{forced:?}");
        assert_eq!(cluster.served(), ground.first.fingerprint);
        assert_eq!(container.reloads(), 0, "{name}");
    }
    inventory.is_untouched();
    renewed
}

/// `postmaster.pid` of both says 1, which on the host is init.
#[test]
fn of_two_servers_that_are_number_one_each_gets_its_own_certificate_and_init_gets_none() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let (one, other) = (ground.cluster("one"), ground.cluster("other"));
    let of_one = ground.started(&one);
    let of_other = ground.started(&other);
    assert_eq!((of_one.inner_number(), of_other.inner_number()), (1, 1));
    let servers = [(&one, &of_one), (&other, &of_other)];
    let second = is_observed(&mut ground, servers);
    let config = ground.config([
        Instance::for_cluster(&one, HOST),
        Instance::for_cluster(&other, HOST),
    ]);
    is_well(ground.synced(&config, "one"), "deployed");
    for (cluster, container) in servers {
        assert_eq!(cluster.served(), second.fingerprint);
        assert_eq!(container.reloads(), 1, "{}", cluster.name());
    }

    // Its file still says 1, and a number 1 that is a postmaster still runs: the other one.
    of_one.kill();
    let third = ground.renew();
    let done = ground.pgcertd(&config, &["sync", "--json"]);
    assert_eq!(done.instance("one")["outcome"], "installed", "{done:?}");
    assert_eq!(done.instance("other")["outcome"], "deployed", "{done:?}");
    assert_eq!(other.served(), third.fingerprint);
    assert_eq!(of_other.reloads(), 2);
    ground.host.was_left_alone();
}

/// A server whose `postmaster.pid` says a number that a process of the host has; what that process
/// notes of signals.
fn beside_a_holder(ground: &Ground<'_>, cluster: &Cluster) -> (Container, PathBuf) {
    let container = ground
        .container(cluster)
        .below_an_init(4000)
        .postgres(cluster);
    let number = container.inner_number();
    assert!(number > 4000, "{number}");
    let holder = ground.host.holder(ground.world, number);
    (container, holder)
}

#[test]
fn a_process_of_the_host_that_has_the_number_in_postmaster_pid_is_untouched() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let (container, holder) = beside_a_holder(&ground, &cluster);
    let number = container.inner_number();
    let config = ground.config_of(&cluster);

    let second = ground.renew();
    is_well(ground.synced(&config, NAME), "deployed");
    assert_eq!(cluster.served(), second.fingerprint);
    assert_eq!(container.reloads(), 1);
    assert_eq!(fs::read_to_string(&holder).unwrap(), "up\n");

    // Nobody but the holder has the number now.
    container.kill();
    ground.renew();
    let (outcome, _) = ground.synced(&config, NAME);
    assert_eq!(outcome, "installed");
    assert_eq!(fs::read_to_string(&holder).unwrap(), "up\n");
    ground.host.shell("kill -HUP $1", &[&number.to_string()]);
    crate::world::eventually(crate::world::SOON, "a SIGHUP is noted", || {
        fs::read_to_string(&holder).is_ok_and(|text| text == "up\nHUP\n")
    });
    ground.host.was_left_alone();
}

/// `pg_ctl` would read the number from the file and signal it.
#[test]
fn pg_ctl_is_not_used_on_a_server_that_has_another_number_here() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let (container, holder) = beside_a_holder(&ground, &cluster);
    let config = ground.config([Instance::for_cluster(&cluster, HOST).set("reload", "pg_ctl")]);
    ground.renew();
    says(
        ground.synced(&config, NAME),
        "failed",
        &["pid namespace of its own", "reload = \"signal\""],
    );
    assert_eq!(container.reloads(), 0);
    assert_eq!(fs::read_to_string(&holder).unwrap(), "up\n");
    ground.host.was_left_alone();
}
