//! The postmaster of a data directory: what its pid file says, and whether the process named there is that postmaster.
//!
//! A number in a file proves nothing: `kill -9` leaves the file behind, the number is reused for another process, and the
//! number of a process in a container belongs to a different process on the host. So the process is held by a pidfd first,
//! then its identity is proven, and it is only ever signalled through that pidfd. If a check fails, it is unknown whether the
//! server is running ([`Absence::NotKnown`]).

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use procfs::process::Status;

use super::identity::{Against, elsewhere, is_of_user, takes_reload};
use crate::config::Address;
use crate::host::look::{CannotLook, FileId};
use crate::host::namespaces;
pub(crate) use crate::host::namespaces::{Apart, Network};
use crate::host::process::{self, HeldProcess};
use crate::problem::Problem;

/// `postmaster.pid`, as far as it was written when it was read.
///
/// The lines are those of PostgreSQL's `miscadmin.h` (`LOCK_FILE_LINE_*`); from the fourth line on, they are
/// filled in while the server starts, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// Line 1, as the server's own pid namespace counts.
    pub(crate) pid: u32,
    /// Line 3, Unix seconds.
    pub(crate) start_time: i64,
    /// Line 4, once the server knows it.
    pub port: Option<u16>,
    /// Line 5, once the server knows it: the first directory in which it has a Unix socket;
    /// `Some("")` when there is none. One that begins with `@` is a name in the abstract namespace.
    pub sockets: Option<String>,
    /// Line 6, once the server knows it: the first address it listens on; `Some("")` when there
    /// is none.
    pub(crate) listen: Option<String>,
    /// Line 8, once written.
    pub(crate) phase: Option<Phase>,
}

/// The state of a server, by line 8 of its pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Starting up, or in recovery.
    Starting,
    Stopping,
    Ready,
    /// A standby that accepts no connections.
    Standby,
}

/// Why an instance has no server process that can be signalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// There is no `postmaster.pid`.
    NoPidFile,
    /// The file is empty or has too few lines: a server is just starting, or crashed while it was.
    HalfWritten,
    /// The first lines are not what PostgreSQL writes.
    Garbage,
    /// A negative number: a single-user session, which serves no clients.
    SingleUser,
    /// No process has the number: the server was killed, leaving the file behind.
    Stale { pid: u32 },
    /// Another process has the number; it is left alone.
    Foreign {
        pid: u32,
        /// Why it is not this postmaster.
        evidence: String,
    },
    /// The server is shutting down.
    Stopping,
    /// The file cannot be read.
    Unreadable(String),
    /// A check failed, so it is unknown whether the server is running.
    NotKnown(CannotLook),
    /// What may be the server runs in a way that is not supported.
    Unsupported {
        why: String,
        /// What is supported, and how to get there.
        fix: &'static str,
    },
    /// No process of a server of another kind was found, which has no pid file in a known place.
    NotFound {
        /// Why it is considered down.
        why: String,
        /// What to do about it.
        fix: &'static str,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absence::NoPidFile => write!(f, "there is no postmaster.pid"),
            Absence::HalfWritten => write!(f, "postmaster.pid is only half written"),
            Absence::Garbage => write!(f, "postmaster.pid is not one that PostgreSQL wrote"),
            Absence::SingleUser => write!(f, "a single-user session holds the data directory"),
            Absence::Stale { pid } => {
                write!(
                    f,
                    "postmaster.pid is left over: process {pid} no longer exists"
                )
            }
            Absence::Foreign { pid, evidence } => write!(
                f,
                "postmaster.pid is left over: process {pid} is another one ({evidence}) and was not touched"
            ),
            Absence::Stopping => write!(f, "the server is shutting down"),
            Absence::NotKnown(cannot) => {
                write!(f, "whether the server runs is not known: {cannot}")
            }
            Absence::Unreadable(reason)
            | Absence::Unsupported { why: reason, .. }
            | Absence::NotFound { why: reason, .. } => write!(f, "{reason}"),
        }
    }
}

impl Absence {
    /// Whether the server may be running all the same, so that nothing can be called healthy.
    pub(crate) fn may_run(&self) -> bool {
        matches!(
            self,
            Absence::Unreadable(_) | Absence::NotKnown(_) | Absence::Unsupported { .. }
        )
    }

