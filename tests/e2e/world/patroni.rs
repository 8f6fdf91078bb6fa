//! A real Patroni cluster: an etcd, and two nodes that each run a Patroni and, below it, a PostgreSQL.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    Owner, SOON, World, ca::describe, cluster::Cluster, cluster::processes_in, command, eventually,
    give, port::Port, postgres::fetched_by, process::Process, process::descendants, process::run,
    tail,
};

/// How often Patroni looks at its world: the shortest that it takes.
const LOOP_WAIT: &str = "1";

/// Debian's etcd on loopback, which holds the configuration that the nodes share.
struct Etcd {
    clients: Port,
    _peers: Port,
    _process: Process,
}

impl Etcd {
    #[track_caller]
    fn start(world: &World) -> Self {
        let home = world.postgres_directory("etcd", 0o755);
        let (clients, peers) = (Port::claim(), Port::claim());
        let url = |port: &Port| format!("http://{}", port.address());
        let log = fs::File::create(home.join("log")).unwrap();
        let process = Process::spawn(
            command("etcd")
                .current_dir(&home)
                .args(["--unsafe-no-fsync", "--data-dir", "data"])
                .args(["--listen-client-urls", &url(&clients)])
                .args(["--advertise-client-urls", &url(&clients)])
                .args(["--listen-peer-urls", &url(&peers)])
                .args(["--initial-advertise-peer-urls", &url(&peers)])
                .args(["--initial-cluster", &format!("default={}", url(&peers))])
                .uid(world.postgres().uid)
                .gid(world.postgres().gid)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log),
        );
        let address = clients.address();
        eventually(SOON, "etcd takes connections", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        Self {
            clients,
            _peers: peers,
            _process: process,
        }
    }
}

/// A Patroni, and the PostgreSQL that it runs.
pub struct Node {
    patroni: Option<Process>,
    /// What clients see of its PostgreSQL, which is not a child of the test.
    pub cluster: Cluster,
    /// What it is started with: its file, or the directory that holds that beside others.
    config: PathBuf,
    file: PathBuf,
    /// What that file holds, or is to hold.
    text: String,
    environment: Vec<(&'static str, String)>,
    given: Given,
    alone: Option<(PathBuf, PathBuf)>,
    /// What starts it as its child, and its own name: all words before its file.
    starter: Vec<String>,
    log: PathBuf,
    rest: Port,
    owner: Owner,
    programs: Programs,
}

/// Where Patroni's own programs are.
enum Programs {
    /// Debian's.
    Debian,
    /// The newer ones that `make versions` runs the tests with, in this directory.
    Newer(PathBuf),
}

impl Programs {
    #[track_caller]
    fn for_world(world: &World) -> Self {
        let Ok(version) = std::env::var("PGCERTD_TEST_PATRONI") else {
            return Self::Debian;
        };
        let copy = world.path().join("patroni");
        if !copy.exists() {
            let fetched = fetched_by("patroni", &[&version]);
            let mut copying = command("cp");
            run(copying.arg("-a").args([&fetched, &copy]), SOON)
                .result()
                .unwrap();
            for (name, module, run) in [
                ("patroni", "patroni.__main__", "main"),
                ("patronictl", "patroni.ctl", "ctl"),
            ] {
                let path = copy.display();
                // Patroni's children read it once more, as a module.
                let text = format!(
                    "#!/usr/bin/python3\nimport sys\nsys.path.insert(0, '{path}')\n\
                     from {module} import {run}\nif __name__ == '__main__':\n    {run}()\n"
                );
                fs::write(copy.join("bin").join(name), text).unwrap();
            }
        }
        Self::Newer(copy.join("bin"))
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Debian => Path::new("/usr/bin").join(name),
            Self::Newer(directory) => directory.join(name),
        }
    }
}

/// How a Patroni gets its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// By its argument, a file or a directory.
    #[default]
    AsArgument,
    /// In `PATRONI_CONFIGURATION`, with no argument.
    InEnvironment,
    /// In `PATRONI_CONFIGURATION`, with an argument that names no file.
    InEnvironmentDespiteArgument,
}

impl Node {
    /// The name it has in Patroni's cluster.
    pub fn name(&self) -> &str {
        self.cluster.name()
    }

    /// What it is started with: a YAML file, or a directory of such.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// A file that is laid over its own where its configuration is a directory.
    pub fn laid_over(&self, name: &str) -> PathBuf {
        self.config.join(name)
    }

