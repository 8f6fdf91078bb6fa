//! `postmaster.pid` lies: nobody but the postmaster is signalled, and all is well when it starts.

use std::{fs, path::PathBuf};

use crate::{
    stage::{HOST, NAME, Stage, problem, says},
    world::{
        Owner, World,
        ca::Ca,
        cluster::Cluster,
        daemon::{Daemon, eventually_at_rest},
        faults::bystander,
        give,
        process::Process,
    },
};

fn pid_file(stage: &Stage<'_>) -> PathBuf {
    stage.cluster.data_directory().join("postmaster.pid")
}

/// A pid file as the instance's own server would have left it, with another number.
fn left_over(stage: &Stage<'_>, pid: i64) -> String {
    format!(
        "{pid}\n{}\n1790000000\n{}\n{}\n127.0.0.1\n  5432001         3\nready   \n",
        stage.cluster.data_directory().display(),
        stage.cluster.port(),
        stage.cluster.sockets().display(),
    )
}

/// Postgres is down, and its pid file holds `text`: pgcertd says `told`, `sync` installs, and
/// nothing else happens. Gives the daemon; the pid file is still there.
#[track_caller]
fn taken_for_down(stage: &mut Stage<'_>, text: &str, told: &[&str]) -> Daemon {
    stage.cluster.stop();
    fs::write(pid_file(stage), text).unwrap();
    give(&pid_file(stage), stage.cluster.owner(), 0o600);
    let daemon = Daemon::start(stage.world, &stage.config);
    says(&daemon.wait_for_log(": not_running"), told);
    let second = stage.renew();
    let seen = stage.becomes("not_running");
    says(&problem(&seen), told);
    let row = stage.synced(&["--force"], "installed", 0);
    assert_eq!(row["fingerprint"], *second.fingerprint);
    daemon
}

/// The server starts, although its pid file was that; the daemon notices.
fn and_then_it_starts(mut stage: Stage<'_>, daemon: Daemon) {
    let third = stage.renew();
    let _gone = fs::remove_file(pid_file(&stage));
    stage.cluster.start().unwrap();
    stage.serves(&third);
    stage.becomes("in_sync");
    stage.ends(daemon, &third);
}

/// A live process that dies of any signal is named by the pid file.
fn bystander_lives(owner: impl FnOnce(&World) -> Owner, told: &[&str]) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut stranger: Process = bystander(owner(&world));
    let text = left_over(&stage, stranger.pid().into());
    let number = stranger.pid().to_string();
    let told: Vec<&str> = told.iter().copied().chain([number.as_str()]).collect();
    let daemon = taken_for_down(&mut stage, &text, &told);
    assert!(stranger.ended().is_none(), "the bystander was signalled");
    stranger.kill();
    and_then_it_starts(stage, daemon);
}

#[test]
fn an_unrelated_process_of_the_same_user_lives() {
    bystander_lives(World::postgres, &["left over", "not touched", "SIGHUP"]);
}

#[test]
fn an_unrelated_process_of_another_user_lives() {
    bystander_lives(
        |_| Owner { uid: 0, gid: 0 },
        &["left over", "not touched", "its user is 0"],
    );
}

#[test]
fn the_postmaster_of_another_cluster_is_not_reloaded() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let file = world
        .postgres_directory("strange", 0o700)
        .join("server.pem");
    let strange = Ca::new(&world, "Other Root").issue(&[HOST]);
    world.place(&strange, &file);
    let mut other = Cluster::build(&world).name("strange").tls(&file).start();
    let text = left_over(&stage, other.pid().into());
    let daemon = taken_for_down(&mut stage, &text, &["left over", "working directory"]);
    assert_eq!(other.log().matches("received SIGHUP").count(), 0);
    assert!(other.is_running());
    other.stop();
    and_then_it_starts(stage, daemon);
}

#[test]
fn a_single_user_session_is_no_postmaster() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut stranger = bystander(world.postgres());
    let text = left_over(&stage, -i64::from(stranger.pid()));
    let daemon = taken_for_down(&mut stage, &text, &["single-user"]);
    assert!(stranger.ended().is_none(), "the bystander was signalled");
    stranger.kill();
    and_then_it_starts(stage, daemon);
}

#[test]
fn half_a_pid_file_names_nobody() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut stranger = bystander(world.postgres());
    // Whole numbers that are the beginning of others must not count.
    let text = format!(
        "{}\n{}",
        stranger.pid(),
        stage.cluster.data_directory().display()
    );
    let daemon = taken_for_down(&mut stage, &text, &["half written"]);
    assert!(stranger.ended().is_none(), "the bystander was signalled");
    stranger.kill();
    and_then_it_starts(stage, daemon);
}

#[test]
fn a_pid_file_that_postgres_did_not_write_names_nobody() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = taken_for_down(&mut stage, "one\ntwo\nthree\n", &["PostgreSQL"]);
    and_then_it_starts(stage, daemon);
}

#[test]
fn after_the_postmaster_was_killed_its_successor_is_noticed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    eventually_at_rest(&stage.config);
    stage.cluster.kill9();
    // Its pid file is left as it is: only its process tells.
    daemon.wait_for_log(": not_running");
    let second = stage.renew();
    let seen = stage.becomes("not_running");
    says(&problem(&seen), &["left over", "no longer exists"]);
    stage.cluster.start().unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.synced(&[NAME], "unchanged", 0);
    stage.ends(daemon, &second);
}
