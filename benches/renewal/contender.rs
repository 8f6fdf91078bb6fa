//! What brings a renewed certificate to its server, and one turn of it.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail, ensure};

use crate::{
    least_program,
    probe::Probe,
    world::{
        SOON, World,
        ca::Ca,
        cluster::Cluster,
        command,
        config::{Config, Instance},
        daemon::{Daemon, Launch},
        lineage::{self, Lineage, Step},
        process::Process,
        tail,
    },
};

/// How long a turn rests before it begins, so that no work of the one before it still runs.
const REST: Duration = Duration::from_millis(300);

/// About two of the probe's cycles, in which the moments of the renewals are spread.
const SPREAD: Duration = Duration::from_millis(10);

/// The hook, in the form that is quickest of those in use: `pg_ctl reload` or psql in place of
/// `kill` take longer, and there is no fsync.
const HOOK: &str = r#"
umask 077 &&
cat "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" > "$TARGET.new" &&
chmod 600 "$TARGET.new" &&
chown postgres: "$TARGET.new" &&
mv -f "$TARGET.new" "$TARGET" &&
kill -HUP "$(head -n 1 "$PGDATA/postmaster.pid")"
"#;

/// Which contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The daemon, with the default configuration.
    Pgcertd,
    /// The least that any solution must do.
    LeastProgram,
    /// What people have: a shell script that certbot runs.
    DeployHook,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pgcertd, Self::LeastProgram, Self::DeployHook];

    /// Its row's title in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pgcertd => "pgcertd, default configuration",
            Self::LeastProgram => "least program, checks nothing",
            Self::DeployHook => "shell deploy hook, no fsync",
        }
    }

    /// Its name in the JSON line, and its cluster's.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pgcertd => "pgcertd",
            Self::LeastProgram => "least_program",
            Self::DeployHook => "deploy_hook",
        }
    }
}

/// A contender with its cluster and its lineage, ready for the next renewal.
pub struct Contender {
    kind: Kind,
    bringer: Bringer,
    probe: Probe,
    /// The leaf that is served between the turns.
    served: String,
    lineage: Lineage,
    cluster: Cluster,
    home: PathBuf,
}

/// What was measured in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// From the last link to the end of the first handshake that showed the new leaf.
    pub taken: Duration,
    /// What a connection of the probe took meanwhile, on the average.
    pub connection: Duration,
}

/// What brings the certificate.
enum Bringer {
    Pgcertd(Daemon),
    LeastProgram {
        process: Process,
        lines: BufReader<ChildStdout>,
    },
    DeployHook {
        target: PathBuf,
    },
}

