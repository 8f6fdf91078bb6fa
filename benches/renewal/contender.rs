//! What brings a renewed certificate to its server, and one turn of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Error, Result, bail, ensure};

use crate::{
    kind::{Kind, Milestone},
    least_program::{self, DONE},
    peers,
    preparations::write_back,
    probe::Probe,
    world::{
        SOON, World,
        ca::{Ca, Issued},
        cluster::Cluster,
        command,
        config::{Config, Instance},
        daemon::{Daemon, Launch},
        lineage::{self, Lineage, Renewal, Step},
        process::{Process, run},
        tail,
    },
    write_clock::WriteClock,
};

/// How long a turn rests before it begins, so that no work of the one before it still runs.
pub const REST: Duration = Duration::from_millis(300);

/// About two of the probe's cycles, in which the moments of the renewals are spread.
const SPREAD: Duration = Duration::from_millis(10);

/// What PostgreSQL logs.
const RECEIVED: &str = "received SIGHUP, reloading configuration files";
const READY: &str = "database system is ready to accept connections";

/// What pgcertd logs when the new certificate is served.
const DEPLOYED: &str = "deployed and served";

/// A contender with its cluster and its lineage, ready for the next renewal.
pub struct Contender {
    kind: Kind,
    bringer: Bringer,
    probe: Probe,
    /// The leaf that is served between the turns.
    served: String,
    /// The server's log, and what the bringer writes.
    server: WriteClock,
    said: WriteClock,
    lineage: Lineage,
    files: ServerFiles,
    restarted: Option<Restarted>,
    cluster: Cluster,
    home: PathBuf,
}

/// What brings the certificate.
enum Bringer {
    Daemon(Daemon),
    /// A program that waits for renewals, and writes `done` after each.
    Waiting(Process),
    /// A script that certbot would run.
    Script(String),
}

/// How long after the last link something was.
pub type Delays = Vec<(Milestone, Duration)>;

