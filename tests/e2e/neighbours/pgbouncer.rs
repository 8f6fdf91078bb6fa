//! PgBouncer: its clients get the renewal, and nobody who comes through it notices.

use std::{fs, time::Duration};

use super::stage::{NAME, Stage};
use crate::{
    stage::{HOST, problem, says},
    world::{
        SOON, World,
        ca::{Ca, KeyType},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
        faults::bystander,
        give,
        inventory::Inventory,
        pgbouncer::PgBouncer,
        postgres::STRICT,
        throughout,
    },
};

const ROLLED_BACK: &str = "rejected by PgBouncer and rolled back";

#[test]
fn a_renewal_reaches_a_poolers_clients_and_no_pooled_session_is_lost() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let mut sessions: Vec<_> = (0..4)
        .map(|_| stage.pooler.session(&stage.cluster))
        .collect();
    let load = stage.pooler.pgbench(4, 3);
    let pid = stage.pooler.pid();

    let second = stage.renew();
    stage.serves(&second);
    stage.becomes("in_sync");
    let third = stage.renew();
    stage.serves(&third);
    stage.becomes("in_sync");

    for session in &mut sessions {
        assert_eq!(session.lives(), Ok(()));
    }
    assert!(load.finish().unwrap() > 0);
    assert_eq!((stage.pooler.pid(), stage.pooler.reloads()), (pid, 2));
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        third.combined_pem()
    );
    assert_eq!(daemon.stop().code(), Some(0));

    // It starts on what was left.
    stage.pooler.stop();
    stage.pooler.start().unwrap();
    assert_eq!(stage.pooler.served(), third.fingerprint);
}

#[test]
fn a_pooler_is_taken_in_by_hand_and_its_first_certificate_installed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .pooler(|pooler| {
            pooler.set("client_tls_sslmode", "disable");
            pooler.unset("client_tls_cert_file");
            pooler.unset("client_tls_key_file");
        })
        .start();
    fs::remove_file(&stage.cert).unwrap();
    let off = stage.checked("ssl");
    assert_eq!(off["weight"], "problem", "{off}");
    let row = stage.synced(&[], "installed", 1);
    says(
        &problem(&row),
        &["client_tls_sslmode = disable", "pgbouncer.ini"],
    );
    let seen = stage.becomes("not_used");
    says(&problem(&seen), &["client_tls_sslmode = disable", "reload"]);

    // TLS is on, and other files are named: nothing of ours is served, and nothing goes back.
    let other = world.postgres_directory("other", 0o700).join("server.pem");
    let theirs = stage.ca.issue(&[HOST]);
    world.place(&theirs, &other);
    stage.pooler.tls(&other);
    let row = stage.synced(&["--force"], "installed", 1);
    let target = stage.cert.display().to_string();
    says(
        &problem(&row),
        &["client_tls_cert_file = ", "other/server.pem", &target],
    );
    let seen = stage.becomes("not_used");
    says(
        &problem(&seen),
        &["set client_tls_cert_file", "pgbouncer.ini", &target],
    );
    assert_eq!(stage.checked("server_files")["weight"], "problem");
    assert_eq!(stage.pooler.served(), theirs.fingerprint);

    // As it says.
    stage.pooler.tls(&stage.cert.clone());
    stage.synced(&["--force"], "deployed", 0);
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);
    stage.becomes("in_sync");
    assert_eq!(stage.checked("server_files")["weight"], "good");
    assert_eq!(stage.checked("served")["weight"], "good");
    let second = stage.renew();
    stage.synced(&["--dry-run"], "would_deploy", 1);
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.pooler.served(), second.fingerprint);
    stage.synced(&[], "unchanged", 0);

    // The operator goes back, and on again.
    let back = stage.pgcertd(&["rollback", NAME]);
    assert_eq!(back.code(), 0, "{back:?}");
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);
    stage.becomes("held");
    stage.synced(&["--force"], "deployed", 0);
    assert_eq!(stage.pooler.served(), second.fingerprint);
}

