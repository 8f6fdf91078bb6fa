//! Where Patroni takes its settings from: a directory of files, and its environment.

use std::fs;

use rustix::process::Signal;

use super::{Stage, weighs};
use crate::{
    stage::{place, problem, says},
    world::{
        SOON, World, config::Instance, daemon::Launch, eventually, give, patroni::Settings,
        port::Port, postgres::PATRONI,
    },
};

/// What a file says of the REST API's certificate.
fn naming(certfile: &std::path::Path) -> String {
    format!("restapi:\n  certfile: {}\n", certfile.display())
}

#[test]
fn a_directory_of_files_is_read_as_patroni_lays_them_over_each_other() {
    let world = or_skip!(World::with_debians(PATRONI));
    let other = world.target("other");
    let mut stage = Stage::with(
        &world,
        |target| Settings {
            restapi: vec![("certfile", other.display().to_string())],
            over: vec![
                ("20-tls.yaml", naming(target)),
                ("30-tls.yml.old", naming(&other)),
            ],
            ..Settings::default()
        },
        // As Debian's package has it, the directory is root's.
        |instance| instance.set("owner", "postgres"),
    );
    let theirs = stage.ca.issue(&[crate::stage::HOST]);
    world.place(&theirs, &other);
    let directory = stage.solo.node.config_file().to_owned();
    assert!(directory.is_dir());
    let daemon = stage.daemon();
    let second = stage.renew();
    stage.serves(&second);
    weighs(stage.checked("server_files"), "good", &[]);
    assert!(!daemon.log().contains("the reload also applied"));

    // One more file outweighs it, and is the one that is to be changed.
    let last = stage.solo.node.laid_over("30-tls.yml");
    fs::write(&last, naming(&other)).unwrap();
    give(&last, world.postgres(), 0o600);
    assert!(stage.solo.node.signal(Signal::HUP));
    stage.solo.node.rest_serves(&theirs.fingerprint);
    let mend = format!(
        "set restapi.certfile and restapi.keyfile in {} to {}",
        last.display(),
        stage.target.display()
    );
    let wrong = format!(
        "restapi.certfile = {}, which pgcertd does not",
        other.display()
    );
    let told = problem(&stage.becomes("not_used"));
    says(&told, &[&wrong, &mend]);
    weighs(stage.checked("server_files"), "problem", &[&wrong, &mend]);

    // As it says. The daemon finds it by itself.
    fs::write(&last, naming(&stage.target)).unwrap();
    assert!(stage.solo.node.signal(Signal::HUP));
    stage.serves(&second);
    let third = stage.renew();
    stage.serves(&third);
    let deployed = format!("{} deployed and served", &third.fingerprint[..6]);
    says(&daemon.wait_for_log(&deployed), &[last.to_str().unwrap()]);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn what_patronis_environment_sets_counts_in_place_of_its_file_and_is_named() {
    let world = or_skip!(World::with_debians(PATRONI));
    let (cert, key) = (
        world.path().join("tls/api.crt"),
        world.path().join("tls/api.key"),
    );
    let rest = Port::claim();
    let set = |name, value: &dyn std::fmt::Display| (name, value.to_string());
    let environment = vec![
        set("PATRONI_RESTAPI_LISTEN", &rest.address()),
        set("PATRONI_RESTAPI_CONNECT_ADDRESS", &rest.address()),
        set("PATRONI_RESTAPI_CERTFILE", &cert.display()),
        set("PATRONI_RESTAPI_KEYFILE", &key.display()),
    ];
    let elsewhere = Port::claim();
    let two = |instance: Instance| {
        instance
            .set("cert_file", cert.to_str().unwrap())
            .set("key_file", key.to_str().unwrap())
    };
    let mut stage = Stage::with(
        &world,
        |target| {
            // The pair of the lineage, before Patroni starts on it.
            let first = fs::read_to_string(target).unwrap();
            fs::create_dir_all(cert.parent().unwrap()).unwrap();
            give(cert.parent().unwrap(), world.postgres(), 0o700);
            for (file, mode) in [(&cert, 0o644), (&key, 0o600)] {
                fs::write(file, &first).unwrap();
                give(file, world.postgres(), mode);
            }
            Settings {
                restapi: vec![
                    ("listen", elsewhere.address()),
                    ("certfile", target.display().to_string()),
                ],
                environment,
                rest: Some(rest),
                ..Settings::default()
            }
        },
        two,
    );
    place(&world, &stage.first, &cert, &key);
    let daemon = stage.daemon();
    let second = stage.renew();
    stage.serves(&second);
    weighs(stage.checked("server_files"), "good", &[]);
    let address = stage.solo.node.rest_address();
    weighs(stage.checked("served"), "good", &[&address]);
    assert_eq!(daemon.stop().code(), Some(0));

    // Whoever may not see the environment takes the file for no more than it is.
    let blind = Launch::new(&world).without_ptrace();
    weighs(
        stage.checked_by(&blind, "server_files"),
        "problem",
        &["PATRONI_RESTAPI_*", "may not be seen"],
    );

    // The default target is what the file names, and the environment another.
    stage.write(|instance| instance);
    let words = [
        &format!("PATRONI_RESTAPI_CERTFILE = {}", cert.display()),
        "PATRONI_RESTAPI_KEYFILE in its environment",
        "patronictl pause",
    ];
    let row = stage.done(&["sync"], "installed", 1);
    says(&problem(&row), &words);
    says(&problem(&stage.becomes("not_used")), &words);
    weighs(stage.checked("server_files"), "problem", &words);

    // Taken out of it, the file counts.
    stage.solo.node.kill9();
    stage.solo.node.forget_environment();
    stage.solo.node.edit(&elsewhere.address(), &address);
    stage.solo.node.start();
    eventually(SOON, "Patroni is up", || {
        stage.solo.node.rest_peer(None).map(|_| ())
    });
    stage.serves(&second);
    let third = stage.renew();
    stage.done(&["sync"], "deployed", 0);
    stage.keeps(&third);
}
