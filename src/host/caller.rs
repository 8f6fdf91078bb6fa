//! Connects to a Unix socket as another user.
//!
//! The server sees who connects (`SO_PEERCRED`, unix(7)): the user and group of the process, not those that a thread only has
//! for file access. If a thread took on the full identity of that user, the user could kill the whole process (kill(2)). So a
//! child process connects, which is this program again ([`answer`]), and passes the connected socket back. The worst the user
//! can do to it is to keep it from answering.
//!
//! The child exits once it has answered, and is killed after a time-out.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::DumpableBehavior;

use super::command::{self, Becoming};
use crate::host::privilege::{Ids, is_root};

/// The argument that makes this program the child.
const CHILD: &str = "connect-as";

/// How long a child may take: if the queue of the server's socket is full, it would wait forever.
const PATIENCE: Duration = Duration::from_secs(9);

/// More than the longest socket name (unix(7)) and the numbers before it.
const LONGEST: usize = 256;

/// The program to run as the child, if not this one.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Makes `program` the child, for tests, which are separate programs. Only the first call counts.
pub fn run_as_child(program: &Path) {
    PROGRAM.get_or_init(|| program.to_owned());
}

/// The socket to connect to.
#[derive(Debug)]
pub(crate) enum Socket {
    /// The one with this name in a directory that is held open.
    In(OwnedFd, String),
    /// A name in the abstract namespace, without the leading zero byte.
    Abstract(String),
}

impl Socket {
    fn connect(&self) -> io::Result<UnixStream> {
        match self {
            // Through the descriptor, since the path of a socket must be short.
            Socket::In(directory, name) => {
                UnixStream::connect(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
            }
            Socket::Abstract(name) => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)
            }
        }
    }
}

/// Connects as `user` if this process is root, otherwise as itself. Blocks.
///
/// # Errors
/// The connection failed, or the child did not answer.
pub(crate) fn connect_as(user: Ids, socket: &Socket) -> io::Result<UnixStream> {
    if !is_root() {
        return socket.connect();
    }
    let (ours, theirs) = UnixStream::pair()?;
    let this = Path::new("/proc/self/exe");
    let mut child = Command::new(PROGRAM.get().map_or(this, PathBuf::as_path))
        .arg(CHILD)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = ours
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| ours.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| ask(&ours, user, socket))
        .and_then(|()| answered(&ours));
    end(&mut child);
    answer
}

fn ask(child: &UnixStream, user: Ids, socket: &Socket) -> io::Result<()> {
    let (directory, name) = match socket {
        Socket::In(directory, name) => (Some(directory), name),
        Socket::Abstract(name) => (None, name),
    };
    let mut request = [user.uid.to_le_bytes(), user.gid.to_le_bytes()].concat();
    request.extend(name.as_bytes());
    if request.len() > LONGEST {
        return Err(io::Error::other("the socket's name is too long"));
    }
    send(child, &request, directory)
}

/// Kills the child whatever it is doing: its user may have stopped it.
fn end(child: &mut Child) {
    // This fails if it has already exited.
    drop(child.kill());
    drop(child.wait());
}

fn answered(child: &UnixStream) -> io::Result<UnixStream> {
    let (bytes, passed) = receive(child).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    match (passed, <[u8; 4]>::try_from(bytes.as_slice())) {
        (Some(stream), _) => Ok(UnixStream::from(stream)),
        (None, Ok(errno)) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
        (None, Err(_)) => Err(io::Error::other(
            "the process that connects as its user ended without an answer",
        )),
    }
}

/// Does the child's work and returns the exit status if this process is the child: `arguments` are the program's, its own
/// name first. Must be called before anything else, while there is only one thread.
pub(crate) fn answer(arguments: &[OsString]) -> Option<u8> {
    let [_, argument] = arguments else {
        return None;
    };
    if argument != CHILD {
        return None;
    }
    let parent = io::stdin();
    let reached = command::close_all_but_three().and_then(|()| reached(&parent));
    let done = reached.and_then(|stream| send(&parent, &[0], Some(&stream.into())));
    let Err(error) = done else {
        return Some(0);
    };
    let errno = error.raw_os_error().unwrap_or_default();
    // If nobody is reading, the exit status still tells.
    drop(send(&parent, &errno.to_le_bytes(), None));
    Some(1)
}

/// Reads the request, becomes its user and connects.
fn reached(parent: impl AsFd) -> io::Result<UnixStream> {
    let (request, passed) = receive(parent)?;
    let (numbers, name) = request.split_at_checked(8).unwrap_or_default();
    let number = |at: usize| {
        let bytes = numbers
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or(Errno::INVAL)
    };
    let (uid, gid) = (number(0)?, number(4)?);
    let name = String::from_utf8(name.to_vec()).map_err(|_| Errno::INVAL)?;
    let socket = match passed {
        Some(directory) => Socket::In(directory, name),
        None => Socket::Abstract(name),
    };
    command::give_up(Becoming::Servers(Some(Ids { uid, gid })))?;
    // The whole process belongs to that user now, who must not be able to inspect it (ptrace(2)).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    socket.connect()
}

fn send(to: impl AsFd, bytes: &[u8], passed: Option<&OwnedFd>) -> io::Result<()> {
    let passed: Vec<_> = passed.map(AsFd::as_fd).into_iter().collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    let sent = rustix::net::sendmsg(
        to,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one message and the descriptor that came with it.
fn receive(from: impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = [0; LONGEST];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count = rustix::net::recvmsg(from, &mut parts, &mut control, flags)?.bytes;
    let mut passed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed = descriptors.into_iter().next();
        }
    }
    Ok((bytes[..count].to_vec(), passed))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn a_descriptor_and_its_message_come_through_whole() {
        let (here, there) = UnixStream::pair().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        send(&here, b"text", Some(&one.into())).unwrap();
        let (bytes, passed) = receive(&there).unwrap();
        assert_eq!(bytes, b"text");
        let passed = UnixStream::from(passed.unwrap());
        drop(passed);
        // Both of its ends are closed now.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut &other, &mut rest).unwrap();
        send(&here, &13_i32.to_le_bytes(), None).unwrap();
        let error = answered(&there).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        drop(here);
        let error = answered(&there).unwrap_err();
        assert!(error.to_string().contains("without an answer"), "{error}");
    }

    #[test]
    fn what_is_not_the_child_goes_its_way() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(answer(&words(&["pgcertd"])), None);
        assert_eq!(answer(&words(&["pgcertd", "status"])), None);
        assert_eq!(answer(&words(&["pgcertd", CHILD, "--json"])), None);
    }
}
