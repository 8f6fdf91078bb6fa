//! An operator goes back to the bundle of before: it is served, and what the lineage holds waits.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, leftovers, mode, problem, says},
    world::{
        SOON, World,
        ca::{DAY, Issued, KeyType, Options},
        daemon::{Daemon, Launch, Outcome},
        eventually,
        journal::Journal,
        postgres::STRICT,
        throughout,
    },
};

/// A stage on which a second bundle was deployed by `sync`.
fn with_previous(world: &World) -> (Stage<'_>, Issued) {
    let mut stage = Stage::new(world);
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    (stage, second)
}

fn roll_back(stage: &Stage<'_>, arguments: &[&str]) -> Outcome {
    let all: Vec<&str> = ["rollback", NAME]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    stage.pgcertd(&all)
}

/// Rolls back, which must come to this outcome and exit status; gives the instance's object.
#[track_caller]
fn rolled_back(stage: &Stage<'_>, arguments: &[&str], outcome: &str, code: i32) -> Value {
    let all: Vec<&str> = ["--json"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let done = roll_back(stage, &all);
    let row = done.instance(NAME);
    println!("rollback {arguments:?}: {row}");
    assert_eq!(row["outcome"], outcome, "{row}");
    assert_eq!(done.code(), code, "{row}");
    row
}

/// Nothing of the instance was changed: files, memory, server.
#[track_caller]
fn keeps(stage: &Stage<'_>, issued: &Issued, reloads: usize) {
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        issued.combined_pem()
    );
    assert!(!stage.kept("held.json").exists());
    assert_eq!(stage.cluster.served(), issued.fingerprint);
    assert_eq!(stage.reloads(), reloads);
}

/// The same bundle is served, and the daemon leaves it alone.
#[track_caller]
fn stays(stage: &Stage<'_>, issued: &Issued) {
    throughout(Duration::from_millis(700), "it stays", || {
        stage.cluster.served() == issued.fingerprint
            && fs::read_to_string(&stage.cert).unwrap() == issued.combined_pem()
    });
}

#[test]
fn a_rollback_serves_the_previous_bundle_and_holds_the_lineages_until_the_next_renewal() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    let mut session = stage.cluster.session();

    let row = rolled_back(&stage, &[], "deployed", 0);
    assert_eq!(row["fingerprint"], *stage.first.fingerprint);
    assert_eq!(row["problem"], Value::Null);
    assert!(row["seconds"].as_f64().is_some());
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    assert_eq!(session.lives(), Ok(()));
    assert_eq!(mode(&stage.kept("held.json")), 0o600);
    let line = daemon.wait_for_log(": held: ");
    let mend = format!("sync --force {NAME}");
    let names = [&second.fingerprint[..6], &stage.first.fingerprint[..6]];
    says(&line, &[&mend, names[0], names[1]]);
    let seen = stage.becomes("held");
    says(&problem(&seen), &[&mend, names[0], names[1]]);
    assert_eq!(stage.pgcertd(&["status"]).code(), 1);

    // Whatever makes the daemon and `sync` compare: it is held.
    stays(&stage, &stage.first);
    assert_eq!(daemon.stop().code(), Some(0));
    let before = stage.reloads();
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": held: ");
    stage.synced(&[], "refused", 1);
    stage.restart_postgres();
    stays(&stage, &stage.first);
    assert_eq!(stage.reloads(), before);

    let third = stage.renewal_is_served();
    stage.becomes("in_sync");
    eventually(SOON, "the hold is forgotten", || {
        !stage.kept("held.json").exists()
    });
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.ends(daemon, &third);
}

#[test]
fn sync_with_force_ends_a_rollback_as_often_as_somebody_changes_his_mind() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    stage.becomes("in_sync");
    // As often as the daemon would suffer it of a stranger; then a renewal, which is no stranger's.
    for turn in 1..=3 {
        println!("turn {turn}");
        rolled_back(&stage, &[], "deployed", 0);
        eventually(SOON, "the daemon has seen it", || {
            daemon.log().matches(": held: ").count() == turn
        });
        if turn == 3 {
            break;
        }
        stage.synced(&["--force"], "deployed", 0);
        assert_eq!(stage.cluster.served(), second.fingerprint);
        assert!(!stage.kept("held.json").exists());
        assert_eq!(stage.previous(), stage.first.combined_pem());
        eventually(SOON, "the daemon has seen that too", || {
            daemon.log().matches("the problem before it").count() == turn
        });
    }
    let third = stage.renewal_is_served();
    stage.ends(daemon, &third);
}