    /// Where its REST API listens.
    pub fn rest_address(&self) -> String {
        self.rest.address()
    }

    /// Patroni's number; panics while it does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.patroni.as_ref().expect("Patroni is down").pid()
    }

    /// What Patroni and its PostgreSQL have said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How often Patroni was asked to reload, and found nothing of its configuration changed.
    pub fn reloads(&self) -> usize {
        let log = self.log();
        log.matches("No local configuration items changed").count()
    }

    /// Takes everything out of Patroni's environment that a test put there, from its next start on.
    pub fn forget_environment(&mut self) {
        self.environment.clear();
    }

    /// Has Patroni get its configuration in another way from its next start on.
    pub fn give(&mut self, given: Given) {
        self.given = given;
    }

    /// Has Patroni see all files as the test does, from its next start on.
    pub fn share_mounts(&mut self) {
        self.alone = None;
    }

    /// Writes its file; it counts from the next start on for one that began without.
    pub fn write_file(&self) {
        fs::write(&self.file, &self.text).unwrap();
        give(&self.file, self.owner, 0o600);
    }

    /// The first number of its version.
    pub fn major(&self) -> String {
        let version = std::env::var("PGCERTD_TEST_PATRONI").unwrap_or_else(|_| {
            // It prints `patroni 3.0.2`.
            let mut ask = command("patroni");
            let said = run(ask.arg("--version"), SOON).result().unwrap();
            said.trim().trim_start_matches("patroni ").to_owned()
        });
        version.split('.').next().unwrap().to_owned()
    }

    /// Its script.
    pub fn program(&self) -> PathBuf {
        self.programs.path("patroni")
    }

    /// What becomes Patroni, or starts it.
    fn command(&self) -> Command {
        if let Some((first, rest)) = self.starter.split_first() {
            let mut starter = command(first);
            starter.args(rest);
            return starter;
        }
        let Some((file, place)) = &self.alone else {
            let mut patroni = command(self.program());
            patroni.uid(self.owner.uid).gid(self.owner.gid);
            return patroni;
        };
        let line = r#"
            mount --bind "$1" "$2" && mount -t tmpfs tmpfs "${1%/*}" && shift 2 && exec "$@"
        "#;
        let mut unshare = command("unshare");
        unshare.args(["--mount", "sh", "-c", line, "sh"]);
        unshare.args([file, place]).arg("setpriv");
        unshare.arg(format!("--reuid={}", self.owner.uid));
        unshare.arg(format!("--regid={}", self.owner.gid));
        unshare.arg("--clear-groups").arg(self.program());
        unshare
    }

    /// Starts Patroni; it finds the PostgreSQL that one before it left running.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.patroni.is_none(), "Patroni runs already");
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(&self.log).unwrap();
        let mut patroni = self.command();
        if self.given != Given::InEnvironment {
            patroni.arg(&self.config);
        }
        if self.given != Given::AsArgument {
            patroni.env("PATRONI_CONFIGURATION", &self.text);
        }
        self.patroni = Some(Process::spawn(
            patroni
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .env("HOME", self.file.parent().unwrap())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log),
        ));
    }

    /// Starts Patroni as a child of another program, which root starts with these words and its file.
    #[track_caller]
    pub fn start_by(&mut self, starter: &[&str]) {
        self.starter = starter.iter().map(|&word| word.to_owned()).collect();
        self.start();
    }

    /// Kills Patroni with SIGKILL, and leaves its PostgreSQL alone.
    pub fn kill9(&mut self) {
        if let Some(starter) = self.patroni.as_ref().filter(|_| !self.starter.is_empty()) {
            // The deepest first: none is reaped before its parent has gone.
            for pid in descendants(starter.pid()).into_iter().rev() {
                let pid = Pid::from_raw(pid.cast_signed()).unwrap();
                let _ended = kill_process(pid, Signal::KILL);
            }
        }
        self.patroni = None;
        self.starter.clear();
    }

    /// Sends Patroni a signal; false while it does not run.
    pub fn signal(&mut self, signal: Signal) -> bool {
        self.patroni
            .as_mut()
            .is_some_and(|process| process.signal(signal))
    }

    /// Puts another text in the place of one in its YAML file; it counts from the next SIGHUP or start.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(&self.file, text.replacen(from, to, 1)).unwrap();
    }

    /// The fingerprint of the leaf that the REST API shows, to a client that has a certificate if one is given.
    pub fn rest_peer(&self, client: Option<&Path>) -> Result<String, String> {
        let mut openssl = command("timeout");
        openssl.args(["5", "openssl", "s_client", "-showcerts", "-connect"]);
        openssl.arg(self.rest.address());
        if let Some(file) = client {
            openssl.arg("-cert").arg(file).arg("-key").arg(file);
        }
        let shown = run(&mut openssl, SOON);
        if shown.stdout.contains("-----BEGIN CERTIFICATE-----") {
            Ok(describe(&shown.stdout).0)
        } else {
            Err(format!("no certificate was shown: {}", shown.stderr))
        }
    }

    /// Waits until the REST API shows this leaf.
    #[track_caller]
    pub fn rest_serves(&self, fingerprint: &str) {
        eventually(SOON, "the REST API serves it", || {
            self.rest_peer(None).is_ok_and(|peer| peer == fingerprint)
        });
    }

    /// Sets a parameter of every node's PostgreSQL, in the configuration that etcd holds.
    #[track_caller]
    pub fn set_for_all(&self, guc: &str, value: &str) {
        let set = format!("{guc}={value}");
        self.patronictl(&["edit-config", "--force", "--quiet", "--pg", &set]);
    }

    #[track_caller]
    fn patronictl(&self, arguments: &[&str]) -> String {
        let home = self.file.parent().unwrap();
        let mut patronictl = command(self.programs.path("patronictl"));
        match self.given {
            Given::AsArgument => patronictl.arg("-c").arg(&self.config),
            _ => patronictl.env("PATRONI_CONFIGURATION", &self.text),
        };
        patronictl.args(arguments);
        run(patronictl.env("HOME", home), SOON).result().unwrap()
    }

    /// What `patronictl list` says of the cluster, as this node's configuration leads to it.
    #[track_caller]
    pub fn members(&self) -> Vec<Value> {
        let said = self.patronictl(&["list", "-f", "json"]);
        let members: Vec<Value> =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let without_places = |mut member: Value| {
            // A newer one says how far each has come, which is another place every time.
            if let Some(keys) = member.as_object_mut() {
                keys.retain(|key, _| !key.contains("LSN") && !key.contains("Lag"));
            }
            member
        };
        members.into_iter().map(without_places).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name(), tail(&self.log()));
        }
        // What Patroni would do at its end takes its time; the data is about to be removed.
        self.kill9();
        let data = self.cluster.data_directory();
        let postmaster = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let number = postmaster.lines().next().and_then(|text| text.parse().ok());
        // No child of ours: that it has its working directory here says that it is still the same.
        if let Some(number) = number.filter(|number| processes_in(data).contains(number)) {
            let pid = Pid::from_raw(u32::cast_signed(number)).unwrap();
            let _ended = kill_process(pid, Signal::QUIT);
        }
    }
}

