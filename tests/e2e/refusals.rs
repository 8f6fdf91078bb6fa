//! Postgres refuses what passed our checks: the good certificate goes back, and stays.

use std::{fs, path::PathBuf, thread, time::Duration};

use serde_json::Value;

use crate::{
    stage::{NAME, Stage, mode, problem, says},
    world::{
        SOON, World,
        daemon::{Daemon, Launch},
        eventually,
        postgres::{self, STRICT},
        throughout,
    },
};

const ROLLED_BACK: &str = "rejected by Postgres and rolled back";

/// How often a daemon has rolled back so far.
fn roll_backs(daemon: &Daemon) -> usize {
    daemon.log().matches(ROLLED_BACK).count()
}

fn held(stage: &Stage<'_>) -> Value {
    serde_json::from_slice(&fs::read(stage.kept("held.json")).unwrap()).unwrap()
}

#[test]
fn what_postgres_refuses_is_rolled_back_and_held_until_something_changes() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    let mut session = stage.cluster.session();
    let weak = stage.renew_weak();
    let line = daemon.wait_for_log(ROLLED_BACK);
    says(&line, &["16-main", &weak.fingerprint[..6], "log"]);
    let seen = stage.becomes("rejected");
    says(&problem(&seen), &["sync --force", "log"]);
    assert_eq!(seen["served"]["fingerprint"], *stage.first.fingerprint);
    assert_eq!(seen["installed"]["fingerprint"], *stage.first.fingerprint);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    assert_eq!(stage.previous(), stage.first.combined_pem());
    assert_eq!(session.lives(), Ok(()));

    // Another pgcertd leaves it alone: one reload to try, one to go back, and no more.
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(stage.reloads(), 2);
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": rejected");
    stage.synced(&[], "refused", 1);
    assert_eq!(stage.reloads(), 2);

    // Another postmaster is asked once.
    stage.restart_postgres();
    daemon.wait_for_log(ROLLED_BACK);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    stage.becomes("rejected");
    throughout(Duration::from_millis(500), "it was tried once", || {
        roll_backs(&daemon) == 1
    });

    // Whoever insists is obeyed, and Postgres refuses again.
    let row = stage.synced(&["--force"], "rolled_back", 1);
    says(&problem(&row), &["the previous files are back"]);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);

    let good = stage.renewal_is_served();
    stage.becomes("in_sync");
    eventually(SOON, "the rejection is forgotten", || {
        !stage.kept("held.json").exists()
    });
    stage.ends(daemon, &good);
}

/// Postgres loads all or nothing, and the renewal is not to blame for what it cannot load beside it.
#[test]
fn a_setting_that_does_not_load_is_named_and_the_renewal_waits_for_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = None;
    // What PostgreSQL says of a curve since 18, where there may be several.
    let curve = if postgres::usual() < 18 {
        "nonsense"
    } else {
        "group"
    };
    let settings = [
        (
            "ssl_ciphers",
            "NONSENSE",
            "HIGH:MEDIUM:+3DES:!aNULL",
            "cipher",
        ),
        ("ssl_ecdh_curve", "nonsense", "prime256v1", curve),
        ("ssl_crl_file", "nowhere.pem", "", "nowhere.pem"),
    ];
    for (setting, broken, good, word) in settings {
        // OpenSSL 1.1.1 goes on without a cipher before TLS 1.3.
        if setting == "ssl_ciphers" && !postgres::has_openssl_3() {
            continue;
        }
        for by_daemon in [false, true] {
            if by_daemon {
                daemon = Some(stage.daemon());
            }
            let before = stage.cluster.served();
            stage.cluster.set(setting, broken);
            let next = stage.renew();
            if by_daemon {
                let said = [word, "restart"];
                stage.becomes_and_says("not_served", &said);
            } else {
                let row = stage.synced(&[], "unverified", 1);
                says(&problem(&row), &[word, "restart"]);
            }
            assert_eq!(stage.cluster.served(), before);
            let installed = fs::read_to_string(&stage.cert).unwrap();
            assert_eq!(installed, next.combined_pem());
            assert!(!stage.kept("held.json").exists());

            stage.cluster.set(setting, good);
            if by_daemon {
                stage.serves(&next);
                stage.becomes("in_sync");
            } else {
                stage.synced(&[], "deployed", 0);
            }
            assert_eq!(stage.cluster.served(), next.fingerprint);
            if let Some(daemon) = daemon.take() {
                assert_eq!(daemon.stop().code(), Some(0));
            }
        }
    }
}

#[test]
fn while_postgres_is_down_a_refused_bundle_is_not_installed() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    let weak = stage.renew_weak();
    daemon.wait_for_log(ROLLED_BACK);
    assert_eq!(daemon.stop().code(), Some(0));
    stage.cluster.stop();

    let row = stage.synced(&[], "refused", 1);
    assert_eq!(row["fingerprint"], *weak.fingerprint);
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": rejected");
    let installed = fs::read_to_string(&stage.cert).unwrap();
    assert_eq!(installed, stage.first.combined_pem());
    stage.ends_as_it_began(daemon);
}

