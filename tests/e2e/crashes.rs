//! pgcertd killed at each system call that touches what Postgres loads or pgcertd remembers.
//!
//! strace kills `sync` on the way into the call, one call after the other, until a run has no
//! such call left. So the state after a call is seen at the call that follows. The short form
//! takes the calls that change something; with `PGCERTD_LONG=1` it is every call that names or
//! holds one of the paths.

pub mod stage;
mod trial;

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use crate::stage::HOST;
use crate::world::{
    SOON, World,
    daemon::{Launch, eventually_state},
    eventually,
    postgres::STRICT,
};
use stage::{Files, Left, Stage};

/// The calls that change a file, a directory or the server.
const CHANGING: [&str; 11] = [
    "mkdir",
    "fchown",
    "fchmod",
    "write",
    "fsync",
    "linkat",
    "symlinkat",
    "renameat",
    "rename",
    "renameat2",
    "pidfd_send_signal",
];

/// Those between which the states of a roll-back lie; the rest happens beside the targets.
const DECISIVE: [&str; 2] = ["renameat", "pidfd_send_signal"];

/// Those that only look, or take away what is not there.
const LOOKING: [&str; 9] = [
    "open",
    "openat",
    "read",
    "fstat",
    "newfstatat",
    "statx",
    "fcntl",
    "close",
    "unlinkat",
];

/// The calls to kill at: `short`, or all of them where time does not matter.
fn calls(short: &[&'static str]) -> Vec<&'static str> {
    if std::env::var_os("PGCERTD_LONG").is_some() {
        CHANGING.into_iter().chain(LOOKING).collect()
    } else {
        short.to_vec()
    }
}

/// A kill takes nothing from what the kernel holds, a power failure does: so the order of the
/// calls themselves is looked at, up to the signal; gives how many files were renamed.
fn renamed_in_order(stage: &Stage<'_>) -> u32 {
    let calls = "trace=write,fsync,renameat,pidfd_send_signal";
    let done = stage.traced(&["-y", "-e", calls]);
    assert!([0, 1].contains(&done.code()), "{done:?}");
    let mut unsynced = BTreeSet::new();
    let mut renamed = 0;
    let trace = fs::read_to_string(stage.world.path().join("strace.log")).unwrap();
    for line in trace.lines() {
        // `31995 renameat(14</state>, ".server.pem.pgcertd-new", 12</state>, "server.pem") = 0`
        let (_, call) = line.split_once(' ').unwrap();
        let (call, arguments) = call.trim().split_once('(').unwrap_or((call, ""));
        let path = |rest: &str| {
            let (_, rest) = rest.split_once('<').unwrap();
            PathBuf::from(rest.split_once('>').unwrap().0)
        };
        match call {
            "write" => {
                unsynced.insert(path(arguments));
            }
            "fsync" => {
                unsynced.remove(&path(arguments));
            }
            "renameat" => {
                let words: Vec<&str> = arguments.split(", ").collect();
                let from = path(words[0]).join(words[1].trim_matches('"'));
                assert!(
                    !unsynced.contains(&from),
                    "{line}: not durable yet\n{trace}"
                );
                let into = path(words[2]);
                // What is on trial is known in time: within one directory, renames keep their order.
                let untold = into != stage.state && unsynced.contains(&stage.state);
                assert!(!untold, "{line}: no trial is durable yet\n{trace}");
                unsynced.insert(into);
                renamed += 1;
            }
            "pidfd_send_signal" => {
                assert!(unsynced.is_empty(), "{unsynced:?} at the signal\n{trace}");
                return renamed;
            }
            _ => {}
        }
    }
    panic!("Postgres was not signalled:\n{trace}");
}

fn install_is_durable(files: Files) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, files);
    let new = stage.renew();
    // What is on trial, the previous bundle, and the targets.
    assert_eq!(renamed_in_order(&stage), 2 + stage.targets());
    stage.synced(&new);

    // What was installed is not known to have been served, and is not kept.
    let newer = stage.renew();
    fs::remove_file(stage.state.join("proven")).unwrap();
    stage.cluster.freeze();
    assert_eq!(renamed_in_order(&stage), 1 + stage.targets());
    stage.cluster.thaw();
    stage.synced(&newer);
}

#[test]
fn what_an_install_has_written_is_durable_before_postgres_is_told() {
    install_is_durable(Files::One);
    install_is_durable(Files::Two);
}

fn install_is_survived(files: Files) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, files);
    for call in calls(&CHANGING) {
        for nth in 1.. {
            let old = stage.now.clone();
            let new = stage.renew();
            if let Some(done) = stage.kill(call, nth) {
                assert_eq!(done.instance("16-main")["outcome"], "deployed");
                stage.synced(&new);
                break;
            }
            let point = format!("killed at {call} {nth}");
            let either = [Left::holding(&old), Left::holding(&new)];
            stage.no_key_is_shown(&point);
            assert!(
                either.contains(&Left::Whole(stage.cluster.served())),
                "{point}"
            );
            let left = stage.left();
            let allowed = either.contains(&left) || files == Files::Two && left == Left::Mixed;
            assert!(allowed, "{point}: {left:?}");
            let snapshot = stage.snapshot();

            // Postgres runs on, and pgcertd comes again.
            stage.synced(&new);

            // Or Postgres has gone down as well.
            snapshot.put_back();
            stage.cluster.stop();
            match files {
                Files::One => stage.starts(&point),
                Files::Two if nth % 2 == 0 => stage.mended_by_daemon(|stage| stage.starts(&point)),
                Files::Two => {
                    let mended = stage.pgcertd(&["sync", "--json"]);
                    assert_eq!(mended.code(), 0, "{point}: {mended:?}");
                    stage.starts(&point);
                }
            }
            assert!(
                either.contains(&Left::Whole(stage.cluster.served())),
                "{point}"
            );
            stage.synced(&new);
        }
    }
    println!("killed {} times", stage.kills);
    assert!(stage.kills >= 8, "only {} kills", stage.kills);
}