#[test]
fn a_broken_file_beside_a_poolers_pair_is_named_and_the_renewal_waits_for_it() {
    let world = or_skip!(World::new());
    let clients = world.path().join("clients-ca.pem");
    fs::write(&clients, Ca::new(&world, "Clients").root_pem()).unwrap();
    let mut stage = Stage::build(&world)
        .pooler(|pooler| pooler.set("client_tls_ca_file", clients.to_str().unwrap()))
        .start();
    let daemon = stage.daemon();
    let mut session = stage.pooler.session(&stage.cluster);
    fs::write(&clients, "no certificate\n").unwrap();
    let second = stage.renew();
    let line = daemon.wait_for_log("PgBouncer did not load");
    says(&line, &[&second.fingerprint[..6], "client_tls_ca_file"]);
    let seen = stage.becomes("not_served");
    says(&problem(&seen), &["client_tls_ca_file", "restart"]);
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        second.combined_pem()
    );
    assert_eq!(session.lives(), Ok(()));
    let reloads = stage.pooler.reloads();
    throughout(Duration::from_secs(3), "it was tried once", || {
        stage.pooler.reloads() == reloads
    });

    // The cause is mended.
    fs::write(&clients, Ca::new(&world, "Clients").root_pem()).unwrap();
    stage.becomes("in_sync");
    assert_eq!(stage.pooler.served(), second.fingerprint);
    assert_eq!(session.lives(), Ok(()));
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_poolers_renewal_to_a_key_that_no_cipher_fits_goes_back_and_clients_get_in_again() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build_with_key(&world, KeyType::Rsa2048)
        .pooler(|pooler| {
            pooler.set("client_tls_protocols", "tlsv1.2");
            pooler.set("client_tls_ciphers", "ECDHE-RSA-AES256-GCM-SHA384");
        })
        .start();
    let daemon = stage.daemon();
    let mut session = stage.pooler.session(&stage.cluster);
    let ecdsa = stage.renew();
    let line = daemon.wait_for_log("rejected by PgBouncer and rolled back");
    says(
        &line,
        &[
            &ecdsa.fingerprint[..6],
            "client_tls_ciphers",
            "client_tls_protocols = tlsv1.2",
            "has no cipher for an ECDSA key",
            "TLS clients can connect again",
        ],
    );
    stage.becomes("rejected");
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);
    assert_eq!(session.lives(), Ok(()));
    let reloads = stage.pooler.reloads();
    throughout(Duration::from_millis(500), "it was tried once", || {
        stage.pooler.reloads() == reloads
    });

    stage.pooler.unset("client_tls_ciphers");
    stage.synced(&["--force"], "deployed", 0);
    assert_eq!(stage.pooler.served(), ecdsa.fingerprint);
    assert_eq!(session.lives(), Ok(()));
}

