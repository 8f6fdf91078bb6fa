//! The files that are installed: one or two, whose, with which mode, and never through a link.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use crate::{
    stage::{HOST, NAME, Stage, mode, place},
    world::{Owner, World, give, postgres::STRICT},
};

/// Checks owner and mode.
#[track_caller]
fn is(file: &Path, owner: Owner, expected: u32) {
    let meta = fs::symlink_metadata(file).unwrap();
    assert!(meta.is_file(), "{} is no file", file.display());
    let found = Owner {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    assert_eq!(found, owner, "{}", file.display());
    assert_eq!(mode(file), expected, "{}", file.display());
}

#[test]
fn two_files_in_one_directory_are_installed_with_their_modes() {
    let world = or_skip!(World::new());
    let home = world.path().join("tls");
    two_files(&world, &home.join("server.crt"), &home.join("server.key"));
}

#[test]
fn two_files_in_two_directories_are_installed_with_their_modes() {
    let world = or_skip!(World::new());
    let (certs, private) = (world.path().join("certs"), world.path().join("private"));
    two_files(&world, &certs.join("pg.pem"), &private.join("pg.key"));
}

fn two_files(world: &World, cert: &Path, key: &Path) {
    let mut stage = Stage::build_at(world, cert, key).start();
    let daemon = stage.unit();
    daemon.wait_for_log(": in_sync");
    let second = stage.renewal_is_served();
    stage.becomes("in_sync");
    is(cert, world.postgres(), 0o644);
    is(key, world.postgres(), 0o600);
    assert_eq!(fs::read_to_string(cert).unwrap(), second.fullchain_pem());
    assert_eq!(fs::read_to_string(key).unwrap(), second.key_pem);
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.ends(daemon, &second);
}

#[test]
fn refused_two_files_go_back_both() {
    let world = or_skip!(World::with_debians(STRICT));
    let (cert, key) = (
        world.path().join("certs/pg.pem"),
        world.path().join("private/pg.key"),
    );
    let mut stage = Stage::build_at(&world, &cert, &key)
        .cluster(|cluster| cluster.strict())
        .start();
    let daemon = stage.daemon();
    stage.renew_weak();
    daemon.wait_for_log("rolled back");
    stage.becomes("rejected");
    assert_eq!(
        fs::read_to_string(&cert).unwrap(),
        stage.first.fullchain_pem()
    );
    assert_eq!(fs::read_to_string(&key).unwrap(), stage.first.key_pem);
    is(&cert, world.postgres(), 0o644);
    is(&key, world.postgres(), 0o600);
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_key_that_root_owns_is_readable_by_the_servers_group() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("owner", "root").set("group", "postgres"))
        .start();
    let owner = Owner {
        uid: 0,
        gid: world.postgres().gid,
    };
    // As pgcertd makes it for such an owner.
    give(stage.cert.parent().unwrap(), owner, 0o750);
    give(&stage.cert, owner, 0o640);
    let daemon = stage.daemon();
    for _ in 0..2 {
        let next = stage.renewal_is_served();
        daemon.wait_for_log(&format!("{} deployed", &next.fingerprint[..6]));
        is(&stage.cert, owner, 0o640);
        // Nobody but pgcertd needs this one.
        assert_eq!(mode(&stage.kept("previous.pem")), 0o600);
    }
    let last = stage.renewal_is_served();
    stage.becomes("in_sync");
    stage.ends(daemon, &last);
}

#[test]
fn a_target_that_is_a_link_is_replaced_and_what_it_names_is_not_written() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let precious = world.postgres_directory("precious", 0o700).join("pair.pem");
    place(&world, &stage.first, &precious, &precious);
    fs::remove_file(&stage.cert).unwrap();
    symlink(&precious, &stage.cert).unwrap();
    stage.cluster.restart().unwrap();
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    stage.serves(&second);
    is(&stage.cert, world.postgres(), 0o600);
    assert_eq!(
        fs::read_to_string(&precious).unwrap(),
        stage.first.combined_pem()
    );
    stage.becomes("in_sync");
    stage.ends_serving(&second);
}

#[test]
fn a_link_is_put_back_where_postgres_refuses_what_replaced_it() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let precious = world.postgres_directory("precious", 0o700).join("pair.pem");
    place(&world, &stage.first, &precious, &precious);
    fs::remove_file(&stage.cert).unwrap();
    symlink(&precious, &stage.cert).unwrap();
    stage.cluster.restart().unwrap();
    stage.renew_weak();
    stage.synced(&[], "rolled_back", 1);
    assert_eq!(fs::read_link(&stage.cert).unwrap(), precious);
    assert_eq!(
        fs::read_to_string(&precious).unwrap(),
        stage.first.combined_pem()
    );
    stage.becomes("rejected");
    let daemon = crate::world::daemon::Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": rejected");
    assert!(stage.lineage.path().ends_with(HOST) && stage.cluster.name() == NAME);
    stage.ends_as_it_began(daemon);
}

/// A unit that becomes root's has its state directory given to root by systemd, with all in it.
#[test]
fn what_systemd_gave_to_root_is_given_back() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let _second = stage.renewal_is_served();
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
    let (state, previous) = (stage.kept(""), stage.kept("previous.pem"));
    let root = Owner { uid: 0, gid: 0 };
    let elsewhere = world.path().join("elsewhere");
    fs::write(&elsewhere, "root's own").unwrap();
    symlink(&elsewhere, stage.kept("link")).unwrap();
    fs::hard_link(&elsewhere, stage.kept("name")).unwrap();
    // It gives away the directory above as well.
    for path in [state.parent().unwrap(), &state, &previous, &stage.cert] {
        give(path, root, mode(path));
    }
    let daemon = stage.daemon();
    is(&stage.cert, world.postgres(), 0o600);
    is(&previous, world.postgres(), 0o600);
    let third = stage.renewal_is_served();
    stage.becomes("in_sync");
    let meta = fs::metadata(&elsewhere).unwrap();
    assert_eq!(meta.uid(), 0, "what is not its own was given away");
    assert_eq!(fs::metadata(&state).unwrap().uid(), world.postgres().uid);
    stage.ends(daemon, &third);
}
