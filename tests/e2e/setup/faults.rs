//! A fault after each step, and a crash after each: the server is as it was.
#![cfg(feature = "failpoints")]

use super::bench::{Bench, NAME};
use crate::world::{World, daemon::Launch, daemon::eventually_state, give};

const POINTS: [&str; 7] = [
    "setup_remembered",
    "setup_written",
    "setup_installed",
    "setup_set",
    "setup_reloaded",
    "setup_verified",
    "setup_tightened",
];

/// A server that lets every client in, so that there is something to tighten.
fn open_to_all(world: &World) -> Bench<'_> {
    let mut bench = Bench::new(world);
    let file = bench.cluster.config_directory().join("pg_hba.conf");
    let text = std::fs::read_to_string(&file).unwrap() + "host all all 0.0.0.0/0 scram-sha-256\n";
    std::fs::write(&file, text).unwrap();
    give(&file, bench.cluster.owner(), 0o600);
    bench.cluster.reload_by_hand();
    bench
}

fn with_fault(bench: &Bench<'_>, point: &str, action: &str) -> crate::world::daemon::Outcome {
    let launch = Launch::new(bench.world).env("FAILPOINTS", format!("{point}={action}"));
    bench.setup_by(&launch, &["--yes", "--require-tls"])
}

#[test]
fn a_fault_after_any_step_takes_back_all_before_it() {
    let world = or_skip!(World::new());
    let bench = open_to_all(&world);
    let before = bench.sight();
    for point in POINTS {
        let done = with_fault(&bench, point, "return");
        assert_eq!(done.code(), 1, "{point}");
        assert!(done.stdout().contains("as it was before"), "{point}");
        bench.sight().is(&before, point);
    }
    // It was no fault of the server's.
    assert_eq!(bench.setup(&["--yes", "--require-tls"]).code(), 0);
    bench.verified();
}

#[test]
fn after_a_crash_at_any_step_the_undo_finds_what_was_before() {
    let world = or_skip!(World::new());
    let bench = open_to_all(&world);
    let before = bench.sight();
    for point in POINTS {
        let crashed = with_fault(&bench, point, "panic");
        assert!(crashed.code() < 0, "{point}: {}", crashed.code());
        let undone = bench.undo(&["--yes"]);
        assert_eq!(undone.code(), 0, "{point}");
        bench.sight().is(&before, point);
    }
}

#[test]
fn after_a_crash_at_any_step_the_next_set_up_takes_that_back_and_comes_through() {
    let world = or_skip!(World::new());
    let bench = open_to_all(&world);
    let before = bench.sight();
    for point in POINTS {
        let crashed = with_fault(&bench, point, "panic");
        assert!(crashed.code() < 0, "{point}: {}", crashed.code());
        let told = bench.setup(&["--dry-run"]);
        assert_eq!(told.code(), 1, "{point}");
        assert!(told.stderr().contains("--undo"), "{point}");
        let done = bench.setup(&["--yes", "--require-tls"]);
        assert_eq!(done.code(), 0, "{point}");
        bench.verified();
        eventually_state(&world, &bench.config, NAME, "in_sync");
        assert_eq!(bench.undo(&["--yes"]).code(), 0, "{point}");
        let state = world.path().join("state");
        bench
            .sight()
            .without(&[&state])
            .is(&before.clone().without(&[&state]), point);
        std::fs::remove_dir_all(state.join(NAME)).unwrap();
    }
}
