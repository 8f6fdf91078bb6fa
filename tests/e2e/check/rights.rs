//! As whom the service runs, and what a caller with fewer rights is told.

use std::{fs, path::Path};

use serde_json::Value;

use super::finding::{Checked, line, typed};
use crate::{
    stage::{NAME, Stage, says},
    world::{SOON, World, daemon::Launch, in_own_mounts, process::run},
};

/// Runs a line of shell where this is the unit, and nothing else is in `/etc/systemd/system` and
/// `/usr/share/doc`, which hold the shipped examples; gives standard output.
fn with_unit(world: &World, unit: &str, line: &str) -> String {
    let units = world.directory("units");
    if !units.join("pgcertd.service").exists() {
        fs::write(units.join("pgcertd.service"), unit).unwrap();
    }
    let examples = world.directory("doc/pgcertd/examples");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/examples/root.conf");
    fs::copy(shipped, examples.join("root.conf")).unwrap();
    let mounted = "mount --bind \"$1\" /etc/systemd/system && mount --bind \"$2\" /usr/share/doc && \
                   eval \"$3\"";
    let program = Path::new(env!("CARGO_BIN_EXE_pgcertd")).parent().unwrap();
    let done = run(
        in_own_mounts(mounted)
            .args([&units, &world.path().join("doc")])
            .arg(line)
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program.display()),
            ),
        SOON,
    );
    println!("{}", done.stderr);
    done.stdout
}

fn finding(stage: &Stage<'_>, unit: &str, id: &str) -> Value {
    let config = stage.config.path().display().to_string();
    let check = format!("pgcertd check --json --config {config} || true");
    let told = with_unit(stage.world, unit, &check);
    let json: Value = serde_json::from_str(&told).unwrap();
    let findings = json["instances"][0]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["id"] == id);
    found
        .unwrap_or_else(|| panic!("{id} is not in {json}"))
        .clone()
}

#[test]
fn a_lineage_that_the_services_user_may_not_read_is_opened_to_its_group() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let packaged = include_str!("../../../systemd/pgcertd.service");
    let found = finding(&stage, packaged, "source_readable");
    assert_eq!(found["weight"], "good", "{found}");

    let units = world.directory("units/pgcertd.service.d");
    let group = include_str!("../../../systemd/examples/group.conf");
    fs::write(units.join("group.conf"), group).unwrap();
    let found = finding(&stage, packaged, "source_readable");
    println!("{found}");
    assert_eq!(found["weight"], "problem", "{found}");
    says(
        found["seen"].as_str().unwrap(),
        &["user postgres may not read"],
    );
    typed(&line(&found));
    let found = finding(&stage, packaged, "source_readable");
    assert_eq!(found["weight"], "good", "{found}");
    // The daemon without any capability agrees.
    let mut daemon = Launch::new(&world)
        .by_user("postgres")
        .daemon(&stage.config);
    daemon.ready();
    daemon.wait_for_log(": in_sync");
    assert!(
        !daemon.log().contains("cannot be watched"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_service_of_another_user_than_the_servers_becomes_roots() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let unit = "[Service]\nUser=nobody\n";
    let found = finding(&stage, unit, "service_user");
    assert_eq!(found["weight"], "problem", "{found}");
    // There is no systemd here to be told.
    let mend = line(&found).replace("systemctl daemon-reload", "true");
    with_unit(&world, unit, &mend);
    let found = finding(&stage, unit, "service_user");
    assert_eq!(found["weight"], "good", "{found}");
}

#[test]
fn a_user_without_rights_is_told_what_it_may_not_see_and_the_rest() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let port = stage.cluster.port();
    stage.configured_with(&format!("address = \"127.0.0.1:{port}\""));
    let root = stage.ca.root().display().to_string();
    let nobody = Launch::new(&world)
        .by_user("nobody")
        .env("SSL_CERT_FILE", root);
    let seen = Checked::by(&world, &nobody, &stage.config);
    println!("{:#}", seen.json);
    for id in ["source", "data_directory"] {
        let found = seen.instance(id);
        assert_eq!(found["weight"], "unseen", "{found}");
        says(found["lacks"].as_str().unwrap(), &["root"]);
    }
    // What can be seen from anywhere is seen.
    assert_eq!(seen.instance("served_trusted")["weight"], "good");
    let text = nobody.run(&stage.config, &["check"]);
    println!("{}", text.stdout());
    says(text.stdout(), &["unchecked", "as root", NAME]);
    assert_eq!(text.code(), 1);
    assert_eq!(stage.checked().ill(), Vec::<String>::new());
}

#[test]
fn the_servers_user_sees_all_but_the_lineage() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let root = stage.ca.root().display().to_string();
    let postgres = Launch::new(&world)
        .by_user("postgres")
        .env("SSL_CERT_FILE", root);
    let seen = Checked::by(&world, &postgres, &stage.config);
    assert_eq!(seen.instance("source")["weight"], "unseen");
    for id in [
        "key_rule",
        "targets",
        "restart",
        "plaintext",
        "served_trusted",
    ] {
        assert_eq!(seen.instance(id)["weight"], "good", "{}", seen.json);
    }
}

#[test]
fn a_lineage_that_does_not_exist_is_not_called_readable() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let there = stage.lineage.path();
    fs::rename(there, there.with_extension("gone")).unwrap();
    let seen = stage.checked();
    assert_eq!(seen.instance("source")["weight"], "problem");
    let findings = seen.json["instances"][0]["findings"].as_array().unwrap();
    let readable = findings
        .iter()
        .find(|finding| finding["id"] == "source_readable");
    assert_eq!(readable, None);
}