#[test]
fn a_pair_that_a_pooler_refuses_goes_back_and_nobody_notices() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::strict(&world);
    let daemon = stage.daemon();
    let mut session = stage.pooler.session(&stage.cluster);
    let load = stage.pooler.pgbench(2, 3);
    let weak = stage.renew_weak();
    let line = daemon.wait_for_log(ROLLED_BACK);
    says(&line, &[NAME, &weak.fingerprint[..6], "its log says why"]);
    let log = stage.pooler.log();
    let why = log.find("ee key too small").expect("OpenSSL says why");
    says(&log[why..], &["TLS configuration could not be reloaded"]);

    let seen = stage.becomes("rejected");
    says(
        &problem(&seen),
        &["PgBouncer did not load", "sync --force", "log says why"],
    );
    assert_eq!(seen["source"]["fingerprint"], *weak.fingerprint);
    assert_eq!(seen["served"]["fingerprint"], *stage.first.fingerprint);
    assert_eq!(seen["installed"]["fingerprint"], *stage.first.fingerprint);
    let shown = stage.pgcertd(&["status"]);
    assert_eq!(shown.code(), 1, "{shown:?}");
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        stage.first.combined_pem()
    );
    assert_eq!(session.lives(), Ok(()));
    assert!(load.finish().unwrap() > 0);

    // One reload to try, one to go back, and no more, whoever looks.
    assert_eq!(daemon.stop().code(), Some(0));
    stage.synced(&[], "refused", 1);
    assert_eq!(stage.pooler.reloads(), 2);
    let row = stage.synced(&["--force"], "rolled_back", 1);
    says(&problem(&row), &["the previous files are back"]);
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);

    // Another process is asked once; it starts, for what lies there is good.
    stage.pooler.stop();
    stage.pooler.start().unwrap();
    let daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    daemon.wait_for_log(ROLLED_BACK);
    stage.becomes("rejected");
    assert_eq!(stage.pooler.served(), stage.first.fingerprint);

    let good = stage.renew();
    stage.serves(&good);
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_pooler_that_is_down_gets_the_renewal_when_it_starts() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    stage.pooler.stop();
    // In the moment of its end the pid file is still there.
    crate::world::eventually(SOON, "no PgBouncer runs", || {
        let told = problem(&stage.becomes("not_running"));
        told.contains("no PgBouncer runs") && told.contains("systemctl start pgbouncer")
    });
    daemon.wait_for_log(": not_running");
    let second = stage.renew();
    // A sound pair waits until it is up.
    stage.becomes("not_running");
    stage.pooler.start().unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_poolers_pid_file_that_is_left_over_harms_nobody() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.pooler.kill9();
    let seen = stage.becomes("not_running");
    says(
        &problem(&seen),
        &["pgbouncer.pid is left over", "no longer exists"],
    );

    // The number is another's by now, of one who dies of any signal.
    let mut stranger = bystander(world.postgres());
    let pid_file = stage.pooler.pid_file();
    fs::write(&pid_file, format!("{}\n", stranger.pid())).unwrap();
    give(&pid_file, world.postgres(), 0o644);
    let second = stage.renew();
    stage.synced(&["--force"], "installed", 0);
    let seen = stage.becomes("not_running");
    says(&problem(&seen), &["left over", "not touched"]);
    assert!(stranger.ended().is_none(), "the bystander was signalled");

    // Another pooler's number does as little, and its own process is found all the same.
    let mut other = PgBouncer::before(&world, &stage.cluster, "other");
    other.start().unwrap();
    fs::remove_file(&pid_file).unwrap();
    stage.pooler.start().unwrap();
    fs::write(&pid_file, format!("{}\n", other.pid())).unwrap();
    assert_eq!(stage.pooler.served(), second.fingerprint);
    let third = stage.renew();
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.pooler.served(), third.fingerprint);
    assert_eq!((other.reloads(), stage.pooler.reloads()), (0, 1));
}

#[test]
fn a_pooler_without_a_pid_file_and_with_an_included_configuration_is_found() {
    let world = or_skip!(World::new());
    let target = world.target(NAME);
    let mut stage = Stage::build(&world)
        .pooler(|pooler| {
            pooler.unset("pidfile");
            pooler.with_argument("-q");
            let whole = fs::read_to_string(pooler.config_file()).unwrap();
            let more = world.path().join("more.ini");
            fs::write(&more, whole).unwrap();
            pooler.replace(&format!(
                "; all is elsewhere\n%include {}\n",
                more.display()
            ));
        })
        .start();
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.pooler.served(), second.fingerprint);
    assert_eq!(fs::read_to_string(target).unwrap(), second.combined_pem());
}

