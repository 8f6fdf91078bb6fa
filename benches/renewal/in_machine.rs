//! The same in a booted Debian, where a `systemd.path` unit can take part.
//!
//! The bench boots the tests' machine and runs itself in it. The three servers are clusters of
//! Debian's under their units, pgcertd runs under its unit, and the times of what is logged are
//! the journal's: journald notes when a message was sent (`_SOURCE_REALTIME_TIMESTAMP`).

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    contender::{REST, moment},
    kind::{Kind, Milestone},
    least_program::{self, DONE},
    machine::{LATER, Machine, message},
    measurements::Measurements,
    peers::HOOK,
    probe::Probe,
    report::Side,
    world::{
        SOON, World,
        ca::{Ca, Issued},
        command, eventually,
        lineage::{self, Lineage, Step},
        process::{Process, run},
    },
    write_clock::WriteClock,
};

/// The first argument that makes the bench the part that runs in the machine.
pub const WORD: &str = "in-the-machine";

/// Where the bench lies in the machine.
const PROGRAM: &str = "/usr/local/bin/renewal";

/// The path unit watches the lineage's directory, since certbot moves four links in it; systemd
/// would give up on a service that starts six times in ten seconds.
const PATH_UNIT: &str = "[Unit]\nStartLimitIntervalSec=0\n[Path]\nPathChanged=";
const SERVICE: &str =
    "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/usr/local/bin/renew\n";

/// Boots the machine and measures in it; or says why there can be none here.
pub fn measure(rounds: u32) -> Result<Result<Side, String>> {
    let machine = match Machine::boot() {
        Ok(machine) => machine,
        Err(skipped) => return Ok(Err(skipped.to_string())),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = "systemd/pgcertd.service";
    let bench = std::env::current_exe()?;
    for (from, to, mode) in [
        (
            Path::new(env!("CARGO_BIN_EXE_pgcertd")),
            "/usr/bin/pgcertd",
            0o755,
        ),
        (&bench, PROGRAM, 0o755),
        (
            &root.join(unit),
            "/etc/systemd/system/pgcertd.service",
            0o644,
        ),
    ] {
        machine.copy_in(from, to, mode);
    }
    for kind in Kind::IN_MACHINE {
        let (name, port) = (cluster_name(kind), port(kind).to_string());
        if name != "main" {
            machine.ok(["pg_createcluster", "--port", &port, "15", name]);
        }
    }
    // Each turn takes a second, and two make a round.
    let deadline = LATER + Duration::from_secs(u64::from(rounds) * 3 * 10);
    let mut inside = machine.command(PROGRAM);
    let done = run(inside.args([WORD, &rounds.to_string()]), deadline);
    eprint!("{}", done.stderr);
    let measured = done.result().map_err(anyhow::Error::msg)?;
    Ok(Ok(Side {
        name: "in_machine",
        kinds: Kind::IN_MACHINE.to_vec(),
        measured: parse(&measured).context("what the machine measured")?,
    }))
}

/// What [`run_inside`] has printed.
fn parse(text: &str) -> Result<Measurements> {
    let mut measured = Measurements::default();
    for line in text.lines() {
        let turn: Value = serde_json::from_str(line)?;
        let kind = Kind::IN_MACHINE.into_iter();
        let kind = kind.into_iter().find(|kind| turn["kind"] == kind.word());
        let milestone = Milestone::ALL.into_iter();
        let milestone = milestone
            .into_iter()
            .find(|milestone| turn["milestone"] == milestone.word());
        let seconds = turn["seconds"].as_f64().context("no seconds")?;
        measured.add(
            kind.context("no contender")?,
            milestone.context("no milestone")?,
            Duration::try_from_secs_f64(seconds)?,
        );
    }
    Ok(measured)
}

/// What runs in the machine: a line for each delay on standard output.
pub fn run_inside(arguments: &[std::ffi::OsString]) -> Result<()> {
    let rounds = arguments
        .first()
        .and_then(|text| text.to_str()?.parse::<u32>().ok());
    let rounds = rounds.context("a number of rounds is needed")?;
    let world = World::new_in(Path::new("/srv")).map_err(|skipped| anyhow::anyhow!("{skipped}"))?;
    let ca = Ca::new(&world, "Bench Root");
    let mut guests = Vec::new();
    for kind in Kind::IN_MACHINE {
        guests.push(Guest::start(&world, &ca, kind).with_context(|| kind.title())?);
    }
    for round in 0..=rounds {
        for is_probed in [false, true] {
            for place in 0..guests.len() {
                let index = (place + round as usize) % guests.len();
                let guest = &mut guests[index];
                let turn = guest.turn(&ca, round, is_probed);
                let turn =
                    turn.with_context(|| format!("{} in round {round}", guest.kind.title()))?;
                for (milestone, delay) in turn.into_iter().filter(|_| round > 0) {
                    let (kind, seconds) = (guest.kind.word(), delay.as_secs_f64());
                    println!(
                        "{}",
                        json!({ "kind": kind, "milestone": milestone.word(), "seconds": seconds })
                    );
                }
            }
        }
    }
    Ok(())
}

fn cluster_name(kind: Kind) -> &'static str {
    match kind {
        Kind::LeastProgram => "limit",
        Kind::PathUnit => "path",
        _ => "main",
    }
}

