//! `demo/run.sh` shows what it should as root and as anybody else, and leaves nothing behind, even if it is interrupted.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};

#[path = "e2e/world/skipped.rs"]
mod skipped;
#[path = "e2e/world/surroundings.rs"]
#[expect(dead_code, reason = "the demo mounts nothing")]
mod surroundings;

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The demo in this repository, run by the caller.
fn by_caller() -> Command {
    let mut demo = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/run.sh"));
    demo.env("PGCERTD_BIN", env!("CARGO_BIN_EXE_pgcertd"));
    demo
}

/// A copy of it that every user can read, run by another user than root.
fn without_root(copy: &Path) -> Command {
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["run.sh", "parts.sh"] {
        let original = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("demo")
            .join(file);
        fs::copy(original, copy.join(file)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_pgcertd"), copy.join("pgcertd")).unwrap();
    let mut demo = Command::new(copy.join("run.sh"));
    demo.env("PGCERTD_BIN", copy.join("pgcertd"));
    if is_root() {
        demo.uid(NOBODY).gid(NOBODY);
    }
    demo
}

/// Starts the demo in its own process group, as a terminal does.
fn started(mut demo: Command) -> (Child, PathBuf, BufReader<impl Read>) {
    surroundings::reset_signals();
    let mut demo = demo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut says = BufReader::new(demo.stdout.take().unwrap());
    let mut first = String::new();
    says.read_line(&mut first).unwrap();
    let world = first.trim_end().rsplit(' ').next().unwrap();
    assert!(Path::new(world).is_dir(), "{first}");
    (demo, PathBuf::from(world), says)
}

/// No file is left, and no process with one of the demo's paths among its arguments.
fn assert_gone(world: &Path) {
    assert!(!world.exists(), "{} is left", world.display());
    for process in fs::read_dir("/proc").unwrap() {
        let arguments = process.unwrap().path().join("cmdline");
        // A process that has just ended has none.
        let arguments = fs::read(arguments).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        assert!(
            !arguments.contains(world.to_str().unwrap()),
            "{arguments} still runs"
        );
    }
}

/// Runs the whole demo, and gives what it shows.
#[track_caller]
fn shown(demo: Command) -> String {
    let (mut demo, world, mut says) = started(demo);
    let mut told = String::new();
    says.read_to_string(&mut told).unwrap();
    assert!(demo.wait().unwrap().success(), "{told}");
    for shown in [
        "serial 1001",
        "serial 1002",
        "source_invalid",
        "rejected",
        "serial 1005",
        "Everything worked",
    ] {
        assert!(told.contains(shown), "{shown} is not in:\n{told}");
    }
    for line in told.lines() {
        // A command stays on one line, so that it can be pasted.
        let command = line.contains("  pgcertd --config ");
        assert!(command || line.chars().count() <= 80, "too wide: {line}");
    }
    assert_gone(&world);
    told
}

const LEFT_OUT: &str = "Without root this leaves out one thing";

#[test]
fn the_demo_shows_what_it_should_and_leaves_nothing_behind() {
    let told = shown(by_caller());
    assert_eq!(told.contains(LEFT_OUT), !is_root(), "{told}");
}

#[test]
fn without_root_the_demo_runs_as_the_caller_and_says_what_it_leaves_out() {
    let copy = tempfile::tempdir().unwrap();
    let told = shown(without_root(copy.path()));
    assert!(told.contains(LEFT_OUT), "{told}");
}

#[test]
fn the_demo_leaves_nothing_behind_when_it_is_interrupted() {
    let (mut demo, world, mut says) = started(by_caller());
    let mut line = String::new();
    while !line.starts_with("3. ") {
        line.clear();
        assert!(says.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    let group = Pid::from_raw(demo.id().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert_gone(&world);
}
