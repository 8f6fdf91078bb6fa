//! The real `pgcertd`: the daemon and the commands.

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    SOON, World, command,
    config::Config,
    container::{self, Container, Host},
    eventually,
    journal::Journal,
    process::{Done, Process, run},
    tail, through,
};

/// How pgcertd is to be started: by whom, in which environment, under strace or not.
#[derive(Clone)]
#[must_use]
pub struct Launch {
    directory: PathBuf,
    program: PathBuf,
    prefix: Vec<String>,
    env: Vec<(String, String)>,
    log_to: Option<Arc<OwnedFd>>,
}

impl Launch {
    /// As root, with an empty environment.
    pub fn new(world: &World) -> Self {
        Self {
            directory: world.path().to_owned(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_pgcertd")),
            prefix: Vec::new(),
            env: Vec::new(),
            log_to: None,
        }
    }

    /// A daemon that logs to this descriptor, so that [`Daemon::log`] stays empty.
    pub fn log_to(mut self, descriptor: OwnedFd) -> Self {
        self.log_to = Some(Arc::new(descriptor));
        self
    }

    /// As another user, with its groups and no capability.
    pub fn by_user(self, user: &str) -> Self {
        let user = nix::unistd::User::from_name(user).unwrap().unwrap();
        self.through(&[
            "setpriv",
            &format!("--reuid={}", user.uid),
            &format!("--regid={}", user.gid),
            "--init-groups",
        ])
    }

    /// As the packaged unit does: the user postgres, and CAP_DAC_READ_SEARCH as its one capability.
    pub fn like_the_unit(self) -> Self {
        self.through(&[
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--bounding-set=-all,+dac_read_search",
            "--inh-caps=-all,+dac_read_search",
            "--ambient-caps=-all,+dac_read_search",
            "--no-new-privs",
        ])
    }

    /// As root that may not look into the processes of others, as in many containers.
    pub fn without_ptrace(self) -> Self {
        // From Linux 6.13 on either of the other two opens a process's environment as well.
        self.through(&["setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-perfmon"])
    }

    /// Under strace with these arguments, its output in `strace.log` of the world. The number of
    /// the process is pgcertd's all the same (`-D`).
    pub fn strace(mut self, args: &[&str]) -> Self {
        let log = self.directory.join("strace.log");
        self.prefix
            .extend(["strace", "-D", "-f", "-q", "-o"].map(str::to_owned));
        self.prefix.push(log.to_str().unwrap().to_owned());
        self.prefix.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// On a host of a test's own.
    pub fn on(self, host: &Host) -> Self {
        let prefix = host.prefix();
        self.through(&prefix.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// In a container beside one with a server; the world is there under its own path, and the
    /// data directory as the server has it.
    pub fn beside(self, container: &Container, data_directory: &Path) -> Self {
        let world = self.directory.clone();
        let root = world.join("sidecar");
        fs::create_dir_all(&root).unwrap();
        let volumes = [
            (&*world, world.to_str().unwrap()),
            (data_directory, container::DATA),
        ];
        let prefix = container.beside(&root, &volumes);
        self.through(&prefix.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Where `/proc` shows a user no process of another one (`hidepid=`).
    pub fn with_hidden_processes(self) -> Self {
        let script = "mount -t proc -o hidepid=ptraceable proc /proc && exec \"$@\"";
        let unshared = ["unshare", "--mount", "--propagation=private"];
        self.through(&[&unshared[..], &["sh", "-ec", script, "sh"]].concat())
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The program that is started.
    pub fn program_path(&self) -> &Path {
        &self.program
    }

    /// Another program in pgcertd's place, which every user must be able to reach.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// As a service of this journal: what it says goes there alone.
    pub fn into_journal(self, journal: &Journal) -> Self {
        let prefix = journal.prefix();
        self.through(&prefix.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Where `directory` lies over `place`, for pgcertd alone.
    pub fn mounted(self, directory: &Path, place: &Path) -> Self {
        let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        let unshared = ["unshare", "--mount", "--propagation=private"];
        let paths = [directory, place].map(|path| path.to_str().unwrap());
        self.through(&[&unshared[..], &["sh", "-ec", script, "sh"], &paths].concat())
    }

    /// On a terminal of its own: what is written to either stream comes as standard output, as the terminal gets it.
    pub fn on_a_terminal(self) -> Self {
        // `script` takes one text, which bash reads as it has written it.
        let script = r#"SHELL=/bin/bash exec script --quiet --return --command "${*@Q}" /dev/null"#;
        self.env("TERM", "xterm-256color")
            .through(&["bash", "-c", script, "bash"])
    }

    /// Measured: at the end standard error tells by how much memory it took at most, see [`Outcome::peak`].
    pub fn measured(self) -> Self {
        let program = "import resource, subprocess, sys; \
                       code = subprocess.call(['setpriv', '--pdeathsig', 'KILL', *sys.argv[1:]]); \
                       peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; \
                       print(f'peak {peak}', file=sys.stderr); sys.exit(code)";
        self.through(&["python3", "-c", program])
    }

    /// Through a program that executes what its arguments end with.
    pub fn through(mut self, prefix: &[&str]) -> Self {
        // Another user may be unable to reach `target`.
        let copy = self.directory.join("bin/pgcertd");
        if !copy.exists() {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            // By a child: a program that another thread of the tests starts at this moment would
            // hold a file that we have open for writing, and what is written cannot be run.
            run(command("cp").arg("--").arg(&self.program).arg(&copy), SOON)
                .result()
                .unwrap();
        }
        self.program = copy;
        self.prefix.extend(prefix.iter().map(|&arg| arg.to_owned()));
        self
    }

    fn command(&self) -> Command {
        let mut started = through(&self.prefix, &self.program);
        started.envs(self.env.iter().map(|(name, value)| (name, value)));
        started
    }

    /// Starts `pgcertd run`.
    pub fn daemon(&self, config: &Config) -> Daemon {
        self.service("run", config)
    }

    /// Starts `pgcertd notify`.
    pub fn notifier(&self, config: &Config) -> Daemon {
        self.service("notify", config)
    }

    fn service(&self, command: &str, config: &Config) -> Daemon {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("pgcertd-{number}.log"));
        let socket = self.directory.join(format!("notify-{number}"));
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_nonblocking(true).unwrap();
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&socket, everyone).unwrap();
        let file = File::create(&log).unwrap();
        let output = match &self.log_to {
            Some(descriptor) => descriptor.try_clone().unwrap(),
            None => OwnedFd::from(file),
        };
        let process = Process::spawn(
            self.command()
                .args([command, "--config"])
                .arg(config.path())
                .env("NOTIFY_SOCKET", &socket)
                .stdin(Stdio::null())
                .stdout(output.try_clone().unwrap())
                .stderr(output),
        );
        Daemon {
            process,
            log,
            notify,
            notified: Vec::new(),
        }
    }

    /// Runs one command to its end, with `--config` added.
    #[track_caller]
    pub fn run(&self, config: &Config, args: &[&str]) -> Outcome {
        self.run_with(config.path(), args)
    }

    /// The same with a config of any name.
    #[track_caller]
    pub fn run_with(&self, config: &Path, args: &[&str]) -> Outcome {
        let mut started = self.command();
        started.args(args).arg("--config").arg(config);
        Outcome(run(&mut started, SOON * 3))
    }
}

/// How a command of pgcertd ended.
#[derive(Debug)]
pub struct Outcome(Done);

impl Outcome {
    /// The exit status; a signal's number negated.
    pub fn code(&self) -> i32 {
        self.0.code()
    }

    /// Standard output.
    pub fn stdout(&self) -> &str {
        &self.0.stdout
    }

    /// Standard error.
    pub fn stderr(&self) -> &str {
        &self.0.stderr
    }

    /// The most memory that it took, in KiB, where it was [`Launch::measured`].
    #[track_caller]
    pub fn peak(&self) -> u64 {
        let peak = self
            .stderr()
            .lines()
            .last()
            .and_then(|line| line.strip_prefix("peak "));
        match peak.and_then(|peak| peak.parse().ok()) {
            Some(peak) => peak,
            None => panic!("it was not measured: {self:?}"),
        }
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(self.stdout()) {
            Ok(value) => value,
            Err(error) => panic!("not one JSON document: {error}: {self:?}"),
        }
    }

    /// The object of one instance in the JSON document.
    #[track_caller]
    pub fn instance(&self, name: &str) -> Value {
        let json = self.json();
        let instances = json["instances"].as_array().cloned().unwrap_or_default();
        match instances
            .into_iter()
            .find(|instance| instance["name"] == name)
        {
            Some(instance) => instance,
            None => panic!("{name} is not in {json}"),
        }
    }
}

/// Runs one command as root: `pgcertd(&world, &config, &["sync", "--json"])`.
#[track_caller]
pub fn pgcertd(world: &World, config: &Config, args: &[&str]) -> Outcome {
    Launch::new(world).run(config, args)
}

/// What `status --json` says, as root.
#[track_caller]
pub fn status(world: &World, config: &Config) -> Value {
    pgcertd(world, config, &["status", "--json"]).json()
}

/// Waits until `status` shows the instance in this state; gives the instance's object.
#[track_caller]
pub fn eventually_state(world: &World, config: &Config, instance: &str, state: &str) -> Value {
    eventually(SOON, &format!("{instance} is {state}"), || {
        let seen = pgcertd(world, config, &["status", "--json"]).instance(instance);
        if seen["state"] == state {
            Ok(seen)
        } else {
            Err(format!("{seen}"))
        }
    })
}

/// Waits until the daemon has looked at nothing for longer than the 5 s in which it looks twice:
/// what comes then is by something that has told it.
#[track_caller]
pub fn eventually_at_rest(config: &Config) {
    let file = config.runtime_directory().join("status.json");
    eventually(SOON * 4, "the daemon rests", || {
        let written = fs::metadata(&file).and_then(|file| file.modified());
        let age = written.ok().and_then(|time| time.elapsed().ok());
        age.is_some_and(|age| age > Duration::from_secs(6))
    });
}

/// A running `pgcertd run` or `pgcertd notify`.
pub struct Daemon {
    process: Process,
    log: PathBuf,
    notify: UnixDatagram,
    notified: Vec<String>,
}

impl Daemon {
    /// Starts it as root, and waits until it says that it is ready.
    #[track_caller]
    pub fn start(world: &World, config: &Config) -> Self {
        let mut daemon = Launch::new(world).daemon(config);
        daemon.ready();
        daemon
    }

    /// The daemon's number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until it tells systemd `READY=1`.
    #[track_caller]
    pub fn ready(&mut self) {
        eventually(SOON, "the daemon is ready", || {
            if let Some(status) = self.process.ended() {
                panic!("the daemon ended, {status}:\n{}", tail(&self.log()));
            }
            self.notified().iter().any(|line| line == "READY=1")
        });
    }

    /// All that it has told systemd so far, a line each.
    pub fn notified(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.notify.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            self.notified.extend(text.lines().map(str::to_owned));
        }
        &self.notified
    }

    /// All that it has written to standard output and standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The file that [`Daemon::log`] reads.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Waits for a log line that contains this text, and gives it.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        eventually(SOON, &format!("the log has {text:?}"), || {
            self.log()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Sends it a signal; false when it has ended.
    pub fn signal(&mut self, signal: Signal) -> bool {
        self.process.signal(signal)
    }

    /// Sends SIGHUP: it reads its configuration again.
    pub fn hangup(&mut self) {
        assert!(self.signal(Signal::HUP), "the daemon has ended");
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(SOON)
    }

    /// Waits for an end that something else has brought about.
    #[track_caller]
    pub fn ended(&mut self, deadline: Duration) -> ExitStatus {
        match self.process.wait(deadline) {
            Some(status) => status,
            None => panic!("the daemon did not end:\n{}", tail(&self.log())),
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill9(mut self) {
        self.process.kill();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- pgcertd's log\n{}", tail(&self.log()));
        }
    }
}
