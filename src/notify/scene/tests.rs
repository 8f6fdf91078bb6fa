//! How things stand by what is seen.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use super::*;

/// A view in which one instance is so, and its certificates end then.
pub(in crate::notify) fn view(state: &str, not_after: &str) -> StatusView {
    let certificate = serde_json::json!({
        "fingerprint": "ab".repeat(32), "not_before": "2026-01-01T00:00:00Z", "not_after": not_after,
        "names": ["pg.example.com"], "issuer": "CN=E7", "serial": "04", "expiry": "fine",
    });
    serde_json::from_value(serde_json::json!({
        "version": 1, "uncovered": ["/srv/other"], "checked": "2026-02-01T00:00:00Z", "daemon": null,
        "instances": [{
            "name": "16-main", "lineage": "pg.example.com", "state": state, "problem": "it is so; mend it",
            "details": {"why": "it is so", "mend": "mend it"},
            "source": certificate, "installed": certificate, "served": certificate,
        }],
    }))
    .unwrap()
}

pub(in crate::notify) fn scene(view: StatusView, daemon: DaemonIs) -> NoticeScene {
    NoticeScene {
        view: Some(view),
        daemon,
        file: "/run/pgcertd/status.json".into(),
        resync: Duration::from_secs(600),
    }
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn standings(scene: &NoticeScene, before: &[NoticeSubject]) -> BTreeMap<NoticeSubject, Standing> {
    scene.standings(before.iter(), now())
}

fn subject_named(about: About, name: &str) -> NoticeSubject {
    NoticeSubject::new(about, name)
}

#[test]
fn a_view_says_how_everything_stands() {
    let seen = scene(view("in_sync", "2026-04-01T00:00:00Z"), DaemonIs::Running);
    let gone = subject_named(About::Uncovered, "/srv/gone");
    let seen = standings(&seen, std::slice::from_ref(&gone));
    let expected = [
        (subject_named(About::Daemon, ""), Standing::well("running")),
        (
            subject_named(About::Instance, "16-main"),
            Standing::well("in_sync"),
        ),
        (
            subject_named(About::Expiry, "16-main"),
            Standing::well("fine"),
        ),
        (
            subject_named(About::Deployment, "16-main"),
            Standing::well("ab".repeat(32)),
        ),
        (gone, Standing::well("covered")),
        (
            subject_named(About::Uncovered, "/srv/other"),
            Standing::unwell("uncovered"),
        ),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
}

#[test]
fn every_state_is_told_of_by_its_name() {
    for state in State::ALL {
        let seen = scene(
            view(state.as_str(), "2026-04-01T00:00:00Z"),
            DaemonIs::Running,
        );
        let seen = standings(&seen, &[]);
        let standing = &seen[&subject_named(About::Instance, "16-main")];
        assert_eq!(standing.word, state.as_str().into());
        assert_eq!(standing.well, state.is_well());
        // What is not in sync was not deployed.
        let deployed = seen.contains_key(&subject_named(About::Deployment, "16-main"));
        assert_eq!(deployed, state == State::InSync);
    }
}

#[test]
fn a_daemon_that_does_not_look_says_nothing_but_what_time_does() {
    for daemon in [
        DaemonIs::Stale,
        DaemonIs::Stopped("gone".into()),
        DaemonIs::Unreadable("damaged".into()),
    ] {
        let seen = scene(view("in_sync", "2026-02-02T00:00:00Z"), daemon);
        assert!(seen.daemon_problem().is_some());
        let known = standings(&seen, &[subject_named(About::Uncovered, "/srv/gone")]);
        assert!(!known[&subject_named(About::Daemon, "")].well);
        assert_eq!(
            known[&subject_named(About::Expiry, "16-main")],
            Standing::unwell("critical")
        );
        assert_eq!(known.len(), 2, "{known:?}");
    }
}

#[test]
fn an_expiry_is_over_only_where_all_is_seen() {
    let mut hidden = view("unverified", "2026-04-01T00:00:00Z");
    hidden.instances[0].served = None;
    let seen = standings(&scene(hidden, DaemonIs::Running), &[]);
    assert_eq!(seen.get(&subject_named(About::Expiry, "16-main")), None);
}

/// A CRL whose time is short, in a view in which everything else has its time.
fn with_crl(until: &str) -> StatusView {
    let mut view = view("in_sync", "2026-04-01T00:00:00Z");
    let crl = serde_json::json!({
        "digest": "cd".repeat(32),
        "first_end": {
            "name": "CN=Clients", "fingerprint": "cd".repeat(32), "not_before": "2026-01-23T00:00:00Z",
            "not_after": until, "expiry": "fine",
        },
    });
    let places = serde_json::json!({"source": crl, "installed": crl});
    view.instances[0].trust_files.crl = serde_json::from_value(places).unwrap();
    view
}

#[test]
fn a_crl_near_its_end_is_told_of_beside_a_certificate_that_has_its_time() {
    for (until, standing) in [
        ("2026-02-08T00:00:00Z", Standing::well("fine")),
        ("2026-02-03T00:00:00Z", Standing::unwell("warning")),
        ("2026-02-01T12:00:00Z", Standing::unwell("critical")),
        ("2026-01-31T00:00:00Z", Standing::unwell("expired")),
    ] {
        let seen = standings(&scene(with_crl(until), DaemonIs::Running), &[]);
        assert_eq!(
            seen[&subject_named(About::CrlExpiry, "16-main")],
            standing,
            "{until}"
        );
        assert_eq!(
            seen[&subject_named(About::Expiry, "16-main")],
            Standing::well("fine")
        );
        assert_eq!(seen.get(&subject_named(About::CaExpiry, "16-main")), None);
    }
}

#[test]
fn a_new_ca_is_a_deployment_and_a_new_crl_is_none() {
    let word = |view: StatusView| {
        let seen = standings(&scene(view, DaemonIs::Running), &[]);
        seen[&subject_named(About::Deployment, "16-main")]
            .word
            .clone()
    };
    let plain = word(view("in_sync", "2026-04-01T00:00:00Z"));
    assert_eq!(word(with_crl("2026-02-08T00:00:00Z")), plain);
    let mut new_ca = view("in_sync", "2026-04-01T00:00:00Z");
    let ca = serde_json::json!({"digest": "ef".repeat(32), "first_end": null});
    new_ca.instances[0].trust_files.ca.installed = serde_json::from_value(ca).unwrap();
    let new_ca = word(new_ca);
    let changed = |old: &StandingWord, new: &StandingWord| match new {
        StandingWord::Deployed(files) => files.changed_since(Some(old)),
        StandingWord::Name(name) => panic!("{name} is no deployment"),
    };
    assert_eq!(changed(&plain, &new_ca), [Piece::Ca]);
    assert_eq!(changed(&plain, &plain), []);
    let other = StandingWord::from(format!("{} {}", "01".repeat(32), "ef".repeat(32)));
    assert_eq!(changed(&new_ca, &other), [Piece::Certificate]);
    assert_eq!(changed(&plain, &other), [Piece::Certificate, Piece::Ca]);
    for word in [&plain, &other, &"in_sync".into()] {
        assert_eq!(StandingWord::from(word.to_string()), *word, "as it is kept");
    }
}
