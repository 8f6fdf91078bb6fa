//! A Patroni that has all of its configuration from its environment.

use std::fs;

use super::{API, Stage, weighs};
use crate::{
    stage::{HOST, problem, says},
    world::{
        World,
        config::{Config, Instance},
        daemon::{Launch, eventually_state, pgcertd},
        give,
        patroni::{Given, Settings},
        postgres::PATRONI,
    },
};

#[test]
fn a_patroni_without_a_file_is_named_with_what_is_supported_and_its_postgres_is_kept() {
    // Another user's than the other tests', which would tell of it too.
    let _debians = or_skip!(World::with_debians(PATRONI));
    let world = or_skip!(World::of_user("daemon"));
    let server = world.target("n1");
    let mut stage = Stage::new(&world, |target| {
        let directory = server.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        give(directory, world.postgres(), 0o700);
        fs::copy(target, &server).unwrap();
        give(&server, world.postgres(), 0o600);
        Settings {
            given: Given::InEnvironment,
            ..Settings::with_tls(target)
        }
    });
    let file = stage.solo.node.config_file().to_owned();
    assert!(!file.exists());
    // The set-up of its Postgres leaves Patroni's configuration alone, wherever that is.
    let data = stage.solo.node.cluster.data_directory().to_str().unwrap();
    let wanted = [
        "setup",
        "--data-directory",
        data,
        "--lineage",
        HOST,
        "--yes",
    ];
    let refused = pgcertd(&world, &stage.config, &wanted);
    assert_eq!(refused.code(), 1, "{refused:?}");
    says(refused.stderr(), &["Patroni keeps", "--print"]);
    let named = server.to_str().unwrap();
    for (setting, value) in [
        ("ssl_cert_file", named),
        ("ssl_key_file", named),
        ("ssl", "on"),
    ] {
        stage.solo.node.set_for_all(setting, value);
    }

    stage.config = Config::new(&world)
        .watch("resync", "1h")
        .instance(Instance::of_patroni(API, HOST, &file).set("verify_timeout", "20s"))
        .instance(Instance::for_cluster(&stage.solo.node.cluster, HOST))
        .write();
    let number = format!("process {} is a Patroni", stage.solo.node.pid());
    let words = [
        &*number,
        "PATRONI_CONFIGURATION",
        "does not support",
        "pgcertd supports a Patroni whose configuration is a YAML file, or a directory",
        "restart Patroni with that as its argument",
    ];

    // The Postgres that it runs is one like any other.
    eventually_state(&world, &stage.config, "n1", "in_sync");
    let second = stage.renew();
    let synced = pgcertd(&world, &stage.config, &["sync", "--json"]);
    assert_eq!(synced.instance("n1")["outcome"], "deployed", "{synced:?}");
    assert_eq!(stage.solo.node.cluster.served(), second.fingerprint);

    // No file is there.
    assert_eq!(synced.instance(API)["outcome"], "failed", "{synced:?}");
    says(&problem(&synced.instance(API)), &words);
    says(&problem(&stage.becomes("out_of_date")), &words);
    weighs(stage.checked("data_directory"), "problem", &words);

    // One is, which it does not read.
    stage.solo.node.write_file();
    says(&problem(&stage.becomes("unverified")), &words);
    weighs(stage.checked("server"), "problem", &words);
    stage.keeps(&stage.first);
    // The daemon sees it when it does, though nothing tells of that.
    let daemon = Launch::new(&world).daemon(&stage.config);
    daemon.wait_for_log("api: unverified");
    stage.solo.node.kill9();
    stage.solo.node.give(Given::AsArgument);
    stage.solo.node.start();
    stage.serves(&second);
    assert_eq!(daemon.stop().code(), Some(0));

    // One that had it for an argument before it was there does not read it either.
    stage.solo.node.kill9();
    fs::remove_file(&file).unwrap();
    stage.solo.node.give(Given::InEnvironmentDespiteArgument);
    stage.solo.node.start();
    stage.solo.node.rest_serves(&second.fingerprint);
    weighs(
        stage.checked("data_directory"),
        "problem",
        &[&words[1..], &[]].concat(),
    );
    stage.solo.node.write_file();
    let unread = [
        "PATRONI_CONFIGURATION",
        "restart Patroni, which then reads the file",
    ];
    weighs(stage.checked("server_files"), "problem", &unread);

    // As it says.
    stage.solo.node.kill9();
    stage.solo.node.start();
    stage.solo.node.rest_serves(&second.fingerprint);
    weighs(stage.checked("server_files"), "good", &[]);
    let third = stage.renew();
    let synced = pgcertd(&world, &stage.config, &["sync", "--json"]);
    assert_eq!(synced.code(), 0, "{synced:?}");
    stage.serves(&third);
}
