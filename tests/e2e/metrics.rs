//! The metrics: what Prometheus sees of a real daemon, and whom the daemon answers.

mod listening;
mod textfile;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage},
    world::{
        SOON, World,
        config::{Config, path},
        daemon::Daemon,
        eventually, give,
        port::Port,
        prometheus::{NodeExporter, Prometheus, curl, lint},
    },
};

/// All alerts.
const ALERTS: [&str; 8] = [
    "ServedExpiring",
    "NotServed",
    "RestartUnsafe",
    "SourceNotRenewed",
    "ClientCaExpiring",
    "ClientCaNotRenewed",
    "Silent",
    "Uncovered",
];

/// What a daemon answers at a TCP address.
fn scraped(address: &str) -> Result<String, String> {
    curl(&[&format!("http://{address}/metrics")])
}

/// Waits until it answers with all of these lines.
#[track_caller]
fn says(address: &str, lines: &[&str]) {
    for line in lines {
        eventually(SOON, &format!("{address} says {line}"), || {
            let text = scraped(address)?;
            if text.lines().any(|seen| seen == *line) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }
}

/// The expressions of the shipped dashboard, for every host and server.
fn of_the_dashboard() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/pgcertd.json");
    let board: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let lists = board["panels"].as_array().unwrap().iter();
    let targets = lists.filter_map(|panel| panel["targets"].as_array());
    let notes = board["annotations"]["list"].as_array();
    let all = targets.chain(notes).flatten();
    let expressions = all.filter_map(|value| value["expr"].as_str());
    expressions
        .map(|expression| expression.replace("$host", ".*").replace("$server", ".*"))
        .collect()
}

/// What an alert's expression gives of the job that scrapes the daemon, each by its server.
#[track_caller]
fn raised(prometheus: &Prometheus, alert: &str) -> Result<Vec<String>, String> {
    let (expression, _) = prometheus.alert(alert);
    let series = prometheus.series(&expression)?;
    let ours = series
        .iter()
        .filter(|sample| sample["metric"]["job"] == "pgcertd");
    Ok(ours
        .map(|sample| sample["metric"]["server"].to_string())
        .collect())
}

#[track_caller]
fn eventually_raised(prometheus: &Prometheus, alert: &str, servers: &[&str]) {
    eventually(SOON, &format!("{alert} is about {servers:?}"), || {
        let raised = raised(prometheus, alert)?;
        let wanted: Vec<String> = servers
            .iter()
            .map(|server| format!("\"{server}\""))
            .collect();
        if raised == wanted {
            Ok(())
        } else {
            Err(format!("{raised:?}"))
        }
    });
}

/// Prometheus and its alerts see one trouble after the other come and go.
#[test]
fn prometheus_sees_a_real_server_and_its_troubles() {
    let world = or_skip!(World::new());
    let port = Port::claim();
    let directory = world.directory("textfiles");
    let mut stage = Stage::build(&world)
        .config(|config| {
            config
                .watch("resync", "1s")
                .metrics("listen", port.address())
                .metrics("textfile", path(&directory.join("pgcertd.prom")))
        })
        .instance(|instance| instance.set("mode", "observe"))
        .start();
    let mut daemon = Daemon::start(&world, &stage.config);
    let exporter = NodeExporter::start(&directory);
    let jobs = [("pgcertd", port.address()), ("node", exporter.address())];
    let prometheus = Prometheus::start(&world, &jobs.each_ref().map(|(job, at)| (*job, &**at)));

    for job in ["pgcertd", "node"] {
        let of_it = format!("{{job=\"{job}\",server=\"{NAME}\"}}");
        prometheus.wait(&format!("pgcertd_in_sync{of_it}"), "1");
        prometheus.wait(&format!("up{{job=\"{job}\"}}"), "1");
        assert_eq!(prometheus.trouble(job), "");
        let not_after =
            format!("pgcertd_not_after_timestamp_seconds{{job=\"{job}\",place=\"served\"}}");
        assert!(prometheus.value(&not_after).is_ok(), "{not_after}");
    }
    // The collector has nothing against the file.
    prometheus.wait("node_textfile_scrape_error", "0");
    for alert in ALERTS {
        // The machine may run other servers, which this daemon finds.
        if alert != "Uncovered" {
            assert_eq!(raised(&prometheus, alert), Ok(Vec::new()), "{alert}");
        }
    }
    let expressions = of_the_dashboard();
    assert!(expressions.len() > 15, "{expressions:?}");
    for expression in expressions {
        let answer = prometheus.series(&expression);
        assert!(answer.is_ok(), "{expression}: {answer:?}");
    }

    // Whoever places the files has forgotten the reload.
    let second = stage.renew();
    world.place(&second, &stage.cert);
    let not_served =
        format!("pgcertd_state{{job=\"pgcertd\",server=\"{NAME}\",state=\"not_served\"}}");
    prometheus.wait(&not_served, "1");
    eventually_raised(&prometheus, "NotServed", &[NAME]);
    eventually(SOON, "the alert waits for its 15 minutes", || {
        let (_, state) = prometheus.alert("NotServed");
        (state == "pending").then_some(()).ok_or(state)
    });
    stage.cluster.reload_by_hand();
    prometheus.wait(&not_served, "0");
    eventually_raised(&prometheus, "NotServed", &[]);

    // What is installed is damaged: nobody notices but at the next restart.
    fs::write(&stage.cert, "no certificate").unwrap();
    give(&stage.cert, world.postgres(), 0o600);
    eventually_raised(&prometheus, "RestartUnsafe", &[NAME]);
    world.place(&second, &stage.cert);
    eventually_raised(&prometheus, "RestartUnsafe", &[]);

    // The daemon ends: whom Prometheus asks itself is missed at once, and the file grows old.
    assert!(daemon.signal(rustix::process::Signal::TERM));
    daemon.ended(SOON);
    eventually(SOON, "Silent is about both jobs", || {
        let (expression, _) = prometheus.alert("Silent");
        let series = prometheus.series(&expression)?;
        let jobs: BTreeSet<String> = series
            .iter()
            .map(|sample| sample["metric"]["job"].to_string())
            .collect();
        match jobs.len() {
            2 => Ok(()),
            _ => Err(format!("{series:?}")),
        }
    });
}

#[test]
fn promtool_has_nothing_against_either_output_and_a_server_that_leaves_is_gone() {
    let world = or_skip!(World::new());
    let port = Port::claim();
    let file = world.directory("textfiles").join("pgcertd.prom");
    let measured = |config: Config| {
        config
            .metrics("listen", port.address())
            .metrics("textfile", path(&file))
    };
    let mut stage = Stage::build(&world).config(measured).start();
    let mut daemon = Daemon::start(&world, &stage.config);
    stage.renew();
    let deployed = format!("pgcertd_deployments_total{{server=\"{NAME}\",outcome=\"deployed\"}} 1");
    says(
        &port.address(),
        &[
            &deployed,
            &format!("pgcertd_in_sync{{server=\"{NAME}\"}} 1.0"),
            &format!("pgcertd_deployment_duration_seconds_count{{server=\"{NAME}\"}} 1"),
            "pgcertd_events_total{event=\"deployed\"} 1",
            "pgcertd_events_total{event=\"started\"} 1",
        ],
    );
    assert_eq!(lint(&scraped(&port.address()).unwrap()), Ok(String::new()));
    eventually(SOON, "the file says so as well", || {
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        assert_eq!(lint(&text), Ok(String::new()));
        if text.lines().any(|line| line == deployed) {
            Ok(())
        } else {
            Err(text)
        }
    });
    // promtool does find fault where there is one.
    assert!(lint("# TYPE pgcertd_total gauge\npgcertd_total 1").is_err());

    // Another server in its place.
    let other = stage.instance(HOST).set("name", "other");
    measured(Config::new(&world)).instance(other).write();
    daemon.hangup();
    let of_other = "pgcertd_deployments_total{server=\"other\",outcome=\"deployed\"} 0";
    says(&port.address(), &[of_other]);
    let text = scraped(&port.address()).unwrap();
    assert!(!text.contains(NAME), "{text}");
    eventually(SOON, "the file is without it as well", || {
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        if text.contains(NAME) || !text.contains("other") {
            Err(text)
        } else {
            Ok(())
        }
    });
    assert_eq!(daemon.stop().code(), Some(0));
}
