//! Files of a lineage that a server uses itself: read through their links where others place them, and never written.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use crate::{
    setup::bench::Bench,
    stage::{HOST, NAME, Stage, problem, says},
    world::{
        Owner, World,
        ca::{Ca, Issued},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Launch, pgcertd},
        give,
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
        let world = or_skip!(World::new());
        let own = Lineage::new(&world, HOST);
        let mut stage =
            Stage::build_at(&world, &own.link(Kind::Fullchain), &own.link(Kind::Privkey))
                .instance(|instance| instance.set("mode", mode))
                .nothing_placed()
                .create();
        opened(&world, &stage.lineage);
        stage.cluster.start_at_first();
        let kept = Inventory::under([&world.path().join("letsencrypt")]);
        stage.synced(&[], "unchanged", 0);
        let daemon = stage.daemon();
        kept.is_untouched();

        let second = stage.renew();
        // The server may read each new key by a default ACL or a hook.
        opened(&world, &stage.lineage);
        if mode == "observe" {
            stage.becomes_and_says("not_served", &["reload"]);
            stage.cluster.reload_by_hand();
        }
        stage.serves(&second);
        stage.becomes("in_sync");
        stage.ends(daemon, &second);
    }
}

/// What lies at the end belongs to root, and the server's user decides which file it is.
#[test]
fn a_link_that_another_could_have_bent_is_not_followed() {
    let world = or_skip!(World::new());
    let home = world.postgres_directory("links", 0o755);
    let [cert, key] = ["server.crt", "server.key"].map(|name| home.join(name));
    let mut stage = Stage::build_at(&world, &cert, &key)
        .instance(|instance| instance.set("mode", "observe"))
        .nothing_placed()
        .create();
    opened(&world, &stage.lineage);
    symlink(stage.lineage.link(Kind::Fullchain), &cert).unwrap();
    symlink(stage.lineage.link(Kind::Privkey), &key).unwrap();
    stage.cluster.start_at_first();
    let row = stage.synced(&[], "failed", 1);
    says(&problem(&row), &["decides where"]);
}

/// The lineage's own files are all as they were.
struct Untouched {
    lineage: Lineage,
    inventory: Inventory,
}

impl Untouched {
    fn holding(world: &World, issued: &Issued) -> Untouched {
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(issued);
        // The server reads it, and its user could write it.
        let archived = [Kind::Fullchain, Kind::Privkey].map(|kind| lineage.archived(kind, 1));
        opened(world, &lineage);
        for file in &archived {
            give(file, world.postgres(), 0o600);
        }
        give(archived[0].parent().unwrap(), world.postgres(), 0o750);
        let inventory = Inventory::under([&world.path().join("letsencrypt")]);
        Untouched { lineage, inventory }
    }
}

#[test]
fn a_file_of_a_lineage_is_never_a_target() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let untouched = Untouched::holding(&world, &ca.issue(&[HOST]));
    let cluster = Cluster::build(&world).name(NAME).create();
    let lineage = &untouched.lineage;
    let elsewhere = world.postgres_directory("elsewhere", 0o755);
    let by_link = elsewhere.join("archive");
    symlink(lineage.archived(Kind::Cert, 1).parent().unwrap(), &by_link).unwrap();
    for target in [
        lineage.archived(Kind::Fullchain, 1),
        // The next generations, those of other files, and of other lineages.
        lineage.archived(Kind::Fullchain, 2),
        lineage.archived(Kind::Privkey, 117),
        lineage.archived(Kind::Chain, 1),
        world
            .path()
            .join("letsencrypt/archive/other/fullchain1.pem"),
        by_link.join("fullchain2.pem"),
    ] {
        let entry =
            || Instance::for_cluster(&cluster, HOST).set("cert_file", target.to_str().unwrap());
        let config = Config::new(&world).instance(entry()).write();
        let refused = pgcertd(&world, &config, &["sync"]);
        assert_eq!(refused.code(), 2, "{}: {refused:?}", target.display());
        says(
            refused.stderr(),
            &["cert_file", target.to_str().unwrap(), "mode = \"reload\""],
        );
        // What others place may lie there.
        let config = Config::new(&world)
            .instance(entry().set("mode", "observe"))
            .write();
        assert_ne!(pgcertd(&world, &config, &["sync"]).code(), 2);
    }
    untouched.inventory.is_untouched();
}

