//! What clients see of a cluster: psql, openssl, long sessions, pgbench.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
};

use super::{
    SOON,
    ca::describe,
    cluster::Cluster,
    command,
    postgres::Programs,
    process::{Process, run, run_reading},
};

/// The leaf that a server showed, and how many certificates came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// SHA-256 of the leaf's DER, lower-case hex.
    pub fingerprint: String,
    /// The leaf's serial number, lower-case hex.
    pub serial: String,
    /// The number of certificates shown, the leaf included.
    pub certificates: usize,
}

impl Cluster {
    /// Runs one statement with a psql of its own, over TCP, under the name `host`.
    ///
    /// `sslmode` and `root_ca` are libpq's; the error is psql's standard error.
    pub fn psql(
        &self,
        sslmode: &str,
        root_ca: Option<&Path>,
        host: &str,
        sql: &str,
    ) -> Result<String, String> {
        run(
            psql()
                .args(["-Atqc", sql, "-d"])
                .arg(self.conninfo(sslmode, root_ca, host)),
            SOON,
        )
        .result()
    }

    /// Connects as a client that verifies everything does; gives the TLS version.
    pub fn verify_full(&self, root_ca: &Path, host: &str) -> Result<String, String> {
        let sql = "select version from pg_stat_ssl where pid = pg_backend_pid() and ssl";
        self.psql("verify-full", Some(root_ca), host, sql)
    }