/// An etcd, and a leader and a replica.
pub struct Bed {
    /// The first is the leader, unless a test makes it otherwise.
    pub nodes: [Node; 2],
    _etcd: Etcd,
}

impl Bed {
    /// Starts all of it, and waits until the replica streams. What `settings` gives for a node's name
    /// is written into its YAML file: `restapi`, `postgresql.parameters`, and more at the top.
    #[track_caller]
    pub fn start(world: &World, settings: impl Fn(&str) -> Settings) -> Self {
        let etcd = Etcd::start(world);
        let mut nodes = ["n1", "n2"].map(|name| node(world, &etcd, name, settings(name)));
        fs::remove_dir_all(nodes[1].cluster.data_directory()).unwrap();
        for node in &mut nodes {
            node.start();
            if node.name() == "n1" {
                eventually(SOON * 2, "the first node leads", || {
                    node.log().contains("the leader with the lock")
                });
            }
        }
        // Patroni makes the slot a moment after the replica first asks for it.
        let streaming = "select count(*) from pg_replication_slots join pg_stat_replication on pid = active_pid \
             where state = 'streaming'";
        eventually(SOON * 2, "the replica streams", || {
            nodes[0].cluster.sql(streaming) == "1"
        });
        eventually(SOON * 2, "Patroni has seen it", || {
            nodes[0]
                .members()
                .iter()
                .all(|member| member["TL"].is_number())
        });
        Self { nodes, _etcd: etcd }
    }
}

