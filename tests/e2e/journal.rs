//! What a real journald keeps of what pgcertd says.

use std::{collections::BTreeSet, fs, time::SystemTime};

use pgcertd::testing::report::{EventKind, Field};
use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        ca::{DAY, Options},
        daemon::{Daemon, Launch},
        eventually,
        journal::Journal,
        postgres::STRICT,
    },
};

/// Checks that a record is one of its kind: id, priority, and exactly the fields that the kind
/// has, each once.
#[track_caller]
fn is_whole(record: &Value) {
    let name = record["PGCERTD_EVENT"].as_str().unwrap();
    let kind = EventKind::ALL
        .iter()
        .find(|kind| kind.as_str() == name)
        .unwrap();
    assert_eq!(record["MESSAGE_ID"], kind.id(), "{record}");
    let priority = kind.priority().number().to_string();
    assert_eq!(record["PRIORITY"], *priority, "{record}");
    assert_eq!(record["SYSLOG_IDENTIFIER"], "pgcertd", "{record}");
    assert_eq!(record["_TRANSPORT"], "journal", "{record}");
    let fields = record.as_object().unwrap();
    // What stood there twice would be an array.
    let values = fields.values().all(Value::is_string);
    assert!(values, "{record}");
    let carried: BTreeSet<&str> = fields
        .keys()
        .map(String::as_str)
        .filter(|name| name.contains("PGCERTD"))
        .collect();
    let named = |fields: &[Field]| -> BTreeSet<&str> {
        fields.iter().map(|field| field.as_str()).collect()
    };
    let everywhere = named(&[Field::Event, Field::Topic]);
    let always = &named(kind.always()) | &everywhere;
    let at_most = &always | &named(kind.may());
    assert!(carried.is_superset(&always), "{record}");
    assert!(carried.is_subset(&at_most), "{record}");
}

#[track_caller]
fn has(record: &Value, expected: &[(Field, &str)]) {
    for (field, value) in expected {
        assert_eq!(record[field.as_str()], *value, "{record}");
    }
}

fn daemon(stage: &Stage<'_>, journal: &Journal) -> Daemon {
    let mut daemon = Launch::new(stage.world)
        .into_journal(journal)
        .daemon(&stage.config);
    daemon.ready();
    daemon
}

#[test]
fn a_refusal_and_its_end_are_in_the_journal_with_all_that_is_known() {
    let world = or_skip!(World::with_debians(STRICT));
    let journal = or_skip!(Journal::start(&world));
    let mut stage = Stage::strict(&world);
    let daemon = daemon(&stage, &journal);
    journal.event("in_sync", 1);

    let second = stage.renew();
    let record = journal.event("deployed", 1);
    says(
        record["MESSAGE"].as_str().unwrap(),
        &[NAME, HOST, &second.fingerprint[..6], "deployed and served"],
    );
    has(
        &record,
        &[
            (Field::Topic, "deployment"),
            (Field::Instance, NAME),
            (Field::Lineage, HOST),
            (Field::File, stage.cert.to_str().unwrap()),
            (Field::Outcome, "deployed"),
            (Field::State, "in_sync"),
            (Field::Fingerprint, &second.fingerprint),
            (Field::OldFingerprint, &stage.first.fingerprint),
        ],
    );
    let end = record["PGCERTD_NOT_AFTER"].as_str().unwrap();
    assert!(end.ends_with('Z'), "{end}");
    end.parse::<jiff::Timestamp>().unwrap();
    let took = record["PGCERTD_MILLISECONDS"].as_str().unwrap();
    took.parse::<u32>().unwrap();

    let weak = stage.renew_weak();
    let record = journal.event("rolled_back", 1);
    has(
        &record,
        &[
            (Field::Outcome, "rolled_back"),
            (Field::State, "rejected"),
            (Field::Fingerprint, &weak.fingerprint),
            (Field::OldFingerprint, &second.fingerprint),
        ],
    );
    says(
        record["PGCERTD_PROBLEM"].as_str().unwrap(),
        &["did not load"],
    );
    says(
        record["PGCERTD_REMEDY"].as_str().unwrap(),
        &["sync --force"],
    );

    let third = stage.renew();
    has(
        &journal.event("recovered", 1),
        &[(Field::State, "in_sync"), (Field::OldState, "rejected")],
    );
    assert_eq!(
        journal.events(),
        [
            "started",
            "in_sync",
            "deployed",
            "rolled_back",
            "deployed",
            "recovered"
        ]
    );
    for record in journal.records(&["SYSLOG_IDENTIFIER=pgcertd"]) {
        is_whole(&record);
    }
    assert_eq!(journal.streamed(), "");
    assert_eq!(daemon.log(), "");

    // The catalog's text, with what it names filled in.
    let explained = journal.journalctl(&["--catalog", "PGCERTD_EVENT=rolled_back"]);
    says(
        &explained,
        &[
            "Subject: Postgres rejected the new certificate for 16-main",
            "pgcertd sync --force 16-main",
        ],
    );
    assert!(!explained.contains("PGCERTD_"), "{explained}");
    stage.ends(daemon, &third);
}

