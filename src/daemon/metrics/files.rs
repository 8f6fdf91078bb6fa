//! Files and sockets that hold the metrics: one directory, opened once, and a name in it.
//!
//! Blocking, for a thread that may write in that directory alone, with the rights of whoever
//! owns it: in a directory of another user a path is that user's to bend.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::host::directory::{Directory, ReachError};
use crate::host::file::Links;
use crate::host::look::FileId;
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker};
use crate::host::slot::{FileSlot, SlotError};
use crate::problem::Problem;

/// Everybody may connect to the socket.
const OPEN: Mode = Mode::from_raw_mode(0o666);

#[derive(Debug, thiserror::Error)]
pub(super) enum MetricsFileError {
    #[error(transparent)]
    Step(#[from] SlotError),
    #[error("{}: {source}", path.display())]
    Reach {
        path: PathBuf,
        #[source]
        source: ReachError,
    },
    #[error("{}: something other than a socket is there", .0.display())]
    NoSocket(PathBuf),
    #[error("{}: another process answers there", .0.display())]
    Taken(PathBuf),
    #[error("{}: cannot tell whether another process answers there: {source}", path.display())]
    Unasked {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
}

impl MetricsFileError {
    /// What is wrong and how to fix it; `key` is the one of the config that names the path.
    pub(crate) fn problem(&self, key: &str) -> Problem {
        let why = self.to_string();
        match self {
            MetricsFileError::Step(step) => remedy(why, step.source, &step.path, key),
            MetricsFileError::NoSocket(path) => {
                Problem::new(why, format!("set another {key}, or remove it"))
                    .with(format!("rm {}", path.display()))
            }
            MetricsFileError::Taken(path) => Problem::new(
                why,
                format!("set another {key}, or stop it; it is shown by"),
            )
            .with(format!("ss -lxp src {}", path.display())),
            MetricsFileError::Unasked { path, .. } => {
                let fix = format!(
                    "remove it (`rm {}`) if no process is shown by",
                    path.display()
                );
                Problem::new(why, fix).with(format!("ss -lxp src {}", path.display()))
            }
            MetricsFileError::Reach { .. } => Problem::new(why, format!("set another {key}")),
            MetricsFileError::Privilege(_) => Problem::new(why, ""),
        }
    }
}

fn remedy(why: String, error: Errno, path: &Path, key: &str) -> Problem {
    let directory = path.parent().unwrap_or(path).display();
    match error {
        Errno::NOENT | Errno::NOTDIR => Problem::new(
            why,
            format!("set another {key}, or create the directory for pgcertd's user"),
        )
        .with(format!("install -d -o postgres {directory}")),
        Errno::ACCESS | Errno::PERM => Problem::new(why, "let pgcertd's user write there").with(
            format!("chgrp postgres {directory} && chmod g+w {directory}"),
        ),
        Errno::ROFS => Problem::new(
            why,
            format!(
                "for the unit, set ReadWritePaths={directory} with `systemctl edit pgcertd` and restart it; or mount it writable"
            ),
        ),
        Errno::NOSPC | Errno::DQUOT => Problem::new(
            why,
            format!("free some space on the file system of {directory}"),
        ),
        _ => Problem::new(why, format!("set another {key}")),
    }
}

/// Runs a job on the directory of `path`, in a thread that may write there alone. A thread for
/// each, since Landlock rules bind to the directory as it is now.
pub(super) async fn beside<R: Send + 'static>(
    name: &str,
    path: &Path,
    job: impl FnOnce(&MetricsFile) -> Result<R, MetricsFileError> + Send + 'static,
) -> Result<R, MetricsFileError> {
    let directory = path.parent().unwrap_or(path).to_owned();
    let path = path.to_owned();
    let owner = match opened(&path) {
        Ok(directory) => directory.owner(),
        // It is found missing when the job opens it.
        Err(MetricsFileError::Step(_)) => Ids::own(),
        Err(bent) => return Err(bent),
    };
    let rights = move || Rights::Publisher {
        owner,
        write: BTreeSet::from([directory]),
    };
    let worker = Worker::start(name, rights).await?;
    worker
        .call(move || MetricsFile::open(&path).and_then(|place| job(&place)))
        .await?
}

/// The directory of `path`, whose owner decides with whose rights it is written in: nobody else may have bent the way to it.
fn opened(path: &Path) -> Result<Directory, MetricsFileError> {
    Directory::open(path.parent().unwrap_or(path), Links::Followed).map_err(unreached(path))
}

fn unreached(path: &Path) -> impl FnOnce(ReachError) -> MetricsFileError {
    move |error| match error.errno() {
        Some(errno) => SlotError::new(path, "open its directory")(errno).into(),
        None => MetricsFileError::Reach {
            path: path.to_owned(),
            source: error,
        },
    }
}

/// A name in a directory that was opened.
pub(super) struct MetricsFile(FileSlot);

impl MetricsFile {
    fn open(path: &Path) -> Result<MetricsFile, MetricsFileError> {
        let slot = opened(path).and_then(|directory| {
            let directory = directory.opened().map_err(unreached(path))?;
            FileSlot::new(directory, path).map_err(unreached(path))
        });
        slot.map(MetricsFile)
    }

