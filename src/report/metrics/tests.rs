//! What is written of what was seen.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::exposition::text;
use super::{Compared, Format, Metric, Metrics};
use crate::bundle::{Expiry, Fingerprint, Thresholds, TrustFiles};
use crate::config::Config;
use crate::deploy::SyncOutcome;
use crate::deploy::state::State;
use crate::report::EventKind;
use crate::report::view::{CertificateView, CompanionView, EndView, InstanceView};

const HOUR: i64 = 60 * 60;

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(490_000)
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn said(kind: EventKind) -> u64 {
    u64::from(kind == EventKind::Deployed) * 3
}

fn config(instances: &[(&str, &str)]) -> Config {
    let mut text = "[watch]\nresync = \"1h\"\n".to_owned();
    for (name, lineage) in instances {
        text.push_str(&format!(
            "[[instance]]\nname = \"{name}\"\nlineage = \"{lineage}\"\ndata_directory = \"/pg/{name}\"\n"
        ));
    }
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let file = directory.path().join("pgcertd.toml");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("{error}"));
    Config::load(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// A leaf of 90 days of which so many hours are left at the start.
fn leaf(left: i64) -> CertificateView {
    let not_after = after(left * HOUR);
    CertificateView {
        fingerprint: Fingerprint::from_der(b"x"),
        not_before: not_after - SignedDuration::from_hours(90 * 24),
        not_after,
        chain_end: None,
        names: Vec::new(),
        issuer: String::new(),
        serial: String::new(),
        expiry: Expiry::Fine,
    }
}

fn view(name: &str, state: State) -> InstanceView {
    InstanceView {
        name: name.into(),
        lineage: "a.example".into(),
        state,
        problem: None,
        details: None,
        source: Some(leaf(1000)),
        installed: Some(leaf(24)),
        served: None,
        trust_files: TrustFiles::default(),
        thresholds: Thresholds::default(),
    }
}

/// A file in which something ends with [`leaf`].
fn ends(hours: i64) -> CompanionView {
    let leaf = leaf(hours);
    CompanionView {
        digest: leaf.fingerprint,
        first_end: Some(EndView {
            name: "CN=Clients".into(),
            fingerprint: leaf.fingerprint,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            expiry: leaf.expiry,
        }),
    }
}

fn see(metrics: &Metrics, view: &InstanceView, loads: bool, at: Timestamp) {
    let compared = Compared {
        view,
        loads,
        deployment: None,
    };
    metrics.compared(&compared, at);
}

fn shown(metrics: &Metrics, now: Timestamp) -> String {
    text(&metrics.0, said, now, Format::Prometheus).unwrap_or_else(|error| panic!("{error}"))
}

/// The series and values of one metric.
fn samples_of(text: &str, metric: Metric) -> Vec<String> {
    let series = metric.series();
    let of_it = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        series.iter().any(|word| word == name)
    };
    text.lines().filter(of_it).map(str::to_owned).collect()
}

#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|name| name == *line), "{line}\n{text}");
    }
}

#[test]
fn a_server_is_measured_once_it_was_compared() {
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[("a", "a.example")]), after(1));
    let before = shown(&metrics, after(2));
    assert_eq!(samples_of(&before, Metric::State), [""; 0]);
    assert_eq!(samples_of(&before, Metric::LastSuccess), [""; 0]);
    says(
        &before,
        &[
            "pgcertd_last_reconcile_timestamp_seconds{server=\"a\"} 1764000001.0",
            "pgcertd_deployments_total{server=\"a\",outcome=\"rolled_back\"} 0",
            "pgcertd_resync_seconds 3600.0",
            "pgcertd_start_time_seconds 1764000000.0",
        ],
    );

    see(&metrics, &view("a", State::OutOfDate), false, after(3));
    let seen = shown(&metrics, after(4));
    says(
        &seen,
        &[
            "pgcertd_state{server=\"a\",state=\"out_of_date\"} 1.0",
            "pgcertd_state{server=\"a\",state=\"in_sync\"} 0.0",
            "pgcertd_in_sync{server=\"a\"} 0.0",
            "pgcertd_installed_loads{server=\"a\"} 0.0",
            "pgcertd_not_after_timestamp_seconds{server=\"a\",place=\"installed\"} 1764086400.0",
            "pgcertd_not_before_timestamp_seconds{server=\"a\",place=\"installed\"} 1756310400.0",
            "pgcertd_expiry_level{server=\"a\",place=\"source\"} 0.0",
            "pgcertd_expiry_level{server=\"a\",place=\"installed\"} 2.0",
            "pgcertd_last_reconcile_timestamp_seconds{server=\"a\"} 1764000003.0",
        ],
    );
    assert_eq!(samples_of(&seen, Metric::State).len(), State::ALL.len());
    assert_eq!(
        samples_of(&seen, Metric::NotAfter).len(),
        2,
        "nothing is served"
    );
    assert_eq!(samples_of(&seen, Metric::LastSuccess), [""; 0]);

    // How near the end is, is told as of now, also where nothing was compared since.
    says(
        &shown(&metrics, after(25 * HOUR)),
        &["pgcertd_expiry_level{server=\"a\",place=\"installed\"} 3.0"],
    );
    see(&metrics, &view("a", State::InSync), true, after(5));
    says(
        &shown(&metrics, after(6)),
        &[
            "pgcertd_in_sync{server=\"a\"} 1.0",
            "pgcertd_installed_loads{server=\"a\"} 1.0",
            "pgcertd_last_success_timestamp_seconds{server=\"a\"} 1764000005.0",
        ],
    );
}