#[test]
fn a_trouble_and_a_deployment_that_does_not_end_it_are_in_the_journal() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let mut stage = Stage::new(&world);
    let daemon = daemon(&stage, &journal);
    journal.event("in_sync", 1);
    let other = world.postgres_directory("other", 0o700).join("server.pem");
    world.place(&stage.first, &other);
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, other.to_str().unwrap());
    }
    let trouble = journal.event("not_used", 1);
    stage.renew();
    let deployment = journal.event("installed", 1);
    has(&deployment, &[(Field::State, "not_used")]);
    says(
        trouble["PGCERTD_PROBLEM"].as_str().unwrap(),
        &["ssl_cert_file", other.to_str().unwrap()],
    );
    let told = deployment["MESSAGE"].as_str().unwrap();
    says(told, &[other.to_str().unwrap()]);
    assert_eq!(
        journal.events(),
        ["started", "in_sync", "not_used", "installed"]
    );
    for record in journal.records(&["SYSLOG_IDENTIFIER=pgcertd"]) {
        is_whole(&record);
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn that_a_server_could_not_start_again_is_critical() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let mut stage = Stage::new(&world);
    let daemon = daemon(&stage, &journal);
    journal.event("in_sync", 1);

    let expired = Options {
        not_before: SystemTime::now() - 2 * DAY,
        not_after: SystemTime::now() - DAY,
        ..Options::default()
    };
    let expired = stage.ca.issue_with(&[HOST], &expired);
    stage.lineage.renew(&expired);
    is_whole(&journal.event("source_invalid", 1));
    let record = journal.event("expired", 1);
    is_whole(&record);
    has(&record, &[(Field::Place, "source")]);
    assert_eq!(record["PRIORITY"], "2");
    fs::write(&stage.cert, "no certificate\n").unwrap();
    let record = journal.event("would_not_start", 1);
    is_whole(&record);
    assert_eq!(record["PRIORITY"], "2");
    says(
        record["MESSAGE"].as_str().unwrap(),
        &[NAME, "would not start again", "don't restart it"],
    );

    let second = stage.renew();
    is_whole(&journal.event("would_start_again", 1));
    is_whole(&journal.event("recovered", 1));
    is_whole(&journal.event("expiry_over", 1));
    let urgent = journal.records(&["--priority=crit"]);
    assert_eq!(urgent.len(), 2, "{urgent:?}");
    stage.ends(daemon, &second);
}

#[test]
fn a_config_that_is_wrong_and_one_that_is_right_are_in_the_journal() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let stage = Stage::new(&world);
    let mut daemon = daemon(&stage, &journal);
    journal.event("in_sync", 1);
    let good = stage.config.text();

    stage.config.replace(&format!("nonsense = 1\n{good}"));
    daemon.hangup();
    let record = journal.event("config_refused", 1);
    is_whole(&record);
    has(
        &record,
        &[(Field::File, stage.config.path().to_str().unwrap())],
    );
    says(record["PGCERTD_PROBLEM"].as_str().unwrap(), &["nonsense"]);

    // Another one cannot begin with it, and says so in the same way.
    for (arguments, count) in [(["run"].as_slice(), 1), (&["sync"], 2)] {
        let launch = Launch::new(&world).into_journal(&journal);
        assert_eq!(launch.run(&stage.config, arguments).code(), 2);
        let record = journal.event("config_invalid", count);
        is_whole(&record);
        says(record["MESSAGE"].as_str().unwrap(), &["nonsense"]);
    }

    stage.config.replace(&good);
    daemon.hangup();
    is_whole(&journal.event("config_taken", 1));
    journal.event("in_sync", 2);
    assert_eq!(journal.streamed(), "");
    stage.ends_as_it_began(daemon);
}

