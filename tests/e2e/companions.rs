//! The files by which Postgres judges its clients, deployed with its certificate: clients with
//! certificates, of CAs that come and go, some of them revoked.

mod ends;
mod gate;
mod observed;
mod torn;
mod untried;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::json;

use crate::{
    stage::{NAME, mode, problem, says},
    world::{
        SOON, World,
        ca::{Ca, DAY, Issued},
        config::{Config, Instance},
        daemon::{Daemon, Launch, pgcertd},
        eventually,
    },
};
use gate::{Client, Gate, bring, keyed, source};

fn two_files(world: &World) -> [PathBuf; 2] {
    let private = world.postgres_directory("private", 0o700);
    [private.join("server.crt"), private.join("server.key")]
}

fn one_deployment_brings_all(world: &World, cert: &Path, key: &Path) {
    let mut gate = Gate::at(world, cert, key);
    gate.lets_in(&gate.one);
    let before = (gate.installed(), gate.stage.reloads());
    let mut session = gate.stage.cluster.session_by(&gate.other.conninfo);

    let next = Ca::new(world, "Next clients");
    let newcomer = Client::new(world, &next, "newcomer");
    gate.keeps_out(&newcomer, "unknown ca");
    let ca = gate.clients.root_pem() + &next.root_pem();
    let crl = gate.clients.crl(&[&gate.other.issued]) + &next.crl(&[]);
    bring(world, "ca.pem", &ca);
    bring(world, "crl.pem", &crl);
    let second = gate.stage.renew();
    let row = gate.stage.synced(&[], "deployed", 0);

    assert_eq!(row["changed"], json!(["certificate", "ca", "crl"]));
    assert_eq!(gate.stage.cluster.served(), second.fingerprint);
    assert_eq!(gate.stage.reloads(), before.1 + 1);
    let [_, _, ca_now, crl_now] = gate.installed();
    assert_eq!((ca_now, crl_now), (ca, crl));
    assert_eq!(mode(&gate.stage.kept("ca.pem")), 0o644);
    gate.lets_in(&gate.one);
    gate.lets_in(&newcomer);
    gate.keeps_out(&gate.other, "revoked");
    assert_eq!(session.lives(), Ok(()));
    let kept = |name: &str| fs::read_to_string(gate.stage.kept(name)).unwrap();
    let [.., ca_before, crl_before] = before.0;
    assert_eq!(kept("previous-ca.pem"), ca_before);
    assert_eq!(kept("previous-crl.pem"), crl_before);
    assert!(!gate.stage.kept("reload-due").exists());
    gate.stage.synced(&[], "unchanged", 0);

    // All of it goes back as one.
    let back = gate.stage.pgcertd(&["rollback", "--json", NAME]);
    assert_eq!(back.code(), 0, "{back:?}");
    gate.lets_in(&gate.other);
    gate.keeps_out(&newcomer, "unknown ca");
    gate.stage.becomes("held");
    gate.ends();
}

#[test]
fn a_renewal_with_ca_and_crl_is_one_deployment() {
    let world = or_skip!(World::new());
    let target = world.target(NAME);
    one_deployment_brings_all(&world, &target, &target);
}

#[test]
fn a_renewal_with_ca_and_crl_and_two_files_is_one_deployment() {
    let world = or_skip!(World::new());
    let [cert, key] = two_files(&world);
    one_deployment_brings_all(&world, &cert, &key);
}

#[test]
fn a_new_ca_and_then_a_new_crl_alone_reach_the_server_while_sessions_live_on() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let daemon = gate.daemon();
    let mut session = gate.stage.cluster.session_by(&gate.one.conninfo);
    let next = Ca::new(&world, "Next clients");
    let newcomer = Client::new(&world, &next, "newcomer");

    gate.admits(&next);
    eventually(SOON, "the newcomer gets in", || gate.enters(&newcomer));
    gate.stage.becomes("in_sync");
    assert_eq!(gate.stage.cluster.served(), gate.stage.first.fingerprint);

    let crl = gate.clients.crl(&[&gate.other.issued]) + &next.crl(&[]);
    bring(&world, "crl.pem", &crl);
    eventually(SOON, "the revoked client is kept out", || {
        gate.enters(&gate.other).is_err()
    });
    gate.keeps_out(&gate.other, "revoked");
    gate.lets_in(&gate.one);
    assert_eq!(session.lives(), Ok(()));
    gate.stage.becomes("in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
    gate.ends();
}

