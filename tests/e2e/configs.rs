//! Wrong configurations and wrong usage; a configuration that changes under the daemon.

use std::fs;

use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
    },
};

/// A configuration that is right but for `line`, which is its fourth of `[[instance]]`.
fn with_line(stage: &Stage<'_>, section: &str, line: &str) -> String {
    let text = stage.config.text();
    let (before, after) = text.split_once(section).unwrap();
    format!("{before}{section}\n{line}{after}")
}

/// Every command, and the daemon, refuse this configuration, and show where and why.
#[track_caller]
fn refused(stage: &Stage<'_>, (section, line): (&str, &str), offending: &str, told: &[&str]) {
    let text = with_line(stage, section, line);
    refused_text(stage, &text, line, offending, told);
}

#[track_caller]
fn refused_text(stage: &Stage<'_>, text: &str, line: &str, offending: &str, told: &[&str]) {
    stage.config.replace(text);
    let file = stage.config.path().to_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let row = lines.iter().rposition(|other| *other == line).unwrap();
    let place = format!("{file}:{}:{}", row + 1, line.find(offending).unwrap() + 1);
    for command in ["run", "sync", "status", "check"] {
        let ended = stage.pgcertd(&[command]);
        assert_eq!(ended.code(), 2, "{command}: {ended:?}");
        assert_eq!(ended.stdout(), "");
        says(ended.stderr(), &[&place, line, "^", "expected"]);
        says(ended.stderr(), told);
        if command == "check" {
            println!("{}", ended.stderr());
        }
    }
    for command in ["sync", "status", "check"] {
        let ended = stage.pgcertd(&[command, "--json"]);
        assert_eq!(ended.code(), 2, "{command}: {ended:?}");
        let json = ended.json();
        assert_eq!(json["version"], 1);
        let error = json["error"].as_str().unwrap();
        says(error, &[&place, "expected"]);
        says(error, told);
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn a_wrong_configuration_is_shown_where_it_is_wrong() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let good = stage.config.text();
    refused(
        &stage,
        ("[watch]", "debouce = \"200ms\""),
        "debouce",
        &["unknown key", "debounce"],
    );
    refused(
        &stage,
        ("[watch]", "poll = 60"),
        "60",
        &["duration", "unit"],
    );
    refused(&stage, ("[watch]", "poll = \"60\""), "\"60\"", &["unit"]);
    refused(
        &stage,
        ("[[instance]]", "server_names = \"pg.example.com\""),
        "\"pg.example.com\"",
        &["array"],
    );
    refused(
        &stage,
        ("[[instance]]", "mode = \"managed\""),
        "\"managed\"",
        &["manage", "reload", "observe"],
    );
    refused(
        &stage,
        ("[[instance]]", "address = \"127.0.0.1:postgres\""),
        "\"127.0.0.1:postgres\"",
        &["port"],
    );
    let twice = format!(
        "{good}\n[[instance]]\nname = \"{NAME}\"\nlineage = \"{HOST}\"\ndata_directory = \"/nonexistent\"\n"
    );
    refused_text(
        &stage,
        &twice,
        &format!("name = \"{NAME}\""),
        &format!("\"{NAME}\""),
        &["another instance"],
    );
    stage.config.replace(&format!("{good}\n[[instance]\n"));
    let torn = stage.pgcertd(&["check"]);
    assert_eq!(torn.code(), 2);
    let place = format!("pgcertd.toml:{}:", good.lines().count() + 2);
    says(torn.stderr(), &[&place, "[[instance]"]);
    let first = stage.first.clone();
    stage.config.replace(&good);
    stage.ends_serving(&first);
}

#[test]
fn a_missing_configuration_is_named() {
    let world = or_skip!(World::new());
    let config = Config::new(&world);
    for command in ["run", "sync", "status", "check"] {
        let ended = pgcertd(&world, &config, &[command]);
        assert_eq!(ended.code(), 2, "{command}: {ended:?}");
        says(
            ended.stderr(),
            &[config.path().to_str().unwrap(), "no such file", "--config"],
        );
        println!("{}", ended.stderr());
    }
    let json = pgcertd(&world, &config, &["status", "--json"]).json();
    says(json["error"].as_str().unwrap(), &["no such file"]);
}

#[test]
fn the_config_alone_can_be_checked() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let only = ["check", "--config-only"];
    // Neither a server nor a lineage has to be well for the service to be reloaded.
    stage.cluster.stop();
    stage.lineage.delete();
    assert_eq!(stage.pgcertd(&["check"]).code(), 1);
    let right = stage.pgcertd(&only);
    assert_eq!(right.code(), 0);
    let file = stage.config.path().display().to_string();
    assert_eq!(right.stdout(), format!("{file} is right\n"));
    let json = stage.pgcertd(&[&only[..], &["--json"]].concat());
    assert_eq!(json.json()["version"], 1);

    let text = with_line(&stage, "[watch]", "debounce = \"soon\"");
    fs::write(stage.config.path(), text).unwrap();
    let wrong = stage.pgcertd(&only);
    assert_eq!(wrong.code(), 2);
    says(wrong.stderr(), &["debounce", "soon", &file]);
}

