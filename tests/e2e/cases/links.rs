//! Files of a lineage that a server uses itself: read through their links where others place them, and never written.

use std::os::unix::fs::symlink;

use crate::{
    standing::{HOST, NAME, says},
    world::{
        Owner, SOON, World,
        ca::Ca,
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, eventually_state, pgcertd},
        eventually, give,
        inventory::Inventory,
        lineage::{Kind, Lineage},
    },
};

/// Lets the server's group read a lineage, as an administrator does whose server uses it.
fn opened(world: &World, lineage: &Lineage) {
    let group = Owner {
        uid: 0,
        gid: world.postgres().gid,
    };
    let archived = lineage.archived(Kind::Privkey, lineage.generation());
    for directory in [lineage.path(), archived.parent().unwrap()] {
        for path in [directory.parent().unwrap(), directory] {
            give(path, group, 0o750);
        }
    }
    give(&archived, group, 0o640);
}

#[test]
fn where_others_place_the_files_their_links_are_followed() {
    for mode in ["reload", "observe"] {
        let Some(world) = World::new() else { return };
        let ca = Ca::new(&world, "Test Root");
        let first = ca.issue(&[HOST]);
        let mut lineage = Lineage::new(&world, HOST);
        lineage.renew(&first);
        opened(&world, &lineage);
        let [cert, key] = [Kind::Fullchain, Kind::Privkey].map(|kind| lineage.link(kind));
        let mut cluster = Cluster::build(&world)
            .name(NAME)
            .tls_files(&cert, &key)
            .start();
        let entry = Instance::of(&cluster, HOST)
            .set("cert_file", cert.to_str().unwrap())
            .set("key_file", key.to_str().unwrap())
            .set("mode", mode);
        let config = Config::new(&world)
            .watch("resync", "1h")
            .instance(entry)
            .write();
        let kept = Inventory::of([&world.path().join("letsencrypt")]);
        let synced = pgcertd(&world, &config, &["sync", "--json"]);
        assert_eq!(synced.instance(NAME)["outcome"], "unchanged", "{synced:?}");
        let daemon = Daemon::start(&world, &config);
        eventually_state(&world, &config, NAME, "in_sync");
        kept.is_untouched();

        let second = ca.issue(&[HOST]);
        lineage.renew(&second);
        // The server may read each new key by a default ACL or a hook.
        opened(&world, &lineage);
        if mode == "observe" {
            let seen = eventually_state(&world, &config, NAME, "not_served");
            says(seen["problem"].as_str().unwrap(), &["reload"]);
            cluster.reload_by_hand();
        }
        eventually(SOON, "the renewal is served", || {
            cluster.served() == second.fingerprint
        });
        eventually_state(&world, &config, NAME, "in_sync");
        assert_eq!(daemon.stop().code(), Some(0));
        cluster.restart().unwrap();
    }
}

/// What lies at the end belongs to root, and the server's user decides which file it is.
#[test]
fn a_link_that_another_could_have_bent_is_not_followed() {
    let Some(world) = World::new() else { return };
    let ca = Ca::new(&world, "Test Root");
    let first = ca.issue(&[HOST]);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&first);
    opened(&world, &lineage);
    let home = world.postgres_directory("links", 0o755);
    let [cert, key] = ["server.crt", "server.key"].map(|name| home.join(name));
    symlink(lineage.link(Kind::Fullchain), &cert).unwrap();
    symlink(lineage.link(Kind::Privkey), &key).unwrap();
    let cluster = Cluster::build(&world)
        .name(NAME)
        .tls_files(&cert, &key)
        .start();
    let entry = Instance::of(&cluster, HOST)
        .set("cert_file", cert.to_str().unwrap())
        .set("key_file", key.to_str().unwrap())
        .set("mode", "observe");
    let config = Config::new(&world).instance(entry).write();
    let synced = pgcertd(&world, &config, &["sync", "--json"]);
    let told = synced.instance(NAME);
    assert_eq!(told["outcome"], "failed", "{told}");
    says(told["problem"].as_str().unwrap(), &["decides where"]);
}