#[test]
fn a_ca_and_a_crl_are_measured_where_they_are_seen() {
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[("a", "a.example")]), start());
    let mut view = view("a", State::InSync);
    see(&metrics, &view, true, after(1));
    let without = shown(&metrics, after(1));
    assert_eq!(samples_of(&without, Metric::ClientCaNotAfter), [""; 0]);

    let list = ends(24);
    view.trust_files.crl.installed = Some(list.clone());
    view.trust_files.ca.source = Some(CompanionView {
        first_end: None,
        ..list
    });
    see(&metrics, &view, true, after(1));
    let says_level = |at: i64, level: &str| {
        let line = format!(
            "pgcertd_client_ca_expiry_level{{server=\"a\",piece=\"crl\",place=\"installed\"}} {level}"
        );
        says(&shown(&metrics, after(at)), &[&line]);
    };
    says_level(-40 * HOUR, "1.0");
    says_level(1, "2.0");
    says_level(25 * HOUR, "3.0");
    let text = shown(&metrics, after(1));
    let line = "pgcertd_client_ca_not_after_timestamp_seconds{server=\"a\",piece=\"crl\",place=\"installed\"} 1764086400.0";
    assert_eq!(samples_of(&text, Metric::ClientCaNotAfter), [line]);
}

#[test]
fn what_ends_before_its_leaf_is_what_is_measured() {
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[("a", "a.example")]), after(1));
    let mut view = view("a", State::InSync);
    let first = ends(24).first_end;
    let source = view.source.as_mut().expect("the lineage holds one");
    source.chain_end.clone_from(&first);
    see(&metrics, &view, true, after(1));
    let begin = first.expect("it ends").not_before.as_second();
    says(
        &shown(&metrics, after(2)),
        &[
            "pgcertd_not_after_timestamp_seconds{server=\"a\",place=\"source\"} 1764086400.0",
            &format!(
                "pgcertd_not_before_timestamp_seconds{{server=\"a\",place=\"source\"}} {begin}.0"
            ),
        ],
    );
}

#[test]
fn deployments_are_counted_by_how_they_came_out() {
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[("a", "a.example")]), start());
    for (outcome, took) in [
        (SyncOutcome::Deployed, 40),
        (SyncOutcome::Deployed, 60),
        (SyncOutcome::RolledBack, 40_000),
    ] {
        let compared = Compared {
            view: &view("a", State::InSync),
            loads: true,
            deployment: Some((outcome, Duration::from_millis(took))),
        };
        metrics.compared(&compared, after(1));
    }
    let text = shown(&metrics, after(2));
    says(
        &text,
        &[
            "pgcertd_deployments_total{server=\"a\",outcome=\"deployed\"} 2",
            "pgcertd_deployments_total{server=\"a\",outcome=\"rolled_back\"} 1",
            "pgcertd_deployments_total{server=\"a\",outcome=\"failed\"} 0",
            "pgcertd_deployment_duration_seconds_bucket{server=\"a\",le=\"0.05\"} 1",
            "pgcertd_deployment_duration_seconds_bucket{server=\"a\",le=\"30\"} 2",
            "pgcertd_deployment_duration_seconds_bucket{server=\"a\",le=\"+Inf\"} 3",
            "pgcertd_deployment_duration_seconds_count{server=\"a\"} 3",
        ],
    );
    assert_eq!(samples_of(&text, Metric::Deployments).len(), 6);
}

#[test]
fn what_a_new_config_leaves_of_a_server() {
    let metrics = Metrics::new(start());
    let both = config(&[("a", "a.example"), ("b", "b.example")]);
    metrics.configured(&both, start());
    for name in ["a", "b"] {
        let compared = Compared {
            view: &view(name, State::InSync),
            loads: true,
            deployment: Some((SyncOutcome::Deployed, Duration::ZERO)),
        };
        metrics.compared(&compared, after(1));
    }
    // The same again: what is known stays.
    metrics.configured(&both, after(2));
    let same = shown(&metrics, after(3));
    says(&same, &["pgcertd_in_sync{server=\"b\"} 1.0"]);

    metrics.configured(&config(&[("a", "other.example")]), after(4));
    let text = shown(&metrics, after(5));
    assert!(!text.contains("server=\"b\""), "{text}");
    assert_eq!(samples_of(&text, Metric::InSync), [""; 0]);
    says(
        &text,
        &[
            "pgcertd_deployments_total{server=\"a\",outcome=\"deployed\"} 1",
            "pgcertd_last_reconcile_timestamp_seconds{server=\"a\"} 1764000004.0",
        ],
    );
    // What a task of the old config has still to say of it, is nothing any more.
    see(&metrics, &view("b", State::InSync), true, after(6));
    assert!(!shown(&metrics, after(7)).contains("server=\"b\""));
}

