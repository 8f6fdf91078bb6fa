//! The file for node_exporter: whole or not at all, readable by all, and gone when it is unwanted.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use crate::world::{
    SOON, World,
    config::{Config, path},
    daemon::{Daemon, Launch},
    eventually, give,
};

fn config(world: &World, file: &Path) -> Config {
    Config::new(world)
        .watch("resync", "1s")
        .metrics("textfile", path(file))
        .write()
}

#[track_caller]
fn written(file: &Path) -> String {
    eventually(SOON, &format!("{} is written", file.display()), || {
        fs::read_to_string(file).map_err(|error| error.to_string())
    })
}

#[test]
fn it_is_readable_by_all_whole_and_moves_with_the_config() {
    let world = or_skip!(World::new());
    let directory = world.postgres_directory("textfiles", 0o755);
    let (first, second) = (directory.join("a.prom"), directory.join("b.prom"));
    // A link in its place is replaced, and what it leads to is not touched.
    let elsewhere = world.path().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    symlink(&elsewhere, &first).unwrap();
    let started = config(&world, &first);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&started);
    daemon.ready();
    eventually(SOON, "it replaces the link", || {
        fs::symlink_metadata(&first).is_ok_and(|file| file.is_file())
    });
    let meta = fs::metadata(&first).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
    assert_eq!(meta.uid(), world.postgres().uid);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    let text = written(&first);
    assert!(!text.contains("# EOF"), "{text}");
    assert!(text.contains("\npgcertd_resync_seconds 1.0\n"), "{text}");
    // Replaced, not written over: whoever reads it has all of one or all of the other.
    let before = meta.ino();
    eventually(SOON, "it is written anew", || {
        fs::metadata(&first).is_ok_and(|file| file.ino() != before)
    });

    config(&world, &second);
    daemon.hangup();
    written(&second);
    eventually(SOON, "the old one goes", || !first.exists());
    Config::new(&world).watch("resync", "1s").write();
    daemon.hangup();
    eventually(SOON, "it goes as well", || !second.exists());
    let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn what_keeps_it_from_being_written_is_said_once_until_it_is_mended() {
    let world = or_skip!(World::new());
    let directory = world.path().join("textfiles");
    let file = directory.join("pgcertd.prom");
    let config = config(&world, &file);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
    daemon.ready();
    let line = daemon.wait_for_log("the metrics cannot be written");
    assert!(line.contains("create the directory"), "{line}");

    fs::create_dir(&directory).unwrap();
    let line = daemon.wait_for_log("Permission denied");
    assert!(line.contains("chgrp postgres"), "{line}");
    give(&directory, world.postgres(), 0o755);
    daemon.wait_for_log("the metrics are written there now");
    written(&file);
    let log = daemon.log();
    let said = log
        .lines()
        .filter(|line| line.contains("cannot be written"));
    assert_eq!(said.count(), 2, "{log}");
    assert_eq!(daemon.stop().code(), Some(0));
    // How old it is tells that nobody writes it any more.
    assert!(file.exists());
}

#[test]
fn as_root_it_is_written_with_the_rights_of_who_owns_its_directory() {
    let world = or_skip!(World::new());
    let directory = world.postgres_directory("textfiles", 0o755);
    let file = directory.join("pgcertd.prom");
    let daemon = Daemon::start(&world, &config(&world, &file));
    written(&file);
    assert_eq!(fs::metadata(&file).unwrap().uid(), world.postgres().uid);
    assert_eq!(daemon.stop().code(), Some(0));
}