#[test]
fn a_second_rollback_stays_where_the_first_led() {
    let world = or_skip!(World::new());
    let (stage, second) = with_previous(&world);
    let done = roll_back(&stage, &[]);
    assert_eq!(done.code(), 0);
    let served = format!("{} deployed and served", &stage.first.fingerprint[..6]);
    says(done.stdout(), &["16-main: pg.example.com", "held: "]);
    assert!(
        done.stdout().replace('…', "").contains(&served),
        "{}",
        done.stdout()
    );
    let held = fs::read_to_string(stage.kept("held.json")).unwrap();
    assert_eq!(stage.previous(), stage.first.combined_pem());

    rolled_back(&stage, &[], "deployed", 0);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    assert_eq!(
        fs::read_to_string(stage.kept("held.json")).unwrap(),
        held,
        "the hold is that of {}",
        second.fingerprint
    );
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.synced(&["--force"], "deployed", 0);
    stage.ends_serving(&second);
}

#[test]
fn a_dry_run_tells_what_a_rollback_would_do_and_changes_nothing() {
    let world = or_skip!(World::new());
    let (stage, second) = with_previous(&world);
    let reloads = stage.reloads();
    let row = rolled_back(&stage, &["--dry-run"], "would_deploy", 0);
    assert_eq!(row["fingerprint"], *stage.first.fingerprint);
    keeps(&stage, &second, reloads);
    let text = roll_back(&stage, &["--dry-run"]);
    says(text.stdout(), &["would be deployed", "before: "]);
    stage.ends_serving(&second);
}

#[test]
fn without_a_previous_bundle_that_may_go_in_a_rollback_is_refused() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.synced(&[], "unchanged", 0);
    let row = rolled_back(&stage, &[], "refused", 1);
    says(&problem(&row), &["no previous bundle", "renew"]);
    rolled_back(&stage, &["--dry-run"], "refused", 1);
    let first = stage.first.clone();
    keeps(&stage, &first, 0);

    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    let reloads = stage.reloads();
    let expired = stage.ca.issue_with(
        &[HOST],
        &Options {
            not_before: SystemTime::now() - 2 * DAY,
            not_after: SystemTime::now() - DAY,
            ..Options::default()
        },
    );
    fs::write(stage.kept("previous.pem"), expired.combined_pem()).unwrap();
    let row = rolled_back(&stage, &[], "refused", 1);
    says(
        &problem(&row),
        &[&expired.fingerprint[..6], "expired", "stay"],
    );
    keeps(&stage, &second, reloads);

    // What is installed already, and was not rolled back to.
    fs::write(stage.kept("previous.pem"), second.combined_pem()).unwrap();
    let row = rolled_back(&stage, &[], "refused", 1);
    says(&problem(&row), &["is already installed", "renew"]);
    keeps(&stage, &second, reloads);

    let unknown = stage.pgcertd(&["rollback", "17-main"]);
    assert_eq!(unknown.code(), 2);
    assert_eq!(stage.pgcertd(&["rollback"]).code(), 2);
    stage.ends_serving(&second);
}

#[test]
fn a_previous_bundle_for_other_names_is_refused() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    let reloads = stage.reloads();
    let other = stage.ca.issue(&["other.example.com"]);
    fs::write(stage.kept("previous.pem"), other.combined_pem()).unwrap();
    let row = rolled_back(&stage, &[], "refused", 1);
    says(&problem(&row), &[HOST, &other.fingerprint[..6]]);
    keeps(&stage, &second, reloads);
    stage.ends_serving(&second);
}

#[test]
fn where_others_place_the_files_a_rollback_is_refused() {
    for mode in ["reload", "observe"] {
        let world = or_skip!(World::new());
        let stage = Stage::build(&world)
            .instance(|instance| instance.set("mode", mode))
            .start();
        let row = rolled_back(&stage, &[], "refused", 1);
        says(&problem(&row), &[mode, "back"]);
        keeps(&stage, &stage.first, 0);
    }
}

#[test]
fn while_postgres_is_down_the_previous_bundle_is_installed_and_served_after_its_start() {
    let world = or_skip!(World::new());
    let (mut stage, second) = with_previous(&world);
    stage.cluster.stop();
    let row = rolled_back(&stage, &[], "installed", 1);
    says(&problem(&row), &["not running"]);
    stage.synced(&[], "refused", 1);
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": held: ");
    stage.restart_postgres();
    stays(&stage, &stage.first);
    let row = rolled_back(&stage, &[], "deployed", 0);
    assert_eq!(row["fingerprint"], *stage.first.fingerprint);
    stage.synced(&["--force"], "deployed", 0);
    stage.ends(daemon, &second);
}

#[test]
fn a_previous_bundle_that_postgres_refuses_does_not_stay() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    let options = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    let weak = stage.ca.issue_with(&[HOST], &options);
    fs::write(stage.kept("previous.pem"), weak.combined_pem()).unwrap();
    let row = rolled_back(&stage, &[], "rolled_back", 1);
    says(
        &problem(&row),
        &[&weak.fingerprint[..6], "the previous files are back"],
    );
    assert_eq!(stage.cluster.served(), second.fingerprint);
    stage.becomes("in_sync");
    stays(&stage, &second);
    let third = stage.renewal_is_served();
    stage.ends(daemon, &third);
}