#[test]
fn a_file_that_would_keep_clients_out_is_refused_and_the_certificate_with_it() {
    let world = or_skip!(World::new());
    let mut gate = Gate::new(&world);
    gate.stage.renew();
    let (ca, crl) = (gate.clients.root_pem(), gate.clients.crl(&[]));
    let stranger = Ca::new(&world, "Stranger");
    let impostor = Ca::new(&world, "Clients");
    let now = SystemTime::now();
    let expired = gate.clients.crl_of(&[], now - 9 * DAY, now - DAY);
    let future = gate.clients.crl_of(&[], now + DAY, now + 9 * DAY);
    let intermediate = gate.clients.intermediate_pem();
    let cut = ca[..ca.len() / 2].to_owned();
    let ca_file = source(&world, "ca.pem");
    let crl_file = source(&world, "crl.pem");
    let (ca_file, crl_file) = (ca_file.to_str().unwrap(), crl_file.to_str().unwrap());
    let (no, not_yet) = ("refused", "waiting");
    let trusted = "as if it stood in the CA file";
    for (new_ca, new_crl, outcome, words) in [
        (&ca, &ca, no, [crl_file, trusted]),
        (
            &ca,
            &(crl.clone() + &stranger.root_pem()),
            no,
            [crl_file, trusted],
        ),
        (&ca, &expired, no, ["CN=Clients", "was due to be replaced"]),
        (&ca, &future, no, ["CN=Clients", "counts from"]),
        (
            &(ca.clone() + &stranger.root_pem()),
            &crl,
            no,
            ["no CRL of", "CN=Stranger"],
        ),
        (&gate.one.issued.leaf_pem, &crl, no, [ca_file, "is no CA"]),
        (
            &(ca.clone() + &gate.one.issued.key_pem),
            &crl,
            no,
            [ca_file, "a private key"],
        ),
        // Half of a renewal, perhaps.
        (
            &ca,
            &impostor.crl(&[]),
            not_yet,
            [crl_file, "signature does not verify"],
        ),
        (
            &ca,
            &(crl.clone() + &stranger.crl(&[])),
            not_yet,
            ["CN=Stranger", "not in the CA file"],
        ),
        (
            &intermediate,
            &crl,
            not_yet,
            ["CN=Clients", "not in the CA file"],
        ),
        (&cut, &crl, not_yet, [ca_file, "not completely written"]),
    ] {
        bring(&world, "ca.pem", new_ca);
        bring(&world, "crl.pem", new_crl);
        gate.leaves_all(outcome, &words);
    }
    gate.lets_in(&gate.one);
    gate.ends();
}

#[test]
fn what_postgres_refuses_goes_back_as_a_whole() {
    let world = or_skip!(World::new());
    let mut gate = Gate::new(&world);
    let before = gate.installed();
    let next = Ca::new(&world, "Next clients");
    gate.admits(&next);
    let second = gate.stage.renew();
    gate.breaks_reloads();
    let row = gate.stage.synced(&[], "rolled_back", 1);
    says(
        &problem(&row),
        &[&second.fingerprint[..6], "previous files are back"],
    );
    assert_eq!(gate.installed(), before);
    gate.lets_in(&gate.one);
    gate.stage.becomes("rejected");

    gate.mends_reloads();
    gate.stage.synced(&["--force"], "deployed", 0);
    gate.stage.becomes("in_sync");
    gate.stage.ends_serving(&second);
}

#[test]
fn a_refused_ca_alone_is_seen_by_the_names_that_clients_are_asked_for() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let before = gate.installed();
    let next = Ca::new(&world, "Next clients");
    gate.admits(&next);
    gate.breaks_reloads();
    let row = gate.stage.synced(&[], "rolled_back", 1);
    says(
        &problem(&row),
        &["did not load the CA file", "previous files are back"],
    );
    assert_eq!(gate.installed(), before);
    gate.stage.becomes("rejected");
    // What is installed has the same leaf, and is not what was refused.
    gate.stage.synced(&[], "refused", 1);
    assert_eq!(gate.installed(), before);

    gate.mends_reloads();
    gate.stage.synced(&["--force"], "deployed", 0);
    let newcomer = Client::new(&world, &next, "newcomer");
    gate.lets_in(&newcomer);
    gate.ends();
}

