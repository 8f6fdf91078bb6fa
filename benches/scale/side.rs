//! One side of a comparison: servers, the lineages that they get their certificates from, and who
//! brings these.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{
    limit::{self, Errand, Errands, Task},
    preparations::write_back,
    probe::Probe,
    vitals::{CallCounter, Calls},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        cluster::Cluster,
        command,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_at_rest},
        lineage::{Kind, Lineage, Step},
        process::{Process, run},
    },
    write_clock::WriteClock,
};

/// How long a turn rests before it begins, so that no work of the one before it still runs.
const REST: Duration = Duration::from_millis(300);

/// How many instances pgcertd works on at once; the limit takes as many.
const AT_ONCE: usize = 32;

/// The packaged unit's, in microseconds.
const WATCHDOG: &str = "60000000";

/// So that a hundred servers fit into a machine's memory.
const SMALL: [(&str, &str); 8] = [
    ("shared_buffers", "128kB"),
    ("max_connections", "10"),
    ("max_wal_senders", "0"),
    ("wal_level", "minimal"),
    ("max_worker_processes", "0"),
    ("max_logical_replication_workers", "0"),
    ("bgwriter_lru_maxpages", "0"),
    ("ssl", "on"),
];

/// Who brings the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bringer {
    Pgcertd,
    Limit,
}

impl Bringer {
    fn user(self) -> &'static str {
        match self {
            Self::Pgcertd => "postgres",
            // So that pgcertd, which looks for servers of its own user, doesn't find these.
            Self::Limit => "nobody",
        }
    }
}

/// Which instance gets its certificates from which lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All from one.
    OneForAll,
    /// Each from one of its own.
    OneEach,
}

/// A lineage and what it holds.
struct Held {
    lineage: Lineage,
    issued: Issued,
}

/// The servers run until this is dropped; what brings their certificates is started and stopped.
pub struct Side {
    bringer: Bringer,
    running: Option<Running>,
    clock: WriteClock,
    shared: Held,
    own: Vec<Held>,
    sharing: Sharing,
    /// The first of them take part.
    servers: Vec<Cluster>,
    count: usize,
    seed: Cluster,
    ca: Ca,
    world: World,
}

enum Running {
    Pgcertd(Box<Daemon>, Box<Config>),
    Limit(Process),
}

/// One renewal of every lineage.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// From the last link of the first lineage to the last link of the last.
    pub renewing: Duration,
    /// From the last link of the first lineage until all instances were reported.
    pub taken: Duration,
}

impl Side {
    /// A side without a server.
    pub fn new(bringer: Bringer, directory: &Path) -> Result<Self> {
        let world = World::of_user_in(directory, bringer.user())
            .map_err(|skipped| anyhow::anyhow!("{skipped}"))?;
        let ca = Ca::new(&world, "Bench Root");
        let mut seed = Cluster::build(&world).name("seed");
        for (name, value) in SMALL {
            seed = seed.setting(name, value);
        }
        let seed = seed.create();
        Ok(Self {
            bringer,
            running: None,
            clock: WriteClock::new()?,
            shared: held(&world, &ca, "one.example.com"),
            own: Vec::new(),
            sharing: Sharing::OneForAll,
            servers: Vec::new(),
            count: 0,
            seed,
            ca,
            world,
        })
    }

    /// Has so many servers take part, in sync with lineages that are shared so, and starts nobody.
    pub fn arrange(&mut self, count: usize, sharing: Sharing) -> Result<()> {
        self.stop()?;
        self.grow(count)?;
        (self.count, self.sharing) = (count, sharing);
        if sharing == Sharing::OneEach {
            for number in self.own.len()..count {
                let name = format!("{}.example.com", name(number));
                self.own.push(held(&self.world, &self.ca, &name));
            }
        }
        for number in 0..count {
            let target = self.world.target(&name(number));
            self.world.place(&self.held(number).issued, &target);
            self.servers[number].reload_by_hand();
        }
        self.verify()
    }

    /// Adds lineages to the watched directory that no instance names.
    pub fn add_bystanders(&self, count: usize) -> Result<()> {
        let root = self.world.path().join("letsencrypt");
        let model = root.join("archive").join(self.shared.lineage.name());
        const WORDS: [&str; 4] = ["cert", "privkey", "chain", "fullchain"];
        for number in 0..count {
            let name = format!("bystander-{number:05}.example.org");
            let (live, archive) = (
                root.join("live").join(&name),
                root.join("archive").join(&name),
            );
            fs::create_dir(&live)?;
            fs::create_dir(&archive)?;
            for word in WORDS {
                let file = format!("{word}1.pem");
                fs::hard_link(model.join(&file), archive.join(&file))?;
                let link = Path::new("../../archive").join(&name).join(file);
                std::os::unix::fs::symlink(link, live.join(format!("{word}.pem")))?;
            }
        }
        Ok(())
    }