    pub(crate) fn problem(&self) -> Problem {
        let fix = match self {
            Absence::NoPidFile | Absence::Stopping | Absence::Unreadable(_) => "",
            Absence::NotKnown(cannot) => cannot.remedy(),
            Absence::NotFound { fix, .. } | Absence::Unsupported { fix, .. } => fix,
            Absence::HalfWritten => {
                "a server is about to start, or failed as it did: see the server's log"
            }
            Absence::SingleUser => "end it and start the server, which then gets its certificate",
            Absence::Garbage | Absence::Stale { .. } | Absence::Foreign { .. } => {
                "start the server; should it refuse because of that file, make sure that no postgres runs on the data directory, and remove the file"
            }
        };
        Problem::new(self.to_string(), fix)
    }
}

impl From<CannotLook> for Absence {
    fn from(cannot: CannotLook) -> Absence {
        Absence::NotKnown(cannot)
    }
}

impl PidFile {
    /// Reads the lines of a pid file.
    ///
    /// # Errors
    /// [`Absence::HalfWritten`], [`Absence::Garbage`] or [`Absence::SingleUser`].
    pub fn parse(text: &str) -> Result<PidFile, Absence> {
        let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
        // Each line ends with a newline; anything after the last newline is still being written.
        let whole = lines.len().saturating_sub(1);
        if whole < 3 {
            return Err(Absence::HalfWritten);
        }
        let pid: i64 = lines[0].trim().parse().map_err(|_| Absence::Garbage)?;
        if pid < 0 {
            return Err(Absence::SingleUser);
        }
        let pid = u32::try_from(pid)
            .ok()
            .filter(|p| *p > 0)
            .ok_or(Absence::Garbage)?;
        let line = |n: usize| (n <= whole).then(|| lines[n - 1].trim());
        // Line 7 is written first and leaves line 6 empty. Only once line 8 is there does an empty line 6
        // mean that the server listens nowhere (`PostmasterMain`).
        let listens = |address: &&str| !address.is_empty() || whole >= 8;
        Ok(PidFile {
            pid,
            start_time: lines[2].trim().parse().map_err(|_| Absence::Garbage)?,
            port: line(4).and_then(|l| l.parse().ok()).filter(|p| *p > 0),
            sockets: line(5)
                .filter(|l| !l.is_empty() || whole >= 8)
                .map(str::to_owned),
            listen: line(6).filter(listens).map(str::to_owned),
            phase: line(8).and_then(|l| match l {
                "starting" => Some(Phase::Starting),
                "stopping" => Some(Phase::Stopping),
                "ready" => Some(Phase::Ready),
                "standby" => Some(Phase::Standby),
                _ => None,
            }),
        })
    }

    /// Whether the server has started far enough that the lines on where it listens are final.
    /// It loads its TLS files before those, and writes its phase after (`PostmasterMain`); until then,
    /// an empty sixth line may still be filled in.
    pub(crate) fn is_whole(&self) -> bool {
        self.phase.is_some()
    }
}

/// A running postmaster whose identity was proven.
#[derive(Debug)]
pub struct Postmaster {
    /// Its process number as this host counts.
    pub(crate) pid: u32,
    /// What its pid file says.
    pub(crate) file: PidFile,
    /// Its executable, if this user may see it, it is the same file here, and paths mean the same here.
    pub(crate) executable: Option<PathBuf>,
    /// The network in which it listens.
    pub(crate) network: Network,
    /// Its arguments, without its own name.
    pub(crate) arguments: Vec<OsString>,
    pub(super) held: HeldProcess,
}

impl Postmaster {
    /// Proves that the process that `file` names is the postmaster of `data_directory`, owned
    /// by the user `owner`.
    ///
    /// # Errors
    /// [`Absence::Stale`] or [`Absence::Foreign`], with the evidence; [`Absence::NotKnown`] if a check failed.
    pub fn identify(
        file: PidFile,
        data_directory: FileId,
        owner: u32,
    ) -> Result<Postmaster, Absence> {
        let proven = match HeldProcess::open(file.pid) {
            Ok(Some(held)) => Postmaster::prove(held, &file, data_directory, owner),
            Ok(None) => Err(Against::Gone),
            Err(cannot) => Err(cannot.into()),
        };
        let absence = match proven {
            Ok(found) => return Ok(found),
            Err(Against::Gone) => Absence::Stale { pid: file.pid },
            Err(Against::Evidence(evidence)) => Absence::Foreign {
                pid: file.pid,
                evidence,
            },
            Err(Against::NotKnown(cannot)) => Absence::NotKnown(cannot),
        };
        // The number may be from another pid namespace (a server in a container).
        let mut search = process::search_of(owner, |pid| {
            Postmaster::namesake(pid, &file, data_directory, owner)
        });
        if let Some(found) = search.found.pop() {
            return Ok(found);
        }
        match search.missed {
            Some(cannot) if !absence.may_run() => Err(Absence::NotKnown(cannot)),
            _ => Err(absence),
        }
    }

