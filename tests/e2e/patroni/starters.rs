//! A Patroni under what started it and bears its arguments.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Stdio,
};

use super::{API, Stage};
use crate::{
    stage::{problem, says},
    world::{
        SOON, World, command,
        daemon::{eventually_state, pgcertd},
        eventually,
        patroni::Settings,
        postgres::PATRONI,
        process::Process,
    },
};

/// An executable of this name in the world.
fn program(world: &World, name: &str, text: &str) -> PathBuf {
    let file = world.directory("starters").join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn a_patroni_is_found_under_whatever_has_started_it() {
    let world = or_skip!(World::with_debians(PATRONI));
    let mut stage = Stage::new(&world, Settings::with_tls);
    let drop = "runuser -u postgres --";
    let patroni = stage.solo.node.program();
    let patroni = patroni.to_str().unwrap();
    let stays = program(
        &world,
        "start",
        &format!("#!/bin/sh\n{drop} \"$@\"\nstatus=$?\necho $status\nexit $status\n"),
    );
    let namesake = program(
        &world,
        "patroni",
        &format!("#!/bin/sh\n{drop} {patroni} \"$@\"\nexit $?\n"),
    );
    let python = program(
        &world,
        "start.py",
        "import subprocess, sys\nsys.exit(subprocess.run(['setpriv', '--reuid=postgres', '--regid=postgres', \
         '--init-groups', *sys.argv[1:]]).returncode)\n",
    );
    let venv = world.directory("venv").join("python");
    symlink("/usr/bin/python3", &venv).unwrap();
    let (stays, namesake) = (stays.to_str().unwrap(), namesake.to_str().unwrap());
    let (python, venv) = (python.to_str().unwrap(), venv.to_str().unwrap());

    for starter in [
        &["sudo", "-u", "postgres", patroni][..],
        &[stays, patroni],
        &[namesake],
        &["python3", python, patroni],
        &[
            "tini", "--", "timeout", "1h", "sudo", "-u", "postgres", patroni,
        ],
        &["sudo", "-u", "postgres", venv, patroni],
        &[
            "sudo", "-u", "postgres", "nice", "python3", "-u", "-m", "patroni",
        ],
    ] {
        if starter.contains(&"-m") && patroni != "/usr/bin/patroni" {
            // A newer one is no module that Debian's Python finds.
            continue;
        }
        println!("{starter:?}");
        stage.solo.node.kill9();
        stage.becomes("not_running");
        stage.solo.node.start_by(starter);
        eventually(SOON, "the REST API answers", || {
            stage.solo.node.rest_peer(None).is_ok()
        });
        stage.becomes("in_sync");
        let next = stage.renew();
        stage.done(&["sync"], "deployed", 0);
        stage.keeps(&next);
    }
    stage.solo.node.kill9();

    // Its Patroni may be anywhere.
    let waits = program(&world, "waits", "#!/bin/sh\nsleep 600\ntrue\n");
    let file = stage.solo.node.config_file().to_owned();
    let mut waiting = command(waits);
    let waiting = Process::spawn(waiting.arg("patroni").arg(&file).stdin(Stdio::null()));
    let seen = eventually_state(&world, &stage.config, API, "unverified");
    let number = format!("process {}", waiting.pid());
    says(
        &problem(&seen),
        &[
            &number,
            "cannot be taken for its Patroni",
            "its executable is",
        ],
    );
    assert_eq!(pgcertd(&world, &stage.config, &["status"]).code(), 1);
    std::mem::drop(waiting);
    stage.becomes("not_running");

    // It is there, and another user's than its file.
    stage.solo.node.start_by(&[patroni]);
    let seen = eventually_state(&world, &stage.config, API, "unverified");
    let words = [
        "cannot be taken for its Patroni",
        "its user is 0",
        "set owner",
    ];
    says(&problem(&seen), &words);
    assert_eq!(pgcertd(&world, &stage.config, &["status"]).code(), 1);
}
