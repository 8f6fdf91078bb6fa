//! A throw-away PostgreSQL server.

mod copies;

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    Owner, SOON, World, command, eventually,
    faults::StrictOpenssl,
    give, in_own_mounts,
    port::Port,
    postgres::{self, Programs},
    process::Process,
    tail, template,
};

/// A data directory and, while it runs, its postmaster, which is a child of the test.
///
/// It listens on 127.0.0.1 and on a socket in the world, trusts everyone, and has TLS off until
/// a test sets it. Dropped, it is shut down and nothing of it runs on.
pub struct Cluster {
    name: String,
    programs: Programs,
    owner: Owner,
    data: PathBuf,
    config: Option<PathBuf>,
    sockets: PathBuf,
    log: PathBuf,
    log_to: Option<OwnedFd>,
    port: Port,
    env: Vec<(String, String)>,
    postmaster: Option<Process>,
}

/// A cluster that is not made yet.
#[must_use]
pub struct ClusterBuilder<'w> {
    world: &'w World,
    name: String,
    version: u32,
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    config_apart: bool,
    log_to: Option<OwnedFd>,
}

impl ClusterBuilder<'_> {
    /// Names it; otherwise it is `16-main`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Has it be of this major version, 13 to 19; otherwise it is the usual one.
    pub fn version(mut self, major: u32) -> Self {
        self.version = major;
        self
    }

    /// Sets a configuration parameter.
    pub fn setting(mut self, guc: &str, value: &str) -> Self {
        self.settings.push((guc.to_owned(), value.to_owned()));
        self
    }

    /// Turns TLS on, with chain and key in one file.
    pub fn tls(self, file: &Path) -> Self {
        self.tls_files(file, file)
    }

    /// Turns TLS on, with chain and key in two files.
    pub fn tls_files(self, cert: &Path, key: &Path) -> Self {
        self.setting("ssl", "on")
            .setting("ssl_cert_file", cert.to_str().unwrap())
            .setting("ssl_key_file", key.to_str().unwrap())
    }

    /// Sets an environment variable of the postmaster, `OPENSSL_CONF` for one.
    pub fn with_env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Has it log to this descriptor, so that [`Cluster::log`] stays empty.
    pub fn log_to(mut self, descriptor: OwnedFd) -> Self {
        self.log_to = Some(descriptor);
        self
    }

    /// Has its OpenSSL refuse RSA-2048.
    pub fn strict(self) -> Self {
        let strict = StrictOpenssl::new(self.world);
        self.with_env("OPENSSL_CONF", strict.conf.to_str().unwrap())
            .setting("ssl_dh_params_file", strict.dh_params.to_str().unwrap())
    }

    /// Where its data will lie.
    pub fn data_directory(&self) -> PathBuf {
        let home = self.world.path().join("clusters").join(&self.name);
        home.join("data")
    }

    /// Keeps the configuration outside the data directory, as Debian does.
    pub fn config_apart(mut self) -> Self {
        self.config_apart = true;
        self
    }

    /// Makes the data directory and starts the server.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = self.create();
        cluster.start_at_first();
        cluster
    }

    /// Makes the data directory, and starts nothing.
    pub fn create(self) -> Cluster {
        let world = self.world;
        world.postgres_directory(&format!("clusters/{}", self.name), 0o755);
        let data = self.data_directory();
        let programs = Programs::of_version(world, self.version);
        template::copy(world, &programs, &data);
        let config = self.config_apart.then(|| {
            let config = world.postgres_directory(&format!("clusters/{}/config", self.name), 0o755);
            for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
                fs::rename(data.join(file), config.join(file)).unwrap();
            }
            config
        });
        let cluster = Cluster {
            programs,
            owner: world.postgres(),
            sockets: world.postgres_directory("sockets", 0o755),
            log: world
                .path()
                .join(format!("clusters/{}/postgres.log", self.name)),
            log_to: self.log_to,
            name: self.name,
            data,
            config,
            port: Port::claim(),
            env: self.env,
            postmaster: None,
        };
        cluster.configure(&self.settings);
        cluster
    }
}

