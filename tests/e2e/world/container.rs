//! Containers without an engine: namespaces and a root directory of their own, as `docker run`
//! gives them, inside a pid namespace that stands for the host, so that no test can reach
//! the machine's own first process.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    SOON, World,
    ca::describe,
    cluster::{Cluster, ClusterBuilder},
    command, eventually,
    pgbouncer::PgBouncer,
    process::{Process, run},
    tail,
};

/// Where a container has the data directory, as the official image has it.
pub const DATA: &str = "/var/lib/postgresql/data";

/// Where a container has the directory of the target.
pub const CERTIFICATES: &str = "/certificates";

/// Notes each SIGHUP and reaps whatever is left to it.
const INIT: &str = r#"
trap 'echo HUP >>"$1"' HUP
echo up >"$1"
while :; do sleep infinity & wait $!; done
"#;

/// Makes a root directory of the host's programs and what is given as pairs of source and place,
/// goes there, and becomes what follows `--`.
const ENTER: &str = r#"
set -e
root=$1
shift
mount -t tmpfs tmpfs "$root"
mkdir "$root/usr" "$root/etc" "$root/dev" "$root/proc" "$root/tmp" "$root/old"
chmod 1777 "$root/tmp"
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
mount --bind /usr "$root/usr"
for file in passwd group nsswitch.conf ld.so.cache; do cp "/etc/$file" "$root/etc/"; done
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$(dirname "$root$2")"
        : >"$root$2"
    fi
    mount --bind "$1" "$root$2"
    shift 2
done
shift
mount -t proc proc "$root/proc"
cd "$root"
pivot_root . old
umount -l /old
exec "$@"
"#;

/// A pid namespace that stands for a host; everything in it ends with this value.
pub struct Host {
    init: Process,
    number: u32,
    record: PathBuf,
}

impl Host {
    /// Starts its first process, which notes each SIGHUP.
    #[track_caller]
    pub fn new(world: &World) -> Self {
        let record = world.path().join("init.hangups");
        let mut unshare = command("unshare");
        unshare
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", INIT, "init"])
            .arg(&record);
        let init = Process::spawn(&mut unshare);
        let number = eventually(SOON, "the host's first process is up", || {
            let up = fs::read_to_string(&record).is_ok_and(|text| text == "up\n");
            up.then(|| child_of(init.pid())).flatten()
        });
        Self {
            init,
            number,
            record,
        }
    }

    /// What has a program run there.
    pub fn prefix(&self) -> Vec<String> {
        let number = self.number.to_string();
        ["nsenter", "--target", &number, "--pid", "--mount"]
            .map(str::to_owned)
            .to_vec()
    }

    fn command(&self) -> Command {
        let prefix = self.prefix();
        let mut nsenter = command(&prefix[0]);
        nsenter.args(&prefix[1..]).arg("--");
        nsenter
    }

    /// Runs a line of shell there, to its end; gives what it wrote.
    #[track_caller]
    pub fn shell(&self, line: &str, arguments: &[&str]) -> String {
        let mut shell = self.command();
        shell.args(["sh", "-c", line, "sh"]).args(arguments);
        run(&mut shell, SOON).result().unwrap()
    }

    /// How many SIGHUPs its first process has got.
    pub fn hangups(&self) -> usize {
        let noted = fs::read_to_string(&self.record).unwrap();
        noted.matches("HUP").count()
    }

    /// Shows that none came, and that one would have been seen.
    #[track_caller]
    pub fn was_left_alone(&self) {
        assert_eq!(self.hangups(), 0);
        self.shell("kill -HUP 1", &[]);
        eventually(SOON, "a SIGHUP is noted", || self.hangups() == 1);
    }

    /// Starts a process of the user postgres that has this number there and notes each SIGHUP in
    /// a file, which is given.
    #[track_caller]
    pub fn holder(&self, world: &World, number: u32) -> PathBuf {
        let record = world.postgres_directory("holder", 0o755).join("hangups");
        let line = r#"
            echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
            setpriv --reuid=postgres --regid=postgres --clear-groups sh -c "$3" holder "$2" >&- 2>&- &
            echo $!
        "#;
        let path = record.to_str().unwrap();
        let started = self.shell(line, &[&number.to_string(), path, INIT]);
        assert_eq!(started, number.to_string(), "another has the number");
        eventually(SOON, "the holder is up", || {
            fs::read_to_string(&record).is_ok_and(|text| text == "up\n")
        });
        record
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its first process takes all others with it.
        self.init.kill();
    }
}

/// What is mounted, and where.
pub type Volume = (PathBuf, String);

/// A container to be.
#[must_use]
pub struct ContainerBuilder<'h> {
    host: &'h Host,
    namespaces: Vec<String>,
    volumes: Vec<Volume>,
    first: Vec<String>,
}