    /// The postmaster, if this process has the file's number in a pid namespace of its own and is proven to be it. Every
    /// container has a process 1, and many start at the same time: only the directory proves it.
    fn namesake(
        pid: u32,
        file: &PidFile,
        data_directory: FileId,
        owner: u32,
    ) -> Result<Option<Postmaster>, CannotLook> {
        let status = process::status_of(pid)?;
        let has_number = |status: &Status| {
            let all = status.nspid.as_deref().unwrap_or_default();
            let own = all.last().and_then(|own| u32::try_from(*own).ok());
            all.len() > 1 && own == Some(file.pid) && status.euid == owner
        };
        if !status.as_ref().is_some_and(has_number) {
            return Ok(None);
        }
        let Some(held) = HeldProcess::open(pid)? else {
            return Ok(None);
        };
        let by_cwd = match evidence_of_directory(&held, data_directory) {
            Ok(evidence) => evidence,
            Err(Against::NotKnown(cannot)) => return Err(cannot),
            Err(Against::Gone | Against::Evidence(_)) => return Ok(None),
        };
        match (Postmaster::prove(held, file, data_directory, owner), by_cwd) {
            (Ok(found), PostmasterEvidence::For) => Ok(Some(found)),
            (Ok(_), PostmasterEvidence::Hidden(cannot)) | (Err(Against::NotKnown(cannot)), _) => {
                Err(cannot)
            }
            (Err(Against::Gone | Against::Evidence(_)), _) => Ok(None),
        }
    }

    fn prove(
        held: HeldProcess,
        file: &PidFile,
        data_directory: FileId,
        owner: u32,
    ) -> Result<Postmaster, Against> {
        let expected = format!("the data directory's owner is {owner}");
        is_of_user(&held, owner, &expected)?;
        takes_reload(&held, Some(file.pid))?;
        let by_exe = evidence_of_executable(&held)?;
        let by_cwd = evidence_of_directory(&held, data_directory)?;
        if (by_exe, by_cwd) != (PostmasterEvidence::For, PostmasterEvidence::For) {
            evidence_of_start(&held, file.start_time)?;
        }
        let arguments = held.arguments()?.ok_or(Against::Gone)?;
        Ok(Postmaster {
            pid: held.pid(),
            executable: namespaces::executable(&held)?,
            network: namespaces::network_of(&held)?,
            arguments: arguments.into_iter().skip(1).collect(),
            file: file.clone(),
            held,
        })
    }

    /// A value for tests of what is decided about postmasters.
    #[cfg(test)]
    pub(crate) fn of_this_process(file: PidFile) -> Postmaster {
        let pid = std::process::id();
        let held = HeldProcess::open(pid).ok().flatten();
        Postmaster {
            pid,
            file,
            executable: None,
            network: Network::Shared,
            arguments: Vec::new(),
            held: held.expect("it runs"),
        }
    }

    /// Where it listens, by its pid file, best first.
    ///
    /// # Errors
    /// It listens on Unix sockets alone, in another network, or has not said where yet.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        if self.network == Network::Own {
            // Here, the same address belongs to another server, if to any.
            return Err(elsewhere());
        }
        let file = &self.file;
        match (file.port, file.listen.as_deref(), file.is_whole()) {
            (Some(_), Some(""), true) => Err(Problem::new(
                "the server listens on Unix sockets alone, over which PostgreSQL speaks no TLS",
                "set listen_addresses, or verify = \"none\"",
            )),
            (Some(port), Some(listen), true) => Ok(Address::from_listen(listen, port)),
            _ => {
                let what = "the server is still starting and has not said where it listens";
                Err(Problem::new(what, ""))
            }
        }
    }
}

/// A piece of evidence that does not speak against a process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PostmasterEvidence {
    For,
    /// This user may not see it.
    Hidden(CannotLook),
}

/// Why an executable with this path is not Postgres.
pub(super) fn against_executable(path: &Path) -> Option<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A package upgrade leaves the running one as "postgres (deleted)".
    match name.trim_end_matches(" (deleted)") {
        "postgres" | "postmaster" | "edb-postgres" => None,
        _ => Some(format!("its executable is {}", path.display())),
    }
}

