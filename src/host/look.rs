//! Checks whether something exists on the host, and what it means if a check fails.
//!
//! There are three answers: it exists, it doesn't, or that is unknown. [`means_gone`] is the only place that distinguishes
//! the second from the third, by the call and its errno. Every check here returns `Result<Option<T>, CannotLook>`, so that
//! no caller takes a failed check for an absence without saying so.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::problem::Problem;

/// How much is read of a file in `/proc`: hosts that run containers have mount tables of this size.
const LARGEST: u64 = 16 << 20;

/// The buffer for a first read. The kernel gives files in `/proc` the size 0, and most of them are smaller than this.
const USUAL: usize = 4 << 10;

/// A system call that checks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `pidfd_open(2)`: does a process with this number exist?
    PidfdOpen,
    /// `poll(2)` on a pidfd: has the process ended?
    Poll,
    /// `open(2)`.
    Open,
    /// `read(2)`, which fails in `/proc` if the process has ended since it was opened.
    Read,
    /// `getdents64(2)`, which lists a directory.
    ReadDir,
    /// `readlink(2)`.
    ReadLink,
    /// `stat(2)`.
    Stat,
    /// `connect(2)`, with the `socket(2)` before it.
    Connect,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::PidfdOpen => "pidfd_open",
            Call::Poll => "poll",
            Call::Open => "open",
            Call::Read => "read",
            Call::ReadDir => "getdents64",
            Call::ReadLink => "readlink",
            Call::Stat => "stat",
            Call::Connect => "connect",
        }
    }
}

/// Whether this errno of this call means that the thing does not exist. With any other errno that is unknown.
pub(crate) fn means_gone(call: Call, errno: Errno) -> bool {
    match call {
        Call::PidfdOpen => errno == Errno::SRCH,
        Call::Poll => false,
        Call::Open | Call::Read | Call::ReadDir | Call::ReadLink | Call::Stat => {
            // A process that ends while its entry is read leaves ESRCH.
            matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::SRCH)
        }
        // Nobody listens, or there is no such socket.
        Call::Connect => matches!(errno, Errno::CONNREFUSED | Errno::NOENT),
    }
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LookCause {
    System(Errno),
    /// The process is running, but `/proc` hides it from this user.
    Hidden,
    /// The kernel always provides it, but it does not exist.
    Missing,
    /// The content is not what the kernel writes there.
    Odd,
}

/// A failed check: whether the thing exists is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CannotLook {
    call: Call,
    what: String,
    cause: LookCause,
}

impl CannotLook {
    pub(super) fn hidden(what: &Path) -> CannotLook {
        CannotLook {
            call: Call::Stat,
            what: what.display().to_string(),
            cause: LookCause::Hidden,
        }
    }

    /// `what` does not exist, although the kernel always provides it.
    pub(crate) fn missing(what: &Path) -> CannotLook {
        CannotLook {
            call: Call::Open,
            what: what.display().to_string(),
            cause: LookCause::Missing,
        }
    }

    /// The content of `what` is not what the kernel writes there.
    pub(crate) fn odd(what: &Path) -> CannotLook {
        CannotLook {
            call: Call::Read,
            what: what.display().to_string(),
            cause: LookCause::Odd,
        }
    }

    /// A failed connection to `address`; `None` if the error is an answer (nobody is listening), or did not come from a system
    /// call, such as a name that cannot be resolved.
    pub(crate) fn connecting(address: &dyn fmt::Display, error: &io::Error) -> Option<CannotLook> {
        let errno = Errno::from_raw_os_error(error.raw_os_error()?);
        sorted::<()>(Call::Connect, address, Err(errno)).err()
    }

    /// A failed check of `path`; `None` if the error means that it does not exist.
    pub(crate) fn at_stat(path: &Path, error: &io::Error) -> Option<CannotLook> {
        let errno = Errno::from_raw_os_error(error.raw_os_error()?);
        sorted::<()>(Call::Stat, &path.display(), Err(errno)).err()
    }