impl Contender {
    /// Starts a server on a first certificate, and then the contender.
    pub fn start(world: &World, ca: &Ca, kind: Kind) -> Result<Self> {
        let name = format!("{}.example.com", kind.word().replace('_', "-"));
        let first = ca.issue(&[&name]);
        let mut lineage = Lineage::new(world, &name);
        lineage.renew(&first);
        let files = ServerFiles::of_kind(world, kind);
        for file in [&files.cert, &files.key] {
            world.place(&first, file);
        }
        let (server, mut said) = (WriteClock::new()?, WriteClock::new()?);
        let cluster = Cluster::build(world)
            .name(kind.word())
            .tls_files(&files.cert, &files.key)
            .log_to(server.descriptor()?)
            .start();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
        let mut waiting = |command: Command, ready: &str| -> Result<Bringer> {
            let process = start(command, said.descriptor()?)?;
            said.wait_for(ready)?;
            Ok(Bringer::Waiting(process))
        };
        let looping = |text: String| {
            let mut ending = command("setpriv");
            ending.args(["--pdeathsig", "KILL", "sh", "-c", &text]);
            with_variables(ending, &cluster, &lineage, &files)
        };
        let bringer = match kind {
            Kind::LeastProgram => {
                let (data, owner) = (cluster.data_directory(), cluster.owner());
                let program =
                    least_program::start(lineage.path(), &files.cert, data, owner, address);
                waiting(program, DONE)?
            }
            Kind::InotifywaitLoop => waiting(looping(peers::inotifywait_loop()), peers::WATCHES)?,
            Kind::PollLoop => waiting(looping(peers::poll_loop()), peers::POLLS)?,
            Kind::Pgcertd => Bringer::Daemon(daemon(world, &cluster, &lineage, said.descriptor()?)),
            Kind::DeployHook => Bringer::Script(peers::HOOK.to_owned()),
            Kind::ArticleReload => Bringer::Script(peers::article_with_reload()),
            Kind::ArticleRestart => Bringer::Script(peers::article_with_restart()),
            Kind::Getssl => Bringer::Script(peers::getssl()),
            Kind::PathUnit => bail!("it takes part in a machine with systemd alone"),
        };
        Ok(Self {
            kind,
            bringer,
            probe: Probe::new(address)?,
            served: first.fingerprint,
            server,
            said,
            lineage,
            files,
            restarted: (kind == Kind::ArticleRestart).then(|| Restarted::of_cluster(&cluster)),
            cluster,
            home: world.path().to_owned(),
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Renews its lineage while nobody connects: when the postmaster has the signal, and when the
    /// contender says that the new certificate is served.
    pub fn quiet_turn(&mut self, ca: &Ca) -> Result<Delays> {
        let new = self.prepare(ca)?;
        self.turn_over(&new).map_err(|error| self.explain(error))
    }

    fn turn_over(&mut self, new: &Issued) -> Result<Delays> {
        let renewal = self.renew(new);
        let linked = SystemTime::now();
        renewal.finish();
        let script = self.start_script()?;
        let loaded = match self.kind {
            Kind::ArticleRestart => READY,
            _ => RECEIVED,
        };
        let loaded = self.server.wait_for(loaded)?;
        let mut delays = vec![(Milestone::Signalled, loaded.duration_since(linked)?)];
        let done = self.wait_until_done(script)?;
        if let Some(done) = done.filter(|_| self.kind.verifies()) {
            delays.push((Milestone::Verified, done.duration_since(linked)?));
        }
        let (seen, _) = self.probe.connect()?;
        ensure!(seen == new.fingerprint, "the old certificate is served");
        self.served = seen;
        Ok(delays)
    }

    /// Renews its lineage while the probe connects again and again; gives the time to the end of
    /// the first handshake that showed the new leaf, and what a connection took meanwhile.
    pub fn probed_turn(&mut self, ca: &Ca, round: u32) -> Result<(Duration, Duration)> {
        let new = self.prepare(ca)?;
        let watch = self
            .probe
            .watch(&self.served, &new.fingerprint, self.restarted.is_some())
            .begun()?;
        thread::sleep(moment(round));
        let renewal = self.renew(&new);
        let linked = Instant::now();
        renewal.finish();
        let script = self.start_script()?;
        let seen = watch.seen().map_err(|error| self.explain(error))?;
        self.served = new.fingerprint;
        self.wait_until_done(script)
            .map_err(|error| self.explain(error))?;
        Ok((seen.ended.duration_since(linked), seen.connection))
    }

    /// Ends it and its server.
    pub fn stop(mut self) -> Result<()> {
        if let Bringer::Daemon(daemon) = self.bringer {
            let status = daemon.stop();
            ensure!(status.success(), "pgcertd has ended with {status}");
        }
        if self.restarted.is_none() {
            self.cluster.stop();
        }
        Ok(())
    }

    /// The next certificate, once what came before is over and done.
    fn prepare(&mut self, ca: &Ca) -> Result<Issued> {
        let issued = ca.issue(&[self.lineage.name()]);
        thread::sleep(REST);
        write_back(&self.home)?;
        self.server.forget();
        self.said.forget();
        Ok(issued)
    }

    fn renew(&mut self, new: &Issued) -> Renewal {
        let last = Step::Link(lineage::Kind::Fullchain);
        self.lineage.renew_until(new, last)
    }

    fn start_script(&self) -> Result<Option<Process>> {
        let Bringer::Script(text) = &self.bringer else {
            return Ok(None);
        };
        let mut script = command("/bin/sh");
        script.args(["-c", text]);
        let script = with_variables(script, &self.cluster, &self.lineage, &self.files);
        // A server that the script starts logs where the script writes.
        let output = match self.kind {
            Kind::ArticleRestart => &self.server,
            _ => &self.said,
        };
        Ok(Some(start(script, output.descriptor()?)?))
    }

    /// Waits until the contender has done its part; gives the moment if it has said so.
    fn wait_until_done(&mut self, script: Option<Process>) -> Result<Option<SystemTime>> {
        match &mut self.bringer {
            Bringer::Daemon(daemon) => {
                let done = self.said.wait_for(DEPLOYED)?;
                // Reads what it has told, as systemd does.
                daemon.notified();
                Ok(Some(done))
            }
            Bringer::Waiting(process) => {
                let done = self.said.wait_for(DONE);
                Ok(Some(done.with_context(|| match process.ended() {
                    Some(status) => format!("it has ended: {status}"),
                    None => "it still runs".to_owned(),
                })?))
            }
            Bringer::Script(_) => {
                let mut script = script.context("no script was started")?;
                let ended = script.wait(SOON).context("the script does not end")?;
                ensure!(ended.success(), "the script has ended with {ended}");
                if self.kind.verifies() {
                    return Ok(Some(self.said.wait_for(peers::VERIFIED)?));
                }
                Ok(None)
            }
        }
    }

    /// Adds what was written.
    fn explain(&mut self, error: Error) -> Error {
        let (said, server) = (tail(self.said.text()), tail(self.server.text()));
        error.context(format!("it wrote:\n{said}\nthe server wrote:\n{server}\n"))
    }
}

/// Where the server has its certificate and its key: one file, or two.
struct ServerFiles {
    cert: PathBuf,
    key: PathBuf,
}

impl ServerFiles {
    fn of_kind(world: &World, kind: Kind) -> Self {
        let one = world.target(kind.word());
        match kind {
            Kind::ArticleReload | Kind::ArticleRestart | Kind::Getssl => Self {
                cert: one.with_file_name("server.crt"),
                key: one.with_file_name("server.key"),
            },
            _ => Self {
                cert: one.clone(),
                key: one,
            },
        }
    }
}

/// A server that a script restarts: it is no child of the bench any more.
struct Restarted {
    pg_ctl: PathBuf,
    data_directory: PathBuf,
}

impl Restarted {
    fn of_cluster(cluster: &Cluster) -> Self {
        Self {
            pg_ctl: cluster.program("pg_ctl"),
            data_directory: cluster.data_directory().to_owned(),
        }
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        let mut stop = command("setpriv");
        stop.args(AS_POSTGRES).arg(&self.pg_ctl);
        stop.args(["stop", "-s", "-m", "immediate", "-D"]);
        let stopped = run(stop.arg(&self.data_directory), SOON).result();
        if let Err(error) = stopped {
            eprintln!("the restarted server could not be stopped: {error}");
        }
    }
}

const AS_POSTGRES: [&str; 3] = ["--reuid=postgres", "--regid=postgres", "--init-groups"];

/// Starts a program whose output this descriptor takes.
fn start(mut command: Command, output: OwnedFd) -> Result<Process> {
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    Ok(Process::spawn(&mut command))
}

/// A script of root's with its variables.
fn with_variables(
    mut script: Command,
    cluster: &Cluster,
    lineage: &Lineage,
    files: &ServerFiles,
) -> Command {
    script
        .env("RENEWED_LINEAGE", lineage.path())
        .env("RENEWED_DOMAINS", lineage.name())
        .env("NAME", lineage.name())
        .env("CERT", &files.cert)
        .env("KEY", &files.key)
        .env("PGDATA", cluster.data_directory())
        .env("PORT", cluster.port().to_string())
        .env("PG_CTL", cluster.program("pg_ctl"))
        .env("AS_POSTGRES", format!("setpriv {}", AS_POSTGRES.join(" ")));
    script
}

/// pgcertd as the packaged unit starts it, with nothing in its configuration but what has no
/// default and where the world lies.
fn daemon(world: &World, cluster: &Cluster, lineage: &Lineage, log: OwnedFd) -> Daemon {
    let config = Config::new(world)
        .instance(Instance::for_cluster(cluster, lineage.name()))
        .write();
    let mut daemon = Launch::new(world)
        .like_the_unit()
        .log_to(log)
        .daemon(&config);
    daemon.ready();
    daemon
}

/// The same moment of the probe's cycle for all in a round, and another in each, evenly spread: the
/// multiples of the golden ratio.
pub fn moment(round: u32) -> Duration {
    SPREAD.mul_f64((f64::from(round) * 0.618_033_988_749_895).fract())
}
