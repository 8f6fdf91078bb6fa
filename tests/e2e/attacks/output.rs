//! What reaches a terminal or the journal holds no control characters of somebody else's.
//!
//! Each test has something hostile where another user may put it, and runs the commands that tell of it on a real
//! terminal: through a pipe the library for styles would take away what matters.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rcgen::{DistinguishedName, DnType, SanType};
use serde_json::{Value, json};

use super::bounds::ForgedServer;
use crate::{
    stage::{HOST, NAME, Stage},
    world::{
        Owner, SOON, World,
        ca::{Ca, Options},
        cluster::Cluster,
        config::{Config, Instance, path},
        daemon::{Daemon, Launch, Outcome},
        eventually, give,
        journal::Journal,
    },
};

/// Puts a command into the clipboard, clears the screen, changes the colour, moves the cursor by a C1 control, turns
/// the writing round, and begins a line that looks like one of pgcertd's own.
const HOSTILE: &str =
    "x\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\u{1b}[45m\u{9b}1;1H\u{202e}y\n  fix   touch forged";

/// The same on one line, for what has a line each.
fn hostile_line() -> String {
    HOSTILE.replace('\n', "\u{2028}\t")
}

/// A place for it below a directory.
fn hostile_path(parent: &Path) -> PathBuf {
    parent.join(HOSTILE)
}

/// Nothing in a text but line ends, tabs and pgcertd's own styles does anything to a terminal, and no line of it is
/// somebody else's.
#[track_caller]
fn assert_harmless(text: &str, what: &str) {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            let style: String = rest.by_ref().take_while(|c| *c != 'm').collect();
            let own = ["[0", "[1", "[2", "[31", "[32", "[33", "[1;31", "[4"];
            assert!(own.contains(&&*style), "{what}: {style:?} in {text:?}");
            continue;
        }
        let obeyed = c.is_control() && !['\n', '\r', '\t'].contains(&c);
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!obeyed && !turns, "{what}: {c:?} in {text:?}");
        plain.push(c);
    }
    for line in plain.lines() {
        let forged = line.trim_start().starts_with("fix   touch forged");
        assert!(!forged, "{what}: {line:?} is forged in {plain}");
    }
}

/// Runs a command on a terminal; whatever it says is harmless.
#[track_caller]
fn shown(launch: &Launch, config: &Config, arguments: &[&str]) -> String {
    let told = launch.clone().on_a_terminal().run(config, arguments);
    println!("--- {arguments:?}\n{:?}", told.stdout());
    assert_harmless(told.stdout(), &format!("{arguments:?}"));
    told.stdout().to_owned()
}

/// The same as a document, which means what was meant.
#[track_caller]
fn documented(launch: &Launch, config: &Config, arguments: &[&str]) -> Outcome {
    let told = launch.run(config, &[arguments, &["--json"]].concat());
    assert_harmless(told.stdout(), &format!("{arguments:?} --json"));
    assert_harmless(told.stderr(), &format!("{arguments:?} --json"));
    told
}

/// Something hostile is shown, and written out.
#[track_caller]
fn assert_written_out(text: &str, what: &str) {
    assert!(text.contains("\\u{1b}]52;c;cm0=\\u{7}"), "{what}: {text}");
}

#[test]
fn the_data_directory_of_a_stranger_commands_no_terminal_and_is_in_no_command() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).name(&hostile_line()).start();
    let data = cluster.data_directory().to_str().unwrap();
    // No server could read a configuration in a path of two lines; what looks like one can stand there.
    let forged = ForgedServer::start(&world, HOSTILE, "row");
    let config = Config::new(&world).write();
    let root = Launch::new(&world);
    let status = shown(&root, &config, &["status"]);
    assert_written_out(&status, "status");
    assert!(status.contains("no command can be pasted"), "{status}");
    let told = documented(&root, &config, &["status"]).json();
    let uncovered = told["uncovered"].as_array().unwrap();
    assert!(
        uncovered.iter().any(|directory| directory == data),
        "{told}"
    );
    let forged = forged.data.to_str().unwrap();
    assert!(
        uncovered.iter().any(|directory| directory == forged),
        "{told}"
    );
    let check = shown(&root, &config, &["check"]);
    assert_written_out(&check, "check");
    let told = documented(&root, &config, &["check"]).json();
    let findings = told["host"].as_array().unwrap();
    for finding in findings {
        let command = finding["mend"]["command"].as_str().unwrap_or_default();
        assert_harmless(command, "a command");
        assert!(!command.contains("touch forged"), "{finding}");
    }
    shown(
        &root,
        &config,
        &["setup", "--dry-run", "--data-directory", data],
    );
    shown(
        &root,
        &config,
        &["setup", "--dry-run", "--data-directory", forged],
    );
    shown(&root, &config, &["setup", "--dry-run"]);
    documented(&root, &config, &["setup", "--dry-run"]);
}