#[test]
fn while_the_lineage_holds_what_was_refused_a_target_that_is_lost_is_restored() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    stage.renew_weak();
    daemon.wait_for_log(ROLLED_BACK);
    stage.cluster.stop();
    fs::remove_file(&stage.cert).unwrap();
    let restored = || fs::read_to_string(&stage.cert).ok() == Some(stage.first.combined_pem());
    eventually(SOON, "the previous bundle is back", restored);
    fs::write(&stage.cert, "no certificate\n").unwrap();
    eventually(SOON, "the previous bundle is back again", restored);
    stage.ends_as_it_began(daemon);
}

/// A CA file that is good at first, for `ssl_ca_file`.
fn ca_file(world: &World) -> PathBuf {
    world.path().join("clients-ca.pem")
}

fn with_ca_file(world: &World) -> Stage<'_> {
    let file = ca_file(world);
    let ca = crate::world::ca::Ca::new(world, "Clients");
    fs::write(&file, ca.root_pem()).unwrap();
    Stage::build(world)
        .cluster(|cluster| cluster.setting("ssl_ca_file", file.to_str().unwrap()))
        .start()
}

#[test]
fn a_broken_ca_file_is_named_and_the_renewal_deployed_once_it_is_mended() {
    let world = or_skip!(World::new());
    let mut stage = with_ca_file(&world);
    let good = fs::read_to_string(ca_file(&world)).unwrap();
    let daemon = stage.daemon();
    fs::write(ca_file(&world), "not a certificate\n").unwrap();
    let second = stage.renew();
    let file = ca_file(&world);
    let told = [
        "ssl_ca_file",
        file.to_str().unwrap(),
        "fix that first",
        "restart",
    ];
    stage.becomes_and_says("not_served", &told);
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);
    // Nobody asks for a reload that would load nothing.
    let reloads = stage.reloads();
    throughout(Duration::from_secs(3), "it is asked once", || {
        stage.reloads() == reloads
    });

    fs::write(file, good).unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn a_missing_ca_file_is_named_by_each_sync_until_it_is_there() {
    let world = or_skip!(World::new());
    let mut stage = with_ca_file(&world);
    let good = fs::read_to_string(ca_file(&world)).unwrap();
    fs::remove_file(ca_file(&world)).unwrap();
    let second = stage.renew();
    for _ in 0..2 {
        let row = stage.synced(&[], "unverified", 1);
        says(&problem(&row), &["ssl_ca_file", "No such file", "restart"]);
    }
    assert!(!stage.kept("held.json").exists());

    fs::write(ca_file(&world), good).unwrap();
    stage.synced(&[], "deployed", 0);
    stage.becomes("in_sync");
    stage.ends_serving(&second);
}

/// By the time at which a file is looked at for a fault, somebody may have mended it.
#[test]
fn a_file_that_is_mended_before_it_is_looked_at_blames_no_certificate() {
    let world = or_skip!(World::new());
    let mut stage = with_ca_file(&world);
    let good = fs::read_to_string(ca_file(&world)).unwrap();
    fs::write(ca_file(&world), "").unwrap();
    let second = stage.renew();
    let launch = Launch::new(&world).env("FAILPOINTS", "reloaded=1*sleep(2000)");
    let row = thread::scope(|scope| {
        let synced = scope.spawn(|| {
            launch
                .run(&stage.config, &["sync", "--json"])
                .instance(NAME)
        });
        eventually(SOON, "the server refuses it", || {
            stage
                .cluster
                .log()
                .contains("SSL configuration was not reloaded")
        });
        fs::write(ca_file(&world), good).unwrap();
        synced.join().unwrap()
    });
    assert_eq!(row["outcome"], "deployed", "{row}");
    stage.becomes("in_sync");
    stage.ends_serving(&second);
}

#[test]
fn a_day_after_a_refusal_it_is_tried_again() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    stage.renew_weak();
    stage.synced(&[], "rolled_back", 1);
    let before = stage.reloads();

    let mut memory = held(&stage);
    memory["since"] = ago(23 * 60 + 58).into();
    fs::write(stage.kept("held.json"), memory.to_string()).unwrap();
    stage.synced(&[], "refused", 1);
    assert_eq!(stage.reloads(), before);

    // Not a day ago yet: the daemon has to wake by itself.
    memory["since"] = ago_in_seconds(24 * 60 * 60 - 3).into();
    fs::write(stage.kept("held.json"), memory.to_string()).unwrap();
    let daemon = Daemon::start(&world, &stage.config);
    eventually(SOON, "it is tried and refused again", || {
        roll_backs(&daemon) == 1
    });
    assert_eq!(stage.reloads(), before + 2);
    stage.ends_as_it_began(daemon);
}

fn ago(minutes: i64) -> String {
    ago_in_seconds(minutes * 60)
}

fn ago_in_seconds(seconds: i64) -> String {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
    then.to_string()
}

#[test]
fn the_previous_bundle_is_the_one_that_was_served_whatever_fails_after_it() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    daemon.wait_for_log("deployed and served");
    assert_eq!(stage.previous(), stage.first.combined_pem());
    for failures in 1..=2 {
        stage.renew_weak();
        eventually(SOON, "it is rolled back", || {
            roll_backs(&daemon) == failures
        });
        assert_eq!(stage.previous(), second.combined_pem());
        assert_eq!(mode(&stage.cert), 0o600);
    }
    stage.becomes("rejected");
    stage.ends(daemon, &second);
}
