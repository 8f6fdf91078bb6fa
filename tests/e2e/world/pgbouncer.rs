//! A throw-away PgBouncer before a throw-away PostgreSQL.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    Owner, SOON, World,
    client::{Load, Served, Session, peer_at, peer_of},
    cluster::Cluster,
    command, eventually, give,
    port::Port,
    postgres::fetched_by,
    process::{Process, run},
    tail,
};

/// A configuration and, while it runs, its process, which is a child of the test.
///
/// It listens on 127.0.0.1 and on a socket in the world, lets everyone in as postgres, and has TLS off
/// until a test sets it. It gives a session a server of its own (`pool_mode = session`).
pub struct PgBouncer {
    name: String,
    program: PathBuf,
    owner: Owner,
    home: PathBuf,
    databases: String,
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    /// What starts it as its child.
    starter: Vec<String>,
    port: Arc<Port>,
    process: Option<Process>,
}

impl PgBouncer {
    /// Makes a configuration for a pooler before this cluster; nothing is started.
    pub fn before(world: &World, cluster: &Cluster, name: &str) -> Self {
        Self::at(world, cluster, name, Arc::new(Port::claim()))
    }

    /// As [`PgBouncer::before`], at the port of another one.
    pub fn beside(&self, world: &World, cluster: &Cluster, name: &str) -> Self {
        Self::at(world, cluster, name, Arc::clone(&self.port))
    }

    fn at(world: &World, cluster: &Cluster, name: &str, port: Arc<Port>) -> Self {
        let home = world.postgres_directory(&format!("poolers/{name}"), 0o755);
        let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let settings = vec![
            setting("listen_addr", "127.0.0.1"),
            setting("listen_port", &port.number().to_string()),
            setting("unix_socket_dir", home.to_str().unwrap()),
            setting("pidfile", home.join("pgbouncer.pid").to_str().unwrap()),
            setting("auth_type", "any"),
            setting("admin_users", "postgres"),
            setting("pool_mode", "session"),
        ];
        let pooler = Self {
            name: name.to_owned(),
            program: program(world),
            owner: world.postgres(),
            databases: format!(
                "* = host={} port={} user=postgres",
                cluster.sockets().display(),
                cluster.port()
            ),
            home,
            settings,
            env: Vec::new(),
            arguments: Vec::new(),
            starter: Vec::new(),
            port,
            process: None,
        };
        pooler.write();
        pooler
    }