    /// Puts a text there as a whole, which everybody may read.
    pub(crate) fn write(&self, text: &str) -> Result<(), MetricsFileError> {
        self.0.stage(text.as_bytes(), 0o644, None)?;
        // The name is not made durable: what a crash takes, the next start writes anew.
        Ok(self.0.commit()?)
    }

    pub(crate) fn clear(&self) -> Result<(), MetricsFileError> {
        Ok(self.0.remove()?)
    }

    /// Listens there; what a process that is gone has left is replaced.
    pub(crate) fn listen(&self) -> Result<(UnixListener, FileId), MetricsFileError> {
        // Of two that find the same leftover, one would remove the other's new socket.
        rustix::fs::flock(self.0.directory(), FlockOperation::NonBlockingLockExclusive)
            .map_err(self.0.failed("lock its directory"))?;
        let address = self.by_descriptor();
        let bound = match UnixListener::bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                self.remove_leftover()?;
                UnixListener::bind(&address)
            }
            bound => bound,
        };
        let refused = |error: &io::Error| self.0.failed("listen there")(errno(error));
        let listener = bound.map_err(|error| refused(&error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| refused(&error))?;
        let inode = self.open_to_all()?;
        Ok((listener, inode))
    }

    /// Removes the socket, if it is still that one.
    pub(crate) fn unlisten(&self, inode: FileId) -> Result<(), MetricsFileError> {
        match self.0.stat() {
            Ok(stat) if FileId::from_stat(&stat) == inode => self.clear(),
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.0.failed("look at it")(error).into()),
        }
    }

    /// The path by which the kernel finds the name in the opened directory, wherever that is now.
    fn by_descriptor(&self) -> PathBuf {
        let directory = format!("/proc/self/fd/{}", self.0.directory().as_raw_fd());
        Path::new(&directory).join(self.0.name())
    }

    fn remove_leftover(&self) -> Result<(), MetricsFileError> {
        let stat = self.0.stat().map_err(self.0.failed("look at it"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(MetricsFileError::NoSocket(self.0.path().to_owned()));
        }
        match self.answers() {
            // Nobody listens, and nobody ever will: a socket's file is of one process.
            Err(nix::errno::Errno::ECONNREFUSED) => self.clear(),
            Ok(()) | Err(nix::errno::Errno::EAGAIN) => {
                Err(MetricsFileError::Taken(self.0.path().to_owned()))
            }
            Err(error) => Err(MetricsFileError::Unasked {
                path: self.0.path().to_owned(),
                source: Errno::from_raw_os_error(error as i32),
            }),
        }
    }

    /// Whether somebody does; a full queue is an answer too, and not waited for.
    fn answers(&self) -> nix::Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&self.by_descriptor())?)
    }

    /// Lets everybody connect, whatever the umask: the file that was just made, and no link.
    fn open_to_all(&self) -> Result<FileId, MetricsFileError> {
        let failed = || self.0.failed("set its mode");
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(self.0.directory(), self.0.name(), flags, Mode::empty())
            .map_err(failed())?;
        let stat = rustix::fs::fstat(&made).map_err(failed())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Err(MetricsFileError::NoSocket(self.0.path().to_owned()));
        }
        let by_descriptor = format!("/proc/self/fd/{}", made.as_raw_fd());
        rustix::fs::chmod(by_descriptor, OPEN).map_err(failed())?;
        Ok(FileId::from_stat(&stat))
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}