impl Contender {
    /// Starts a server on a first certificate, and then the contender.
    pub fn start(world: &World, ca: &Ca, kind: Kind) -> Result<Self> {
        let first = ca.issue(&[&name(kind)]);
        let mut lineage = Lineage::new(world, &name(kind));
        lineage.renew(&first);
        let target = world.target(kind.word());
        world.place(&first, &target);
        let cluster = Cluster::build(world).name(kind.word()).tls(&target).start();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
        let bringer = match kind {
            Kind::Pgcertd => Bringer::Pgcertd(daemon(world, &cluster, &lineage)),
            Kind::LeastProgram => {
                let mut command = least_program::start(&lineage, &target, &cluster, server);
                least_program(command.stdin(Stdio::null()).stdout(Stdio::piped()))?
            }
            Kind::DeployHook => Bringer::DeployHook { target },
        };
        Ok(Self {
            kind,
            bringer,
            probe: Probe::new(server)?,
            served: first.fingerprint,
            lineage,
            cluster,
            home: world.path().to_owned(),
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Renews its lineage, and measures until a new connection has seen it.
    pub fn turn(&mut self, ca: &Ca, round: u32) -> Result<Turn> {
        let issued = ca.issue(&[self.lineage.name()]);
        thread::sleep(REST);
        write_back(&self.home)?;

        let watch = self
            .probe
            .watch(&self.served, &issued.fingerprint)
            .begun()?;
        thread::sleep(moment(round));
        let last = Step::Link(lineage::Kind::Fullchain);
        let renewal = self.lineage.renew_until(&issued, last);
        let linked = Instant::now();
        renewal.finish();
        let hook = self.start_hook();
        let seen = watch.seen().map_err(|error| self.explain(error))?;
        self.served = issued.fingerprint;
        self.settle(hook)?;
        Ok(Turn {
            taken: seen.ended.duration_since(linked),
            connection: seen.connection,
        })
    }

    /// Ends it and its server.
    pub fn stop(mut self) -> Result<()> {
        if let Bringer::Pgcertd(daemon) = self.bringer {
            let status = daemon.stop();
            ensure!(status.success(), "pgcertd has ended with {status}");
        }
        self.cluster.stop();
        Ok(())
    }

    fn start_hook(&self) -> Option<Process> {
        let Bringer::DeployHook { target } = &self.bringer else {
            return None;
        };
        Some(Process::spawn(
            command("/bin/sh")
                .args(["-c", HOOK])
                .env("RENEWED_LINEAGE", self.lineage.path())
                .env("RENEWED_DOMAINS", self.lineage.name())
                .env("TARGET", target)
                .env("PGDATA", self.cluster.data_directory())
                .stdin(Stdio::null()),
        ))
    }

    /// Waits until the contender says that it has done its part.
    fn settle(&mut self, hook: Option<Process>) -> Result<()> {
        if let Some(mut hook) = hook {
            let ended = hook.wait(SOON).context("the hook does not end")?;
            ensure!(ended.success(), "the hook has ended with {ended}");
        }
        match &mut self.bringer {
            Bringer::Pgcertd(daemon) => {
                ensure!(daemon.is_running(), "pgcertd has ended");
                // Reads what it has told, as systemd does.
                daemon.notified();
            }
            Bringer::LeastProgram { process, lines } => done(process, lines)?,
            Bringer::DeployHook { .. } => {}
        }
        Ok(())
    }

    /// Adds what pgcertd has written.
    fn explain(&self, error: Error) -> Error {
        match &self.bringer {
            Bringer::Pgcertd(daemon) => error.context(tail(&daemon.log())),
            _ => error,
        }
    }
}

/// pgcertd as the packaged unit starts it, with nothing in its configuration but what has no
/// default and where the world lies.
fn daemon(world: &World, cluster: &Cluster, lineage: &Lineage) -> Daemon {
    let config = Config::new(world)
        .instance(Instance::for_cluster(cluster, lineage.name()))
        .write();
    let mut daemon = Launch::new(world).like_the_unit().daemon(&config);
    daemon.ready();
    daemon
}

fn name(kind: Kind) -> String {
    format!("{}.example.com", kind.word().replace('_', "-"))
}

/// Starts the least program and waits until it watches.
fn least_program(command: &mut Command) -> Result<Bringer> {
    let mut process = Process::spawn(command);
    let stdout = process.child().stdout.take().context("no pipe")?;
    let mut lines = BufReader::new(stdout);
    done(&mut process, &mut lines)?;
    Ok(Bringer::LeastProgram { process, lines })
}

/// Reads the least program's next line.
fn done(process: &mut Process, lines: &mut BufReader<ChildStdout>) -> Result<()> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    if line.trim_end() != least_program::DONE {
        bail!("it has ended: {:?}", process.wait(SOON));
    }
    Ok(())
}

/// Writes out what the file system still holds in memory, so that no fsync pays for it.
fn write_back(path: &Path) -> Result<()> {
    let directory = std::fs::File::open(path)?;
    rustix::fs::syncfs(directory)?;
    Ok(())
}

/// The same moment of the probe's cycle for all in a round, and another in each, evenly spread: the
/// multiples of the golden ratio.
fn moment(round: u32) -> Duration {
    SPREAD.mul_f64((f64::from(round) * 0.618_033_988_749_895).fract())
}
