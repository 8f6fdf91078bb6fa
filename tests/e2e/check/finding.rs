//! Findings as `check --json` tells them, and their mends as a person pastes them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    stage::Stage,
    world::{SOON, World, command, config::Config, daemon::Launch, process::run},
};

/// What is looked at of an instance that runs, where no unit is installed.
pub const INSTANCE: &[&str] = &[
    "data_directory",
    "source",
    "source_readable",
    "installed",
    "key_rule",
    "targets",
    "single_file",
    "keys_apart",
    "server",
    "ssl",
    "server_files",
    "restart",
    "pending_edits",
    "server_names",
    "served",
    "served_trusted",
    "plaintext",
    "ssl_sni",
];

impl Stage<'_> {
    /// Gives the instance another line in the config.
    pub fn configured_with(&self, line: &str) {
        let text = self.config.text();
        let said = text.replacen("[[instance]]\n", &format!("[[instance]]\n{line}\n"), 1);
        assert_ne!(text, said);
        self.config.replace(&said);
    }

    fn trusted_roots(&self) -> [(&'static str, String); 1] {
        [("SSL_CERT_FILE", self.ca.root().display().to_string())]
    }

    /// What `check` finds where the authority is trusted.
    #[track_caller]
    pub fn checked(&self) -> Checked {
        checked(self.world, &self.config, &self.trusted_roots())
    }

    /// What a person reads of it.
    #[track_caller]
    pub fn check_page(&self) -> String {
        let launch = Launch::new(self.world);
        let [(name, value)] = self.trusted_roots();
        let done = launch.env(name, value).run(&self.config, &["check"]);
        done.stdout().to_owned()
    }

    /// Finds `id` of this weight; gives it.
    #[track_caller]
    pub fn finds(&self, id: &str, weight: &str) -> Value {
        let found = self.checked().instance(id);
        assert_eq!(found["weight"], weight, "{found}");
        found
    }

    /// Finds `id` as a problem or the like, types its mend, and finds it good.
    #[track_caller]
    pub fn is_mended(&self, id: &str, weight: &str) -> Value {
        let found = self.finds(id, weight);
        typed(&line(&found));
        self.is_well(id);
        found
    }

    /// Nothing is to be mended, and this was looked at.
    #[track_caller]
    pub fn is_well(&self, id: &str) {
        let seen = self.checked();
        assert_eq!(seen.instance(id)["weight"], "good", "{}", seen.json);
        assert_eq!(seen.ill(), Vec::<String>::new());
    }
}

/// What one `check --json` found.
pub struct Checked {
    pub json: Value,
    world: PathBuf,
}

/// Runs it as root.
#[track_caller]
pub fn checked(world: &World, config: &Config, env: &[(&str, String)]) -> Checked {
    let launch = env
        .iter()
        .fold(Launch::new(world), |launch, (name, value)| {
            launch.env(name, value)
        });
    Checked::by(world, &launch, config)
}

impl Checked {
    /// Runs it as `launch` says.
    #[track_caller]
    pub fn by(world: &World, launch: &Launch, config: &Config) -> Checked {
        let done = launch.run(config, &["check", "--json"]);
        assert_eq!(done.stderr(), "");
        let json = done.json();
        assert_eq!(json["version"], 1);
        let seen = Checked {
            json,
            world: world.path().to_owned(),
        };
        // Whatever else there is on this host.
        let ill =
            |finding: &&Value| finding["weight"] == "problem" || finding["weight"] == "unseen";
        assert_eq!(done.code(), i32::from(seen.all().iter().any(ill)));
        seen
    }

    fn all(&self) -> Vec<&Value> {
        let instances = self.json["instances"].as_array().unwrap();
        let lists = instances.iter().map(|instance| &instance["findings"]);
        lists
            .chain([&self.json["host"]])
            .flat_map(|list| list.as_array().unwrap())
            .collect()
    }

    /// The ids, in order.
    pub fn ids(&self) -> Vec<String> {
        let ids = self
            .all()
            .into_iter()
            .map(|finding| finding["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    }

    /// The heaviest finding of this id of any instance.
    #[track_caller]
    pub fn instance(&self, id: &str) -> Value {
        let instances = self.json["instances"].as_array().unwrap();
        let findings = instances
            .iter()
            .flat_map(|instance| instance["findings"].as_array().unwrap());
        self.heaviest(id, findings)
    }

    /// The heaviest finding of this id of the host; of servers, only those of this world.
    #[track_caller]
    pub fn host(&self, id: &str) -> Value {
        let own = self.json["host"].as_array().unwrap().iter();
        self.heaviest(id, own.filter(|finding| self.is_own(finding)))
    }

    #[track_caller]
    fn heaviest<'v>(&self, id: &str, findings: impl Iterator<Item = &'v Value>) -> Value {
        let weights = ["problem", "unseen", "notice", "good"];
        let of_id = findings.filter(|finding| finding["id"] == id);
        let heaviest =
            of_id.min_by_key(|finding| weights.iter().position(|w| finding["weight"] == *w));
        match heaviest {
            Some(found) => found.clone(),
            None => panic!("{id} is not in {}", self.json),
        }
    }

    /// Other tests' servers are on this host too, and it may lack what else a host should have.
    fn is_own(&self, finding: &Value) -> bool {
        let seen = finding["seen"].as_str().unwrap();
        match finding["id"].as_str().unwrap() {
            "uncovered" => seen.contains(self.world.to_str().unwrap()),
            id => {
                INSTANCE.contains(&id) || ["configured", "landlock", "service_user"].contains(&id)
            }
        }
    }

    /// What is not good, as text.
    pub fn ill(&self) -> Vec<String> {
        let ill = |finding: &&Value| finding["weight"] != "good" && self.is_own(finding);
        let all = self.all().into_iter();
        all.filter(ill).map(ToString::to_string).collect()
    }
}

/// The line that mends a finding.
#[track_caller]
pub fn line(finding: &Value) -> String {
    match finding["mend"]["command"].as_str() {
        Some(line) => line.to_owned(),
        None => panic!("no command mends {finding}"),
    }
}

/// The sentence that does.
#[track_caller]
pub fn sentence(finding: &Value) -> String {
    match finding["mend"]["sentence"].as_str() {
        Some(text) => text.to_owned(),
        None => panic!("no sentence mends {finding}"),
    }
}

/// Runs a mend as it is printed, in root's shell, which finds this pgcertd.
#[track_caller]
pub fn typed(line: &str) {
    println!("$ {line}");
    let program = Path::new(env!("CARGO_BIN_EXE_pgcertd"));
    let mut shell = command("sh");
    let path = format!(
        "{}:/usr/sbin:/usr/bin:/sbin:/bin",
        program.parent().unwrap().display()
    );
    let done = run(shell.args(["-c", line]).env("PATH", path), SOON);
    assert_eq!(done.code(), 0, "{line}: {done:?}");
}
