//! Who loses a session when a certificate is renewed under load.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    contender::Contender,
    kind::Kind,
    world::{SOON, ca::Ca, cluster::Cluster, command, eventually, process::Process, tail},
};

/// How many clients pgbench has.
pub const CLIENTS: usize = 50;

/// Short enough that each client has a statement under way in most moments.
const SCRIPT: &str = "select pg_sleep(0.02);\n";

/// What became of pgbench's clients.
pub struct SessionsKept {
    /// Whose renewals they were.
    pub kind: Kind,
    /// Whether each transaction was on a connection of its own (`pgbench -C`).
    pub is_reconnecting: bool,
    /// How many renewals there were.
    pub renewals: u32,
    /// Transactions while they were, roughly: pgbench says how many a second.
    pub transactions: u64,
    /// Clients whose session ended, or who could not connect.
    pub lost: usize,
}

impl SessionsKept {
    /// For the JSON document.
    pub fn json(&self) -> Value {
        json!({
            "contender": self.kind.word(),
            "clients": CLIENTS,
            "reconnecting": self.is_reconnecting,
            "renewals": self.renewals,
            "transactions": self.transactions,
            "lost": self.lost,
        })
    }
}

/// Renews that many times while pgbench runs against the contender's server.
pub fn under_load(
    contender: &mut Contender,
    ca: &Ca,
    is_reconnecting: bool,
    renewals: u32,
) -> Result<SessionsKept> {
    let load = Bench::start(contender.cluster(), is_reconnecting)?;
    let before = load.sessions(contender.cluster());
    for number in 1..=renewals {
        contender
            .quiet_turn(ca)
            .with_context(|| format!("renewal {number} under load"))?;
    }
    let after = load.sessions(contender.cluster());
    let gone = if is_reconnecting {
        0
    } else {
        ensure!(before.len() == CLIENTS, "{} sessions began", before.len());
        before.difference(&after).count()
    };
    let (transactions, aborted) = load.stop()?;
    Ok(SessionsKept {
        kind: contender.kind(),
        is_reconnecting,
        renewals,
        transactions,
        lost: gone.max(aborted),
    })
}

/// A pgbench under way.
struct Bench {
    process: Process,
    report: PathBuf,
}

impl Bench {
    fn start(cluster: &Cluster, is_reconnecting: bool) -> Result<Self> {
        let home = cluster.data_directory().parent().context("no parent")?;
        let script = home.join("sessions.sql");
        std::fs::write(&script, SCRIPT)?;
        let report = home.join("sessions.log");
        let file = File::create(&report)?;
        let mut bench = command("setpriv");
        bench
            .args([
                "--pdeathsig",
                "KILL",
                "pgbench",
                "--no-vacuum",
                "--max-tries=1",
            ])
            .args(["--client", &CLIENTS.to_string(), "--jobs", "2"])
            // Far longer than the renewals take; it is stopped after them.
            .args(["--time", "100000", "--progress", "1", "--file"])
            .arg(script)
            .args(is_reconnecting.then_some("--connect"))
            .args(["-h", "127.0.0.1", "-p", &cluster.port().to_string()])
            .args(["-U", "postgres", "postgres"])
            .env("PGSSLMODE", "require")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let process = Process::spawn(&mut bench);
        eventually(SOON, "pgbench is at work", || {
            let text = read(&report).map_err(|error| error.to_string())?;
            if transactions(&text) > 0 {
                Ok(())
            } else {
                Err(text)
            }
        });
        Ok(Self { process, report })
    }

    /// The numbers of its backends.
    fn sessions(&self, cluster: &Cluster) -> BTreeSet<String> {
        let asked = "select pid from pg_stat_activity where application_name = 'pgbench'";
        cluster.sql(asked).lines().map(str::to_owned).collect()
    }

    /// Ends it; gives the number of transactions and of clients that gave up.
    fn stop(mut self) -> Result<(u64, usize)> {
        // It reports once a second.
        std::thread::sleep(Duration::from_secs(1));
        let has_ended = self.process.ended();
        self.process.kill();
        let text = read(&self.report)?;
        let gave_up = |line: &&str| line.contains("error: client") && line.contains("aborted");
        let aborted = text.lines().filter(gave_up).count();
        // It ends by itself when no client is left.
        ensure!(
            has_ended.is_none() || aborted > 0,
            "pgbench has ended with {has_ended:?}:\n{}",
            tail(&text)
        );
        Ok((transactions(&text), aborted))
    }
}

/// How many there were, by pgbench's reports of how many a second there are.
fn transactions(report: &str) -> u64 {
    let per_second = report.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
        rest.split_once(" tps")?.0.parse::<f64>().ok()
    });
    per_second.sum::<f64>() as u64
}

fn read(report: &Path) -> Result<String> {
    std::fs::read_to_string(report).with_context(|| format!("{}", report.display()))
}