/// The lines of shell in the manual's section, those on systemd's own fields for the identifier
/// instead: here is no unit.
fn queries(stage: &Stage<'_>) -> Vec<String> {
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manual.md")).unwrap();
    let (_, section) = readme.split_once("\n## In the journal\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines().filter(|line| !line.starts_with('#'));
    let adapted = |line: &str| {
        line.replace("-u pgcertd", "-t pgcertd")
            .replace("11a0bc", &stage.first.fingerprint[..6])
    };
    lines.map(adapted).collect()
}

#[test]
fn what_the_readme_has_an_operator_type_answers() {
    let world = or_skip!(World::with_debians(STRICT));
    let journal = or_skip!(Journal::start(&world));
    let mut stage = Stage::strict(&world);
    let daemon = daemon(&stage, &journal);
    journal.event("in_sync", 1);
    stage.renew();
    journal.event("deployed", 1);
    stage.renew_weak();
    journal.event("rolled_back", 1);
    let third = stage.renew();
    journal.event("recovered", 1);

    let queries = queries(&stage);
    let answers: Vec<String> = queries.iter().map(|line| journal.typed(line)).collect();
    for (query, answer) in queries.iter().zip(&answers) {
        println!("{query}\n{answer}\n");
    }
    let [explained, deployments, failed, expiry, one] = &answers[..] else {
        panic!("not five: {queries:?}");
    };
    says(
        explained,
        &["Subject: pgcertd has started", "pgcertd status"],
    );
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(deployments).len(), 3, "{deployments}");
    let of_ours = lines(failed);
    assert_eq!(of_ours.len(), 1, "{failed}");
    says(failed, &["rolled back"]);
    let last = &journal.event("deployed", 2)["PGCERTD_NOT_AFTER"];
    let day = &last.as_str().unwrap()[..10];
    assert_eq!(lines(expiry).len(), 1, "{expiry}");
    says(expiry, &[NAME, &third.fingerprint[..6], day]);
    assert_eq!(lines(one).len(), 1, "{one}");
    says(one, &["deployed and served", "before"]);
    stage.ends(daemon, &third);
}

#[test]
fn sync_says_the_same_to_the_journal_and_says_it_once() {
    let world = or_skip!(World::with_debians(STRICT));
    let journal = or_skip!(Journal::start(&world));
    let mut stage = Stage::strict(&world);
    let second = stage.renew();
    let launch = Launch::new(&world).into_journal(&journal);
    assert_eq!(launch.run(&stage.config, &["sync"]).code(), 0);
    has(
        &journal.event("deployed", 1),
        &[(Field::Fingerprint, &second.fingerprint)],
    );
    stage.renew_weak();
    assert_eq!(launch.run(&stage.config, &["sync"]).code(), 1);
    journal.event("rolled_back", 1);
    assert_eq!(launch.run(&stage.config, &["sync"]).code(), 1);
    journal.event("rejected", 1);
    assert_eq!(journal.events(), ["deployed", "rolled_back", "rejected"]);
    for record in journal.records(&["SYSLOG_IDENTIFIER=pgcertd"]) {
        is_whole(&record);
    }
    assert_eq!(journal.streamed(), "");

    // What it would do is for whoever asked.
    stage.renew();
    let dry = launch.run(&stage.config, &["sync", "--dry-run"]);
    assert_eq!(dry.code(), 1);
    eventually(SOON, "the answer is written", || {
        journal.streamed().contains("would be deployed")
    });
    assert_eq!(journal.events().len(), 3);
    stage.ends_serving(&second);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_fault_is_in_the_journal_before_the_end() {
    let world = or_skip!(World::new());
    let journal = or_skip!(Journal::start(&world));
    let stage = Stage::new(&world);
    let mut daemon = Launch::new(&world)
        .env("FAILPOINTS", "compare=panic")
        .into_journal(&journal)
        .daemon(&stage.config);
    assert!(!daemon.ended(SOON).success());
    let record = journal.event("fault", 1);
    is_whole(&record);
    assert_eq!(record["PRIORITY"], "2");
}
