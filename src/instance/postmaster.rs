//! The postmaster of a data directory: what its pid file says, and whether the process that
//! it names is that postmaster.
//!
//! A number in a file proves nothing: `kill -9` leaves the file behind, the number is given
//! to another process, and in a container it means another process on the host. So the
//! process is held by a pidfd first, then its identity is proven, and only through that
//! pidfd is it ever signalled.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::namespaces::{self, Numbers};
pub use super::namespaces::{Apart, Network};

/// `postmaster.pid`, as far as it was written when it was read.
///
/// The lines are those of PostgreSQL's `miscadmin.h` (`LOCK_FILE_LINE_*`); those from the
/// fourth on are filled in while the server starts, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// Line 1, as the server's own pid namespace counts.
    pub pid: u32,
    /// Line 3, Unix seconds.
    pub start_time: i64,
    /// Line 4, once the server knows it.
    pub port: Option<u16>,
    /// Line 5, once the server knows it: the first directory in which it has a Unix socket;
    /// `Some("")` when there is none. One that begins with `@` is a name in the abstract namespace.
    pub sockets: Option<String>,
    /// Line 6, once the server knows it: the first address it listens on; `Some("")` when there
    /// is none.
    pub listen: Option<String>,
    /// Line 8, once written.
    pub phase: Option<Phase>,
}

/// How far a server has come, by line 8 of its pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Recovery or start-up is under way.
    Starting,
    /// Shut-down is under way.
    Stopping,
    /// It takes connections.
    Ready,
    /// A standby that takes no connections.
    Standby,
}

/// Why a data directory has no postmaster that can be signalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// There is no `postmaster.pid`.
    NoPidFile,
    /// The file is empty or has too few lines: a server is about to start, or crashed then.
    HalfWritten,
    /// The file's first lines are not what PostgreSQL writes.
    Garbage,
    /// A negative number: a single-user session, which serves nobody.
    SingleUser,
    /// No process has the number: the server was killed and left the file behind.
    Stale {
        /// The number.
        pid: u32,
    },
    /// A process has the number and is not this postmaster; it is left alone.
    Foreign {
        /// The number.
        pid: u32,
        /// Which piece of evidence is against it.
        evidence: String,
    },
    /// The server is shutting down.
    Stopping,
    /// The file cannot be read.
    Unreadable(String),
    /// What may be it runs in a way that is not supported, so that it is neither known nor down.
    Unsupported {
        /// What runs.
        why: String,
        /// What is supported, and how to get there.
        mend: &'static str,
    },
    /// A server of another kind, which leaves no such file in a place that is known.
    NotFound {
        /// Why it is thought to be down.
        why: String,
        /// What to do about it.
        mend: &'static str,
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
            Absence::Unreadable(reason)
            | Absence::Unsupported { why: reason, .. }
            | Absence::NotFound { why: reason, .. } => write!(f, "{reason}"),
        }
    }
}

impl Absence {
    /// Whether a server may run all the same, so that nothing may be taken for well.
    #[must_use]
    pub fn may_run(&self) -> bool {
        matches!(self, Absence::Unreadable(_) | Absence::Unsupported { .. })
    }

    /// What to do about it; empty where nothing is, or the sentence says it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Absence::NoPidFile | Absence::Stopping | Absence::Unreadable(_) => "",
            Absence::NotFound { mend, .. } | Absence::Unsupported { mend, .. } => mend,
            Absence::HalfWritten => {
                "a server is about to start, or failed as it did: see the server's log"
            }
            Absence::SingleUser => "end it and start the server, which then gets its certificate",
            Absence::Garbage | Absence::Stale { .. } | Absence::Foreign { .. } => {
                "start the server; should it refuse because of that file, make sure that no postgres runs on the data directory, and remove the file"
            }
        }
    }
}

