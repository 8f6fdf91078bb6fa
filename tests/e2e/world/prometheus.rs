//! Debian's Prometheus, its node_exporter and its promtool, and curl, which asks them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use super::{
    SOON, World, command, eventually,
    port::Port,
    process::{Process, run, run_reading},
};

/// What curl gets, with these arguments.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Result<String, String> {
    let ours = ["--silent", "--show-error", "--fail", "--max-time", "20"];
    run(command("curl").args(ours).args(arguments), SOON).result()
}

/// The document at a URL.
#[track_caller]
fn document(arguments: &[&str]) -> Result<Value, String> {
    serde_json::from_str(&curl(arguments)?).map_err(|error| error.to_string())
}

/// What `promtool check metrics` has against a text.
#[track_caller]
pub fn lint(text: &str) -> Result<String, String> {
    let mut promtool = command("promtool");
    let done = run_reading(
        promtool.args(["check", "metrics"]),
        format!("{}\n", text.trim_end()).as_bytes(),
        SOON,
    );
    // It says what it found on either stream, and ends well or not.
    match (done.code(), done.stdout.trim(), done.stderr.trim()) {
        (0, "", "") => Ok(String::new()),
        (code, stdout, stderr) => Err(format!("status {code}: {stdout}{stderr}")),
    }
}

/// A running Prometheus that scrapes each second.
pub struct Prometheus {
    port: Port,
    log: PathBuf,
    _process: Process,
}

impl Prometheus {
    /// Scrapes these jobs at these addresses, and evaluates the shipped alerts.
    #[track_caller]
    pub fn start(world: &World, jobs: &[(&str, &str)]) -> Self {
        let directory = world.directory("prometheus");
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/alerts.yml");
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\nscrape_configs:\n",
            alerts.display()
        );
        for (job, address) in jobs {
            config.push_str(&format!(
                "- {{job_name: '{job}', static_configs: [{{targets: ['{address}']}}]}}\n"
            ));
        }
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = Port::claim();
        let log = directory.join("log");
        let output = fs::File::create(&log).unwrap();
        let process = Process::spawn(
            command("prometheus")
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    directory.join("data").display()
                ))
                .arg(format!("--web.listen-address={}", port.address()))
                .stdin(Stdio::null())
                .stdout(output.try_clone().unwrap())
                .stderr(output),
        );
        let prometheus = Self {
            port,
            log,
            _process: process,
        };
        let ready = prometheus.url("/-/ready");
        eventually(SOON, "Prometheus is ready", || {
            curl(&[&ready]).map_err(|error| format!("{error}\n{}", prometheus.log()))
        });
        prometheus
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The series that an expression gives now.
    #[track_caller]
    pub fn series(&self, expression: &str) -> Result<Vec<Value>, String> {
        let query = format!("query={expression}");
        let url = self.url("/api/v1/query");
        let answer = document(&["--get", "--data-urlencode", &query, &url])?;
        let result = answer["data"]["result"].as_array().cloned();
        result.ok_or_else(|| answer.to_string())
    }

    /// The value of an expression that gives one series, as it is written.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Result<String, String> {
        match self.series(expression)?.as_slice() {
            [one] => Ok(one["value"][1].as_str().unwrap_or_default().to_owned()),
            other => Err(format!("{expression}: {other:?}")),
        }
    }

    /// Waits until an expression of one series has this value.
    #[track_caller]
    pub fn wait(&self, expression: &str, value: &str) {
        eventually(SOON, &format!("{expression} is {value}"), || {
            match self.value(expression)? {
                now if now == value => Ok(()),
                other => Err(other),
            }
        });
    }

    /// What it last had against the target of a job; empty where nothing.
    #[track_caller]
    pub fn trouble(&self, job: &str) -> String {
        let targets = document(&[&self.url("/api/v1/targets")]).unwrap();
        let active = targets["data"]["activeTargets"].as_array().unwrap();
        let one = active
            .iter()
            .find(|alert| alert["labels"]["job"] == job)
            .unwrap();
        one["lastError"].as_str().unwrap().to_owned()
    }

    /// The expression of an alert, and in which state it is: `inactive`, `pending`, `firing`.
    #[track_caller]
    pub fn alert(&self, name: &str) -> (String, String) {
        let rules = document(&[&self.url("/api/v1/rules")]).unwrap();
        let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|instance| instance["name"] == name);
        let rule = rule.unwrap_or_else(|| panic!("no alert {name}: {rules:?}"));
        let text = |key: &str| rule[key].as_str().unwrap().to_owned();
        (text("query"), text("state"))
    }
}

/// A running node_exporter with its textfile collector alone.
pub struct NodeExporter {
    port: Port,
    _process: Process,
}

impl NodeExporter {
    /// Reads the files of this directory.
    #[track_caller]
    pub fn start(directory: &Path) -> Self {
        let port = Port::claim();
        let process = Process::spawn(
            command("prometheus-node-exporter")
                .args(["--collector.disable-defaults", "--collector.textfile"])
                .arg(format!(
                    "--collector.textfile.directory={}",
                    directory.display()
                ))
                .arg(format!("--web.listen-address={}", port.address()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        Self {
            port,
            _process: process,
        }
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        self.port.address()
    }
}