/// An etcd, and a leader alone.
pub struct Solo {
    /// It.
    pub node: Node,
    _etcd: Etcd,
}

impl Solo {
    /// Starts both, and waits until the node leads.
    #[track_caller]
    pub fn start(world: &World, settings: Settings) -> Self {
        let etcd = Etcd::start(world);
        let mut node = node(world, &etcd, "n1", settings);
        node.start();
        eventually(SOON * 2, "the node leads", || {
            node.log().contains("the leader with the lock")
        });
        Self { node, _etcd: etcd }
    }
}

impl Settings {
    /// A REST API that shows the certificate of this file.
    pub fn with_tls(file: &Path) -> Self {
        Self {
            restapi: vec![("certfile", file.display().to_string())],
            ..Self::default()
        }
    }
}

/// What a test sets of a node.
#[derive(Default)]
pub struct Settings {
    /// Keys of `restapi`, beside where it listens.
    pub restapi: Vec<(&'static str, String)>,
    /// Parameters of PostgreSQL.
    pub parameters: Vec<(&'static str, String)>,
    /// Lines at the end of the file.
    pub more: String,
    /// Files that are laid over the node's own, by name: its configuration is then a directory, in
    /// which its own is called `10-node.yml`.
    pub over: Vec<(&'static str, String)>,
    /// Variables of Patroni's environment.
    pub environment: Vec<(&'static str, String)>,
    /// How Patroni gets all this.
    pub given: Given,
    /// A file that Patroni sees by itself, mounted at another place, and not in its directory.
    pub alone: Option<(PathBuf, PathBuf)>,
    /// Where the REST API listens, if that is for the test to know before; else anywhere.
    pub rest: Option<Port>,
}

fn node(world: &World, etcd: &Etcd, name: &str, mut settings: Settings) -> Node {
    let cluster = Cluster::build(world).name(name).create();
    let home = cluster.data_directory().parent().unwrap().to_owned();
    let rest = settings.rest.take().unwrap_or_else(Port::claim);
    let (config, file) = if settings.over.is_empty() {
        (home.join("patroni.yml"), home.join("patroni.yml"))
    } else {
        let directory = home.join("patroni");
        fs::create_dir(&directory).unwrap();
        (directory.clone(), directory.join("10-node.yml"))
    };
    for (name, text) in &settings.over {
        fs::write(config.join(name), text).unwrap();
        give(&config.join(name), world.postgres(), 0o600);
    }
    let node = Node {
        patroni: None,
        text: yaml(&cluster, &rest, etcd, &settings),
        config,
        file,
        given: settings.given,
        alone: settings.alone,
        starter: Vec::new(),
        environment: settings.environment,
        log: home.join("patroni.log"),
        rest,
        programs: Programs::for_world(world),
        owner: cluster.owner(),
        cluster,
    };
    if node.given == Given::AsArgument {
        node.write_file();
    }
    node
}

fn yaml(cluster: &Cluster, rest: &Port, etcd: &Etcd, settings: &Settings) -> String {
    let lines = |indent: &str, pairs: &[(&str, String)]| {
        pairs.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{indent}{key}: '{value}'").unwrap();
            text
        })
    };
    let (name, port) = (cluster.name(), cluster.port());
    let data = cluster.data_directory().display();
    let home = cluster.data_directory().parent().unwrap().display();
    let bin = super::postgres::Programs::debian().path("");
    let bin = bin.display();
    format!(
        "scope: bed
name: {name}
restapi:
  listen: {rest}
  connect_address: {rest}
{restapi}etcd3:
  hosts: {etcd}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: {LOOP_WAIT}
    retry_timeout: 3
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {data}
  bin_dir: {bin}
  pgpass: {home}/pgpass
  authentication:
    superuser: {{username: postgres, password: none}}
    replication: {{username: postgres, password: none}}
  basebackup:
  - checkpoint: fast
  - no-sync
  parameters:
    log_min_duration_statement: -1
{parameters}  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
  - host replication all 127.0.0.1/32 trust
{more}",
        rest = rest.address(),
        etcd = etcd.clients.address(),
        restapi = lines("  ", &settings.restapi),
        parameters = lines("    ", &settings.parameters),
        more = settings.more,
    )
}