/// A stage whose authority, subject and name are hostile.
fn stage(world: &World) -> Stage<'_> {
    let ca = Ca::new_with(world, "Test Root", |_, params| {
        params.distinguished_name = hostile_name("Test Root");
    });
    let options = Options {
        adjust: |params| {
            params.distinguished_name = hostile_name(HOST);
            let name = "a\u{1b}[2J\u{7f}\n  fix   touch forged.example.com";
            let name = SanType::DnsName(name.try_into().unwrap());
            params.subject_alt_names.push(name);
        },
        ..Options::default()
    };
    Stage::build(world).authority(ca).first(options).start()
}

fn hostile_name(more: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, HOSTILE);
    name.push(DnType::CommonName, more);
    name
}

#[test]
fn names_in_certificates_files_and_databases_command_no_terminal() {
    let world = or_skip!(World::new());
    let stage = stage(&world);
    // A hook of the ACME client's that copies into the server's files.
    let hooks = stage.lineage.path().join("../../renewal-hooks/deploy");
    fs::create_dir_all(&hooks).unwrap();
    let data = stage.cluster.data_directory().display();
    let hook = hostile_path(&hooks);
    fs::write(
        &hook,
        format!("#!/bin/sh\ncp \"$RENEWED_LINEAGE\"/*.pem {data}/\nsystemctl reload postgresql\n"),
    )
    .unwrap();
    give(&hook, Owner { uid: 0, gid: 0 }, 0o755);
    // A role, a database, a comment and a parameter.
    let role = hostile_line();
    stage.cluster.sql(&format!("create role \"{role}\" login"));
    stage.cluster.sql(&format!("create database \"{role}\""));
    let _session = stage.cluster.session_by(&format!(
        "host=127.0.0.1 sslmode=require user='{role}' dbname='{role}'"
    ));
    let hba = stage.cluster.data_directory().join("pg_hba.conf");
    let text = fs::read_to_string(&hba).unwrap();
    let open = format!("host\tall\t\"{role}\"\t0.0.0.0/0\ttrust # {role}\n");
    fs::write(&hba, open + &text).unwrap();
    stage.cluster.sql("select pg_reload_conf()");

    let root = Launch::new(&world);
    for command in [
        &["status"][..],
        &["check"],
        &["sync", "--dry-run"],
        &["sync", "--force"],
        &["rollback", "--dry-run", NAME],
        &["sessions"],
        &["removal"],
    ] {
        shown(&root, &stage.config, command);
        documented(&root, &stage.config, command);
    }
    let sessions = shown(&root, &stage.config, &["sessions"]);
    assert_written_out(&sessions, "sessions");
    let told = documented(&root, &stage.config, &["sessions"]).instance(NAME);
    assert_eq!(told["sessions"][0]["user"], role);
    let check = documented(&root, &stage.config, &["check"])
        .stdout()
        .to_owned();
    assert!(
        check.contains("renewal-hooks"),
        "the hook is not told of: {check}"
    );

    let address = format!("127.0.0.1:{}", stage.cluster.port());
    let roots = stage.ca.root().to_str().unwrap();
    let probe = shown(&root, &stage.config, &["probe", &address, "--ca", roots]);
    assert_written_out(&probe, "probe");
    documented(&root, &stage.config, &["probe", &address, "--ca", roots]);

    let setup = ["setup", "--dry-run", "--require-tls", "--instance", NAME];
    let tightened = shown(&root, &stage.config, &setup);
    let diff = "+hostssl\tall\t";
    assert!(tightened.contains(diff), "tabs are tabs: {tightened}");
    documented(&root, &stage.config, &setup);
}

