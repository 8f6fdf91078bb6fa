//! The limit for many: what no solution can leave out, once for each of N servers, and nothing else.
//!
//! As the least program of `make bench`, it waits for the link of `fullchain.pem`, and then for
//! each server reads, writes, syncs, renames, syncs, sends SIGHUP and shakes hands once; as many
//! of them at once as pgcertd takes. It checks nothing. It is a yardstick, and no program to use.

use std::{
    collections::HashMap,
    ffi::{CStr, OsString},
    fs,
    mem::MaybeUninit,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc::channel},
    thread,
};

use anyhow::{Context, Result, bail};
use rustix::fs::inotify;
use serde::{Deserialize, Serialize};

use crate::{
    least_program::{install, send_hangup},
    probe::Probe,
    world::{Owner, command},
};

/// The first argument that makes the bench this program.
pub const WORD: &str = "the-limit-for-many";

/// What it prints when it watches, and what begins a line for each server that it is done with.
pub const WATCHING: &str = "watching";
pub const DONE: &str = "done with ";

const CHAIN: &CStr = c"fullchain.pem";

/// One server, and what it gets from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errand {
    pub name: String,
    pub live: PathBuf,
    pub target: PathBuf,
    pub data_directory: PathBuf,
    pub server: SocketAddr,
}

/// All of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errands {
    pub uid: u32,
    pub gid: u32,
    /// How many are under way at the same time.
    pub at_once: usize,
    pub all: Vec<Errand>,
}

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Bring each renewal, until it is killed.
    Bring,
    /// Shake hands once with each server.
    ShakeHands,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Self::Bring => "bring",
            Self::ShakeHands => "shake-hands",
        }
    }
}

/// The command that does it; the errands are written to this file.
pub fn command_for(task: Task, errands: &Errands, file: &Path) -> Result<Command> {
    fs::write(file, serde_json::to_vec(errands)?)?;
    let mut started = command(std::env::current_exe()?);
    started.arg(WORD).arg(task.word()).arg(file);
    Ok(started)
}

/// Does it.
pub fn run(arguments: &[OsString]) -> Result<()> {
    let [task, file] = arguments else {
        bail!("a task and a file are needed");
    };
    let errands: Errands = serde_json::from_slice(&fs::read(file)?)?;
    if task == Task::Bring.word() {
        bring(&errands)
    } else {
        shake_hands(&errands)
    }
}

fn bring(errands: &Errands) -> Result<()> {
    let owner = Owner {
        uid: errands.uid,
        gid: errands.gid,
    };
    let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    // Which errands a watch is about.
    let mut watches: HashMap<i32, Vec<Arc<(Errand, Probe)>>> = HashMap::new();
    for errand in &errands.all {
        let watch = inotify::add_watch(&events, &errand.live, inotify::WatchFlags::CREATE)?;
        let probe = Probe::new(errand.server)?;
        let watched = watches.entry(watch).or_default();
        watched.push(Arc::new((errand.clone(), probe)));
    }
    let mut buffer = [MaybeUninit::uninit(); 65536];
    let mut events = inotify::Reader::new(events, &mut buffer);
    let (sender, due) = channel::<Arc<(Errand, Probe)>>();
    let due = Mutex::new(due);
    println!("{WATCHING}");
    thread::scope(|scope| {
        // Dropped when this ends, so that the threads end too.
        let sender = sender;
        for _ in 0..errands.at_once {
            scope.spawn(|| {
                loop {
                    // A poisoned lock or a closed channel is the end of the main thread.
                    let Ok(next) = due.lock().map(|due| due.recv()) else {
                        return;
                    };
                    let Ok(next) = next else { return };
                    let (errand, probe) = &*next;
                    if let Err(error) = serve(errand, probe, owner) {
                        eprintln!("{}: {error:#}", errand.name);
                        std::process::exit(1);
                    }
                    println!("{DONE}{}", errand.name);
                }
            });
        }
        loop {
            let event = events.next()?;
            if event.file_name() == Some(CHAIN) {
                for errand in watches.get(&event.wd()).into_iter().flatten() {
                    sender.send(Arc::clone(errand))?;
                }
            }
        }
    })
}

fn serve(errand: &Errand, probe: &Probe, owner: Owner) -> Result<()> {
    install(&errand.live, &errand.target, owner)?;
    send_hangup(&errand.data_directory)?;
    probe.connect().map(drop)
}

fn shake_hands(errands: &Errands) -> Result<()> {
    let next = Mutex::new(errands.all.iter());
    thread::scope(|scope| {
        let hands: Vec<_> = (0..errands.at_once)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let errand = next.lock().ok().and_then(|mut next| next.next());
                        let Some(errand) = errand else { return Ok(()) };
                        Probe::new(errand.server)?
                            .connect()
                            .with_context(|| errand.name.clone())?;
                    }
                })
            })
            .collect();
        for hand in hands {
            match hand.join() {
                Ok(done) => done?,
                Err(_) => bail!("a thread has panicked"),
            }
        }
        Ok(())
    })
}
