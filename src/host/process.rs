//! Processes of this host: one that is held while it is inspected, and a search through all of them.
//!
//! Process numbers are reused. So a process is held by a pidfd before it is inspected: all answers are then about the same
//! process, and a signal through the pidfd reaches that process or nobody. `pidfd_open` sees every process, while `/proc` may
//! hide those of other users; if the two disagree, the answer is unknown ([`CannotLook`]).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::FromRead;
use procfs::process::{Stat, Status};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::look::{self, Call, CannotLook, FileId, if_allowed};

/// A process that is held by a pidfd, with what the kernel said about it once it was held.
#[derive(Debug)]
pub(crate) struct HeldProcess {
    pid: u32,
    pidfd: OwnedFd,
    facts: Facts,
}

/// What `/proc` shows everybody about a process.
#[derive(Debug, Default)]
struct Facts {
    euid: u32,
    /// The signals that it handles, one bit each.
    caught: u64,
    /// Its numbers, from this pid namespace down to its own; empty if the kernel does not tell.
    numbers: Vec<i32>,
    parent: i32,
    /// At most 15 bytes.
    name: String,
    /// Clock ticks from boot to its start.
    start_ticks: u64,
}

impl HeldProcess {
    /// Holds the process with this number; `None` if there is none, or it ends meanwhile.
    ///
    /// # Errors
    /// Whether there is one is unknown.
    pub(crate) fn open(pid: u32) -> Result<Option<HeldProcess>, CannotLook> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let opened = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            // It may be the number of a thread; which errno says so depends on the kernel.
            Err(Errno::INVAL | Errno::NOENT) if is_thread(pid)? => return Ok(None),
            opened => opened,
        };
        let what = format!("process {pid}");
        let Some(pidfd) = look::sorted(Call::PidfdOpen, &what, opened)? else {
            return Ok(None);
        };
        let facts = Facts::default();
        let held = HeldProcess { pid, pidfd, facts };
        let (Some(status), Some(stat)) = (held.parsed::<Status>("status")?, held.stat()?) else {
            return Ok(None);
        };
        let facts = Facts {
            euid: status.euid,
            caught: status.sigcgt,
            numbers: status.nspid.unwrap_or_default(),
            parent: stat.ppid,
            name: stat.comm,
            start_ticks: stat.starttime,
        };
        Ok(Some(HeldProcess { facts, ..held }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its entry in `/proc`.
    pub(crate) fn entry(&self) -> PathBuf {
        entry(self.pid)
    }

    pub(crate) fn euid(&self) -> u32 {
        self.facts.euid
    }

    /// Whether it has installed a handler for this signal.
    pub(crate) fn handles(&self, signal: Signal) -> bool {
        self.facts.caught & (1 << (signal.as_raw() - 1)) != 0
    }

    /// Its number in its own pid namespace, if the kernel tells (proc_pid_status(5), `NSpid`).
    pub(crate) fn own_number(&self) -> Option<u32> {
        u32::try_from(*self.facts.numbers.last()?).ok()
    }

    pub(crate) fn parent(&self) -> u32 {
        u32::try_from(self.facts.parent).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        &self.facts.name
    }

    /// Clock ticks from boot to its start (proc_pid_stat(5), `starttime`).
    pub(crate) fn start_ticks(&self) -> u64 {
        self.facts.start_ticks
    }

    /// When it started, by the current wall clock. The kernel gives the boot time in whole seconds only, which would make a
    /// file that was written just before the start look as if it had been edited after.
    pub(crate) fn began(&self) -> SystemTime {
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let up = Duration::try_from(up).unwrap_or_default();
        let per_second = procfs::ticks_per_second();
        moment(self.start_ticks(), per_second, up, SystemTime::now())
    }

    /// Whether it has ended, even if its parent has not waited for it yet.
    ///
    /// # Errors
    /// That is unknown.
    pub(crate) fn has_ended(&self) -> Result<bool, CannotLook> {
        let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A pidfd becomes readable when its process ends.
        let polled = loop {
            match rustix::event::poll(&mut fds, Some(&now)) {
                Err(Errno::INTR) => {}
                polled => break polled,
            }
        };
        let what = format!("process {}", self.pid);
        Ok(look::sorted(Call::Poll, &what, polled)?.is_some_and(|ready| ready > 0))
    }

    /// `/proc/PID/stat`; `None` if it has ended.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, CannotLook> {
        self.parsed("stat")
    }

    /// The content of a file in its entry; `None` if it has ended.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CannotLook> {
        let read = look::read(&self.entry().join(name))?;
        self.unless_ended(read)
    }

    /// The target of a link in its entry, such as `exe`; `None` if it has ended.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub(crate) fn link(&self, name: &str) -> Result<Option<PathBuf>, CannotLook> {
        let link = look::link(&self.entry().join(name))?;
        self.unless_ended(link)
    }

    /// The file that a link in its entry leads to; `None` if it has ended.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub(crate) fn file_id(&self, name: &str) -> Result<Option<FileId>, CannotLook> {
        let id = look::file_id(&self.entry().join(name))?;
        self.unless_ended(id)
    }

    /// Its executable, if this user may see it and that path is the same file here; `None` if it has ended.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub(crate) fn executable(&self) -> Result<Option<PathBuf>, CannotLook> {
        let Some(path) = if_allowed(self.link("exe"))? else {
            return Ok(None);
        };
        let own = self.file_id("exe")?;
        Ok((own.is_some() && own == look::file_id(&path)?).then_some(path))
    }

    /// Its arguments, its own name first; `None` if it has ended.
    ///
    /// # Errors
    /// They cannot be inspected.
    pub(crate) fn arguments(&self) -> Result<Option<Vec<OsString>>, CannotLook> {
        Ok(self.read("cmdline")?.map(|bytes| words(&bytes)))
    }

    /// The path here of a file that it knows as `argument`, whatever its root and its working directory are.
    pub(crate) fn seen(&self, argument: &Path) -> PathBuf {
        match argument.strip_prefix("/") {
            Ok(below) => self.entry().join("root").join(below),
            Err(_) => self.entry().join("cwd").join(argument),
        }
    }

    /// Whether one of these arguments, options aside, is a path that leads to `file` for this process.
    ///
    /// # Errors
    /// One cannot be checked, and none of the others does.
    pub(crate) fn is_given<'a>(
        &self,
        arguments: impl Iterator<Item = &'a OsString>,
        file: FileId,
    ) -> Result<bool, CannotLook> {
        // A process that has changed its user hides its root and its directory.
        let hidden = if_allowed(self.link("root"))?.is_none();
        let mut cannot = None;
        for argument in arguments.map(Path::new) {
            if argument.as_os_str().as_encoded_bytes().starts_with(b"-") {
                continue;
            }
            let seen = if hidden && argument.is_absolute() {
                look::file_id(argument)
            } else {
                look::file_id(&self.seen(argument))
            };
            match seen {
                Ok(seen) if seen == Some(file) => return Ok(true),
                Ok(_) => {}
                Err(error) => cannot = Some(error),
            }
        }
        cannot.map_or(Ok(false), Err)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended (`ESRCH`), or this process may not signal it (`EPERM`).
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        rustix::process::pidfd_send_signal(self.pidfd.as_fd(), signal)
    }

    fn parsed<T: FromRead>(&self, name: &str) -> Result<Option<T>, CannotLook> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        parse(&self.entry().join(name), &bytes).map(Some)
    }

    /// What was found, unless the process has ended. Until its parent waits for it, an ended process still shows some of what
    /// it was; one that is about to end has no executable and no directory any more; and one that shows nothing at all but is
    /// running is hidden.
    fn unless_ended<T>(&self, found: Option<T>) -> Result<Option<T>, CannotLook> {
        if self.has_ended()? {
            return Ok(None);
        }
        if found.is_none() && look::metadata(&self.entry())?.is_none() && !self.has_ended()? {
            return Err(CannotLook::hidden(&self.entry()));
        }
        Ok(found)
    }
}

