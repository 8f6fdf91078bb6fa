//! `demo/run.sh` shows what it should, and leaves nothing behind, be it ended early or not.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};

#[macro_use]
#[path = "e2e/world/skipped.rs"]
mod skipped;
#[path = "e2e/world/surroundings.rs"]
mod surroundings;

use skipped::Skipped;

/// The demo under way, in a process group of its own as a terminal gives it one.
fn begun() -> Result<(Child, PathBuf, BufReader<impl Read>), Skipped> {
    surroundings::as_root_with_own_mounts()?;
    surroundings::reset_signals();
    let mut demo = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/run.sh"))
        .env("PGCERTD_BIN", env!("CARGO_BIN_EXE_pgcertd"))
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
    Ok((demo, PathBuf::from(world), says))
}

/// No file is left, and no process that has one of the demo's paths among its arguments.
fn assert_gone(world: &Path) {
    assert!(!world.exists(), "{} is left", world.display());
    for process in fs::read_dir("/proc").unwrap() {
        let arguments = process.unwrap().path().join("cmdline");
        // A process that ends meanwhile has none.
        let arguments = fs::read(arguments).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        assert!(
            !arguments.contains(world.to_str().unwrap()),
            "{arguments} still runs"
        );
    }
}

#[test]
fn the_demo_shows_what_it_should_and_leaves_nothing_behind() {
    let (mut demo, world, mut says) = or_skip!(begun());
    let mut told = String::new();
    says.read_to_string(&mut told).unwrap();
    assert!(demo.wait().unwrap().success(), "{told}");
    for shown in [
        "serial 1001",
        "serial 1002",
        "source_invalid",
        "rejected",
        "serial 1005",
        "All as it should be",
    ] {
        assert!(told.contains(shown), "{shown} is not in:\n{told}");
    }
    for line in told.lines() {
        // A command stays whole, so that it can be pasted.
        let command = line.contains("  pgcertd --config ");
        assert!(command || line.chars().count() <= 80, "too wide: {line}");
    }
    assert_gone(&world);
}

#[test]
fn the_demo_leaves_nothing_behind_when_it_is_interrupted() {
    let (mut demo, world, mut says) = or_skip!(begun());
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
