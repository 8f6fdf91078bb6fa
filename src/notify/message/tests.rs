//! What a notification says.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::Value;

use super::*;
use crate::notify::scene::DaemonIs;
use crate::notify::scene::tests::{scene, view};
use crate::notify::standing::Standing;

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn change(
    about: About,
    name: &str,
    occasion: Occasion,
    old: Standing,
    new: Standing,
) -> StateChange {
    StateChange {
        subject: NoticeSubject::new(about, name),
        occasion,
        old: Some(old),
        new,
        since: Some("2026-01-31T23:00:00Z".parse().unwrap()),
        times: 1,
    }
}

fn failure(about: About, name: &str, word: &str) -> StateChange {
    change(
        about,
        name,
        Occasion::Failure,
        Standing::well("in_sync"),
        Standing::unwell(word),
    )
}

fn told(changes: Vec<StateChange>, lasting: Vec<Lasting>) -> Notification {
    let batch = Batch { changes, lasting };
    let seen = scene(
        view("not_served", "2026-02-10T00:00:00Z"),
        DaemonIs::Running,
    );
    Notification::for_batch(&batch, &seen, now())
}

#[test]
fn people_read_what_is_wrong_since_when_why_and_how_to_fix_it() {
    let told = told(
        vec![failure(About::Instance, "16-main", "not_served")],
        vec![],
    );
    let host = told.host.clone();
    assert_eq!(told.subject, format!("pgcertd {host}: 16-main not served"));
    assert_eq!(
        told.text,
        format!(
            "16-main not served
  was    in sync
  since  2026-01-31 23:00 UTC
  why    it is so
  fix    mend it
  left   clients get ababab, which expires on 2026-02-10

`pgcertd status` on {host} shows everything.
"
        )
    );
}

#[test]
fn a_program_reads_the_same_in_parts() {
    let told = told(vec![failure(About::Expiry, "16-main", "warning")], vec![]);
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["event"], "failure");
    assert_eq!(json["lasting"], Value::Array(vec![]));
    let item = &json["changes"][0];
    assert_eq!(item["about"], "expiry");
    assert_eq!(item["name"], "16-main");
    assert_eq!(
        (&item["expiry"], &item["place"]),
        (&"warning".into(), &"source".into())
    );
    assert_eq!(item["source"]["not_after"], "2026-02-10T00:00:00Z");
    assert!(
        item["mend"]
            .as_str()
            .unwrap()
            .contains("certbot renew --dry-run")
    );
    // Each name that the manual lists.
    let names: Vec<&String> = item.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 20, "{names:?}");
    assert_eq!(
        told.subject,
        format!(
            "pgcertd {}: 16-main source certificate expires 2026-02-10",
            told.host
        )
    );
}

#[test]
fn the_gravest_names_the_whole_and_many_are_counted() {
    let mut changes: Vec<StateChange> = ["a", "b", "c", "d"]
        .map(|name| failure(About::Instance, name, "rejected"))
        .into();
    changes.push(change(
        About::Instance,
        "e",
        Occasion::Recovery,
        Standing::unwell("rejected"),
        Standing::well("in_sync"),
    ));
    let told = told(changes, vec![]);
    assert_eq!(told.event, NoticeText::Failure);
    let end = ": a rejected, b rejected, c rejected, 2 more";
    assert!(told.subject.ends_with(end), "{}", told.subject);
    assert!(told.text.contains("e in sync again\n"), "{}", told.text);
}

#[test]
fn what_lasts_is_told_as_such() {
    let lasting = Lasting {
        subject: NoticeSubject::new(About::Instance, "16-main"),
        standing: Standing::unwell("not_served"),
        since: Some(now()),
    };
    let told = told(vec![], vec![lasting]);
    assert_eq!(told.event, NoticeText::Lasting);
    let end = ": still: 16-main not served";
    assert!(told.subject.ends_with(end), "{}", told.subject);
    assert!(
        told.text
            .starts_with("Problems that last:\n\n16-main not served\n")
    );
}