#[test]
fn wrong_usage_is_told_from_what_is_wrong_with_a_server() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let unknown = stage.pgcertd(&["sync", "15-main"]);
    assert_eq!(unknown.code(), 2);
    says(unknown.stderr(), &["15-main", NAME, "pgcertd.toml"]);
    let unknown = stage.pgcertd(&["sync", "15-main", "--json"]);
    assert_eq!(unknown.code(), 2);
    says(unknown.json()["error"].as_str().unwrap(), &["15-main"]);

    let unknown = stage.pgcertd(&["snyc"]);
    assert_eq!(unknown.code(), 2);
    says(unknown.stderr(), &["snyc", "sync"]);
    let unknown = stage.pgcertd(&["status", "--colour"]);
    assert_eq!(unknown.code(), 2);
    says(unknown.stderr(), &["--colour"]);
    assert_eq!(unknown.stdout(), "");
    let none = stage.pgcertd(&[]);
    assert_eq!(none.code(), 2);
    let help = stage.pgcertd(&["--help"]);
    assert_eq!(help.code(), 0);
    says(help.stdout(), &["sync", "status", "check", "probe", "run"]);
    stage.ends_serving_the_first();
}

#[test]
fn on_sighup_a_good_configuration_brings_an_instance_and_a_bad_one_changes_nothing() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = stage.daemon();
    let pid = daemon.pid();

    // A bad one: said, and the old stays in force.
    let good = stage.config.text();
    stage.config.replace(&format!("{good}\nnonsense = 1\n"));
    daemon.hangup();
    let line = daemon.wait_for_log("the old one stays in force");
    println!("{line}");
    says(&daemon.log(), &["nonsense", "pgcertd.toml:", "expected"]);
    let second = stage.renewal_is_served();

    // A good one with another instance, which pgcertd did not know before.
    let target = world.target("15-billing");
    world.place(&stage.first, &target);
    let mut billing = Cluster::build(&world)
        .name("15-billing")
        .tls(&target)
        .start();
    let entry = Config::new(&world)
        .watch("resync", "1h")
        .instance(Instance::for_cluster(&stage.cluster, HOST))
        .instance(Instance::for_cluster(&billing, HOST));
    stage.config = entry.write();
    daemon.hangup();
    eventually(SOON, "the new instance is deployed", || {
        billing.served() == second.fingerprint
    });
    eventually_state(&world, &stage.config, "15-billing", "in_sync");
    let third = stage.renew();
    for cluster in [&stage.cluster, &billing] {
        eventually(SOON, "both are renewed", || {
            cluster.served() == third.fingerprint
        });
    }

    // Without it, it is left alone, and named as one that nobody covers.
    stage.config.replace(&good);
    daemon.hangup();
    eventually(SOON, "it is uncovered", || {
        let view = fs::read_to_string(stage.config.runtime_directory().join("status.json"));
        let view: Value = serde_json::from_str(&view.unwrap()).unwrap();
        let data = billing.data_directory().to_str().unwrap();
        let uncovered = view["uncovered"].as_array().unwrap().clone();
        view["instances"].as_array().unwrap().len() == 1
            && uncovered
                .iter()
                .any(|directory| directory.as_str() == Some(data))
    });
    // Nobody, who may not look at another user's process, is told so by the daemon.
    let told = Launch::new(&world)
        .by_user("nobody")
        .run(&stage.config, &["status", "--json"]);
    let told = told.json()["uncovered"].to_string();
    assert!(
        told.contains(billing.data_directory().to_str().unwrap()),
        "{told}"
    );
    let fourth = stage.renewal_is_served();
    assert_eq!(billing.served(), third.fingerprint);
    assert_eq!(daemon.pid(), pid);
    assert!(daemon.is_running());
    billing.restart().unwrap();
    assert_eq!(billing.served(), third.fingerprint);
    stage.ends(daemon, &fourth);
}

#[test]
fn a_configuration_without_instances_is_in_order() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    let daemon = Daemon::start(&world, &config);
    let status = Launch::new(&world).run(&config, &["status"]);
    assert_eq!(status.code(), 0);
    says(status.stdout(), &["no instance is configured"]);
    assert_eq!(daemon.stop().code(), Some(0));
}
