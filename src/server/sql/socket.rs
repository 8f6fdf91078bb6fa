//! The Unix socket of a proven postmaster.
//!
//! The path is what its pid file says; whether the process behind it is that postmaster, the
//! kernel says (`SO_PEERCRED` of a connected socket names the process that listens). A server
//! in a container has its socket beneath a root of its own, which `/proc` leads to.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::net::UnixStream;

use super::SqlError;
use crate::host::caller::{Socket, connect_as};
use crate::host::privilege::{Ids, apart};
use crate::server::postmaster::Postmaster;

/// Connects to the server of `postmaster` as `caller`, whose user the server is told.
pub(super) async fn connect(
    postmaster: &Postmaster,
    data_directory: &Path,
    caller: Ids,
) -> Result<UnixStream, SqlError> {
    let file = &postmaster.file;
    let (Some(port), Some(directory)) = (file.port, file.sockets.as_deref()) else {
        return Err(SqlError::Unsaid);
    };
    if directory.is_empty() {
        return Err(SqlError::NoSocket);
    }
    let name = format!(".s.PGSQL.{port}");
    if let Some(space) = directory.strip_prefix('@') {
        let socket = format!("{space}/{name}");
        let shown = PathBuf::from(format!("@{socket}"));
        let stream = apart(move || connect_as(caller, &Socket::Abstract(socket))).await?;
        return proven(stream, postmaster, &shown);
    }
    // A relative one is relative to where the postmaster stands.
    let directory = data_directory.join(directory);
    let socket = directory.join(&name);
    let here = {
        let directory = directory.clone();
        apart(move || open(&directory)).await?
    };
    let first = match here {
        Ok(opened) => proven(reach(opened, &name, caller).await?, postmaster, &socket),
        Err(source) => Err(SqlError::unreachable(&socket, source)),
    };
    let first = match first {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let pid = postmaster.pid;
    let there = apart(move || open_beneath_root_of(pid, &directory)).await?;
    match there {
        Ok(opened) => {
            let stream = reach(opened, &name, caller).await?;
            proven(stream, postmaster, &socket).map_err(|_| first)
        }
        // It has no other root, or one that is closed to us: the first error tells more.
        Err(_) => Err(first),
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open(directory: &Path) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(directory, DIRECTORY, Mode::empty())?)
}

/// The directory as the process `pid` sees it, links on the way included.
fn open_beneath_root_of(pid: u32, directory: &Path) -> std::io::Result<OwnedFd> {
    let root = open(Path::new(&format!("/proc/{pid}/root")))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        directory,
        DIRECTORY,
        Mode::empty(),
        resolve,
    )?)
}

async fn reach(
    directory: OwnedFd,
    name: &str,
    caller: Ids,
) -> Result<std::io::Result<Blocking>, SqlError> {
    let socket = Socket::In(directory, name.to_owned());
    Ok(apart(move || connect_as(caller, &socket)).await?)
}

/// The stream, if it is `postmaster` that listens at its other end.
fn proven(
    stream: std::io::Result<Blocking>,
    postmaster: &Postmaster,
    socket: &Path,
) -> Result<UnixStream, SqlError> {
    let fail = |source| SqlError::unreachable(socket, source);
    let stream = stream.map_err(fail)?;
    stream.set_nonblocking(true).map_err(fail)?;
    let stream = UnixStream::from_std(stream).map_err(fail)?;
    let peer = stream.peer_cred().map_err(fail)?.pid();
    match peer.and_then(|pid| u32::try_from(pid).ok()) {
        Some(pid) if pid == postmaster.pid => Ok(stream),
        other => Err(SqlError::Foreign {
            socket: socket.to_owned(),
            pid: postmaster.pid,
            other: other.unwrap_or_default(),
        }),
    }
}