impl<'h> ContainerBuilder<'h> {
    /// Of this host, with a pid and a mount namespace of its own and the host's network.
    pub fn new(host: &'h Host) -> Self {
        Self {
            host,
            namespaces: vec!["--pid".into(), "--mount".into()],
            volumes: Vec::new(),
            first: Vec::new(),
        }
    }

    /// With a network of its own.
    pub fn network(mut self) -> Self {
        self.namespaces.push("--net".into());
        self
    }

    /// With a file or a directory of the host.
    pub fn volume(mut self, source: &Path, place: &str) -> Self {
        self.volumes.push((source.to_owned(), place.to_owned()));
        self
    }

    /// With another first process, whose child the server is, with a number above this one.
    pub fn below_an_init(mut self, number: u32) -> Self {
        let line = r#"echo $1 >/proc/sys/kernel/ns_last_pid; shift; "$@" & wait $!"#;
        self.first = ["sh", "-c", line, "init"].map(str::to_owned).to_vec();
        self.first.push(number.to_string());
        self
    }

    /// What becomes a program of the user postgres in it; its root directory is made in `home`.
    fn command(&self, home: &Path, program: &Path) -> Command {
        let root = home.join("root");
        fs::create_dir_all(&root).unwrap();
        let mut command = self.host.command();
        command
            .args(["unshare", "--fork", "--kill-child"])
            .args(&self.namespaces)
            .args(["sh", "-c", ENTER, "sh"])
            .arg(&root);
        for (source, place) in &self.volumes {
            command.arg(source).arg(place);
        }
        command
            .arg("--")
            .args(&self.first)
            .args(["setpriv", "--reuid=postgres", "--regid=postgres"])
            .arg("--clear-groups")
            .arg(program)
            .stdin(std::process::Stdio::null());
        command
    }

    /// Starts a pooler, whose own directory is there under its own path, and waits until it is up.
    #[track_caller]
    pub fn pgbouncer(self, pooler: &PgBouncer) -> Pooler {
        let file = pooler.config_file();
        let home = file.parent().unwrap();
        // Its TLS library wants to know the roots that Debian trusts.
        let builder = self
            .volume(Path::new("/etc/ssl"), "/etc/ssl")
            .volume(home, home.to_str().unwrap());
        let log = File::options()
            .create(true)
            .append(true)
            .open(pooler.log_file());
        let begun = pooler.log().len();
        let mut started = builder.command(home, Path::new("pgbouncer"));
        started
            .arg(&file)
            .stdout(std::process::Stdio::null())
            .stderr(log.unwrap());
        let mut outer = Process::spawn(&mut started);
        let number = eventually(SOON, "the container's pooler is up", || {
            let said = pooler.log()[begun..].to_owned();
            assert!(outer.ended().is_none(), "it ended:\n{}", tail(&said));
            let up = said.contains("process up");
            // nsenter has one child, and unshare another.
            up.then(|| child_of(child_of(outer.pid())?))
                .flatten()
                .ok_or(said)
        });
        Pooler { outer, number }
    }

    /// Starts the server, and waits until it takes connections.
    #[track_caller]
    pub fn postgres(self, cluster: &Cluster) -> Container {
        let home = cluster.data_directory().parent().unwrap();
        let log = home.join("container.log");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let program = cluster.program("postgres");
        let programs = program.ancestors().nth(2).unwrap();
        let mut builder = self.volume(cluster.data_directory(), DATA);
        if !programs.starts_with("/usr") {
            builder = builder.volume(programs, programs.to_str().unwrap());
        }
        let mut started = builder.command(home, &program);
        started
            .args(["-D", DATA])
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let mut outer = Process::spawn(&mut started);
        let data = cluster.data_directory().to_owned();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let postmaster = eventually(SOON, "the container's server is up", || {
            assert!(outer.ended().is_none(), "it ended:\n{}", tail(&said()));
            let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let ready = pid_file.contains("\nready");
            ready
                .then(|| postmaster_in(&data))
                .flatten()
                .ok_or_else(said)
        });
        Container {
            outer,
            postmaster,
            data,
            log,
        }
    }
}

/// A container of a pooler; it ends with this value.
pub struct Pooler {
    outer: Process,
    number: u32,
}

impl Pooler {
    /// Its number for the test, which runs outside of all.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Shuts it down.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
        assert!(self.outer.wait(SOON).is_some(), "the pooler did not stop");
    }

    fn end(&self, signal: Signal) {
        // It has not been asked for as long as its parent has it.
        if child_of(self.outer.pid()).and_then(child_of) == Some(self.number) {
            let _gone = kill_process(Pid::from_raw(self.number.cast_signed()).unwrap(), signal);
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end(Signal::KILL);
        self.outer.kill();
    }
}

/// What a container of pgcertd is made of: its root directory and its volumes.
pub struct Sidecar {
    root: PathBuf,
    volumes: Vec<Volume>,
}