#[test]
fn what_the_servers_own_program_says_commands_no_terminal() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    // Postgres quotes the name of the file that it does not find.
    let settings = stage.cluster.settings_file();
    let text = fs::read_to_string(&settings).unwrap();
    let line = hostile_line();
    fs::write(&settings, format!("{text}\ninclude '/nowhere/{line}'\n")).unwrap();
    let root = Launch::new(&world);
    let check = shown(&root, &stage.config, &["check"]);
    assert_written_out(&check, "check");
    for command in [
        &["status"][..],
        &["sync"],
        &["sync", "--force"],
        &["removal"],
    ] {
        shown(&root, &stage.config, command);
        documented(&root, &stage.config, command);
    }
}

#[test]
fn lineages_configs_and_arguments_command_no_terminal() {
    let world = or_skip!(World::new());
    let root = Launch::new(&world);
    // A lineage that is not there, and one that anybody may have named.
    let live = world.directory("live");
    fs::create_dir_all(hostile_path(&live)).unwrap();
    let data = world.postgres_directory("data", 0o700);
    let instance = Instance::new(NAME, hostile_path(&live), &data);
    let config = Config::new(&world).instance(instance).write();
    for command in [
        &["status"][..],
        &["check"],
        &["sync"],
        &["setup", "--dry-run"],
    ] {
        shown(&root, &config, command);
        documented(&root, &config, command);
    }
    let hostile = hostile_line();
    for arguments in [
        vec![hostile.as_str()],
        vec!["sync", "--lineage", &hostile],
        vec!["sync", &hostile],
        vec!["rollback", &hostile, &hostile],
        vec!["sessions", HOSTILE],
        vec!["probe", HOSTILE],
        vec!["probe", "127.0.0.1:1", "--ca", HOSTILE],
    ] {
        let told = shown(&root, &config, &arguments);
        assert!(!told.is_empty(), "{arguments:?}");
        documented(&root, &config, &arguments);
    }
    let broken = Config::new(&world).write();
    broken.replace(&format!(
        "[watch]\ndebounce = \"{}\"\n",
        "a\u{202e}b\u{200b}c\u{7f}"
    ));
    shown(&root, &broken, &["status"]);
    // A config that somebody else named; the second `--config` counts.
    let elsewhere = hostile_path(world.path());
    symlink(broken.path(), &elsewhere).unwrap();
    let told = root
        .clone()
        .on_a_terminal()
        .run_with(&elsewhere, &["status"]);
    assert_harmless(told.stdout(), "a config of a hostile name");
    assert!(told.stdout().contains("\\n  fix"), "{told:?}");
}

/// Has the daemon of a config be alive, and its view be as it is given.
fn forge(config: &Config, owner: Owner, view: &Value) {
    let directory = config.runtime_directory();
    fs::create_dir_all(directory).unwrap();
    give(directory, owner, 0o755);
    let file = directory.join("status.json");
    // As a forger would: raw where JSON lets it.
    fs::write(&file, serde_json::to_string(view).unwrap()).unwrap();
    give(&file, owner, 0o644);
}