/// Runs `sync`, killed on its way into the call on one of the paths; whether it was.
fn killed(gate: &Gate<'_>, call: &str, nth: u32) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let trace = format!("trace={call}");
    let mut args = vec!["-e".to_owned(), trace, "-e".to_owned(), inject];
    let state = gate.stage.kept("");
    let homes = [
        gate.stage.cert.parent().unwrap(),
        gate.stage.key.parent().unwrap(),
        &state,
    ];
    let files = [
        &gate.stage.cert,
        &gate.stage.key,
        &gate.stage.kept("ca.pem"),
        &gate.stage.kept("crl.pem"),
    ];
    for path in homes
        .into_iter()
        .chain(files.iter().map(|file| file.as_path()))
    {
        args.extend(["-P".to_owned(), path.to_str().unwrap().to_owned()]);
    }
    args.extend(["-P".to_owned(), "anon_inode:[pidfd]".to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let launch = Launch::new(gate.world()).strace(&args);
    launch.run(&gate.stage.config, &["sync", "--json"]).code() == -9
}

#[test]
fn whatever_a_crash_between_the_renames_leaves_loads_and_is_mended() {
    let world = or_skip!(World::new());
    let [cert, key] = two_files(&world);
    let mut gate = Gate::at(&world, &cert, &key);
    let mut kills = 0;
    for nth in 1.. {
        let next = Ca::new(&world, &format!("Clients {nth}"));
        gate.admits(&next);
        let new = gate.stage.renew();
        if !killed(&gate, "renameat", nth) {
            assert_eq!(gate.stage.cluster.served(), new.fingerprint);
            break;
        }
        kills += 1;
        gate.stage.cluster.stop();
        // As the unit's order has it: before Postgres.
        let daemon = gate.daemon();
        gate.stage.cluster.start().unwrap();
        gate.lets_in(&gate.one);
        eventually(SOON, "the new bundle is served", || {
            gate.stage.cluster.served() == new.fingerprint
        });
        let newcomer = Client::new(&world, &next, "newcomer");
        eventually(SOON, "the newcomer gets in", || gate.enters(&newcomer));
        assert_eq!(daemon.stop().code(), Some(0));
    }
    // previous-ca, previous-crl, previous, reload-due, crl, ca, key, certificate.
    assert!(kills >= 6, "only {kills} kills");
}

#[test]
fn a_crl_that_a_crash_kept_from_being_loaded_is_loaded_by_the_next_run() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    bring(&world, "crl.pem", &gate.clients.crl(&[&gate.other.issued]));
    assert!(killed(&gate, "pidfd_send_signal", 1));
    gate.lets_in(&gate.other);
    assert!(gate.stage.kept("reload-due").exists());

    gate.stage.synced(&[], "deployed", 0);
    gate.keeps_out(&gate.other, "revoked");
    assert!(!gate.stage.kept("reload-due").exists());
    gate.stage.synced(&[], "unchanged", 0);
    gate.ends();
}

#[test]
fn a_crl_that_others_place_is_loaded() {
    let world = or_skip!(World::new());
    let target = world.target(NAME);
    let gate = Gate::with(&world, &target, &target, |instance| instance);
    let instance = keyed(
        &world,
        Instance::for_cluster(&gate.stage.cluster, crate::stage::HOST),
    );
    let config = Config::new(&world)
        .instance(instance.set("mode", "reload"))
        .write();
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for_log(": in_sync");
    let crl = gate.clients.crl(&[&gate.other.issued]);
    bring(&world, "crl.pem", &crl);
    fs::write(gate.stage.kept("crl.pem"), &crl).unwrap();
    eventually(SOON, "the revoked client is kept out", || {
        gate.enters(&gate.other).is_err()
    });
    gate.lets_in(&gate.one);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_server_that_names_another_ca_or_crl_file_is_told_of() {
    let world = or_skip!(World::new());
    let mut gate = Gate::new(&world);
    let elsewhere = world.path().join("elsewhere.pem");
    fs::write(&elsewhere, gate.clients.root_pem()).unwrap();
    gate.stage
        .cluster
        .set("ssl_ca_file", elsewhere.to_str().unwrap());
    gate.stage.cluster.reload_by_hand();
    let second = gate.stage.renew();
    let row = gate.stage.synced(&[], "installed", 1);
    let kept = gate.stage.kept("ca.pem");
    let line = format!("set ssl_ca_file = '{}'", kept.display());
    says(&problem(&row), &["elsewhere.pem", &line]);
    assert_eq!(gate.stage.cluster.served(), second.fingerprint);
    let seen = gate.stage.becomes("not_used");
    says(&problem(&seen), &["elsewhere.pem", &line]);
    let check = gate.stage.pgcertd(&["check", "--json"]);
    says(check.stdout(), &["client_ca_files", "elsewhere.pem"]);

    gate.stage
        .cluster
        .set("ssl_ca_file", kept.to_str().unwrap());
    gate.stage.cluster.set("ssl_crl_file", "");
    gate.stage.cluster.reload_by_hand();
    let seen = gate.stage.becomes("not_used");
    says(&problem(&seen), &["ssl_crl_file is not set", "crl.pem"]);
}