#[test]
fn an_install_of_one_file_is_killed_at_every_step() {
    install_is_survived(Files::One);
}

#[test]
fn an_install_of_two_files_is_killed_at_every_step() {
    install_is_survived(Files::Two);
}

/// Between the install of a bundle that only Postgres itself finds unfit and the moment when its
/// refusal is remembered, a kill leaves that bundle in place. Postgres runs on with the old one then,
/// and pgcertd, started again, rolls back; a Postgres that was restarted before that does not start,
/// until pgcertd, which knows what nobody has tried, has put the old one back.
fn roll_back_is_survived(files: Files) {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, files);
    let weak = stage.weak();
    let mut in_window = 0;
    for call in calls(&DECISIVE) {
        for nth in 1.. {
            let bad = stage.ca.issue_with(&[HOST], &weak);
            stage.lineage.renew(&bad);
            let ended = stage.kill(call, nth);
            let point = format!("killed at {call} {nth}");
            stage.no_key_is_shown(&point);
            assert_eq!(stage.cluster.served(), stage.now.fingerprint, "{point}");
            if let Some(done) = ended {
                assert_eq!(done.instance("16-main")["outcome"], "rolled_back");
                stage.is_rejected(&bad);
                let new = stage.renew();
                stage.synced(&new);
                break;
            }
            let left = stage.left();
            let known = stage.held().contains(&bad.fingerprint);
            let snapshot = stage.snapshot();

            // Postgres runs on, and pgcertd comes again.
            stage.rejected(&bad);

            // Or Postgres has gone down as well.
            if left == Left::holding(&bad) && !known {
                in_window += 1;
                snapshot.put_back();
                stage.cluster.stop();
                stage.does_not_start();
                stage.mended_by_daemon(|stage| {
                    stage.starts(&point);
                    eventually_state(&world, &stage.config, "16-main", "rejected");
                });
                stage.is_rejected(&bad);
            } else if left == Left::holding(&bad) || left == Left::Mixed && files == Files::Two {
                snapshot.put_back();
                stage.cluster.stop();
                stage.mended_by_daemon(|stage| {
                    stage.starts(&point);
                    eventually_state(&world, &stage.config, "16-main", "rejected");
                });
                stage.is_rejected(&bad);
            } else {
                assert_eq!(left, Left::holding(&stage.now), "{point}");
                snapshot.put_back();
                stage.cluster.stop();
                stage.starts(&point);
                stage.rejected(&bad);
            }
            let new = stage.renew();
            stage.synced(&new);
        }
    }
    println!(
        "killed {} times, {in_window} of them in the window",
        stage.kills
    );
    assert!(stage.kills >= 6, "only {} kills", stage.kills);
    assert!(in_window >= 1, "the refused bundle was never left in place");
}

#[test]
fn a_roll_back_of_one_file_is_killed_at_every_step() {
    roll_back_is_survived(Files::One);
}

#[test]
fn a_roll_back_of_two_files_is_killed_at_every_step() {
    roll_back_is_survived(Files::Two);
}

#[test]
fn a_first_install_is_killed_at_every_step() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    for call in calls(&CHANGING) {
        for nth in 1.. {
            let new = stage.renew();
            // Postgres still has what it has loaded.
            fs::remove_dir_all(&stage.state).unwrap();
            let ended = stage.kill(call, nth);
            let point = format!("killed at {call} {nth}");
            stage.no_key_is_shown(&point);
            let left = stage.left();
            assert!(
                [Left::Missing, Left::holding(&new)].contains(&left),
                "{point}: {left:?}"
            );
            // A daemon has the rights of the server's user alone, and must get on as well.
            if nth % 2 == 0 {
                stage.mended_by_daemon(|stage| {
                    eventually(SOON, &format!("{point}: the daemon gets on"), || {
                        stage.cluster.served() == new.fingerprint
                    });
                });
            }
            stage.synced(&new);
            let state = fs::metadata(&stage.state).unwrap();
            assert_eq!(state.uid(), world.postgres().uid, "{point}");
            stage.cluster.restart().unwrap();
            if ended.is_some() {
                break;
            }
        }
    }
    println!("killed {} times", stage.kills);
    assert!(stage.kills >= 8, "only {} kills", stage.kills);
}

#[test]
fn a_refusal_that_could_not_be_seen_at_once_is_seen_later() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, Files::One);
    let mut daemon = Launch::new(&world).daemon(&stage.config);
    daemon.ready();
    let bad = stage.ca.issue_with(&[HOST], &stage.weak());
    stage.cluster.freeze();
    stage.lineage.renew(&bad);
    daemon.wait_for_log("serving not verified");
    assert_eq!(stage.left(), Left::holding(&bad));

    stage.cluster.thaw();
    eventually_state(&world, &stage.config, "16-main", "rejected");
    assert_eq!(daemon.stop().code(), Some(0));
    stage.is_rejected(&bad);
    stage.cluster.restart().unwrap();
}