#[test]
fn a_forged_view_commands_neither_a_terminal_nor_a_mail() {
    let world = or_skip!(World::new());
    let told = world.path().join("told");
    let script = format!(
        "cat >{0}.new; printf '%s\\n%s\\n' \"$PGCERTD_SUBJECT\" \"$PGCERTD_TEXT\" >{0}.text; mv {0}.new {0}",
        told.display()
    );
    let stage = Stage::build(&world)
        .config(|config| {
            config
                .notify("command", vec!["/bin/sh", "-c", &script])
                .notify("after", "1s")
                .notify("state_directory", path(&world.path().join("notify")))
        })
        .start();
    let mut view = stage.pgcertd(&["status", "--json"]).json();
    view["daemon"] = json!({
        "version": "1", "pid": std::process::id(), "since": "2026-01-01T00:00:00Z",
    });
    view["uncovered"] = json!([format!("/srv/{HOSTILE}")]);
    let shown_of = &mut view["instances"][0];
    shown_of["state"] = "not_served".into();
    shown_of["lineage"] = HOSTILE.into();
    shown_of["problem"] = HOSTILE.into();
    shown_of["details"] = json!({"why": HOSTILE, "mend": HOSTILE});
    for place in ["source", "installed", "served"] {
        shown_of[place]["issuer"] = HOSTILE.into();
        shown_of[place]["names"] = json!([HOSTILE]);
    }
    forge(&stage.config, world.postgres(), &view);
    let nobody = Launch::new(&world).by_user("nobody");
    let status = shown(&nobody, &stage.config, &["status"]);
    assert_written_out(&status, "the view is shown to who may not look");
    let again = documented(&nobody, &stage.config, &["status"]).instance(NAME);
    assert_eq!(again["problem"], HOSTILE, "a document means the same");
    shown(&Launch::new(&world), &stage.config, &["status"]);

    let mut notifier = Launch::new(&world).notifier(&stage.config);
    notifier.ready();
    eventually(SOON, "it is told", || told.exists());
    let text = fs::read_to_string(told.with_extension("text")).unwrap();
    assert_harmless(&text, "a mail");
    assert!(text.contains("\\u{1b}]52"), "{text}");
    assert_harmless(&fs::read_to_string(&told).unwrap(), "its document");
    assert_eq!(notifier.stop().code(), Some(0));

    // A command that cannot be shown makes the view none.
    view["instances"][0]["details"]["command"] = HOSTILE.into();
    forge(&stage.config, world.postgres(), &view);
    let status = shown(&nobody, &stage.config, &["status"]);
    assert!(status.contains("is unknown"), "{status}");
    assert!(!status.contains("touch forged"), "{status}");
}

#[test]
fn neither_a_line_of_the_journal_nor_an_assignment_to_systemd_can_be_forged() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let live = world.directory("live");
    let hostile = format!("{HOSTILE}\nMAINPID=1\nREADY=0\nSTATUS=forged");
    fs::create_dir_all(live.join(&hostile)).unwrap();
    let stage = Stage::build(&world).files(&live.join(&hostile)).start();
    let mut daemon = Launch::new(&world)
        .env("PGCERTD_LOG", "debug")
        .into_journal(&journal)
        .daemon(&stage.config);
    daemon.ready();
    let record = eventually(SOON, "the lineage is told of", || {
        let records = journal.records(&["SYSLOG_IDENTIFIER=pgcertd"]);
        let told = |record: &&Value| record.to_string().contains("touch forged");
        records.iter().find(told).cloned()
    });
    for record in journal.records(&["SYSLOG_IDENTIFIER=pgcertd"]) {
        for (name, value) in record.as_object().unwrap() {
            let text = value.as_str();
            let text = text.unwrap_or_else(|| panic!("{name} of {record} is no text"));
            assert_harmless(text, name);
            assert!(!text.contains(['\n', '\t']), "{name}: {text:?}");
        }
    }
    assert!(
        record["MESSAGE"].as_str().unwrap().contains("\\n  fix"),
        "{record}"
    );
    let lines = journal.journalctl(&["--output=cat", "SYSLOG_IDENTIFIER=pgcertd"]);
    assert_harmless(&lines, "journalctl");
    let known = [
        "READY=1",
        "STATUS=",
        "WATCHDOG=1",
        "RELOADING=1",
        "MONOTONIC_USEC=",
        "STOPPING=1",
    ];
    for line in daemon.notified() {
        assert!(
            known.iter().any(|prefix| line.starts_with(prefix)),
            "{line}"
        );
        assert!(!line.starts_with("STATUS=forged"), "{line}");
        assert_harmless(line, "systemd");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Where no journal is, the same goes to standard error.
#[test]
fn no_line_of_a_daemons_log_can_be_forged() {
    let world = or_skip!(World::new());
    let live = world.directory("live");
    fs::create_dir_all(hostile_path(&live)).unwrap();
    let data = world.postgres_directory("data", 0o700);
    let instance = Instance::new(NAME, hostile_path(&live), &data);
    let config = Config::new(&world).instance(instance).write();
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for_log("touch forged");
    let log = daemon.log();
    assert_harmless(&log, "the log");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    assert_eq!(daemon.stop().code(), Some(0));
}