/// A layout of one's own: `current` leads to a directory for each renewal.
#[test]
fn nor_is_one_that_a_lineage_of_ones_own_layout_leads_to() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let issued = ca.issue(&[HOST]);
    let release = world.postgres_directory("releases/2026-11-29", 0o755);
    fs::write(release.join("fullchain.pem"), issued.fullchain_pem()).unwrap();
    fs::write(release.join("privkey.pem"), &issued.key_pem).unwrap();
    for file in ["fullchain.pem", "privkey.pem"] {
        give(&release.join(file), world.postgres(), 0o600);
    }
    let lineage = world.directory("own");
    symlink(&release, world.path().join("current")).unwrap();
    for file in ["fullchain.pem", "privkey.pem"] {
        symlink(world.path().join("current").join(file), lineage.join(file)).unwrap();
    }
    let cluster = Cluster::build(&world).name(NAME).create();
    let target = world.path().join("releases/2026-11-30/fullchain.pem");
    for target in [release.join("fullchain.pem"), target] {
        let entry =
            Instance::for_cluster(&cluster, &lineage).set("cert_file", target.to_str().unwrap());
        let config = Config::new(&world).instance(entry).write();
        let refused = pgcertd(&world, &config, &["sync"]);
        assert_eq!(refused.code(), 2, "{refused:?}");
        says(refused.stderr(), &["belongs to a lineage"]);
    }
    // The service's user may not look into the lineage, and its one thread that may finds where it leads.
    fs::set_permissions(&lineage, fs::Permissions::from_mode(0o700)).unwrap();
    let entry = Instance::for_cluster(&cluster, &lineage)
        .set("cert_file", release.join("fullchain.pem").to_str().unwrap())
        .set("key_file", release.join("privkey.pem").to_str().unwrap());
    let config = Config::new(&world).instance(entry).write();
    let second = ca.issue(&[HOST]);
    let newer = world.postgres_directory("releases/2026-11-30", 0o755);
    for (file, text) in [
        ("fullchain.pem", second.fullchain_pem()),
        ("privkey.pem", second.key_pem),
    ] {
        fs::write(newer.join(file), text).unwrap();
        give(&newer.join(file), world.postgres(), 0o600);
    }
    let before = Inventory::under([&release]);
    fs::remove_file(world.path().join("current")).unwrap();
    symlink(&newer, world.path().join("current")).unwrap();
    let service = Launch::new(&world).like_the_unit();
    let done = service.run(&config, &["sync", "--json"]);
    let told = done.instance(NAME);
    assert_eq!(told["outcome"], "refused", "{told}");
    says(
        told["problem"].as_str().unwrap(),
        &["fullchain.pem", "of the lineage itself", "mode"],
    );
    before.is_untouched();

    // A neighbour is no part of it.
    let beside = release.join("server.pem");
    let entry =
        Instance::for_cluster(&cluster, &lineage).set("cert_file", beside.to_str().unwrap());
    let config = Config::new(&world).instance(entry).write();
    let done = pgcertd(&world, &config, &["sync", "--json"]);
    assert_eq!(done.instance(NAME)["outcome"], "installed", "{done:?}");
    assert!(beside.exists());
}

#[test]
fn a_setup_takes_no_file_of_a_lineage_over() {
    let world = or_skip!(World::new());
    let mut bench = Bench::new(&world);
    let archive = world.path().join("letsencrypt/archive").join(HOST);
    let group = world.postgres();
    for directory in [archive.parent().unwrap(), &archive] {
        give(directory, group, 0o750);
    }
    let [cert, key] = ["fullchain1.pem", "privkey1.pem"].map(|name| archive.join(name));
    give(&cert, group, 0o644);
    give(&key, group, 0o600);
    bench.cluster.set("ssl_cert_file", cert.to_str().unwrap());
    bench.cluster.set("ssl_key_file", key.to_str().unwrap());
    bench.cluster.reload_by_hand();
    let before = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
    let dry = bench.setup(&["--dry-run", "--json"]).json();
    assert_eq!(dry["taken_over"], false, "{dry}");
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    bench.verified();
    assert_eq!((fs::read(&cert).unwrap(), fs::read(&key).unwrap()), before);
    assert!(!bench.cluster.sql("show ssl_cert_file").contains("archive"));
}
