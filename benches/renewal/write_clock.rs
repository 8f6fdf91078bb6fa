//! Says when a program wrote a line, without waiting for it.
//!
//! The program's standard error is a datagram socket on which the kernel notes the time of each
//! write (SO_TIMESTAMPNS), in nanoseconds. So it does not matter when the bench gets to read it,
//! and PostgreSQL's `log_line_prefix = '%n'`, which ends at milliseconds, is not needed.

use std::{
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};

/// Far longer than any contender takes, so that reaching it is a malfunction.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What one write brought: a line, or a few.
struct Written {
    at: SystemTime,
    text: String,
}

/// Collects what some processes write, each write with its time.
pub struct WriteClock {
    ours: UnixDatagram,
    written: Receiver<Written>,
    /// What has been read, for the message of a failure.
    read: String,
}

impl WriteClock {
    /// A clock that nobody writes to yet.
    pub fn new() -> Result<Self> {
        let (ours, clocked) = UnixDatagram::pair()?;
        setsockopt(&clocked, ReceiveTimestampns, &true)?;
        let (sender, written) = channel();
        // It reads at once, since a full socket would hold the writer up.
        thread::spawn(move || {
            while let Ok(Some(written)) = receive(&clocked) {
                if sender.send(written).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            ours,
            written,
            read: String::new(),
        })
    }

    /// What a process is to have as its standard error, or output.
    pub fn descriptor(&self) -> Result<OwnedFd> {
        Ok(self.ours.try_clone()?.into())
    }

    /// Forgets what was written so far.
    pub fn forget(&mut self) {
        self.read.clear();
        while self.written.try_recv().is_ok() {}
    }

    /// Waits for a write with this text in it, and gives its time.
    pub fn wait_for(&mut self, wanted: &str) -> Result<SystemTime> {
        let begun = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            match self.written.recv_timeout(left) {
                Ok(written) => {
                    self.read.push_str(&written.text);
                    if written.text.contains(wanted) {
                        return Ok(written.at);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{wanted:?} was not written within {DEADLINE:?}:\n{}",
                        self.read
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the writers ended before {wanted:?}:\n{}", self.read)
                }
            }
        }
    }

    /// What was written since it last forgot.
    pub fn text(&mut self) -> &str {
        while let Ok(written) = self.written.try_recv() {
            self.read.push_str(&written.text);
        }
        &self.read
    }
}

impl Drop for WriteClock {
    fn drop(&mut self) {
        // An empty message ends the thread; if it has ended, nobody takes one.
        let _ended = self.ours.send(&[]);
    }
}

/// The next write; none at the end.
fn receive(socket: &UnixDatagram) -> Result<Option<Written>> {
    let mut buffer = [0; 65536];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let stamp = stamp.context("the kernel gave no time with a write")?;
    Ok(Some(Written {
        at: SystemTime::UNIX_EPOCH + stamp,
        text: String::from_utf8_lossy(&buffer[..length]).into_owned(),
    }))
}
