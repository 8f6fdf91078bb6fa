//! A record of all that was ever put in the place of a file, kept without asking pgcertd.

use std::{
    ffi::OsStr,
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use pgcertd::testing::bundle::KeyedBundle;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

/// See the module. The kernel keeps the events until they are read, so that none is missed.
pub struct Record {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Record {
    /// Begins a record of this file, whose directory exists.
    pub fn watching(target: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let watched = WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY;
        inotify::add_watch(&inotify, target.parent().unwrap(), watched).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, target) = (Arc::clone(&stop), target.to_owned());
        let thread = thread::spawn(move || keep(&inotify, &target, &stopped));
        Self { stop, thread }
    }

    /// Ends the record: for each rename onto the file the leaf's fingerprint, in order; for
    /// anything else that happened to the file, or was in it, what that was.
    pub fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn keep(inotify: &OwnedFd, target: &Path, stopped: &AtomicBool) -> Vec<String> {
    let mut seen = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        // Asked before the events are read: what came before the end is read.
        let last = stopped.load(Ordering::Relaxed);
        loop {
            let event = match events.next() {
                Err(Errno::WOULDBLOCK) => break,
                event => event.unwrap(),
            };
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                seen.push("events were lost".to_owned());
            } else if name == target.file_name() {
                seen.push(match event.events() {
                    ReadFlags::MOVED_TO => leaf_in(target),
                    other => format!("{other:?}"),
                });
            }
        }
        if last {
            return seen;
        }
        let soon = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        poll(&mut [PollFd::new(inotify, PollFlags::IN)], Some(&soon)).unwrap();
    }
}

/// The fingerprint of what a file holds, if that is a chain with its key; else what is wrong.
pub fn leaf_in(file: &Path) -> String {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return error.to_string(),
    };
    match KeyedBundle::parse(&[bytes.as_slice()], &bytes) {
        Ok(bundle) => bundle.fingerprint().to_string(),
        Err(error) => error.to_string(),
    }
}
