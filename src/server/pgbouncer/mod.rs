//! A PgBouncer: the process that was started with a configuration file, and what that file says.
//!
//! As with a postmaster, a number in a file proves nothing: the process is held by a pidfd first,
//! then its identity is proven, and it is only signalled through that pidfd. The evidence: its
//! user, its executable, that it handles SIGHUP, and that its arguments name the file, compared by
//! device and inode.

mod ini;
mod listeners;
mod settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Address;
use crate::host::command::Launch;
use crate::host::file;
use crate::host::look::{self, CannotLook, if_allowed};
use crate::host::namespaces::{self, Network};
use crate::host::privilege::Ids;
use crate::host::process::{self as processes, HeldProcess};
use crate::problem::Problem;
use crate::server::identity::{Against, is_of_user, takes_reload};
use crate::server::postmaster::Absence;

use listeners::PgBouncerListeners;

pub(crate) use settings::Settings;

/// The name of the program; Linux truncates process names to 15 bytes.
const NAME: &str = "pgbouncer";

/// How to start it if its package's unit is used.
const START: &str = "start pgbouncer: systemctl start pgbouncer";

/// What to do if others answer at the same port.
const ALONE: &str = "set address to where it alone listens, such as one more of its listen_addr, or verify = \"none\"";

/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number in a pid file is followed by a newline.
const LARGEST_PID_FILE: u64 = 64;

/// A running PgBouncer whose identity was proven.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    /// Its process number as this host counts.
    pub(crate) pid: u32,
    /// Its working directory, where relative paths start; `/`, systemd's default, if this user may not see it.
    pub(crate) directory: PathBuf,
    /// Its executable, if this user may see it and that path is the same file here.
    pub(crate) executable: Option<PathBuf>,
    /// What its configuration said when it was read.
    pub(crate) settings: Settings,
    /// The network in which it listens.
    pub(crate) network: Network,
    /// Where its root directory appears here, if it has its own.
    pub(crate) root: Option<PathBuf>,
    listeners: PgBouncerListeners,
    pub(super) held: HeldProcess,
}

/// The content of `pidfile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PgBouncerPidFile {
    /// None is set, or there is none.
    Absent,
    /// Its number in PgBouncer's own pid namespace.
    Number {
        file: PathBuf,
        pid: u32,
    },
    Garbage(PathBuf),
    /// It cannot be read; why.
    Unreadable(PathBuf, String),
}

impl PgBouncerPidFile {
    /// Reads the file that the settings name. Blocks.
    pub(crate) fn read(settings: &Settings) -> PgBouncerPidFile {
        let Some(file) = settings.pid_file.clone() else {
            return PgBouncerPidFile::Absent;
        };
        let bytes = match file::read(&file, LARGEST_PID_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return PgBouncerPidFile::Absent;
            }
            Err(error) => return PgBouncerPidFile::Unreadable(file, error.to_string()),
        };
        let number = String::from_utf8_lossy(&bytes).trim().parse().ok();
        match number.filter(|pid| *pid > 0) {
            Some(pid) => PgBouncerPidFile::Number { file, pid },
            None => PgBouncerPidFile::Garbage(file),
        }
    }
}

/// Which PgBouncer to find.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The file that it was started with.
    pub(crate) config_file: PathBuf,
    /// The user that it runs as.
    pub(crate) user: u32,
}