impl Cluster {
    /// Begins a cluster in this world.
    pub fn build(world: &World) -> ClusterBuilder<'_> {
        ClusterBuilder {
            world,
            name: "16-main".to_owned(),
            version: postgres::usual(),
            settings: Vec::new(),
            env: Vec::new(),
            config_apart: false,
            log_to: None,
        }
    }

    /// The name it was built with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The path of one of its programs, such as `postgres`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Where `postgresql.conf` lies.
    pub fn config_directory(&self) -> &Path {
        self.config.as_deref().unwrap_or(&self.data)
    }

    /// The directory of its Unix socket.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The postmaster's number; panics while it does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the cluster is down").pid()
    }

    /// Whether the postmaster runs.
    pub fn is_running(&mut self) -> bool {
        self.postmaster
            .as_mut()
            .is_some_and(|process| process.ended().is_none())
    }

    /// Starts a new server, on another port where its own was taken.
    #[track_caller]
    pub fn start_at_first(&mut self) {
        for _ in 0..3 {
            match self.start() {
                Ok(()) => return,
                // A program that is no test took the port in between.
                Err(log) if log.contains("Address already in use") => self.take_another_port(),
                Err(log) => panic!("the new cluster did not start:\n{log}"),
            }
        }
        panic!("the new cluster found its port taken three times");
    }

    /// Starts the server and waits until it accepts connections; else gives the log's end.
    pub fn start(&mut self) -> Result<(), String> {
        assert!(!self.is_running(), "{} runs already", self.name);
        let begun = self.log().len();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let log = match &self.log_to {
            Some(descriptor) => descriptor.try_clone().unwrap(),
            None => OwnedFd::from(log),
        };
        let mut postgres = command(self.programs.path("postgres"));
        postgres.arg("-D").arg(&self.data);
        if let Some(config) = &self.config {
            let file = config.join("postgresql.conf");
            postgres
                .arg("-c")
                .arg(format!("config_file={}", file.display()));
        }
        postgres
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .uid(self.owner.uid)
            .gid(self.owner.gid)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(log);
        let postmaster = self.postmaster.insert(Process::spawn(&mut postgres));
        let (pid_file, pid) = (self.data.join("postmaster.pid"), postmaster.pid());
        let up = eventually(SOON * 2, "the server starts or fails", || {
            if postmaster.ended().is_some() {
                return Some(false);
            }
            accepts(&pid_file, pid).then_some(true)
        });
        if up {
            return Ok(());
        }
        self.postmaster = None;
        Err(tail(&self.log()[begun..]))
    }

    /// Starts it in a mount namespace of its own, which this line of shell makes; it is the caller's to end.
    #[track_caller]
    pub fn start_in_own_mounts(&self, mount: &str) -> Process {
        let script = format!(
            "{mount} && exec setpriv --reuid={} --regid={} --clear-groups {} -D {}",
            self.owner.uid,
            self.owner.gid,
            self.program("postgres").display(),
            self.data.display()
        );
        let mut unshare = in_own_mounts(&script);
        let server = Process::spawn(unshare.stderr(Stdio::null()));
        let pid_file = self.data.join("postmaster.pid");
        eventually(SOON, "the server is up", || {
            fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))
        });
        server
    }

    /// Shuts it down at once, ending every session (`pg_ctl stop -m fast`).
    #[track_caller]
    pub fn stop(&mut self) {
        let mut postmaster = self.postmaster.take().expect("the cluster is down");
        postmaster.signal(Signal::INT);
        let ended = postmaster.wait(SOON);
        assert!(
            ended.is_some(),
            "{} did not stop:\n{}",
            self.name,
            tail(&self.log())
        );
    }

    /// Stops and starts it: what Postgres will not load shows here.
    pub fn restart(&mut self) -> Result<(), String> {
        if self.is_running() {
            self.stop();
        }
        self.start()
    }

    /// Kills the postmaster with SIGKILL, which leaves `postmaster.pid`, and waits for its children.
    pub fn kill9(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.kill();
        }
        eventually(SOON, "the killed postmaster's children end", || {
            processes_in(&self.data).is_empty()
        });
    }

    /// Stops the postmaster with SIGSTOP: its port takes connections that nothing answers.
    pub fn freeze(&mut self) {
        assert!(self.signal(Signal::STOP), "the cluster is down");
    }

    /// Lets a frozen postmaster go on.
    pub fn thaw(&mut self) {
        assert!(self.signal(Signal::CONT), "the cluster is down");
    }

    /// Sends the postmaster a signal; false while it does not run.
    pub fn signal(&mut self, signal: Signal) -> bool {
        self.postmaster
            .as_mut()
            .is_some_and(|process| process.signal(signal))
    }

    /// Sets a parameter in the configuration file; it counts from the next reload or start.
    pub fn set(&self, guc: &str, value: &str) {
        // One write, so that no reload comes upon half a file.
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.settings_file())
            .unwrap();
        let line = format!("{}\n", assignment(guc, value));
        file.write_all(line.as_bytes()).unwrap();
    }

    /// The file that [`Cluster::set`] writes, which `postgresql.conf` includes.
    pub fn settings_file(&self) -> PathBuf {
        self.config_directory().join("conf.d/test.conf")
    }

    /// Sends SIGHUP, and waits until the log shows that the postmaster has taken it.
    #[track_caller]
    pub fn reload_by_hand(&mut self) {
        let begun = self.log().len();
        assert!(self.signal(Signal::HUP), "the cluster is down");
        eventually(SOON, "the postmaster logs its reload", || {
            self.log()[begun..].contains("received SIGHUP, reloading configuration files")
        });
    }

    /// The server's log since it was built.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The user that the server runs as, who owns the data directory.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    fn configure(&self, settings: &[(String, String)]) {
        let directory = self.config_directory().join("conf.d");
        fs::create_dir(&directory).unwrap();
        give(&directory, self.owner, 0o755);
        let lines: Vec<String> = settings
            .iter()
            .map(|(guc, value)| assignment(guc, value))
            .collect();
        fs::write(self.settings_file(), lines.join("\n") + "\n").unwrap();
        give(&self.settings_file(), self.owner, 0o644);
        self.write_base();
        let conf = self.config_directory().join("postgresql.conf");
        let text = fs::read_to_string(&conf).unwrap();
        fs::write(&conf, text + "include_dir = 'conf.d'\n").unwrap();
    }

    fn take_another_port(&mut self) {
        self.port = Port::claim();
        self.write_base();
    }

    /// What a test does not choose; `test.conf` comes after it and may override it.
    fn write_base(&self) {
        let mut base = String::new();
        for (guc, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", &self.port().to_string()),
            ("unix_socket_directories", self.sockets.to_str().unwrap()),
            (
                "hba_file",
                self.config_directory()
                    .join("pg_hba.conf")
                    .to_str()
                    .unwrap(),
            ),
            (
                "ident_file",
                self.config_directory()
                    .join("pg_ident.conf")
                    .to_str()
                    .unwrap(),
            ),
        ] {
            writeln!(base, "{}", assignment(guc, value)).unwrap();
        }
        let file = self.config_directory().join("conf.d/harness.conf");
        fs::write(&file, base).unwrap();
        give(&file, self.owner, 0o644);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, tail(&self.log()));
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            // An immediate shutdown; a frozen postmaster has to go on to see it.
            postmaster.signal(Signal::QUIT);
            postmaster.signal(Signal::CONT);
            if postmaster.wait(Duration::from_secs(10)).is_none() {
                postmaster.kill();
            }
        }
        // Their home is about to be removed.
        for _ in 0..500 {
            if processes_in(&self.data).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.remove_shared_memory();
    }
}

impl Cluster {
    /// A postmaster that was killed leaves its System V segment (line 7 of the pid file: key and
    /// number), which the next start in the data directory would remove. There is no next one.
    fn remove_shared_memory(&self) {
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let number = pid_file
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let Some(number) = number {
            // It may be gone already.
            let _gone = std::process::Command::new("ipcrm")
                .args(["-m", number])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Whether this postmaster's own pid file says that it takes connections.
fn accepts(pid_file: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str())
        && matches!(lines.get(7), Some(&("ready" | "standby")))
}

/// The numbers of the processes whose working directory is this one.
pub fn processes_in(directory: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
        })
        .collect()
}

fn assignment(guc: &str, value: &str) -> String {
    format!("{guc} = '{}'", value.replace('\'', "''"))
}