    /// Starts who brings the certificates.
    pub fn start(&mut self) -> Result<()> {
        self.clock.forget();
        let running = match self.bringer {
            Bringer::Pgcertd => {
                let config = self.config();
                let mut daemon = self.launch()?.daemon(&config);
                daemon.ready();
                Running::Pgcertd(Box::new(daemon), Box::new(config))
            }
            Bringer::Limit => {
                let errands = self.errands(AT_ONCE.min(self.count));
                let file = self.world.path().join("errands.json");
                let mut command = limit::command_for(Task::Bring, &errands, &file)?;
                let descriptor = self.clock.descriptor()?;
                command
                    .stdin(Stdio::null())
                    .stdout(descriptor.try_clone()?)
                    .stderr(descriptor);
                let process = Process::spawn(&mut command);
                self.clock.wait_for(limit::WATCHING)?;
                Running::Limit(process)
            }
        };
        self.running = Some(running);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) -> Result<()> {
        match self.running.take() {
            Some(Running::Pgcertd(daemon, _)) => {
                let status = daemon.stop();
                ensure!(status.success(), "pgcertd has ended with {status}");
            }
            Some(Running::Limit(mut limit)) => {
                let ended = limit.ended();
                ensure!(ended.is_none(), "the limit has ended with {ended:?}");
                limit.kill();
            }
            None => {}
        }
        Ok(())
    }

    /// Renews every lineage in use, and measures until all instances are reported. They are all
    /// looked at after that.
    pub fn turn(&mut self) -> Result<Turn> {
        let turn = self.renew_all()?;
        self.verify()?;
        Ok(turn)
    }

    /// As [`Side::turn`], and counts the system calls from before the first link until the daemon
    /// rests.
    pub fn counted_turn(&mut self) -> Result<Calls> {
        // What follows the turn before is no part of this one.
        thread::sleep(Duration::from_secs(1));
        let (daemon, config) = self.daemon()?;
        let output = config.path().with_extension("strace");
        let counter = CallCounter::start(daemon.pid(), &output)?;
        self.renew_all()?;
        self.rest()?;
        let calls = counter.stop()?;
        self.verify()?;
        Ok(calls)
    }

    fn renew_all(&mut self) -> Result<Turn> {
        thread::sleep(REST);
        let mut renewals = Vec::new();
        let ca = &self.ca;
        let held = match self.sharing {
            Sharing::OneForAll => std::slice::from_mut(&mut self.shared),
            Sharing::OneEach => &mut self.own[..self.count],
        };
        for held in held {
            held.issued = ca.issue(&[held.lineage.name()]);
            renewals.push(held.lineage.renewal(&held.issued));
        }
        write_back(self.world.path())?;
        self.clock.forget();
        let mut linked = Vec::new();
        for mut renewal in renewals {
            renewal.until(Step::Link(Kind::Fullchain));
            linked.push(SystemTime::now());
            renewal.finish();
        }
        let (first, last) = linked
            .first()
            .zip(linked.last())
            .context("no lineage is in use")?;
        let reported = match self.bringer {
            Bringer::Pgcertd => " deployed and served ",
            Bringer::Limit => limit::DONE,
        };
        let mut ended = *first;
        for _ in 0..self.count {
            ended = self.clock.wait_for(reported)?;
        }
        Ok(Turn {
            renewing: last.duration_since(*first)?,
            taken: ended.duration_since(*first)?,
        })
    }

    /// Waits until pgcertd has nothing left to do.
    pub fn rest(&mut self) -> Result<()> {
        eventually_at_rest(self.daemon()?.1);
        Ok(())
    }

    /// What pgcertd has written since the last renewal began.
    pub fn log(&mut self) -> &str {
        self.clock.text()
    }

    /// How often each postmaster has been told to reload.
    pub fn hangups(&self) -> Vec<usize> {
        let servers = self.servers[..self.count].iter();
        servers
            .map(|server| server.log().matches("received SIGHUP").count())
            .collect()
    }

