//! What `pgcertd check` finds of a host whose kernel or clock is at fault; the rest is found in a machine of its own.

use std::process::Command;

use serde_json::Value;

use crate::stage::{NAME, Stage};
use crate::world::{SOON, World, command, config::Config, process::run};

/// `pgcertd check --json`, run by what `prefix` begins.
fn check(prefix: &[&str], config: &Config) -> Command {
    let (first, rest) = prefix.split_first().unwrap();
    let mut check = command(first);
    check
        .args(rest)
        .arg(env!("CARGO_BIN_EXE_pgcertd"))
        .args(["check", "--json", "--config"])
        .arg(config.path());
    check
}

/// The findings with this id in a document.
fn findings(document: &str, id: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(document).unwrap();
    let host = document["host"].as_array().unwrap().iter();
    let own: Vec<Value> = host
        .filter(|finding| finding["id"] == id)
        .cloned()
        .collect();
    assert!(!own.is_empty(), "no {id} in {document}");
    own
}

#[test]
fn a_clock_before_the_certificates_issue_is_found_and_right_again_once_it_is_set() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let done = run(
        &mut check(&["faketime", "2019-05-04 12:00:00"], &stage.config),
        SOON,
    );
    let found = findings(&done.stdout, "clock");
    assert_eq!(found[0]["weight"], "problem", "{found:#?}");
    let seen = found[0]["seen"].as_str().unwrap();
    assert!(seen.contains("2019-05-04"), "{seen}");
    assert!(found[0]["mend"].is_object(), "{found:#?}");
    assert_eq!(done.code(), 1);

    let done = run(&mut check(&["env"], &stage.config), SOON);
    assert_ne!(findings(&done.stdout, "clock")[0]["weight"], "problem");
}

/// In a user namespace of its own, as a container has, where limits bind as well and can be lowered for nobody else.
#[test]
fn inotify_limits_that_are_used_up_are_found_and_raised() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    for (limit, low) in [("max_inotify_watches", 1), ("max_inotify_instances", 0)] {
        let script = format!(
            "mount -t tmpfs tmpfs /etc/sysctl.d
            echo {low} >/proc/sys/user/{limit}
            \"$@\" >before || true
            python3 -c 'import json; print(*[
                f[\"mend\"][\"command\"] for f in json.load(open(\"before\"))[\"host\"]
                if f[\"id\"] == \"inotify\" and f[\"weight\"] == \"problem\"], sep=\"\\n\")' >mend
            . ./mend >&2
            \"$@\" >after || true
            cat /etc/sysctl.d/*pgcertd* /proc/sys/user/{limit}"
        );
        let namespaces = [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ];
        let shell = ["sh", "-euc", &script, "sh"];
        let mut both = check(&[&namespaces[..], &shell[..]].concat(), &stage.config);
        let done = run(both.current_dir(world.path()), SOON * 2);
        let set = done.result().unwrap();
        let document = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
        let before = findings(&document("before"), "inotify");
        let seen = before[0]["seen"].as_str().unwrap();
        assert!(
            seen.contains(&format!("user.{limit} is {low}")),
            "{before:#?}"
        );
        let after = findings(&document("after"), "inotify");
        assert!(
            after.iter().all(|finding| finding["weight"] == "good"),
            "{after:#?}"
        );
        let (file, value) = set.split_once('\n').unwrap();
        assert_eq!(file, format!("user.{limit}={value}"));
    }
}

#[test]
fn another_user_is_told_what_it_may_not_see() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let launch = crate::world::daemon::Launch::new(&world).by_user("nobody");
    let done = launch.run(&stage.config, &["check", "--json"]);
    let hooks = findings(done.stdout(), "old_hook");
    assert_eq!(hooks[0]["weight"], "unseen", "{hooks:#?}");
    assert_eq!(hooks[0]["lacks"], "root", "{hooks:#?}");
    assert!(done.stdout().contains(NAME));
}
