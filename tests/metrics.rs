//! The texts about the metrics agree with the code: `docs/metrics.md`, the alerts, the dashboard;
//! and Prometheus's own tool takes the alerts and finds that each fires when it should.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pgcertd::testing::bundle::Piece;
use pgcertd::testing::deploy::{SyncOutcome, state::State};
use pgcertd::testing::report::metrics::Metric;
use pgcertd::testing::report::{EventKind, nearing::Holder};

#[macro_use]
#[path = "e2e/world/skipped.rs"]
mod skipped;

use skipped::Skipped;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let row = |metric: &Metric| {
        let labels = metric.labels().iter().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(" ");
        let of_type = metric.of_type().as_str();
        format!(
            "| `{}` | {of_type} | {labels} | {} |",
            metric.name(),
            metric.help()
        )
    };
    let expected: Vec<String> = Metric::ALL.iter().map(row).collect();
    let docs = text("docs/metrics.md");
    let heading = "| metric | type | labels | says |\n| --- | --- | --- | --- |\n";
    let (_, table) = docs.split_once(heading).unwrap();
    let documented: Vec<&str> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    if documented != expected {
        println!("docs/metrics.md should have:\n{}", expected.join("\n"));
    }
    assert_eq!(documented, expected);
}

/// What ships that names metrics.
const NAMING: [&str; 3] = [
    "packaging/prometheus/alerts.yml",
    "packaging/prometheus/alerts_test.yml",
    "packaging/grafana/pgcertd.json",
];

/// The words of a text that begin like a metric.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("pgcertd_")).collect()
}

#[test]
fn what_ships_names_only_series_that_there_are() {
    let all: BTreeSet<String> = Metric::ALL
        .iter()
        .flat_map(|metric| metric.series())
        .collect();
    for file in NAMING {
        let text = text(file);
        let named = named(&text);
        assert!(!named.is_empty(), "{file}");
        for name in named {
            assert!(all.contains(name), "{file}: there is no {name}");
        }
    }
}

/// The values that a text gives a label, by `=` or, as alternatives, by `=~` and `!~`.
fn values<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    // In JSON a quote has a backslash before it.
    for operator in ["=", "=~", "!~"] {
        for quote in ["\"", "\\\""] {
            let begin = format!("{label}{operator}{quote}");
            let places = text.match_indices(&begin);
            for (at, _) in places {
                let rest = &text[at + begin.len()..];
                found.extend(rest[..rest.find(['"', '\\']).unwrap()].split('|'));
            }
        }
    }
    found
}

#[test]
fn what_ships_asks_for_values_that_labels_take() {
    let known: [(&str, BTreeSet<&str>); 5] = [
        ("state", State::ALL.map(State::as_str).into()),
        ("place", Holder::ALL.map(Holder::as_str).into()),
        ("piece", Piece::RENEWED.map(Piece::as_str).into()),
        ("outcome", SyncOutcome::ALL.map(SyncOutcome::as_str).into()),
        (
            "event",
            EventKind::ALL.iter().map(|kind| kind.as_str()).collect(),
        ),
    ];
    let mut seen = 0;
    for file in NAMING {
        let text = text(file);
        for (label, known) in &known {
            for value in values(&text, label) {
                assert!(known.contains(value), "{file}: no {label} is {value}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// `promtool`, in the directory of the alerts.
fn promtool(arguments: &[&str]) -> Result<std::process::Output, Skipped> {
    let mut command = Command::new("promtool");
    command.current_dir(path("packaging/prometheus"));
    let output = command.args(arguments).output();
    output.map_err(|error| Skipped::because(format!("promtool: {error}: see `make deps`")))
}

#[test]
fn prometheus_takes_the_alerts() {
    let checked = or_skip!(promtool(&["check", "rules", "alerts.yml"]));
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn each_alert_fires_when_it_should_and_not_when_it_should_not() {
    let tested = or_skip!(promtool(&["test", "rules", "alerts_test.yml"]));
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}\n{tested:?}");
}

/// The alerts of a file, by the word before their name.
fn alerts<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.split(key).skip(1).map(|part| {
        let name = part.split([',', '\n']).next().unwrap();
        (name.trim(), part)
    })
}

#[test]
fn each_alert_is_shown_firing_and_not_firing() {
    let (rules, tests) = (
        text("packaging/prometheus/alerts.yml"),
        text("packaging/prometheus/alerts_test.yml"),
    );
    let names: BTreeSet<&str> = alerts(&rules, "- alert:").map(|(name, _)| name).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in &names {
        let shown = alerts(&tests, "alertname:").filter(|(alert, _)| alert == name);
        let shown: Vec<&str> = shown.map(|(_, part)| part).collect();
        let quiet = |part: &&&str| part.contains("exp_alerts: []");
        assert!(
            shown.iter().any(|part| quiet(&part)),
            "{name} is never quiet"
        );
        let fires = shown.iter().filter(|part| part.contains("exp_labels:"));
        assert!(fires.count() > 0, "{name} never fires");
    }
    for (name, part) in alerts(&rules, "- alert:") {
        for key in ["severity:", "summary:", "description:", "mend:"] {
            assert!(part.contains(key), "{name} has no {key}");
        }
    }
}

/// A panel's place on the board.
fn place(panel: &serde_json::Value) -> [u64; 4] {
    ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap())
}

#[test]
fn no_panel_of_the_dashboard_covers_another() {
    let board = text("packaging/grafana/pgcertd.json");
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|finding| finding["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
    for (at, one) in panels.iter().enumerate() {
        let [x, y, w, h] = place(one);
        assert!(x + w <= 24, "{one}");
        for other in &panels[at + 1..] {
            let [left, top, wide, high] = place(other);
            let apart = x + w <= left || left + wide <= x || y + h <= top || top + high <= y;
            assert!(apart, "{} and {}", one["title"], other["title"]);
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let board = text("packaging/grafana/pgcertd.json");
    let named = named(&board);
    // What others of them say as well: it is for alerts that others write.
    let left_out = [Metric::InSync, Metric::NotBefore];
    for metric in Metric::ALL
        .iter()
        .filter(|metric| !left_out.contains(metric))
    {
        let shown = metric.series().iter().any(|one| named.contains(&**one));
        assert!(shown, "{metric:?}");
    }
}