impl PgBouncer {
    /// Finds the process: the one in the pid file, or the one on this host that was started with
    /// the configuration file. Blocks.
    ///
    /// # Errors
    /// [`Absence::NotFound`], with what the pid file says; [`Absence::Unreadable`] if several are running and nothing says
    /// which one is meant; [`Absence::NotKnown`] if a check failed.
    pub(crate) fn find(
        wanted: &Wanted,
        pid_file: &PgBouncerPidFile,
        settings: Settings,
    ) -> Result<PgBouncer, Absence> {
        let told = match pid_file {
            PgBouncerPidFile::Number { file, pid } => {
                match prove(*pid, Some(*pid), wanted, &settings) {
                    Ok(found) => return Ok(found),
                    Err(other) => Some((file, *pid, other)),
                }
            }
            _ => None,
        };
        let mut unfit = None;
        let search = processes::search_of(wanted.user, |pid| {
            if !is_called_so(pid)? {
                return Ok(None);
            }
            match prove(pid, None, wanted, &settings) {
                Ok(found) => Ok(Some(found)),
                Err(Against::NotKnown(cannot)) => Err(cannot),
                Err(Against::Evidence(evidence)) => {
                    if is_another_users(pid, wanted)? {
                        unfit = Some((pid, evidence));
                    }
                    Ok(None)
                }
                Err(Against::Gone) => Ok(None),
            }
        });
        let mut found = search.whole()?;
        if let Some((_, inner, against)) = &told {
            let named = found
                .iter()
                .filter(|one| one.held.own_number() == Some(*inner));
            match (against, named.count()) {
                (Against::NotKnown(cannot), 0) => return Err(cannot.clone().into()),
                // While one takes over from another (-R), both are running: the pid file names the one that stays.
                _ if found.len() > 1 => found.retain(|one| one.held.own_number() == Some(*inner)),
                _ => {}
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            // Not down: what nobody has checked must not be called healthy.
            (Some(_), false) => Err(Absence::Unreadable(format!(
                "{} processes were started with {}, and no pid file tells which one is meant; give each a file \
                 of its own, which may %include what they share, with a pidfile, and an instance",
                found.len() + 1,
                wanted.config_file.display()
            ))),
            (None, _) => Err(match unfit {
                Some((pid, evidence)) => Absence::Unsupported {
                    why: format!(
                        "process {pid} has {}, and cannot be taken for its PgBouncer ({evidence}); it was not touched",
                        wanted.config_file.display()
                    ),
                    fix: "set owner to the user as whom PgBouncer runs, or start it as the one that config_file belongs to",
                },
                None => not_found(absent(wanted, pid_file, told)),
            }),
        }
    }

    /// Where it alone listens for clients, best first.
    ///
    /// # Errors
    /// Nowhere over TCP, or others may answer for it everywhere.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        let listened = self.settings.addresses()?;
        let (alone, shared): (Vec<_>, Vec<_>) = listened
            .into_iter()
            .partition(|address| !self.listeners.share(address));
        match (alone.is_empty(), shared.first()) {
            (true, Some(address)) => Err(is_shared(address)),
            _ => Ok(alone),
        }
    }

    /// Whether it alone may answer at an address that the config names.
    ///
    /// # Errors
    /// Other processes listen there as well.
    pub(crate) fn is_alone_at(&self, address: &Address) -> Result<(), Problem> {
        if self.listeners.share(address) {
            Err(is_shared(address))
        } else {
            Ok(())
        }
    }

    /// The version of its executable, major and minor, as it says itself; none where it cannot be
    /// run from here, or says something else. It runs as `owner`.
    pub(crate) async fn version(&self, owner: Ids) -> Option<(u32, u32)> {
        let executable = self.executable.as_deref()?;
        let mut launch = Launch::of_server(executable, owner).ok()?;
        launch.arg("--version");
        let ran = launch.ran(PATIENCE).await.ok()?;
        version(&String::from_utf8_lossy(&ran.stdout))
    }
}

fn is_shared(address: &Address) -> Problem {
    Problem::new(
        format!(
            "several processes listen at {address} (SO_REUSEPORT), so that no connection tells what this one serves"
        ),
        ALONE,
    )
}

fn not_found(why: String) -> Absence {
    Absence::NotFound { why, fix: START }
}

/// The version in `PgBouncer 1.18.0`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("PgBouncer ")?.split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

/// Why no process was found, in words.
fn absent(
    wanted: &Wanted,
    pid_file: &PgBouncerPidFile,
    told: Option<(&PathBuf, u32, Against)>,
) -> String {
    let config = wanted.config_file.display();
    match (told, pid_file) {
        (Some((file, pid, Against::Gone)), _) => format!(
            "{} is left over: process {pid} no longer exists",
            file.display()
        ),
        (Some((file, pid, Against::Evidence(evidence))), _) => format!(
            "{} is left over: process {pid} is another one ({evidence}) and was not touched",
            file.display()
        ),
        (None, PgBouncerPidFile::Garbage(file)) => format!(
            "{} holds no process number, and no PgBouncer runs with {config}",
            file.display()
        ),
        (None, PgBouncerPidFile::Unreadable(file, why)) => format!(
            "{}: {why}, and no PgBouncer runs with {config}",
            file.display()
        ),
        (Some((_, _, Against::NotKnown(_))) | None, _) => {
            format!("no PgBouncer runs with {config}")
        }
    }
}

/// Proves that a process is the PgBouncer that is wanted; `inner` is its number in its own pid
/// namespace, where a pid file tells it.
fn prove(
    pid: u32,
    inner: Option<u32>,
    wanted: &Wanted,
    settings: &Settings,
) -> Result<PgBouncer, Against> {
    let held = HeldProcess::open(pid)?.ok_or(Against::Gone)?;
    evidence_of_name(&held)?;
    let expected = format!(
        "user {} is expected, as owner in the config or the owner of {} has it",
        wanted.user,
        wanted.config_file.display()
    );
    is_of_user(&held, wanted.user, &expected)?;
    takes_reload(&held, inner)?;
    evidence_of_arguments(&held, &wanted.config_file)?;
    let directory = if_allowed(held.link("cwd"))?;
    let proc = held.entry();
    Ok(PgBouncer {
        pid,
        directory: directory.unwrap_or_else(|| PathBuf::from("/")),
        executable: held.executable()?,
        settings: settings.clone(),
        network: namespaces::network_of(&held)?,
        root: namespaces::root(&proc)?,
        listeners: PgBouncerListeners::beside(&proc)?,
        held,
    })
}

