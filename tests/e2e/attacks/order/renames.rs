//! A rename that the system refuses, one of several: what is on disk fits together, and the server restarts.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use crate::crashes::stage::{Files, Left, Stage};
use crate::world::{
    SOON, World, command,
    daemon::{Launch, Outcome},
    faults::Immutable,
    process::run,
    skipped::Skipped,
};

/// What is in the way until it is dropped.
trait Obstacle {}

impl Obstacle for Immutable {}

fn files(world: &World) -> (PathBuf, PathBuf) {
    let at = |name: &str| world.path().join(name);
    (at("public/server.crt"), at("private/server.key"))
}

fn problem(done: &Outcome) -> String {
    let row = done.instance("16-main");
    println!("{row}");
    assert_eq!((&row["outcome"], done.code()), (&"failed".into(), 1));
    row["problem"].as_str().unwrap_or_default().to_owned()
}

/// What was served before is on disk, and a server starts on it.
#[track_caller]
fn is_as_before(stage: &mut Stage<'_>, point: &str) {
    assert_eq!(stage.left(), Left::holding(&stage.now), "{point}");
    stage.cluster.stop();
    stage.starts(point);
    assert_eq!(stage.cluster.served(), stage.now.fingerprint, "{point}");
    assert_eq!(stage.leftovers(), Vec::<PathBuf>::new(), "{point}");
    stage.has_no_trial();
}

#[test]
fn whichever_rename_of_an_install_is_refused_the_files_are_those_of_before() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::Two);
    // What is on trial, the previous bundle, the key, the certificate.
    for (nth, errno) in [
        (1, "EIO"),
        (2, "ENOSPC"),
        (3, "EROFS"),
        (4, "EIO"),
        (4, "ENOSPC"),
    ] {
        let next = stage.renew();
        let inject = format!("inject=renameat:error={errno}:when={nth}");
        let done = stage.traced(&["-e", "trace=renameat", "-e", &inject]);
        let told = problem(&done);
        let point = format!("rename {nth}, {errno}: {told}");
        assert_eq!(told.contains("back as they were"), nth == 4, "{point}");
        is_as_before(&mut stage, &point);
        stage.synced(&next);
    }
}

#[test]
fn a_way_back_that_is_refused_as_well_is_told_and_the_next_run_mends_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::Two);
    let next = stage.renew();
    let inject = "inject=renameat:error=EIO:when=4+";
    let told = problem(&stage.traced(&["-e", "trace=renameat", "-e", inject]));
    let (cert, key) = files(&world);
    for word in [
        cert.to_str().unwrap(),
        key.to_str().unwrap(),
        "failed as well",
        "the next run",
        "dmesg",
    ] {
        assert!(told.contains(word), "{word} is not in {told}");
    }
    assert_eq!(stage.left(), Left::Mixed);
    stage.synced(&next);
    stage.cluster.restart().unwrap();
}

/// Has a renewal fail by what `block` puts in the way of the certificate's file, which is seen before
/// the key is touched, for root and for the unit's user.
fn is_seen_before(block: impl Fn(&Path) -> Result<Box<dyn Obstacle>, Skipped>, says: &[&str]) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::Two);
    let (cert, key) = files(&world);
    let next = stage.renew();
    for launch in [Launch::new(&world), Launch::new(&world).like_the_unit()] {
        let before = fs::metadata(&key).unwrap();
        let blocked = or_skip!(block(&cert));
        let told = problem(&launch.run(&stage.config, &["sync", "--json"]));
        for word in says {
            assert!(told.contains(word), "{word} is not in {told}");
        }
        let after = fs::metadata(&key).unwrap();
        assert_eq!(after.ino(), before.ino(), "the key was replaced: {told}");
        // As little by `rollback`.
        let back = stage.pgcertd(&["rollback", "--json", "16-main"]);
        problem(&back);
        assert_eq!(stage.held(), "");
        assert_eq!(fs::metadata(&key).unwrap().ino(), before.ino());
        is_as_before(&mut stage, &told);
        drop(blocked);
    }
    stage.synced(&next);
}

#[test]
fn an_immutable_certificate_is_seen_before_the_key_is_replaced() {
    let block = |cert: &Path| Ok(Box::new(Immutable::set(cert)?) as Box<dyn Obstacle>);
    is_seen_before(block, &["immutable", "chattr -i"]);
}

#[test]
fn an_append_only_directory_is_seen_before_the_key_is_replaced() {
    struct AppendOnly(PathBuf);
    impl Obstacle for AppendOnly {}
    impl Drop for AppendOnly {
        fn drop(&mut self) {
            let done = run(command("chattr").arg("-a").arg(&self.0), SOON);
            println!("{:?}", done.result());
        }
    }
    let block = |cert: &Path| {
        let directory = cert.parent().unwrap().to_owned();
        let set = run(command("chattr").arg("+a").arg(&directory), SOON).result();
        set.map_err(|error| Skipped::because(format!("no append-only directories here: {error}")))?;
        Ok(Box::new(AppendOnly(directory)) as Box<dyn Obstacle>)
    };
    is_seen_before(block, &["append-only", "chattr -a"]);
}

#[test]
fn a_strangers_certificate_in_a_sticky_directory_is_seen_before_the_key_is_replaced() {
    struct Sticky(PathBuf, u32, u32);
    impl Obstacle for Sticky {}
    impl Drop for Sticky {
        fn drop(&mut self) {
            let directory = self.0.parent().unwrap();
            for path in [directory, &self.0] {
                chown(path, Some(self.1), Some(self.2)).unwrap();
            }
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let block = |cert: &Path| {
        let meta = fs::metadata(cert).unwrap();
        let directory = cert.parent().unwrap();
        let sticky = Sticky(cert.to_owned(), meta.uid(), meta.gid());
        for path in [directory, cert] {
            chown(path, Some(0), Some(0)).unwrap();
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
        Ok(Box::new(sticky) as Box<dyn Obstacle>)
    };
    is_seen_before(block, &["sticky", "chown"]);
}