    /// Sets a parameter, for the next start or reload.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self.write();
    }

    /// Takes a parameter out, for the next start or reload.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.write();
    }

    /// Turns TLS on, with chain and key in one file.
    pub fn tls(&mut self, file: &Path) {
        self.set("client_tls_sslmode", "allow");
        self.set("client_tls_cert_file", file.to_str().unwrap());
        self.set("client_tls_key_file", file.to_str().unwrap());
    }

    /// Sets an environment variable of its process.
    pub fn with_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Has it be started with this argument before its file.
    pub fn with_argument(&mut self, argument: &str) {
        self.arguments.push(argument.to_owned());
    }

    /// Has it be a child of what root starts with these words before its own; that must pass signals on.
    pub fn start_by(&mut self, starter: &[&str]) {
        self.starter = starter.iter().map(|&word| word.to_owned()).collect();
    }

    /// Its `pgbouncer.ini`.
    pub fn config_file(&self) -> PathBuf {
        self.home.join("pgbouncer.ini")
    }

    /// Its pid file, where one is set.
    pub fn pid_file(&self) -> PathBuf {
        self.home.join("pgbouncer.pid")
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its number; panics while it does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the pooler is down").pid()
    }

    /// Starts it and waits until it takes connections; else gives the log's end.
    pub fn start(&mut self) -> Result<(), String> {
        let (process, up) = self.launched(&[]);
        self.process = Some(process);
        up
    }

    /// Starts a second process by `-R`, which takes the sockets of the one that runs, and waits until that
    /// has ended.
    #[track_caller]
    pub fn take_over(&mut self) {
        let mut old = self.process.take().expect("the pooler is down");
        let (process, up) = self.launched(&["-R"]);
        self.process = Some(process);
        up.unwrap_or_else(|log| panic!("it did not take over:\n{log}"));
        assert!(old.wait(SOON).is_some(), "the one of before did not end");
    }

    /// A further process with the same configuration, as long as the value lives.
    #[track_caller]
    pub fn another(&self) -> Process {
        let (process, up) = self.launched(&[]);
        up.unwrap_or_else(|log| panic!("there is no other one:\n{log}"));
        process
    }

    /// A process with these arguments more, once it is up or has ended.
    fn launched(&self, arguments: &[&str]) -> (Process, Result<(), String>) {
        let begun = self.log().len();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut pgbouncer = match self.starter.split_first() {
            Some((first, rest)) => {
                let mut starter = command(first);
                starter.args(rest).arg(&self.program);
                starter
            }
            None => {
                let mut pgbouncer = command(&self.program);
                pgbouncer.uid(self.owner.uid).gid(self.owner.gid);
                pgbouncer
            }
        };
        pgbouncer
            .args(&self.arguments)
            .args(arguments)
            .arg(self.config_file())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = Process::spawn(&mut pgbouncer);
        let up = eventually(SOON, "the pooler is up or has ended", || {
            if let Some(_status) = process.ended() {
                return Some(Err(tail(&self.log()[begun..])));
            }
            // It listens before it has written its pid file, and may then still end.
            let quiet = self.arguments.iter().any(|argument| argument == "-q");
            let said = quiet || self.log()[begun..].contains("process up");
            let is_up = said && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).is_ok();
            is_up.then_some(Ok(()))
        });
        (process, up)
    }

    /// Shuts it down, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the pooler is down");
        process.signal(Signal::TERM);
        // From 1.23 on it waits for its clients to leave, until a second one.
        if process.wait(Duration::from_secs(1)).is_none() {
            process.signal(Signal::TERM);
        }
        let ended = process.wait(Duration::from_secs(10));
        assert!(ended.is_some(), "the pooler did not stop");
    }

    /// Kills it, so that its pid file stays.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.take().expect("the pooler is down").kill();
    }

    /// Its log since it was built.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How often it was asked to reload so far.
    pub fn reloads(&self) -> usize {
        self.log().matches("got SIGHUP").count()
    }

    /// The certificate that a new TLS connection is shown, by `openssl s_client`.
    pub fn peer(&self) -> Result<Served, String> {
        peer_at(self.port())
    }

    /// The same at another address of its own.
    pub fn peer_at(&self, host: &str) -> Result<Served, String> {
        peer_of(&format!("{host}:{}", self.port()))
    }

    /// The fingerprint of the leaf that a new TLS connection is shown; panics where none is.
    #[track_caller]
    pub fn served(&self) -> String {
        match self.peer() {
            Ok(served) => served.fingerprint,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// Opens a session through it over TLS, which stays open until it is dropped.
    #[track_caller]
    pub fn session(&self, cluster: &Cluster) -> Session {
        let port = self.port();
        cluster.session_by(&format!("host=127.0.0.1 port={port} sslmode=require"))
    }

    /// Starts a pgbench through it over TLS: `clients` at once run a short statement for `seconds`.
    pub fn pgbench(&self, clients: u32, seconds: u32) -> Load {
        Load::start(&self.home, self.port(), clients, seconds, &[])
    }

    /// Where its log is.
    pub fn log_file(&self) -> PathBuf {
        self.home.join("pgbouncer.log")
    }

    fn write(&self) {
        let mut text = format!("[databases]\n{}\n\n[pgbouncer]\n", self.databases);
        for (key, value) in &self.settings {
            writeln!(text, "{key} = {value}").unwrap();
        }
        self.replace(&text);
    }

    /// Puts other text into its configuration.
    pub fn replace(&self, text: &str) {
        let beside = self.home.join("pgbouncer.new");
        fs::write(&beside, text).unwrap();
        give(&beside, self.owner, 0o640);
        fs::rename(beside, self.config_file()).unwrap();
    }
}

/// Whether `make versions` runs the tests with a newer PgBouncer than Debian's; that has no `-R` any more.
pub fn is_newer() -> bool {
    std::env::var_os("PGCERTD_TEST_PGBOUNCER").is_some()
}

/// Debian's, or the newer one that `make versions` runs the tests with: a copy in the world, since the user postgres may be
/// unable to reach `target`.
#[track_caller]
fn program(world: &World) -> PathBuf {
    if !is_newer() {
        return "pgbouncer".into();
    }
    let copy = world.path().join("pgbouncer");
    let program = copy.join("bin/pgbouncer");
    if !copy.exists() {
        let fetched = fetched_by("pgbouncer", &[]);
        let mut copying = command("cp");
        run(copying.arg("-a").args([&fetched, &copy]), SOON)
            .result()
            .unwrap();
        let mut patch = command(copy.join("bin/patchelf"));
        patch
            .arg("--set-interpreter")
            .args([&copy.join("lib/ld.so"), &program]);
        run(&mut patch, SOON).result().unwrap();
    }
    program
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, tail(&self.log()));
        }
    }
}
