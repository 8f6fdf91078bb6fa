//! What is said of a server whose configuration cannot be asked from the host.

use super::{CERTIFICATES, Ground, holds, is_well, says};
use crate::stage::NAME;
use crate::world::World;

#[test]
fn what_a_containers_server_refuses_is_taken_back() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let container = ground.started(&cluster);
    let config = ground.config_of(&cluster);
    is_well(ground.state(&config, NAME), "in_sync");

    cluster.set("ssl_ca_file", "/nowhere/ca.pem");
    let second = ground.renew();
    says(
        ground.synced(&config, NAME),
        "rolled_back",
        &["Postgres did not load", "the previous files are back"],
    );
    holds(&world.target(NAME), &ground.first);
    assert_eq!(cluster.served(), ground.first.fingerprint);
    let (state, _) = ground.state(&config, NAME);
    assert_eq!(state, "rejected");

    cluster.set("ssl_ca_file", "");
    let done = ground.pgcertd(&config, &["sync", "--force", "--json"]);
    assert_eq!(done.instance(NAME)["outcome"], "deployed", "{done:?}");
    assert_eq!(cluster.served(), second.fingerprint);
    container.stop();
}

/// That its executable is at a path that is here too, the host's own, says nothing of the
/// files that the arguments name.
#[test]
fn whether_a_containers_server_uses_the_files_is_not_known_before_it_served_them() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let other = world.target("other");
    world.place(&ground.first, &other);
    let cluster = ground.cluster_with(NAME, |cluster| {
        cluster
            .setting("ssl_cert_file", "/other/server.pem")
            .setting("ssl_key_file", "/other/server.pem")
    });
    let container = ground
        .container(&cluster)
        .volume(other.parent().unwrap(), "/other")
        .postgres(&cluster);
    std::fs::remove_file(world.target(NAME)).unwrap();
    let config = ground.config_of(&cluster);
    let second = ground.renew();
    says(
        ground.synced(&config, NAME),
        "unverified",
        &[
            "whether the server uses the files is not known",
            "cannot be run from here",
        ],
    );
    holds(&world.target(NAME), &second);
    let (state, _) = ground.state(&config, NAME);
    assert_eq!(state, "not_served");
    says(
        ground.found(&config, "server_files"),
        "notice",
        &["not known"],
    );
    let (restart, _) = ground.found(&config, "restart");
    assert_eq!(restart, "notice");

    let file = format!("{CERTIFICATES}/server.pem");
    cluster.set("ssl_cert_file", &file);
    cluster.set("ssl_key_file", &file);
    let done = ground.pgcertd(&config, &["sync", "--force", "--json"]);
    assert_eq!(done.instance(NAME)["outcome"], "deployed", "{done:?}");
    assert_eq!(cluster.served(), second.fingerprint);
    container.stop();
}