fn port(kind: Kind) -> u16 {
    match kind {
        Kind::LeastProgram => 5433,
        Kind::PathUnit => 5434,
        _ => 5432,
    }
}

/// A contender in the machine.
struct Guest {
    kind: Kind,
    lineage: Lineage,
    probe: Probe,
    served: String,
    /// The least program, and what it writes.
    program: Option<(Process, WriteClock)>,
}

impl Guest {
    fn start(world: &World, ca: &Ca, kind: Kind) -> Result<Self> {
        let name = format!("{}.example.com", cluster_name(kind));
        let first = ca.issue(&[&name]);
        let mut lineage = Lineage::new(world, &name);
        lineage.renew(&first);
        let (cluster, port) = (cluster_name(kind), port(kind));
        let target = PathBuf::from(format!("/var/lib/pgcertd/15-{cluster}/server.pem"));
        world.place(&first, &target);
        let settings = format!(
            "ssl = on\nssl_cert_file = '{0}'\nssl_key_file = '{0}'\n\
             log_destination = syslog\nsyslog_ident = '{1}'\n",
            target.display(),
            identifier(kind)
        );
        fs::write(
            format!("/etc/postgresql/15/{cluster}/conf.d/bench.conf"),
            settings,
        )?;
        succeed(&["systemctl", "restart", &format!("postgresql@15-{cluster}")])?;
        let data = PathBuf::from(format!("/var/lib/postgresql/15/{cluster}"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut program = None;
        match kind {
            Kind::LeastProgram => {
                let mut clock = WriteClock::new()?;
                let mut command =
                    least_program::start(lineage.path(), &target, &data, world.postgres(), address);
                command.stdin(Stdio::null()).stdout(clock.descriptor()?);
                let process = Process::spawn(&mut command);
                clock.wait_for(DONE)?;
                program = Some((process, clock));
            }
            Kind::PathUnit => start_path_unit(lineage.path(), &target, &data)?,
            _ => start_pgcertd(&lineage, &data)?,
        }
        Ok(Self {
            kind,
            lineage,
            probe: Probe::new(address)?,
            served: first.fingerprint,
            program,
        })
    }

    fn turn(&mut self, ca: &Ca, round: u32, is_probed: bool) -> Result<Vec<(Milestone, Duration)>> {
        let new = ca.issue(&[self.lineage.name()]);
        thread::sleep(REST);
        rustix::fs::syncfs(fs::File::open("/srv")?)?;
        if let Some((_, clock)) = &mut self.program {
            clock.forget();
        }
        let end = journal_end()?;
        let delays = if is_probed {
            vec![(Milestone::Served, self.probed(&new, round)?)]
        } else {
            self.quiet(&new, &end)?
        };
        self.served = new.fingerprint;
        Ok(delays)
    }

    fn probed(&mut self, new: &Issued, round: u32) -> Result<Duration> {
        let watch = self
            .probe
            .watch(&self.served, &new.fingerprint, false)
            .begun()?;
        thread::sleep(moment(round));
        let last = Step::Link(lineage::Kind::Fullchain);
        let renewal = self.lineage.renew_until(new, last);
        let linked = Instant::now();
        renewal.finish();
        Ok(watch.seen()?.ended.duration_since(linked))
    }

    fn quiet(&mut self, new: &Issued, end: &str) -> Result<Vec<(Milestone, Duration)>> {
        let last = Step::Link(lineage::Kind::Fullchain);
        let renewal = self.lineage.renew_until(new, last);
        let linked = SystemTime::now();
        renewal.finish();
        // To look into the journal would take the processor from who is at work.
        thread::sleep(REST);
        let logged = |who: &str, text: &str| {
            let at = eventually(SOON, &format!("{who} says {text:?}"), || {
                logged_at(end, who, text)
            });
            at.duration_since(linked)
        };
        let received = logged(identifier(self.kind), "received SIGHUP")?;
        let mut delays = vec![(Milestone::Signalled, received)];
        match &mut self.program {
            Some((_, clock)) => {
                let done = clock.wait_for(DONE)?.duration_since(linked)?;
                delays.push((Milestone::Verified, done));
            }
            None if self.kind == Kind::Pgcertd => {
                delays.push((
                    Milestone::Verified,
                    logged("pgcertd", "deployed and served")?,
                ));
            }
            None => {}
        }
        let (seen, _) = self.probe.connect()?;
        ensure!(seen == new.fingerprint, "the old certificate is served");
        Ok(delays)
    }
}

/// What the server of this contender calls itself in the journal.
fn identifier(kind: Kind) -> &'static str {
    match kind {
        Kind::LeastProgram => "server-of-limit",
        Kind::PathUnit => "server-of-path",
        _ => "server-of-pgcertd",
    }
}

fn start_pgcertd(lineage: &Lineage, data: &Path) -> Result<()> {
    let live = lineage.path().parent().context("no live directory")?;
    let config = format!(
        "[watch]\ndirectories = [{:?}]\n[[instance]]\nname = \"15-main\"\nlineage = {:?}\ndata_directory = {data:?}\n",
        live,
        lineage.name(),
    );
    fs::create_dir_all("/etc/pgcertd")?;
    fs::write("/etc/pgcertd/pgcertd.toml", config)?;
    succeed(&["systemctl", "daemon-reload"])?;
    succeed(&["systemctl", "start", "pgcertd"])
}

fn start_path_unit(live: &Path, target: &Path, data: &Path) -> Result<()> {
    let variables = format!(
        "RENEWED_LINEAGE={} CERT={} PGDATA={}",
        live.display(),
        target.display(),
        data.display()
    );
    fs::write(
        "/usr/local/bin/renew",
        format!("#!/bin/sh\n{variables}\n{HOOK}"),
    )?;
    succeed(&["chmod", "755", "/usr/local/bin/renew"])?;
    fs::write("/etc/systemd/system/renew.service", SERVICE)?;
    fs::write(
        "/etc/systemd/system/renew.path",
        format!("{PATH_UNIT}{}\n", live.display()),
    )?;
    succeed(&["systemctl", "daemon-reload"])?;
    succeed(&["systemctl", "start", "renew.path"])
}

fn succeed(words: &[&str]) -> Result<()> {
    let done = run(command(words[0]).args(&words[1..]), LATER).result();
    done.map_err(anyhow::Error::msg)
        .with_context(|| words.join(" "))?;
    Ok(())
}

/// Where the journal ends.
fn journal_end() -> Result<String> {
    let mut journal = command("journalctl");
    journal.args(["--no-pager", "--lines=0", "--show-cursor"]);
    let shown = run(&mut journal, SOON)
        .result()
        .map_err(anyhow::Error::msg)?;
    let cursor = shown
        .lines()
        .find_map(|line| line.strip_prefix("-- cursor: "));
    Ok(cursor.context("journalctl shows no cursor")?.to_owned())
}

/// When somebody sent the first message with this text after that place of the journal.
fn logged_at(end: &str, identifier: &str, text: &str) -> Result<SystemTime, String> {
    let mut journal = command("journalctl");
    journal.args([
        "--output=json",
        "--no-pager",
        &format!("--after-cursor={end}"),
    ]);
    let entries = run(&mut journal, SOON).result()?;
    let entries = entries
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut sent = entries.filter_map(|entry| {
        let is_it = entry["SYSLOG_IDENTIFIER"] == identifier && message(&entry).contains(text);
        let stamp = entry["_SOURCE_REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
        is_it.then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(stamp))
    });
    sent.next().ok_or_else(|| "nothing yet".to_owned())
}