    /// The instances' names.
    pub fn names(&self) -> Vec<String> {
        (0..self.count).map(name).collect()
    }

    /// pgcertd, which must run, and its configuration.
    pub fn daemon(&mut self) -> Result<(&mut Daemon, &Config)> {
        match &mut self.running {
            Some(Running::Pgcertd(daemon, config)) => Ok((daemon, config)),
            _ => bail!("pgcertd does not run"),
        }
    }

    /// How pgcertd is started: as the packaged unit does.
    pub fn launch(&self) -> Result<Launch> {
        Ok(Launch::new(&self.world)
            .like_the_unit()
            .env("WATCHDOG_USEC", WATCHDOG)
            .log_to(self.clock.descriptor()?))
    }

    /// Its configuration, with nothing in it but what has no default and where the world lies.
    pub fn config(&self) -> Config {
        let mut config = Config::new(&self.world);
        for number in 0..self.count {
            let lineage = self.held(number).lineage.name();
            config = config.instance(Instance::for_cluster(&self.servers[number], lineage));
        }
        config.write()
    }

    /// What the limit's program has to do with the servers that take part.
    pub fn errands(&self, at_once: usize) -> Errands {
        let owner = self.world.postgres();
        let all = (0..self.count).map(|number| Errand {
            name: name(number),
            live: self.held(number).lineage.path().to_owned(),
            target: self.world.target(&name(number)),
            data_directory: self.servers[number].data_directory().to_owned(),
            server: address(&self.servers[number]),
        });
        Errands {
            uid: owner.uid,
            gid: owner.gid,
            at_once,
            all: all.collect(),
        }
    }

    /// Where it may leave files.
    pub fn path(&self) -> &Path {
        self.world.path()
    }

    /// A server, for its program's version.
    pub fn server(&self) -> &Cluster {
        &self.seed
    }

    fn held(&self, number: usize) -> &Held {
        match self.sharing {
            Sharing::OneForAll => &self.shared,
            Sharing::OneEach => &self.own[number],
        }
    }

    /// Whether each server shows what its lineage holds.
    fn verify(&self) -> Result<()> {
        for (number, server) in self.servers[..self.count].iter().enumerate() {
            let (seen, _) = Probe::new(address(server))?
                .connect()
                .with_context(|| format!("{} after the renewal", server.name()))?;
            ensure!(
                seen == self.held(number).issued.fingerprint,
                "{} serves another certificate than its lineage holds",
                server.name()
            );
        }
        Ok(())
    }

    fn grow(&mut self, count: usize) -> Result<()> {
        let mut added = Vec::new();
        for number in self.servers.len()..count {
            let name = name(number);
            let home = self
                .world
                .postgres_directory(&format!("clusters/{name}"), 0o755);
            copy(self.seed.data_directory(), &home.join("data"))?;
            let target = self.world.target(&name);
            self.world.place(&self.shared.issued, &target);
            let server = self.seed.at(&name, &home);
            for setting in ["ssl_cert_file", "ssl_key_file"] {
                server.set(setting, &target.to_string_lossy());
            }
            added.push(server);
        }
        // Starting one is mostly waiting.
        for some in added.chunks_mut(8) {
            thread::scope(|scope| {
                for server in some {
                    scope.spawn(|| server.start_at_first());
                }
            });
        }
        self.servers.extend(added);
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.running = None;
        // All at once: dropped, each would be waited for in turn.
        for server in &mut self.servers {
            server.signal(Signal::QUIT);
        }
    }
}

fn held(world: &World, ca: &Ca, name: &str) -> Held {
    let issued = ca.issue(&[name]);
    let mut lineage = Lineage::new(world, name);
    lineage.renew(&issued);
    Held { lineage, issued }
}

fn name(number: usize) -> String {
    format!("i{number:03}")
}

fn address(server: &Cluster) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}

/// Copies a data directory that no server has run on. The tables are only linked: nobody logs in,
/// so that nothing is written to them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let script = r#"mkdir -m 0700 "$2" && chown --reference="$1" "$2" && cd "$1" &&
        cp -al base "$2" && for file in *; do [ "$file" = base ] || cp -a "$file" "$2"; done"#;
    let mut copy = command("sh");
    copy.args(["-ec", script, "sh"]).args([from, to]);
    run(&mut copy, SOON)
        .result()
        .map_err(|error| anyhow::anyhow!("cannot copy {}: {error}", from.display()))?;
    Ok(())
}