impl PidFile {
    /// Reads the lines of a pid file.
    ///
    /// # Errors
    /// [`Absence::HalfWritten`], [`Absence::Garbage`] or [`Absence::SingleUser`].
    pub fn parse(text: &str) -> Result<PidFile, Absence> {
        let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
        // Each line ends in a newline; what follows the last newline is still being written.
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
        // Line 7 comes first and leaves line 6 empty. Only once line 8 is there does that mean
        // that the server listens nowhere (`PostmasterMain`).
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

    /// Whether the server has come so far that the lines on where it listens are its last word.
    /// It loads its TLS files before that, and writes its phase after (`PostmasterMain`); an
    /// empty sixth line may until then be one that is still to be filled.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.phase.is_some()
    }
}

/// A running postmaster whose identity was proven.
#[derive(Debug)]
pub struct Postmaster {
    /// Its process number as this host counts.
    pub pid: u32,
    /// What its pid file says.
    pub file: PidFile,
    /// Its executable, where it may be looked at, is the one at that path here, and paths mean
    /// here what they mean to it.
    pub executable: Option<PathBuf>,
    /// In which network it listens.
    pub network: Network,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    pidfd: OwnedFd,
}

impl Postmaster {
    /// Proves that the process that `file` names is the postmaster of `data_directory`, owned
    /// by the user `owner`.
    ///
    /// # Errors
    /// [`Absence::Stale`] or [`Absence::Foreign`], with the evidence.
    pub fn identify(
        file: PidFile,
        data_directory: &Path,
        owner: u32,
    ) -> Result<Postmaster, Absence> {
        match Postmaster::prove(file.pid, &file, data_directory, owner) {
            Ok(found) => Ok(found),
            Err(absence) => {
                // The number may be one of another pid namespace (a container's server). Each
                // container has a process 1, and many start at once: the directory alone tells.
                namesakes(file.pid)
                    .filter(|pid| {
                        let proc = PathBuf::from(format!("/proc/{pid}"));
                        evidence_of_directory(&proc, data_directory) == Ok(true)
                    })
                    .find_map(|pid| Postmaster::prove(pid, &file, data_directory, owner).ok())
                    .ok_or(absence)
            }
        }
    }

    fn prove(
        pid: u32,
        file: &PidFile,
        data_directory: &Path,
        owner: u32,
    ) -> Result<Postmaster, Absence> {
        let stale = || Absence::Stale { pid: file.pid };
        let foreign = |evidence: String| Absence::Foreign {
            pid: file.pid,
            evidence,
        };
        let number = i32::try_from(pid).map_err(|_| stale())?;
        let handle = Pid::from_raw(number).ok_or_else(stale)?;
        // First the handle, then the evidence: what is proven below is proven of this process,
        // or, had it gone meanwhile, the signal through the handle reaches nobody.
        let pidfd = rustix::process::pidfd_open(handle, PidfdFlags::empty()).map_err(|e| {
            if e == rustix::io::Errno::SRCH {
                stale()
            } else {
                foreign(format!("it cannot be held: {e}"))
            }
        })?;
        let process = Process::new(number).map_err(|_| stale())?;
        let status = process.status().map_err(|_| stale())?;
        if status.euid != owner {
            return Err(foreign(format!(
                "its user is {}, the data directory's owner is {owner}",
                status.euid
            )));
        }
        if status.sigcgt & (1 << (Signal::HUP.as_raw() - 1)) == 0 {
            return Err(foreign("it does not handle SIGHUP".into()));
        }
        if let Some(inner) = status.nspid.as_ref().and_then(|all| all.last())
            && u32::try_from(*inner).ok() != Some(file.pid)
        {
            return Err(foreign(format!(
                "it is number {inner} in its own namespace"
            )));
        }
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let by_exe = evidence_of_executable(&proc).map_err(&foreign)?;
        let by_cwd = evidence_of_directory(&proc, data_directory).map_err(&foreign)?;
        if !(by_exe && by_cwd) {
            evidence_of_start(&process, file.start_time).map_err(&foreign)?;
        }
        let numbers = match pid == file.pid {
            true => Numbers::Shared,
            false => Numbers::Own,
        };
        let arguments = std::fs::read(proc.join("cmdline")).unwrap_or_default();
        Ok(Postmaster {
            pid,
            executable: namespaces::executable(&proc),
            network: namespaces::network_of(&proc, numbers),
            arguments: arguments
                .split(|b| *b == 0)
                .skip(1)
                .filter(|a| !a.is_empty())
                .map(|a| OsString::from_vec(a.to_vec()))
                .collect(),
            file: file.clone(),
            pidfd,
        })
    }