impl AsFd for HeldProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The end of the clock tick `ticks` after boot, which was `up` before `now`: whatever a process reads at its start, it reads
/// after that.
fn moment(ticks: u64, per_second: u64, up: Duration, now: SystemTime) -> SystemTime {
    let since_boot =
        Duration::from_millis(ticks.saturating_add(1).saturating_mul(1000) / per_second.max(1));
    let ago = up.saturating_sub(since_boot);
    now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn entry(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn parse<T: FromRead>(path: &Path, bytes: &[u8]) -> Result<T, CannotLook> {
    T::from_read(bytes).map_err(|_| CannotLook::odd(path))
}

/// Whether this is the number of a thread other than its process's first. `/proc` does not list those, but has an entry for
/// each.
fn is_thread(pid: u32) -> Result<bool, CannotLook> {
    let status: Option<Status> = part(pid, "status")?;
    Ok(status.is_some_and(|status| u32::try_from(status.tgid) != Ok(pid)))
}

fn part<T: FromRead>(pid: u32, name: &str) -> Result<Option<T>, CannotLook> {
    let path = entry(pid).join(name);
    let bytes = look::read(&path)?;
    bytes.map(|bytes| parse(&path, &bytes)).transpose()
}

/// `/proc/PID/status` of a process that is not held, to see whether it is worth holding.
///
/// # Errors
/// It cannot be inspected.
pub(crate) fn status_of(pid: u32) -> Result<Option<Status>, CannotLook> {
    part(pid, "status")
}

/// `/proc/PID/stat` of a process that is not held, to see whether it is worth holding.
///
/// # Errors
/// It cannot be inspected.
pub(crate) fn stat_of(pid: u32) -> Result<Option<Stat>, CannotLook> {
    part(pid, "stat")
}

/// The arguments of a process that is not held, its own name first; empty if it has ended.
///
/// # Errors
/// They cannot be inspected.
pub(crate) fn arguments_of(pid: u32) -> Result<Vec<OsString>, CannotLook> {
    let bytes = look::read(&entry(pid).join("cmdline"))?;
    Ok(words(&bytes.unwrap_or_default()))
}

fn words(cmdline: &[u8]) -> Vec<OsString> {
    let words = cmdline.split(|byte| *byte == 0);
    let words = words.filter(|word| !word.is_empty());
    words
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

/// The result of a search through the processes of this host.
#[derive(Debug)]
pub(crate) struct Search<T> {
    pub(crate) found: Vec<T>,
    /// The first check that failed: there may be more than was found.
    pub(crate) missed: Option<CannotLook>,
}

impl<T> Search<T> {
    /// All that there are.
    ///
    /// # Errors
    /// A check failed, so there may be more.
    pub(crate) fn whole(self) -> Result<Vec<T>, CannotLook> {
        match self.missed {
            Some(missed) => Err(missed),
            None => Ok(self.found),
        }
    }
}

/// Searches through all processes that this user can see. If `wanted` fails for one, that is noted and the search goes on.
pub(crate) fn search<T>(mut wanted: impl FnMut(u32) -> Result<Option<T>, CannotLook>) -> Search<T> {
    let mut search = Search {
        found: Vec::new(),
        missed: None,
    };
    match numbers() {
        Err(missed) => search.missed = Some(missed),
        Ok(numbers) => {
            for pid in numbers {
                match wanted(pid) {
                    Ok(found) => search.found.extend(found),
                    Err(missed) => search.missed = search.missed.or(Some(missed)),
                }
            }
        }
    }
    search
}

/// The same for processes of one user: processes of other users that can't be inspected don't count, but if `/proc` may hide
/// the user's processes altogether, that does.
pub(crate) fn search_of<T>(
    user: u32,
    mut wanted: impl FnMut(u32) -> Result<Option<T>, CannotLook>,
) -> Search<T> {
    let mut search = search(|pid| match wanted(pid) {
        Err(missed) if missed.is_denied() && is_of_another(pid, user)? => Ok(None),
        looked => looked,
    });
    if search.missed.is_none() && rustix::process::geteuid().as_raw() != user {
        search.missed = others_hidden().unwrap_or_else(Some);
    }
    search
}

/// Whether the process certainly belongs to another user. Those that may not be traced appear as root's (proc(5)).
fn is_of_another(pid: u32, user: u32) -> Result<bool, CannotLook> {
    let owner = look::metadata(&entry(pid))?.map(|meta| meta.uid());
    Ok(owner.is_none_or(|owner| owner != user && owner != 0))
}

/// An error if `/proc` hides other users' processes from this user (`hidepid=`), in which case even process 1 is not visible.
///
/// # Errors
/// That is unknown.
pub(crate) fn others_hidden() -> Result<Option<CannotLook>, CannotLook> {
    let first = entry(1);
    Ok(match look::metadata(&first)? {
        Some(_) => None,
        None => Some(CannotLook::hidden(&first)),
    })
}

/// When this host booted, in Unix seconds.
///
/// # Errors
/// It cannot be inspected.
pub(crate) fn boot_time() -> Result<u64, CannotLook> {
    let path = Path::new("/proc/stat");
    let bytes = look::read(path)?.ok_or_else(|| CannotLook::missing(path))?;
    let text = String::from_utf8_lossy(&bytes);
    let told = text.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds = told.and_then(|told| told.trim().parse().ok());
    seconds.ok_or_else(|| CannotLook::odd(path))
}

fn numbers() -> Result<Vec<u32>, CannotLook> {
    let proc = Path::new("/proc");
    let names = look::names(proc)?.ok_or_else(|| CannotLook::missing(proc))?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    let numbers: Vec<u32> = numbers.collect();
    // At least this process is there.
    if numbers.is_empty() {
        return Err(CannotLook::missing(&entry(std::process::id())));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_nobody_has_asked_for_yet_has_ended() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let held = HeldProcess::open(child.id()).unwrap().unwrap();
        child.kill().unwrap();
        while !held.has_ended().unwrap() {
            std::thread::yield_now();
        }
        // Its entry is still there.
        assert!(stat_of(child.id()).unwrap().is_some());
        assert!(held.stat().unwrap().is_none());
        assert_eq!(held.link("exe"), Ok(None));
        child.wait().unwrap();
        assert!(held.stat().unwrap().is_none());
        assert!(HeldProcess::open(child.id()).unwrap().is_none());
        assert_eq!(arguments_of(child.id()), Ok(Vec::new()));
    }

    #[test]
    fn the_number_of_a_thread_is_no_processs() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            let _stopped = stopped.recv();
        });
        let number = u32::try_from(told.recv().unwrap()).unwrap();
        let opened = HeldProcess::open(number);
        drop(stop);
        thread.join().unwrap();
        assert!(opened.unwrap().is_none());
    }

    #[test]
    fn numbers_that_no_process_can_have_are_nobodys() {
        for number in [0, u32::MAX, 1 << 31] {
            assert!(HeldProcess::open(number).unwrap().is_none(), "{number}");
        }
    }

    #[test]
    fn a_search_goes_on_after_a_look_that_failed_and_is_not_whole() {
        let own = std::process::id();
        let odd = CannotLook::odd(Path::new("/proc/1"));
        let found = search(|pid| match pid {
            1 => Err(odd.clone()),
            pid => Ok((pid == own).then_some(pid)),
        });
        assert_eq!(found.found, [own]);
        assert_eq!(found.whole(), Err(odd));
    }

    #[test]
    fn what_another_users_process_hides_does_not_count() {
        let denied = || CannotLook::hidden(Path::new("/proc/1"));
        let user = rustix::process::geteuid().as_raw();
        let own = std::process::id();
        let of_own = search_of::<()>(user, |pid| match pid {
            pid if pid == own => Err(denied()),
            _ => Ok(None),
        });
        assert_eq!(of_own.whole(), Err(denied()));
    }

    #[test]
    fn a_process_has_begun_when_the_hundredth_of_a_second_is_over_in_which_it_began() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_700);
        let up = Duration::from_millis(10_700);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_270);
        assert_eq!(moment(1026, 100, up, now), expected);
        // A start that is yet to come by clocks that were read one after the other is now.
        assert_eq!(moment(1100, 100, up, now), now);
    }
}
