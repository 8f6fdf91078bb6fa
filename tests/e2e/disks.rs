//! The host will not let the files be written: the old ones stay, and it is tried again.

use std::{fs, path::Path};

use crate::{
    stage::{NAME, Stage, leftovers, problem, says},
    world::{
        World,
        ca::Issued,
        daemon::{Daemon, Launch},
        faults::{Immutable, Tmpfs},
    },
};

/// An instance whose one file lies in `tls/` of the world, not in the state directory.
fn apart(world: &World) -> Stage<'_> {
    let target = world.path().join("tls/server.pem");
    Stage::build_at(world, &target, &target).start()
}

/// Renews under a daemon that cannot install: the old file is as it was, and served, and the
/// daemon and `sync` say what to do.
#[track_caller]
fn renewed_in_vain(stage: &mut Stage<'_>, daemon: &Daemon, told: &[&str]) -> Issued {
    let second = stage.renew();
    let line = daemon.wait_for_log(&format!("{} failed", &second.fingerprint[..6]));
    says(&line, told);
    let seen = stage.becomes_and_says("out_of_date", told);
    assert_eq!(seen["served"]["fingerprint"], *stage.first.fingerprint);
    let row = stage.synced(&[], "failed", 1);
    says(&problem(&row), told);
    assert_eq!(stage.reloads(), 0);
    second
}

/// The fault is mended, and the daemon notices by itself.
fn deployed_after_all(stage: Stage<'_>, daemon: Daemon, second: &Issued) {
    stage.serves(second);
    stage.becomes("in_sync");
    stage.ends(daemon, second);
}

fn untouched(stage: &Stage<'_>) {
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        stage.first.combined_pem()
    );
    assert!(leftovers(stage.cert.parent().unwrap()).is_empty());
}

#[test]
fn a_missing_target_directory_is_named_and_awaited() {
    let world = or_skip!(World::new());
    let mut stage = apart(&world);
    let daemon = stage.daemon();
    let (home, away) = (world.path().join("tls"), world.path().join("tls.away"));
    fs::rename(&home, &away).unwrap();
    let second = renewed_in_vain(
        &mut stage,
        &daemon,
        &["create the directory", home.to_str().unwrap()],
    );
    fs::rename(&away, &home).unwrap();
    deployed_after_all(stage, daemon, &second);
}

#[test]
fn a_read_only_mount_keeps_the_old_file() {
    let world = or_skip!(World::new());
    let home = world.directory("tls");
    let mount = Tmpfs::mount(&home, "1m", world.postgres());
    let mut stage = apart(&world);
    let daemon = stage.daemon();
    mount.remount("ro");
    // Nothing has changed: nothing is to be written, and nothing is wrong.
    stage.synced(&[], "unchanged", 0);
    let second = renewed_in_vain(
        &mut stage,
        &daemon,
        &["read-only", "ReadWritePaths", stage_home(&home)],
    );
    untouched(&stage);
    mount.remount("rw");
    deployed_after_all(stage, daemon, &second);
}

fn stage_home(home: &Path) -> &str {
    home.to_str().unwrap()
}

/// What is immutable keeps the old file, until it is so no more.
fn is_kept_by_an_immutable(path: &Path, mut stage: Stage<'_>) {
    let daemon = stage.daemon();
    let immutable = or_skip!(Immutable::set(path));
    let second = renewed_in_vain(&mut stage, &daemon, &["chattr -i", "server.pem"]);
    untouched(&stage);
    drop(immutable);
    deployed_after_all(stage, daemon, &second);
}

#[test]
fn an_immutable_file_keeps_its_content() {
    let world = or_skip!(World::new());
    let stage = apart(&world);
    is_kept_by_an_immutable(&stage.cert.clone(), stage);
}

#[test]
fn an_immutable_directory_keeps_its_file() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    is_kept_by_an_immutable(world.target(NAME).parent().unwrap(), stage);
}

/// A directory on a disk that is full keeps the old file, until there is room.
fn is_kept_by_a_full_disk(world: &World, home: &Path) {
    let mount = Tmpfs::mount(home, "64k", world.postgres());
    let mut stage = apart(world);
    let daemon = stage.daemon();
    let filler = mount.fill();
    let told = ["free some room", home.to_str().unwrap()];
    let second = renewed_in_vain(&mut stage, &daemon, &told);
    untouched(&stage);
    fs::remove_file(filler).unwrap();
    deployed_after_all(stage, daemon, &second);
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    let world = or_skip!(World::new());
    is_kept_by_a_full_disk(&world, &world.directory("tls"));
}

#[test]
fn a_full_state_directory_keeps_the_old_file_and_forgets_nothing() {
    let world = or_skip!(World::new());
    let home = world.target(NAME).parent().unwrap().to_owned();
    fs::create_dir_all(&home).unwrap();
    is_kept_by_a_full_disk(&world, &home);
}

#[test]
fn a_used_up_quota_keeps_the_old_file() {
    let world = or_skip!(World::new());
    let mut stage = apart(&world);
    let home = stage.cert.parent().unwrap().to_owned();
    let new = home.join(".server.pem.pgcertd-new");
    let second = stage.renew();
    let over_quota = Launch::new(&world)
        .strace(&[
            "-P",
            new.to_str().unwrap(),
            "-e",
            "trace=write",
            "-e",
            "inject=write:error=EDQUOT",
        ])
        .run(&stage.config, &["sync", "--json"]);
    let row = over_quota.instance(NAME);
    assert_eq!(row["outcome"], "failed", "{row}");
    says(&problem(&row), &["quota", stage_home(&home)]);
    untouched(&stage);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    stage.synced(&[], "deployed", 0);
    stage.ends_serving(&second);
}

#[test]
fn a_directory_that_the_unit_may_not_write_is_named() {
    let world = or_skip!(World::new());
    let mut stage = apart(&world);
    let home = stage.cert.parent().unwrap().to_owned();
    let daemon = stage.unit();
    daemon.wait_for_log(": in_sync");
    let root = crate::world::Owner { uid: 0, gid: 0 };
    crate::world::give(&home, root, 0o755);
    let second = stage.renew();
    let line = daemon.wait_for_log(&format!("{} failed", &second.fingerprint[..6]));
    says(&line, &["writable", stage_home(&home)]);
    untouched(&stage);
    crate::world::give(&home, world.postgres(), 0o700);
    deployed_after_all(stage, daemon, &second);
}