    /// A value for tests of what is decided about postmasters.
    #[cfg(test)]
    pub(crate) fn of_this_process(file: PidFile) -> Postmaster {
        let own = rustix::process::getpid();
        Postmaster {
            pid: std::process::id(),
            file,
            executable: None,
            network: Network::Shared,
            arguments: Vec::new(),
            pidfd: rustix::process::pidfd_open(own, PidfdFlags::empty()).expect("it runs"),
        }
    }

    /// Asks the postmaster to load its configuration and its TLS files anew.
    ///
    /// # Errors
    /// The process has gone (`ESRCH`), or this process may not signal it (`EPERM`).
    pub fn signal_reload(&self) -> Result<(), rustix::io::Errno> {
        rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::HUP)
    }

    /// What holds it.
    pub(in crate::instance) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Host numbers of the processes that have `inner` as their number in a namespace of their own.
fn namesakes(inner: u32) -> impl Iterator<Item = u32> {
    procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(move |process| {
            let nspid = process.status().ok()?.nspid?;
            let own = u32::try_from(*nspid.last()?).ok()?;
            (nspid.len() > 1 && own == inner).then_some(u32::try_from(process.pid()).ok()?)
        })
}

/// A postmaster that runs on this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    /// Its data directory, as it sees it itself.
    pub data_directory: PathBuf,
    /// Its process number as this host counts.
    pub pid: u32,
    /// What it has of its own, where that is not what this process sees under the same name.
    pub apart: Option<Apart>,
}

/// The postmasters on this host, as far as they may be looked at, by their data directories.
#[must_use]
pub fn running() -> Vec<Running> {
    let is_postgres = |pid: i32| {
        evidence_of_executable(&PathBuf::from(format!("/proc/{pid}"))).is_ok_and(|is| is)
    };
    let mut found: Vec<Running> = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| {
            let proc = PathBuf::from(format!("/proc/{}", process.pid()));
            let cwd = proc.join("cwd");
            // A postmaster is a postgres whose parent is none, in a data directory.
            let leads = is_postgres(process.pid())
                && process.stat().is_ok_and(|stat| !is_postgres(stat.ppid))
                && cwd.join("PG_VERSION").exists();
            leads.then_some(())?;
            Some(Running {
                data_directory: std::fs::read_link(&cwd).ok()?,
                pid: u32::try_from(process.pid()).ok()?,
                apart: namespaces::apart(&proc),
            })
        })
        .collect();
    found.sort();
    found
}

/// The data directories of postmasters on this host that are not among `covered`, as far as
/// they may be looked at.
#[must_use]
pub fn uncovered<'a>(covered: impl IntoIterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    let identity = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let known: Vec<_> = covered.into_iter().filter_map(|d| identity(d)).collect();
    let mut found: Vec<PathBuf> = running()
        .into_iter()
        .filter(|it| {
            // Through the process, since in a container its path is another one.
            let cwd = PathBuf::from(format!("/proc/{}/cwd", it.pid));
            identity(&cwd).is_some_and(|own| !known.contains(&own))
        })
        .map(|it| it.data_directory)
        .collect();
    found.dedup();
    found
}

/// How many processes that are called as a server is, and have no such parent, may not be looked
/// at: whether they are servers, and where, cannot be told.
#[must_use]
pub fn unnamed() -> usize {
    procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
        .filter(may_be_a_hidden_postmaster)
        .count()
}