#[test]
fn a_rollback_that_fails_holds_nothing() {
    let world = or_skip!(World::new());
    let home = world.postgres_directory("tls", 0o700);
    let target = home.join("server.pem");
    let mut stage = Stage::build_at(&world, &target, &target).start();
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    let reloads = stage.reloads();
    fs::set_permissions(&home, Permissions::from_mode(0o500)).unwrap();
    let row = rolled_back(&stage, &[], "failed", 1);
    says(&problem(&row), &[home.to_str().unwrap()]);
    keeps(&stage, &second, reloads);
    stage.becomes("in_sync");
    fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    stage.ends_serving(&second);
}

#[test]
fn after_a_refusal_by_postgres_there_is_nothing_earlier_to_go_back_to() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    stage.renew_weak();
    stage.synced(&[], "rolled_back", 1);
    let held = fs::read_to_string(stage.kept("held.json")).unwrap();
    let row = rolled_back(&stage, &[], "refused", 1);
    says(
        &problem(&row),
        &[&second.fingerprint[..6], "is already installed"],
    );
    let after = fs::read_to_string(stage.kept("held.json")).unwrap();
    assert_eq!(after, held);
    stage.becomes("rejected");
    stage.ends_serving(&second);
}

#[test]
fn a_rollback_of_two_files_serves_both() {
    let world = or_skip!(World::new());
    let home = world.postgres_directory("tls", 0o700);
    let (cert, key) = (home.join("server.crt"), home.join("server.key"));
    let mut stage = Stage::build_at(&world, &cert, &key).start();
    let daemon = stage.daemon();
    let _second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    rolled_back(&stage, &[], "deployed", 0);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    assert_eq!(
        fs::read_to_string(&cert).unwrap(),
        stage.first.fullchain_pem()
    );
    assert_eq!((mode(&cert), mode(&key)), (0o644, 0o600));
    stage.becomes("held");
    throughout(Duration::from_millis(700), "it stays", || {
        stage.cluster.served() == stage.first.fingerprint
    });
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_rollback_that_was_killed_before_the_install_is_finished_by_the_daemon() {
    let world = or_skip!(World::new());
    let (stage, second) = with_previous(&world);
    // The first is the hold's, the second would be the target's.
    let killed = Launch::new(&world)
        .strace(&[
            "-e",
            "trace=renameat",
            "-e",
            "inject=renameat:signal=KILL:when=2",
        ])
        .run(&stage.config, &["rollback", NAME]);
    assert_eq!(killed.code(), -9);
    assert_eq!(stage.cluster.served(), second.fingerprint);
    assert!(stage.kept("held.json").exists(), "{}", killed.stderr());
    let daemon = Daemon::start(&world, &stage.config);
    stage.serves(&stage.first);
    stage.becomes("held");
    eventually(SOON, "nothing half-written is left", || {
        leftovers(stage.cert.parent().unwrap()).is_empty()
    });
    assert_eq!(stage.previous(), stage.first.combined_pem());
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_rollback_waits_for_a_deployment_that_is_under_way() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let launch = Launch::new(&world).env("FAILPOINTS", "commit=sleep(1500)");
    let daemon = launch.daemon(&stage.config);
    daemon.wait_for_log(": in_sync");
    let second = stage.renew();
    eventually(SOON, "the daemon is at work", || {
        !leftovers(stage.cert.parent().unwrap()).is_empty()
    });
    let row = rolled_back(&stage, &[], "deployed", 0);
    assert_eq!(row["fingerprint"], *stage.first.fingerprint);
    says(
        &daemon.log(),
        &[&second.fingerprint[..6], "deployed and served"],
    );
    daemon.wait_for_log(": held: ");
    stays(&stage, &stage.first);
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_rollback_under_the_journal_says_there_what_it_did() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let (stage, second) = with_previous(&world);
    let done = Launch::new(&world)
        .into_journal(&journal)
        .run(&stage.config, &["rollback", NAME]);
    assert_eq!(done.code(), 0);
    let record = journal.event("deployed", 1);
    assert_eq!(record["PGCERTD_FINGERPRINT"], *stage.first.fingerprint);
    assert_eq!(record["PGCERTD_OLD_FINGERPRINT"], *second.fingerprint);
    assert_eq!(record["PGCERTD_STATE"], "held");
    let record = journal.event("held", 1);
    let mend = format!("sync --force {NAME}");
    says(record["PGCERTD_REMEDY"].as_str().unwrap(), &[&mend]);
    stage.ends_serving_the_first();
}