#[test]
fn a_pooler_that_demands_client_certificates_shows_its_leaf_over_either_protocol() {
    for protocols in ["tlsv1.2", "secure"] {
        let world = or_skip!(World::new());
        let clients = world.path().join("clients-ca.pem");
        fs::write(&clients, Ca::new(&world, "Clients").root_pem()).unwrap();
        let mut stage = Stage::build(&world)
            .pooler(|pooler| {
                pooler.set("client_tls_ca_file", clients.to_str().unwrap());
                pooler.set("client_tls_sslmode", "verify-full");
                pooler.set("client_tls_protocols", protocols);
            })
            .start();
        stage.becomes("in_sync");
        let second = stage.renew();
        stage.synced(&[], "deployed", 0);
        assert_eq!(stage.pooler.served(), second.fingerprint, "{protocols}");
    }
}

#[test]
fn a_server_and_the_pooler_before_it_share_a_lineage() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let target = world.target("server");
    world.place(&stage.first, &target);
    let server = Cluster::build(&world).name("server").tls(&target).start();
    let config = Config::new(&world)
        .watch("resync", "1h")
        .instance(Instance::for_cluster(&server, HOST))
        .instance(Instance::of_pgbouncer(
            NAME,
            HOST,
            &stage.pooler.config_file(),
        ))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually_state(&world, &config, NAME, "in_sync");
    eventually_state(&world, &config, "server", "in_sync");
    let second = stage.renew();
    stage.serves(&second);
    eventually(SOON, "the server serves it too", || {
        server.served() == second.fingerprint
    });
    // What is PostgreSQL's alone says so, or leaves the other out.
    let sessions = pgcertd(&world, &config, &["sessions", "--json"]);
    assert_eq!(sessions.json()["instances"].as_array().unwrap().len(), 1);
    let refused = pgcertd(&world, &config, &["sessions", NAME]);
    assert_eq!(refused.code(), 2);
    says(refused.stderr(), &["is a PgBouncer"]);
    let refused = pgcertd(&world, &config, &["setup", "--instance", NAME, "--yes"]);
    says(refused.stderr(), &["is a PgBouncer", "pgcertd check"]);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_poolers_files_that_others_place_are_loaded_or_observed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .instance(|instance| instance.set("mode", "observe"))
        .start();
    let daemon = stage.daemon();
    let before = Inventory::under([stage.config.state_directory(), &stage.pooler.config_file()]);
    let second = stage.renew();
    let seen = stage.becomes("out_of_date");
    says(&problem(&seen), &["something else writes the file"]);
    daemon.wait_for_log(": out_of_date");
    stage.synced(&["--force"], "failed", 1);
    before.is_untouched();
    world.place(&second, &stage.cert);
    stage.becomes("not_served");
    assert_eq!(stage.pooler.reloads(), 0);
    assert_eq!(daemon.stop().code(), Some(0));

    let entry = Instance::of_pgbouncer(NAME, HOST, &stage.pooler.config_file());
    stage.config = Config::new(&world)
        .watch("resync", "1h")
        .instance(entry.set("mode", "reload"))
        .write();
    let daemon = Daemon::start(&world, &stage.config);
    stage.serves(&second);
    let third = stage.renew();
    world.place(&third, &stage.cert);
    stage.serves(&third);
    stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_config_file_that_tells_no_user_or_cannot_be_read_is_named() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let file = stage.pooler.config_file();
    let root = crate::world::Owner { uid: 0, gid: 0 };
    give(&file, root, 0o644);
    let row = stage.synced(&[], "failed", 1);
    says(&problem(&row), &["belongs to root", "set owner"]);

    let entry = Instance::of_pgbouncer(NAME, HOST, &file).set("owner", "postgres");
    stage.config = Config::new(&world).instance(entry).write();
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.pooler.served(), second.fingerprint);

    stage.pooler.replace("[pgbouncer]\nsecret\n");
    let seen = stage.becomes("unverified");
    says(&problem(&seen), &["pgbouncer.ini:2", "no such line"]);
    assert!(!problem(&seen).contains("secret"));
}
