//! Who can hold the lock, and what giving it back can do.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::{Duration, Instant},
};

use crate::stage::Stage;
use crate::world::{
    SOON, World, command,
    daemon::Launch,
    eventually, give,
    process::{Process, run},
};

/// Takes a lock on `path` as a member of the server's group who is nobody else, until it is dropped; none where
/// that is not possible.
fn stranger_holds(path: &Path) -> Option<Process> {
    let by_stranger = || {
        let mut flock = command("setpriv");
        flock.args(["--reuid=nobody", "--regid=postgres", "--clear-groups"]);
        flock.args(["flock", "--no-fork"]).arg(path);
        flock
    };
    run(by_stranger().arg("true"), SOON).result().ok()?;
    // It waits for its turn: whoever looks whether it is held takes it for a moment.
    let mut holder = Process::spawn(by_stranger().args(["sleep", "600"]));
    eventually(SOON, "the stranger holds it", || {
        assert!(holder.ended().is_none(), "flock has ended");
        let mut tried = command("flock");
        run(tried.arg("--nonblock").arg(path).arg("true"), SOON).code() != 0
    });
    Some(holder)
}

#[test]
fn nobody_but_the_owner_can_hold_the_lock() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let first = stage.pgcertd(&["sync"]);
    assert_eq!(first.code(), 0, "{first:?}");
    // As `initdb --allow-group-access` has it.
    let data = stage.cluster.data_directory().to_owned();
    give(&data, world.postgres(), 0o750);
    let state = world.target("16-main").parent().unwrap().to_owned();
    let mut held = Vec::new();
    let within = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in within.chain([state.clone(), data]) {
        let holder = stranger_holds(&path);
        println!("{}: {}", path.display(), holder.is_some());
        held.extend(holder);
    }
    assert!(
        !held.is_empty(),
        "the stranger holds at least the data directory"
    );
    let next = stage.ca.issue(&["pg.example.com"]);
    stage.lineage.renew(&next);
    let began = Instant::now();
    let done = stage.pgcertd(&["sync", "--json"]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(stage.cluster.served(), next.fingerprint);
    let lock = fs::metadata(state.join("lock")).unwrap();
    assert_eq!(
        (lock.mode() & 0o7777, lock.uid()),
        (0o600, world.postgres().uid)
    );
}

#[test]
fn what_is_no_file_of_the_owners_is_never_locked_and_the_error_says_what_to_remove() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    assert_eq!(stage.pgcertd(&["sync"]).code(), 0);
    let lock = world.target("16-main").with_file_name("lock");
    let elsewhere = world.path().join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [(&str, Plant<'_>); 5] = [
        ("link", &|lock| symlink(&elsewhere, lock).unwrap()),
        ("directory", &|lock| fs::create_dir(lock).unwrap()),
        ("fifo", &|lock| {
            run(command("mkfifo").arg(lock), SOON).result().unwrap();
            give(lock, world.postgres(), 0o600);
        }),
        ("stranger's", &|lock| {
            fs::write(lock, "").unwrap();
            run(command("chown").arg("nobody").arg(lock), SOON)
                .result()
                .unwrap();
            fs::set_permissions(lock, fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("second name", &|lock| {
            let other = lock.with_file_name("other");
            let _ = fs::remove_file(&other);
            fs::write(&other, "").unwrap();
            give(&other, world.postgres(), 0o600);
            fs::hard_link(&other, lock).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let gone = fs::remove_file(&lock).or_else(|_| fs::remove_dir(&lock));
        gone.unwrap();
        plant(&lock);
        let done = stage.pgcertd(&["sync", "--json"]);
        let row = done.instance("16-main");
        println!("{what}: {row}");
        assert_eq!(
            (&row["outcome"], done.code()),
            (&"failed".into(), 1),
            "{what}"
        );
        let told = row["problem"].to_string();
        assert!(told.contains(lock.to_str().unwrap()), "{what}: {told}");
        assert!(
            told.contains("remove") || told.contains("move it away"),
            "{what}: {told}"
        );
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
    fs::remove_file(&lock).unwrap();
    assert_eq!(stage.pgcertd(&["sync"]).code(), 0);
}

#[test]
fn giving_the_lock_back_cannot_fail_once_a_deployment_is_done() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let next = stage.ca.issue(&["pg.example.com"]);
    stage.lineage.renew(&next);
    // Another thread takes it than the first one, which alone is traced.
    let log = world.path().join("strace.log");
    let fault = ["-e", "trace=flock", "-e", "inject=flock:error=EIO"];
    let strace = ["strace", "-D", "-q", "-o", log.to_str().unwrap()];
    let done = Launch::new(&world)
        .through(&[&strace[..], &fault].concat())
        .run(&stage.config, &["sync", "--json"]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.instance("16-main")["outcome"], "deployed");
    assert!(!done.stderr().contains("panicked"), "{done:?}");
    assert_eq!(stage.cluster.served(), next.fingerprint);
}

#[test]
fn a_lock_that_cannot_be_had_for_want_of_descriptors_or_memory_says_what_to_raise() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    assert_eq!(stage.pgcertd(&["sync"]).code(), 0);
    let state = world.target("16-main").parent().unwrap().to_owned();
    for (errno, says) in [
        ("EMFILE", "LimitNOFILE="),
        ("ENFILE", "fs.file-max"),
        ("ENOMEM", "memory"),
        ("EIO", "dmesg"),
    ] {
        // The first call of the thread is for its own rules.
        let fault = format!("inject=openat:error={errno}:when=2+");
        let done = Launch::new(&world)
            .strace(&[
                "-P",
                state.to_str().unwrap(),
                "-e",
                "trace=openat",
                "-e",
                &fault,
            ])
            .run(&stage.config, &["sync", "--json"]);
        let told = done.instance("16-main")["problem"].to_string();
        assert!(told.contains(says), "{errno}: {told}");
    }
}