fn may_be_a_hidden_postmaster(process: &Process) -> bool {
    let is_called_so = |process: &Process| {
        let stat = process.stat();
        stat.ok()
            .filter(|it| matches!(it.comm.as_str(), "postgres" | "postmaster" | "edb-postgres"))
    };
    let Some(own) = is_called_so(process) else {
        return false;
    };
    // One that has ended, and that its parent has not asked for yet, has no executable any more:
    // so is each `postgres -C` for a moment. proc(5) has the states.
    if matches!(own.state, 'Z' | 'X' | 'x') {
        return false;
    }
    let parent = Process::new(own.ppid);
    if parent.ok().as_ref().and_then(is_called_so).is_some() {
        return false;
    }
    let exe = std::fs::read_link(format!("/proc/{}/exe", process.pid()));
    exe.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// `Ok(false)` where it may not be looked at.
fn evidence_of_executable(proc: &Path) -> Result<bool, String> {
    match std::fs::read_link(proc.join("exe")) {
        Ok(path) => {
            let name = path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            // A package upgrade leaves the running one as "postgres (deleted)".
            let name = name.trim_end_matches(" (deleted)");
            if name == "postgres" || name == "postmaster" || name == "edb-postgres" {
                Ok(true)
            } else {
                Err(format!("its executable is {}", path.display()))
            }
        }
        Err(_) => Ok(false),
    }
}

/// `Ok(false)` where it may not be looked at.
fn evidence_of_directory(proc: &Path, data_directory: &Path) -> Result<bool, String> {
    // A postmaster changes into its data directory and stays there; the file system's own
    // numbers are compared, since the path differs in a container.
    let Ok(cwd) = std::fs::metadata(proc.join("cwd")) else {
        return Ok(false);
    };
    let data = std::fs::metadata(data_directory)
        .map_err(|e| format!("{} cannot be looked at: {e}", data_directory.display()))?;
    if (cwd.dev(), cwd.ino()) == (data.dev(), data.ino()) {
        Ok(true)
    } else {
        Err("its working directory is another one".into())
    }
}

/// The last resort where executable or directory may not be looked at: a clock step breaks it.
fn evidence_of_start(process: &Process, start_time: i64) -> Result<(), String> {
    /// PostgreSQL notes the time a moment after the process began; ticks are rounded.
    const TOLERANCE: i64 = 3;
    let ticks = process.stat().map(|stat| stat.starttime);
    let booted = procfs::boot_time_secs();
    let (Ok(ticks), Ok(booted)) = (ticks, booted) else {
        return Err("its start time cannot be read".into());
    };
    let began = booted + ticks / procfs::ticks_per_second();
    if i64::try_from(began).is_ok_and(|began| (began - start_time).abs() <= TOLERANCE) {
        Ok(())
    } else {
        Err("it began at another time than postmaster.pid says, and its executable or directory may not be looked at".into())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use std::time::{Duration, Instant};

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
        let found = Postmaster::identify(file, Path::new("/"), euid);
        assert!(matches!(found, Err(Absence::Foreign { pid, .. }) if pid == own));
    }

    #[test]
    fn a_number_that_no_process_has_is_stale() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let file = PidFile::parse(&READY.replacen("4242", &child.id().to_string(), 1)).unwrap();
        let found = Postmaster::identify(file, Path::new("/"), 0);
        assert_eq!(found.unwrap_err(), Absence::Stale { pid: child.id() });
    }

    #[test]
    fn one_that_has_ended_is_no_server_that_cannot_be_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("postgres");
        // A copy could be "busy" to a process that another test starts at this moment.
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
        let mut child = std::process::Command::new(&program).spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let zombie = loop {
            assert!(Instant::now() < deadline);
            let process = Process::new(number).unwrap();
            let stat = process.stat().unwrap();
            if stat.state == 'Z' {
                assert_eq!(stat.comm, "postgres");
                break process;
            }
            std::thread::yield_now();
        };
        let executable = std::fs::read_link(format!("/proc/{number}/exe"));
        let hidden = may_be_a_hidden_postmaster(&zombie);
        child.wait().unwrap();
        assert!(executable.is_err());
        assert!(!hidden);
    }
}