    /// Whether this user lacks permission: normal for processes of other users, and not a fault of the host.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self.cause,
            LookCause::Hidden | LookCause::System(Errno::ACCESS | Errno::PERM)
        )
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match (&self.cause, self.call) {
            (LookCause::Hidden, _) => {
                "look as root or as the server's user, or mount /proc without hidepid= (ProtectProc= in the unit)"
            }
            (LookCause::Missing, _) => {
                "mount the whole of /proc where pgcertd runs (ProcSubset=all in the unit)"
            }
            (LookCause::Odd, _) => "see that /proc is the kernel's own",
            (LookCause::System(errno), call) => remedy(call, *errno),
        }
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.to_string(), self.remedy())
    }
}

impl fmt::Display for CannotLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.cause {
            LookCause::System(errno) => write!(f, "{} of {what} failed: {errno}", self.call.name()),
            LookCause::Hidden => write!(
                f,
                "stat of {what} failed: the process is running but hidden from this user"
            ),
            LookCause::Missing => write!(
                f,
                "open of {what} failed: it does not exist, although the kernel always provides it"
            ),
            LookCause::Odd => write!(
                f,
                "read of {what}: this is not what the kernel writes there"
            ),
        }
    }
}

impl std::error::Error for CannotLook {}

/// What to do if a limit of the process or the host was reached, whatever the operation; `None` for any other error.
pub(crate) fn limit_remedy(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::MFILE => {
            Some("raise the limit on open files: LimitNOFILE= in the unit, ulimit -n in a shell")
        }
        Errno::NFILE => {
            Some("the whole host is out of open files: see what holds them, or raise fs.file-max")
        }
        Errno::NOMEM | Errno::NOBUFS => {
            Some("the kernel is out of memory: free some, or raise MemoryMax= of the unit")
        }
        _ => None,
    }
}

fn remedy(call: Call, errno: Errno) -> &'static str {
    if let Some(remedy) = limit_remedy(errno) {
        return remedy;
    }
    match (call, errno) {
        (Call::PidfdOpen, Errno::NOSYS) => {
            "pidfd_open needs Linux 5.3 or later; on such a kernel a seccomp filter forbids it: allow it there \
             (SystemCallFilter= in the unit)"
        }
        (_, Errno::NOSYS) => {
            "a seccomp filter forbids that call: allow it there (SystemCallFilter= in the unit)"
        }
        (Call::PidfdOpen | Call::Poll, Errno::PERM | Errno::ACCESS) => {
            "a seccomp filter or a security module forbids that call: allow it there (SystemCallFilter= in the unit)"
        }
        (Call::Connect, Errno::PERM | Errno::ACCESS) => {
            "see what forbids the connection: a firewall, a security module, IPAddressDeny= in the unit"
        }
        (_, Errno::PERM | Errno::ACCESS) => {
            "look as root or as the server's user (for /proc, CAP_SYS_PTRACE too); or see whether hidepid= or \
             ProtectProc=, a seccomp filter or a security module forbids it"
        }
        (_, Errno::IO) => "see the kernel's log: the device or the file system below it fails",
        (_, Errno::STALE | Errno::NOTCONN | Errno::HOSTDOWN) => {
            "the file system below it has gone: mount it again"
        }
        (_, Errno::LOOP) => {
            "symbolic links there lead in a circle, or through too many: correct them"
        }
        (Call::Connect, Errno::AFNOSUPPORT) => {
            "allow that family of addresses: RestrictAddressFamilies= in the unit, or IPv6 in the kernel"
        }
        (Call::Connect, Errno::ADDRNOTAVAIL) => {
            "no local address or port is left for it: see ip_local_port_range, and that the host has such an address"
        }
        (
            Call::Connect,
            Errno::NETUNREACH | Errno::NETDOWN | Errno::HOSTUNREACH | Errno::TIMEDOUT,
        ) => {
            "see that the server can be reached there (routes, firewalls), or set address to where it listens"
        }
        (Call::Connect, _) => {
            "see that the server can be reached there, or set address to where it listens"
        }
        (Call::PidfdOpen, Errno::INVAL) => {
            "the kernel does not take that call as it should: see whether a seccomp filter answers for it"
        }
        _ => "find out why that call fails (strace shows it), and look again",
    }
}