fn evidence_of_executable(held: &HeldProcess) -> Result<PostmasterEvidence, Against> {
    match held.link("exe") {
        Ok(Some(path)) => match against_executable(&path) {
            Some(evidence) => Err(evidence.into()),
            None => Ok(PostmasterEvidence::For),
        },
        // Kernel threads have none either.
        Ok(None) => Err(Against::Gone),
        Err(cannot) if cannot.is_denied() => Ok(PostmasterEvidence::Hidden(cannot)),
        Err(cannot) => Err(cannot.into()),
    }
}

fn evidence_of_directory(
    held: &HeldProcess,
    data_directory: FileId,
) -> Result<PostmasterEvidence, Against> {
    // A postmaster changes to its data directory and stays there; device and inode are compared,
    // since the path is different in a container.
    let cwd = match held.file_id("cwd") {
        Ok(cwd) => cwd.ok_or(Against::Gone)?,
        Err(cannot) if cannot.is_denied() => return Ok(PostmasterEvidence::Hidden(cannot)),
        Err(cannot) => return Err(cannot.into()),
    };
    if data_directory == cwd {
        return Ok(PostmasterEvidence::For);
    }
    Err("its working directory is another one".to_owned().into())
}

/// The last resort if executable or directory are not visible: a clock step breaks it.
fn evidence_of_start(held: &HeldProcess, start_time: i64) -> Result<(), Against> {
    /// In seconds: PostgreSQL takes the time a moment after the process started, and ticks are rounded.
    const TOLERANCE: i64 = 3;
    let began = process::boot_time()? + held.start_ticks() / procfs::ticks_per_second();
    if i64::try_from(began).is_ok_and(|began| (began - start_time).abs() <= TOLERANCE) {
        Ok(())
    } else {
        Err(Against::Evidence("it began at another time than postmaster.pid says, and its executable or directory may not be looked at".into()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    const READY: &str = "4242\n/var/lib/postgresql/15/main\n1790000000\n5432\n/var/run/postgresql\n127.0.0.1\n  5432001         3\nready   \n";

    #[test]
    fn a_running_servers_file_is_read_whole() {
        let file = PidFile::parse(READY).unwrap();
        assert_eq!(file.pid, 4242);
        assert_eq!(file.start_time, 1_790_000_000);
        assert_eq!(file.port, Some(5432));
        assert_eq!(file.sockets.as_deref(), Some("/var/run/postgresql"));
        assert_eq!(file.listen.as_deref(), Some("127.0.0.1"));
        assert_eq!(file.phase, Some(Phase::Ready));
    }

    #[test]
    fn every_shorter_beginning_of_it_is_half_written_or_lacks_what_is_not_there_yet() {
        for end in 0..READY.len() {
            match PidFile::parse(&READY[..end]) {
                Err(absence) => assert_eq!(absence, Absence::HalfWritten, "cut at {end}"),
                Ok(file) => assert_eq!((file.pid, file.phase), (4242, None), "cut at {end}"),
            }
        }
    }

    #[test]
    fn a_starting_server_has_not_yet_said_that_it_listens_nowhere() {
        let starting = "4242\n/data\n1790000000\n5432\n\n\n  5432001         3\n";
        assert_eq!(PidFile::parse(starting).unwrap().listen, None);
        let started = format!("{starting}ready   \n");
        assert_eq!(
            PidFile::parse(&started).unwrap().listen.as_deref(),
            Some("")
        );
    }

    #[test]
    fn no_number_but_a_positive_one_is_a_process() {
        let with = |pid: &str| PidFile::parse(&READY.replacen("4242", pid, 1));
        assert_eq!(with("-4242"), Err(Absence::SingleUser));
        assert_eq!(with("0"), Err(Absence::Garbage));
        assert_eq!(with("99999999999"), Err(Absence::Garbage));
        assert_eq!(with("x"), Err(Absence::Garbage));
    }

    #[test]
    fn a_process_of_another_kind_is_foreign_whatever_the_file_says() {
        let own = std::process::id();
        let file = PidFile::parse(&READY.replacen("4242", &own.to_string(), 1)).unwrap();
        let euid = rustix::process::geteuid().as_raw();
        let found = Postmaster::identify(file, FileId::NONE, euid);
        assert!(matches!(found, Err(Absence::Foreign { pid, .. }) if pid == own));
    }

    #[test]
    fn a_number_that_no_process_has_is_stale() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let file = PidFile::parse(&READY.replacen("4242", &child.id().to_string(), 1)).unwrap();
        let found = Postmaster::identify(file, FileId::NONE, 0);
        assert_eq!(found.unwrap_err(), Absence::Stale { pid: child.id() });
    }
}