impl Sidecar {
    /// With these volumes; its root is a directory of the world, and has the name.
    pub fn new(world: &World, name: &str, volumes: Vec<Volume>) -> Self {
        Self {
            root: world.directory(name),
            volumes,
        }
    }

    /// A command of it on a host, in namespaces of its own.
    pub fn alone(&self, host: &Host) -> Command {
        let mut command = host.command();
        command.args(["unshare", "--pid", "--net", "--mount", "--fork"]);
        command.arg("--kill-child");
        self.filled(command)
    }

    /// A command of it that shares the numbers and the network of a server's container.
    pub fn beside(&self, container: &Container) -> Command {
        let mut command = command("nsenter");
        let number = container.postmaster.to_string();
        command.args(["--target", &number, "--pid", "--net", "--"]);
        command.args(["unshare", "--mount"]);
        self.filled(command)
    }

    /// As the user of Postgres, with no capability but that which the engine lets a program take up
    /// by its file.
    fn filled(&self, mut command: Command) -> Command {
        command.args(["sh", "-c", ENTER, "sh"]).arg(&self.root);
        for (source, place) in &self.volumes {
            command.arg(source).arg(place);
        }
        command.args(["--", "setpriv", "--reuid=postgres", "--regid=postgres"]);
        command.args(["--clear-groups", "--inh-caps=-all"]);
        command.arg("--bounding-set=-all,+dac_read_search");
        command
    }
}

/// A server in a container.
pub struct Container {
    outer: Process,
    postmaster: u32,
    data: PathBuf,
    log: PathBuf,
}

impl Container {
    /// The postmaster's number for the test, which runs outside of all.
    pub fn postmaster(&self) -> u32 {
        self.postmaster
    }

    /// The number in `postmaster.pid`.
    pub fn inner_number(&self) -> u32 {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// A command in its network.
    pub fn in_network(&self, program: &str) -> Command {
        let mut nsenter = command("nsenter");
        let number = self.postmaster.to_string();
        nsenter.args(["--target", &number, "--net", "--", program]);
        nsenter
    }

    /// The fingerprint of the leaf that a new connection in its network is shown.
    pub fn served(&self, port: u16) -> String {
        let mut client = self.in_network("openssl");
        client.args(["s_client", "-starttls", "postgres", "-connect"]);
        let shown = run(client.arg(format!("127.0.0.1:{port}")), SOON);
        describe(&shown.stdout).0
    }

    /// What has a program run in a container beside this one: it shares the pid namespace, has a
    /// root directory of its own, in `root`, and these volumes.
    pub fn beside(&self, root: &Path, volumes: &[(&Path, &str)]) -> Vec<String> {
        let number = self.postmaster.to_string();
        let entered = [
            "nsenter", "--target", &number, "--pid", "unshare", "--mount",
        ];
        let made = ["sh", "-c", ENTER, "sh", root.to_str().unwrap()];
        let mounted = volumes
            .iter()
            .flat_map(|(source, place)| [source.to_str().unwrap(), place]);
        let words = entered.into_iter().chain(made).chain(mounted);
        words.chain(["--"]).map(str::to_owned).collect()
    }

    /// How often the server has been asked to reload.
    pub fn reloads(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.matches("received SIGHUP, reloading").count()
    }

    /// Kills it, which leaves `postmaster.pid`.
    pub fn kill(mut self) {
        self.end(Signal::KILL);
    }

    /// Shuts it down.
    pub fn stop(mut self) {
        self.end(Signal::INT);
    }

    fn end(&mut self, signal: Signal) {
        let pid = Pid::from_raw(self.postmaster.cast_signed()).unwrap();
        if postmaster_in(&self.data) == Some(self.postmaster) {
            // It may have ended by itself.
            let _gone = kill_process(pid, signal);
        }
        let data = self.data.clone();
        eventually(SOON, "the container's server ends", || {
            postmaster_in(&data).is_none()
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of the container\n{}", tail(&log));
        }
        self.end(Signal::KILL);
        self.outer.kill();
    }
}

/// Settings with which a cluster runs at the paths of a container, its TLS files in
/// [`CERTIFICATES`].
pub fn contained(cluster: ClusterBuilder<'_>) -> ClusterBuilder<'_> {
    let file = format!("{CERTIFICATES}/server.pem");
    cluster
        .tls(Path::new(&file))
        .setting("hba_file", &format!("{DATA}/pg_hba.conf"))
        .setting("ident_file", &format!("{DATA}/pg_ident.conf"))
        .setting("unix_socket_directories", "/tmp")
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.trim().parse().ok()
}

/// The process that stands in this directory, whatever it calls it, and whose parent does not.
fn postmaster_in(directory: &Path) -> Option<u32> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let wanted = identity(directory)?;
    let stands = |pid: u32| identity(&PathBuf::from(format!("/proc/{pid}/cwd"))) == Some(wanted);
    let parent = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("PPid:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|pid| stands(*pid) && parent(*pid).is_some_and(|parent| !stands(parent)))
}