/// Sorts the result of a system call that checked `what` into the three answers.
///
/// # Errors
/// Whether it exists is unknown.
pub(crate) fn sorted<T>(
    call: Call,
    what: &(impl fmt::Display + ?Sized),
    result: Result<T, Errno>,
) -> Result<Option<T>, CannotLook> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(errno) if means_gone(call, errno) => Ok(None),
        Err(errno) => Err(CannotLook {
            call,
            what: what.to_string(),
            cause: LookCause::System(errno),
        }),
    }
}

/// The result of a check; `None` if the thing is gone, or this user lacks the permission to check.
pub(crate) fn if_allowed<T>(
    looked: Result<Option<T>, CannotLook>,
) -> Result<Option<T>, CannotLook> {
    match looked {
        Err(cannot) if cannot.is_denied() => Ok(None),
        looked => looked,
    }
}

/// The same for a result of the standard library.
fn of_path<T>(call: Call, path: &Path, result: io::Result<T>) -> Result<Option<T>, CannotLook> {
    // An error without a number is the standard library's own, for a path with a zero byte for example.
    let numbered = |error: io::Error| {
        let raw = error.raw_os_error();
        raw.map_or(Errno::INVAL, Errno::from_raw_os_error)
    };
    sorted(call, &path.display(), result.map_err(numbered))
}

/// The metadata of the file at `path`; links are followed.
///
/// # Errors
/// Whether it exists is unknown.
pub(crate) fn metadata(path: &Path) -> Result<Option<Metadata>, CannotLook> {
    of_path(Call::Stat, path, std::fs::metadata(path))
}

/// What identifies a file at this moment: its device and its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> FileId {
        FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    pub(crate) fn from_metadata(metadata: &Metadata) -> FileId {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Not the ID of any file, for tests.
    #[cfg(test)]
    pub(crate) const NONE: FileId = FileId {
        device: 0,
        inode: 0,
    };
}

/// The ID of the file that `path` leads to.
///
/// # Errors
/// Whether it exists is unknown.
pub fn file_id(path: &Path) -> Result<Option<FileId>, CannotLook> {
    Ok(metadata(path)?.as_ref().map(FileId::from_metadata))
}

/// The target of the link at `path`.
///
/// # Errors
/// Whether it exists is unknown.
pub(crate) fn link(path: &Path) -> Result<Option<PathBuf>, CannotLook> {
    of_path(Call::ReadLink, path, std::fs::read_link(path))
}

/// The content of a file in `/proc`, whose length is only known once it was read.
///
/// # Errors
/// Whether it exists is unknown, or it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, CannotLook> {
    let Some(file) = of_path(Call::Open, path, File::open(path))? else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(USUAL);
    let read = file.take(LARGEST).read_to_end(&mut bytes);
    Ok(of_path(Call::Read, path, read)?.map(|_| bytes))
}

/// The names in a directory.
///
/// # Errors
/// Whether it exists is unknown, or it cannot be listed.
pub(crate) fn names(path: &Path) -> Result<Option<Vec<std::ffi::OsString>>, CannotLook> {
    let Some(entries) = of_path(Call::Open, path, std::fs::read_dir(path))? else {
        return Ok(None);
    };
    let names = entries.map(|entry| entry.map(|dir_entry| dir_entry.file_name()));
    of_path(Call::ReadDir, path, names.collect())
}

/// Whether two paths lead to the same file or, if one does not exist, have the same name in the same directory.
///
/// # Errors
/// That is unknown.
pub(crate) fn same_file(one: &Path, other: &Path) -> Result<bool, CannotLook> {
    if one == other {
        return Ok(true);
    }
    let (file, other_file) = (file_id(one)?, file_id(other)?);
    if file.is_some() && other_file.is_some() {
        return Ok(file == other_file);
    }
    if one.file_name() != other.file_name() || one.file_name().is_none() {
        return Ok(false);
    }
    let directory = |path: &Path| path.parent().map_or(Ok(None), file_id);
    let (above, other_above) = (directory(one)?, directory(other)?);
    Ok(above.is_some() && above == other_above)
}