/// A data directory may have any name, and whoever makes one must not write our mails.
#[test]
fn a_name_becomes_neither_a_header_nor_a_second_line() {
    let name = "/srv/x\nBcc: all@example.com\r\n\u{1b}[2J\0é";
    let told = told(vec![failure(About::Uncovered, name, "uncovered")], vec![]);
    assert!(told.subject.is_ascii());
    assert!(
        !told
            .subject
            .contains(|character: char| character.is_control()),
        "{:?}",
        told.subject
    );
    assert!(
        !told.text.lines().any(|word| word.starts_with("Bcc")),
        "{}",
        told.text
    );
    assert!(!told.text.contains(['\r', '\0', '\u{1b}']));
    let long = "x".repeat(5000);
    let told = super::tests::told(vec![failure(About::Uncovered, &long, "uncovered")], vec![]);
    assert!(told.subject.len() <= LONGEST_SUBJECT);
}

#[test]
fn a_text_fits_into_the_environment() {
    let changes =
        (0..2000).map(|number| failure(About::Instance, &format!("db{number}"), "rejected"));
    let told = told(changes.collect(), vec![]);
    assert!(told.text.len() < LONGEST + 200);
    assert!(told.text.ends_with("shows everything.\n"));
    assert_eq!(told.changes.len(), 2000);
}

#[test]
fn a_test_says_that_it_is_one() {
    let told = Notification::test(now());
    assert_eq!(told.event, NoticeText::Test);
    assert!(told.subject.ends_with(": a test of [notify]"));
    assert!(told.text.contains("nothing is wrong"), "{}", told.text);
}

#[test]
fn what_is_near_its_end_and_what_is_new_is_named_by_what_it_is() {
    let mut seen = scene(view("in_sync", "2026-04-01T00:00:00Z"), DaemonIs::Running);
    let crl = serde_json::json!({
        "digest": "cd".repeat(32),
        "first_end": {
            "name": "CN=Clients", "fingerprint": "cd".repeat(32), "not_before": "2026-01-23T00:00:00Z",
            "not_after": "2026-02-02T12:00:00Z", "expiry": "fine",
        },
    });
    let instance = &mut seen.view.as_mut().unwrap().instances[0];
    instance.trust_files.crl.installed = serde_json::from_value(crl).unwrap();
    let told = |change: StateChange| {
        let batch = Batch {
            changes: vec![change],
            lasting: vec![],
        };
        serde_json::to_value(Notification::for_batch(&batch, &seen, now())).unwrap()
    };
    let near = told(failure(About::CrlExpiry, "16-main", "warning"));
    let item = &near["changes"][0];
    assert_eq!(item["about"], "crl_expiry");
    assert_eq!(
        (&item["expiry"], &item["piece"], &item["place"]),
        (&"warning".into(), &"crl".into(), &"installed".into())
    );
    let subject = near["subject"].as_str().unwrap();
    let end = ": 16-main installed CRL expires 2026-02-02";
    assert!(subject.ends_with(end), "{subject}");
    let why = item["problem"].as_str().unwrap();
    assert!(why.contains("the CRL of CN=Clients"), "{why}");

    let (leaf, ca) = ("ab".repeat(32), "ef".repeat(32));
    for (old, new, end, changed) in [
        (
            leaf.clone(),
            format!("{leaf} {ca}"),
            "16-main checks clients against a new CA file",
            vec!["ca"],
        ),
        (
            "01".repeat(32),
            leaf.clone(),
            "16-main serves ababab",
            vec!["certificate"],
        ),
        (
            "01".repeat(32),
            format!("{leaf} {ca}"),
            "16-main serves ababab, with a new CA file",
            vec!["certificate", "ca"],
        ),
    ] {
        let new = told(change(
            About::Deployment,
            "16-main",
            Occasion::Deployed,
            Standing::well(old),
            Standing::well(new),
        ));
        let subject = new["subject"].as_str().unwrap();
        assert!(subject.ends_with(&format!(": {end}")), "{subject}");
        assert_eq!(new["changes"][0]["changed"], serde_json::json!(changed));
    }
}