#[test]
fn the_oldest_reconcile_is_that_of_the_server_that_lags() {
    let oldest = |metrics: &Metrics| samples_of(&shown(metrics, after(9)), Metric::OldestReconcile);
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[]), after(1));
    metrics.went_round(after(2));
    assert_eq!(
        oldest(&metrics),
        ["pgcertd_oldest_reconcile_timestamp_seconds 1764000002.0"]
    );
    let both = config(&[("a", "a.example"), ("b", "b.example")]);
    metrics.configured(&both, after(3));
    metrics.went_round(after(4));
    see(&metrics, &view("b", State::InSync), true, after(5));
    assert_eq!(
        oldest(&metrics),
        ["pgcertd_oldest_reconcile_timestamp_seconds 1764000003.0"]
    );
}

#[test]
fn every_kind_of_event_is_there_from_the_start() {
    let text = shown(&Metrics::new(start()), start());
    assert_eq!(
        samples_of(&text, Metric::Events).len(),
        EventKind::ALL.len()
    );
    says(
        &text,
        &[
            "pgcertd_events_total{event=\"deployed\"} 3",
            "pgcertd_events_total{event=\"fault\"} 0",
        ],
    );
    assert_eq!(
        samples_of(&text, Metric::Uncovered),
        [""; 0],
        "not looked yet"
    );
    let metrics = Metrics::new(start());
    metrics.uncovered(2);
    says(
        &shown(&metrics, start()),
        &["pgcertd_uncovered_postmasters 2.0"],
    );
}

/// A text with a series of each metric.
fn whole(format: Format) -> String {
    let metrics = Metrics::new(start());
    metrics.configured(&config(&[("a", "a.example")]), start());
    metrics.uncovered(1);
    let mut view = view("a", State::InSync);
    view.trust_files.crl.source = Some(ends(24));
    see(&metrics, &view, true, after(1));
    text(&metrics.0, said, after(2), format).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_metric_is_written_with_its_labels_and_no_other() {
    let text = whole(Format::Prometheus);
    let mut left: Vec<&str> = text.lines().filter(|word| !word.starts_with('#')).collect();
    for metric in Metric::ALL {
        let name = metric.name();
        let help = format!("# HELP {name} {}", metric.help());
        let of_type = format!("# TYPE {name} {}", metric.of_type().as_str());
        says(&text, &[&help, &of_type]);
        let series = samples_of(&text, *metric);
        assert!(!series.is_empty(), "{metric:?}");
        for line in &series {
            let labels = line.split_once('{').map_or("", |(_, it)| it);
            let labels = labels.split_once('}').map_or("", |(it, _)| it);
            let named: BTreeSet<&str> = labels
                .split(',')
                .filter_map(|said| said.split_once('='))
                .map(|(label, _)| label)
                .filter(|label| *label != "le")
                .collect();
            let expected: BTreeSet<&str> = metric.labels().iter().copied().collect();
            assert_eq!(named, expected, "{line}");
        }
        left.retain(|line| !series.iter().any(|text| text == line));
    }
    assert_eq!(left, [""; 0], "series of no metric");
}

#[test]
fn openmetrics_says_the_same() {
    let text = whole(Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"), "{text}");
    says(
        &text,
        &[
            "# TYPE pgcertd_deployments counter",
            "# UNIT pgcertd_not_after_timestamp_seconds seconds",
            "# TYPE pgcertd_build info",
        ],
    );
    // Each has an order of its own for labels and for the parts of a histogram, and one writes
    // le="30", the other le="30.0".
    let series = |text: &str| -> BTreeSet<Vec<String>> {
        let lines = text.lines().filter(|name| !name.starts_with('#'));
        let named = lines
            .filter_map(|word| word.split_once(' '))
            .map(|pair| pair.0);
        named
            .map(|line| {
                let parts = line.split(['{', ',', '}']);
                let mut parts: Vec<_> = parts.map(|said| said.replace(".0\"", "\"")).collect();
                parts.sort_unstable();
                parts
            })
            .collect()
    };
    assert_eq!(series(&text), series(&whole(Format::Prometheus)));
}

#[test]
fn openmetrics_is_for_those_who_ask_for_it() {
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    for other in ["", "*/*", "text/plain;version=0.0.4"] {
        assert_eq!(Format::accepted(other), Format::Prometheus);
    }
}