/// The same, `false` if that is unknown: good enough to recognize what a person names, but not to judge a server.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    same_file(one, other) == Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    const CALLS: [Call; 8] = [
        Call::PidfdOpen,
        Call::Poll,
        Call::Open,
        Call::Read,
        Call::ReadDir,
        Call::ReadLink,
        Call::Stat,
        Call::Connect,
    ];

    /// Linux has these (errno(3)).
    const ERRNOS: std::ops::RangeInclusive<i32> = 1..=133;

    #[test]
    fn of_every_errno_of_every_call_a_handful_means_gone_and_the_rest_is_not_known() {
        let gone = |call: Call| -> &[i32] {
            match call {
                Call::PidfdOpen => &[libc_errno::ESRCH],
                Call::Poll => &[],
                Call::Connect => &[libc_errno::ENOENT, libc_errno::ECONNREFUSED],
                _ => &[libc_errno::ENOENT, libc_errno::ESRCH, libc_errno::ENOTDIR],
            }
        };
        for call in CALLS {
            for number in ERRNOS {
                let errno = Errno::from_raw_os_error(number);
                let looked = sorted::<()>(call, "it", Err(errno));
                if gone(call).contains(&number) {
                    assert_eq!(looked, Ok(None), "{call:?} {number}");
                    continue;
                }
                let cannot = looked.unwrap_err();
                let said = cannot.to_string();
                assert!(said.starts_with(call.name()), "{said}");
                assert!(!cannot.remedy().is_empty(), "{said}");
            }
            assert_eq!(sorted(call, "it", Ok(7)), Ok(Some(7)));
        }
    }

    /// As Linux numbers them on every architecture that pgcertd is built for.
    mod libc_errno {
        pub(crate) const ENOENT: i32 = 2;
        pub(crate) const ESRCH: i32 = 3;
        pub(crate) const ENOTDIR: i32 = 20;
        pub(crate) const ECONNREFUSED: i32 = 111;
    }

    #[test]
    fn what_runs_out_or_is_forbidden_has_a_remedy_of_its_own() {
        let remedy = |call, errno| {
            let looked = sorted::<()>(call, "it", Err(errno));
            looked.unwrap_err().remedy()
        };
        for (call, errno, word) in [
            (Call::PidfdOpen, Errno::MFILE, "LimitNOFILE="),
            (Call::Open, Errno::NFILE, "fs.file-max"),
            (Call::Stat, Errno::NOMEM, "memory"),
            (Call::PidfdOpen, Errno::NOSYS, "Linux 5.3"),
            (Call::PidfdOpen, Errno::PERM, "seccomp"),
            (Call::ReadLink, Errno::ACCESS, "CAP_SYS_PTRACE"),
            (Call::Connect, Errno::ACCESS, "firewall"),
            (
                Call::Connect,
                Errno::AFNOSUPPORT,
                "RestrictAddressFamilies=",
            ),
            (Call::Read, Errno::IO, "kernel's log"),
        ] {
            let said = remedy(call, errno);
            assert!(said.contains(word), "{call:?} {errno:?}: {said}");
        }
    }

    #[test]
    fn an_error_without_a_number_is_no_look_that_failed() {
        let unresolved = io::Error::other("failed to lookup address information");
        assert_eq!(CannotLook::connecting(&"db:5432", &unresolved), None);
        let refused = io::Error::from_raw_os_error(libc_errno::ECONNREFUSED);
        assert_eq!(CannotLook::connecting(&"db:5432", &refused), None);
    }

    #[test]
    fn two_paths_are_one_file_by_what_they_lead_to_or_will() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        let other = directory.path().join("other");
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&place, &other).unwrap();
        let same = |one: &str, two: &str| same_file(&place.join(one), &other.join(two)).unwrap();
        assert!(same("none", "none") && !same("none", "nothing"));
        std::fs::write(place.join("file"), "").unwrap();
        std::fs::hard_link(place.join("file"), place.join("again")).unwrap();
        assert!(same("file", "again") && !same("file", "none"));
        assert!(!same_file(Path::new(""), &place).unwrap());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let circle = directory.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        let cannot = same_file(&circle, directory.path()).unwrap_err();
        assert!(cannot.to_string().starts_with("stat of "), "{cannot}");
        assert!(cannot.remedy().contains("circle"), "{cannot}");
    }
}