/// Checks the executable or, if that is not visible, as after a change of user, the name in `/proc/PID/stat`.
fn evidence_of_name(held: &HeldProcess) -> Result<(), Against> {
    let Some(executable) = if_allowed(held.link("exe"))? else {
        return match held.name() {
            NAME => Ok(()),
            other => Err(format!("it is called {other}").into()),
        };
    };
    let name = executable.file_name().unwrap_or_default().to_string_lossy();
    // A package upgrade leaves the running one as "pgbouncer (deleted)".
    match name.trim_end_matches(" (deleted)") {
        NAME => Ok(()),
        _ => Err(format!("its executable is {}", executable.display()).into()),
    }
}

/// Checks that the only argument that is not an option leads to the file, as the process sees it.
fn evidence_of_arguments(held: &HeldProcess, config_file: &Path) -> Result<(), Against> {
    let arguments = held.arguments()?.unwrap_or_default();
    let takes_name = |word: &OsString| word == "-u" || word == "--user";
    let mut is_name = false;
    let files = arguments.iter().skip(1).filter(|word| {
        // A user's name comes next.
        !std::mem::replace(&mut is_name, takes_name(word))
    });
    match look::file_id(config_file)? {
        Some(file) if held.is_given(files, file)? => Ok(()),
        _ => Err(format!("it was not started with {}", config_file.display()).into()),
    }
}

/// Whether a process is a PgBouncer that was started with the file, but as another user.
fn is_another_users(pid: u32, wanted: &Wanted) -> Result<bool, CannotLook> {
    let Some(held) = HeldProcess::open(pid)? else {
        return Ok(false);
    };
    if held.euid() == wanted.user {
        return Ok(false);
    }
    let proven = evidence_of_name(&held);
    match proven.and_then(|()| evidence_of_arguments(&held, &wanted.config_file)) {
        Ok(()) => Ok(true),
        Err(Against::NotKnown(cannot)) => Err(cannot),
        Err(Against::Gone | Against::Evidence(_)) => Ok(false),
    }
}

/// Whether a process may be a PgBouncer, by its name.
fn is_called_so(pid: u32) -> Result<bool, CannotLook> {
    let stat = processes::stat_of(pid)?;
    Ok(stat.is_some_and(|stat| stat.comm == NAME))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn absence(pid: Option<u32>, config_file: &Path) -> String {
        std::fs::write(config_file, "[pgbouncer]\n").unwrap();
        let settings = Settings::read(config_file, Path::new("/")).unwrap();
        let file = PathBuf::from("/run/pgbouncer.pid");
        let pid_file = pid.map_or(PgBouncerPidFile::Absent, |pid| PgBouncerPidFile::Number {
            file,
            pid,
        });
        let wanted = Wanted {
            config_file: config_file.to_owned(),
            user: rustix::process::geteuid().as_raw(),
        };
        let found = PgBouncer::find(&wanted, &pid_file, settings);
        found.unwrap_err().to_string()
    }

    #[test]
    fn a_number_of_another_process_or_of_none_is_left_alone_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbouncer.ini");
        let own = absence(Some(std::process::id()), &file);
        assert!(own.contains("is another one (its executable is "), "{own}");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let stale = absence(Some(child.id()), &file);
        assert!(stale.contains("no longer exists"), "{stale}");
        let none = absence(None, &file);
        assert!(none.starts_with("no PgBouncer runs with "), "{none}");
    }

    #[test]
    fn its_version_is_what_it_says_first() {
        let debians = "PgBouncer 1.18.0\nlibevent 2.1.12-stable\n";
        assert_eq!(version(debians), Some((1, 18)));
        assert_eq!(version("pgbouncer version 1.5.4 (debian)\n"), None);
    }

    #[test]
    fn a_pid_file_is_a_positive_number_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let ini = directory.path().join("pgbouncer.ini");
        std::fs::write(&ini, format!("[pgbouncer]\npidfile = {}\n", file.display())).unwrap();
        let settings = Settings::read(&ini, Path::new("/")).unwrap();
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            PgBouncerPidFile::read(&settings)
        };
        let number = PgBouncerPidFile::Number {
            file: file.clone(),
            pid: 42,
        };
        assert_eq!(read("42\n"), number);
        for garbage in ["", "0\n", "-1\n", "x\n"] {
            assert_eq!(read(garbage), PgBouncerPidFile::Garbage(file.clone()));
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(PgBouncerPidFile::read(&settings), PgBouncerPidFile::Absent);
    }
}
