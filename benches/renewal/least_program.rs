//! The least program: what no solution can leave out, and nothing else.
//!
//! It waits for the link of `fullchain.pem`, reads, writes, syncs, renames, syncs, sends SIGHUP and
//! shakes hands once. It checks nothing: not whether key and leaf fit, not whom it signals, not
//! what is served in the end. It is a yardstick, and no program to use.
//!
//! It is a process of its own, as a real one would be: the bench executes itself.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::Write,
    mem::MaybeUninit,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, fchown},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::inotify,
    process::{Pid, Signal, kill_process},
};

use crate::{
    probe::Probe,
    world::{Owner, command},
};

/// The first argument that makes the bench this program.
pub const WORD: &str = "the-least-program";

/// What it prints when it watches, and after each certificate that it has brought.
pub const DONE: &str = "done";

const CHAIN: &CStr = c"fullchain.pem";

/// The command that starts it.
pub fn start(live: &Path, target: &Path, data: &Path, owner: Owner, server: SocketAddr) -> Command {
    let Owner { uid, gid } = owner;
    let mut started = command("setpriv");
    started
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .arg(WORD)
        .args([live, target, data])
        .args([server.to_string(), uid.to_string(), gid.to_string()]);
    started
}

/// Runs it until it is killed.
pub fn run(arguments: &[OsString]) -> Result<()> {
    let [live, target, data, server, uid, gid] = arguments else {
        bail!("six arguments are needed");
    };
    let (live, target, data) = (Path::new(live), Path::new(target), Path::new(data));
    let probe = Probe::new(number(server)?)?;
    let owner = Owner {
        uid: number(uid)?,
        gid: number(gid)?,
    };

    let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&events, live, inotify::WatchFlags::CREATE)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(events, &mut buffer);
    println!("{DONE}");
    loop {
        if events.next()?.file_name() == Some(CHAIN) {
            install(live, target, owner)?;
            send_hangup(data)?;
            probe.connect()?;
            println!("{DONE}");
        }
    }
}

pub fn install(live: &Path, target: &Path, owner: Owner) -> Result<()> {
    let mut bytes = fs::read(live.join("fullchain.pem"))?;
    bytes.extend(fs::read(live.join("privkey.pem"))?);
    let beside = target.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    fchown(&file, Some(owner.uid), Some(owner.gid))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, target)?;
    File::open(target.parent().context("the target has no directory")?)?.sync_all()?;
    Ok(())
}

pub fn send_hangup(data: &Path) -> Result<()> {
    let text = fs::read_to_string(data.join("postmaster.pid"))?;
    let pid = text.lines().next().context("postmaster.pid is empty")?;
    let pid = Pid::from_raw(pid.parse()?).context("postmaster.pid holds 0")?;
    kill_process(pid, Signal::HUP)?;
    Ok(())
}

fn number<T: std::str::FromStr>(argument: &OsStr) -> Result<T> {
    let parsed = argument.to_str().and_then(|text| text.parse().ok());
    parsed.with_context(|| format!("{} is out of place", argument.display()))
}