    /// Runs one statement over the Unix socket, as the superuser.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let conninfo = format!(
            "host={} port={} user=postgres dbname=postgres",
            self.sockets().display(),
            self.port()
        );
        match run(psql().args(["-Atqc", sql, "-d", &conninfo]), SOON).result() {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// The certificate that a new TLS connection is shown, by `openssl s_client`.
    pub fn peer(&self) -> Result<Served, String> {
        peer_at(self.port())
    }

    /// The same for a client that asks for the server by this name (SNI), as libpq does.
    pub fn peer_named(&self, name: &str) -> Result<Served, String> {
        shown(
            &format!("127.0.0.1:{}", self.port()),
            &["-servername", name],
        )
    }

    /// The fingerprint of the leaf that a new TLS connection is shown; panics where none is.
    #[track_caller]
    pub fn served(&self) -> String {
        match self.peer() {
            Ok(served) => served.fingerprint,
            Err(error) => panic!("{}: {error}", self.name()),
        }
    }

    /// Opens a session over TLS that stays open until it is dropped.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::open(
            psql()
                .arg("-d")
                .arg(self.conninfo("require", None, "localhost")),
        )
    }

    /// Opens a session as libpq is told to: `host=… sslmode=…`; the rest is added.
    #[track_caller]
    pub fn session_by(&self, conninfo: &str) -> Session {
        Session::open(psql().args(["-d", &self.completed(conninfo)]))
    }

    /// Runs one statement as libpq is told to; the error is psql's standard error.
    pub fn try_by(&self, conninfo: &str, sql: &str) -> Result<String, String> {
        let conninfo = self.completed(conninfo);
        run(psql().args(["-Atqc", sql, "-d", &conninfo]), SOON).result()
    }

    /// Starts what a standby does, over TLS: it receives WAL until it is dropped.
    #[track_caller]
    pub fn sender(&self, host: &str) -> Process {
        let received = self.data_directory().parent().unwrap().join("received");
        std::fs::create_dir_all(&received).unwrap();
        Process::spawn(
            command(Programs::debian().path("pg_receivewal"))
                .args(["--no-sync", "--no-password", "-d"])
                .arg(format!(
                    "{} sslmode=require",
                    self.completed(&format!("host={host}"))
                ))
                .arg("-D")
                .arg(received)
                .stdin(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    /// What comes later counts, so that the caller's words do.
    fn completed(&self, conninfo: &str) -> String {
        let port = self.port();
        format!("port={port} user=postgres dbname=postgres connect_timeout=10 {conninfo}")
    }

    /// Starts a pgbench over TLS: `clients` at once run a short statement for `seconds`.
    pub fn pgbench(&self, clients: u32, seconds: u32) -> Load {
        let directory = self.data_directory().parent().unwrap();
        Load::start(directory, self.port(), clients, seconds, &[])
    }

    /// The same with a connection of its own for each transaction.
    pub fn pgbench_reconnecting(&self, clients: u32, seconds: u32) -> Load {
        let directory = self.data_directory().parent().unwrap();
        Load::start(directory, self.port(), clients, seconds, &["--connect"])
    }

    fn conninfo(&self, sslmode: &str, root_ca: Option<&Path>, host: &str) -> String {
        let mut conninfo = format!(
            "host={host} hostaddr=127.0.0.1 port={} user=postgres dbname=postgres sslmode={sslmode} \
             connect_timeout=10",
            self.port()
        );
        if let Some(root_ca) = root_ca {
            conninfo.push_str(&format!(" sslrootcert={}", root_ca.display()));
        }
        conninfo
    }
}

/// The certificate that a new TLS connection to this port of 127.0.0.1 is shown.
pub fn peer_at(port: u16) -> Result<Served, String> {
    peer_of(&format!("127.0.0.1:{port}"))
}

/// The certificate that a new TLS connection to this address is shown.
pub fn peer_of(address: &str) -> Result<Served, String> {
    shown(address, &[])
}

fn shown(address: &str, more: &[&str]) -> Result<Served, String> {
    let shown = run(
        command("openssl")
            .args([
                "s_client",
                "-starttls",
                "postgres",
                "-showcerts",
                "-connect",
            ])
            .arg(address)
            .args(more),
        SOON,
    );
    let certificates = shown.stdout.matches("-----BEGIN CERTIFICATE-----").count();
    if certificates == 0 {
        return Err(format!(
            "no certificate was shown: {}",
            shown.stderr.trim_end()
        ));
    }
    // Its first certificate is the leaf, and the one that is described.
    let (fingerprint, serial) = describe(&shown.stdout);
    Ok(Served {
        fingerprint,
        serial,
        certificates,
    })
}

fn psql() -> Command {
    let mut psql = command(Programs::debian().path("psql"));
    psql.args(["-X", "-w", "-v", "ON_ERROR_STOP=1"]);
    psql
}

/// An open session: a psql that takes statements until it is dropped.
pub struct Session {
    process: Process,
    lines: Receiver<String>,
    stderr: File,
    backend: String,
}

impl Session {
    /// A session of this psql, which knows whom to ask and nothing else.
    #[track_caller]
    pub fn open(psql: &mut Command) -> Self {
        let stderr = tempfile::tempfile().unwrap();
        let mut process = Process::spawn(
            psql.arg("-Atq")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(stderr.try_clone().unwrap()),
        );
        let stdout = BufReader::new(process.child().stdout.take().unwrap());
        let (sender, lines) = channel();
        // Ends with psql's standard output, when the session is dropped.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut session = Self {
            process,
            lines,
            stderr,
            backend: String::new(),
        };
        match session.ask("select pg_backend_pid()") {
            Ok(backend) => session.backend = backend,
            Err(error) => panic!("no session: {error}"),
        }
        session
    }

    /// The number of the server's process, as it was at the start.
    pub fn backend_pid(&self) -> u32 {
        self.backend.parse().unwrap()
    }

    /// Runs one statement; the error is what psql wrote when the session broke.
    pub fn ask(&mut self, sql: &str) -> Result<String, String> {
        const END: &str = "-- end --";
        let written = self
            .process
            .child()
            .stdin
            .as_mut()
            .unwrap()
            .write_all(format!("{sql};\n\\echo '{END}'\n").as_bytes());
        let mut rows = Vec::new();
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if line == END => return Ok(rows.join("\n")),
                Ok(line) => rows.push(line),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no answer in {SOON:?}")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stderr.rewind().unwrap();
        let mut said = format!("psql ended ({written:?}): ");
        self.stderr.read_to_string(&mut said).unwrap();
        Err(said)
    }

    /// Asks the server's process again: an error unless it is the one of the start.
    pub fn lives(&mut self) -> Result<(), String> {
        let now = self.ask("select pg_backend_pid()")?;
        if now == self.backend {
            Ok(())
        } else {
            Err(format!("backend {} has become {now}", self.backend))
        }
    }
}

/// A running pgbench.
pub struct Load {
    process: Process,
    report: PathBuf,
    seconds: u32,
}

impl Load {
    /// Begins one against this port of 127.0.0.1, with its files in `directory` and these arguments more.
    pub fn start(directory: &Path, port: u16, clients: u32, seconds: u32, more: &[&str]) -> Self {
        let script = directory.join("pgbench.sql");
        std::fs::write(&script, "select pg_sleep(0.002);\n").unwrap();
        let report = directory.join("pgbench.log");
        let file = File::create(&report).unwrap();
        let process = Process::spawn(
            command(Programs::debian().path("pgbench"))
                .args(["--no-vacuum", "--max-tries=1"])
                .args(more)
                .args([
                    "--client",
                    &clients.to_string(),
                    "--time",
                    &seconds.to_string(),
                ])
                .arg("--file")
                .arg(script)
                .args(["-h", "127.0.0.1", "-p", &port.to_string()])
                .args(["-U", "postgres", "postgres"])
                .env("PGSSLMODE", "require")
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file),
        );
        Self {
            process,
            report,
            seconds,
        }
    }

    /// Whether it is still under way.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end; gives the number of transactions, or its report when any was lost.
    pub fn finish(mut self) -> Result<u64, String> {
        let ended = self
            .process
            .wait(SOON + std::time::Duration::from_secs(self.seconds.into()));
        let report = std::fs::read_to_string(&self.report).unwrap();
        let processed = report
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        let failed = report
            .lines()
            .find_map(|line| line.strip_prefix("number of failed transactions: "));
        match (
            ended.is_some_and(|status| status.success()),
            processed,
            failed,
        ) {
            (true, Some(processed), Some(failed)) if failed.starts_with("0 ") => {
                Ok(processed.parse().unwrap())
            }
            _ => Err(report),
        }
    }
}

/// Verifies a chain as OpenSSL does, which is what libpq does.
pub fn openssl_verify(root_ca: &Path, chain_pem: &str) -> Result<String, String> {
    run_reading(
        command("openssl")
            .args(["verify", "-untrusted", "/dev/stdin", "-CAfile"])
            .arg(root_ca),
        chain_pem.as_bytes(),
        SOON,
    )
    .result()
}
