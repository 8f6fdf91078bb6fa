//! A Debian 12 that a test boots, uses, shuts down, boots again, and that is gone afterwards.
//!
//! The root is made once and shared by all machines; what a machine changes lies in a directory of
//! its own, and outlives a shutdown. It has its own network, with a loopback alone, so that every
//! port in it is free and nothing leaves. Whatever ends the test, a panic or a SIGKILL, ends the
//! machine with all that runs in it; the directory goes with the test, or with the next run.

#![allow(
    dead_code,
    reason = "the machine is offered whole; a test module may come or go"
)]

mod cgroup;
mod commands;
mod lair;
mod systemd;

pub use systemd::message;

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::world::{
    SOON, command, eventually,
    process::{Process, run},
    skipped::Skipped,
    surroundings, tail,
};
use cgroup::Cgroup;
use lair::Lair;

/// Long enough for a boot, a shutdown or a package's installation on a busy machine.
pub const LATER: Duration = Duration::from_secs(90);

/// Mounts the machine's files and becomes systemd-nspawn, in namespaces that take all mounts and
/// all processes with them when they end. The empty /run keeps the host's clean of what a killed
/// nspawn leaves there. Arguments: directory, root, then the `cgroup.procs` to join.
const BOOT: &str = r#"
set -e
directory=$1; root=$2; shift 2
for group; do echo 1 >"$group"; done
mount -t tmpfs tmpfs /run
cd "$directory"
mount -t overlay overlay -o "lowerdir=$root,upperdir=changes,workdir=work" files
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --private-network \
    --resolv-conf=off --timezone=off --link-journal=no --machine=db1 \
    --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    --directory="$directory/files" --boot
"#;

/// The machine. Declare it before what runs in it.
pub struct Machine {
    root: PathBuf,
    lair: Lair,
    cgroup: Cgroup,
    running: Option<Running>,
}

/// From a boot to the shutdown.
struct Running {
    /// Holds the namespaces: when it ends, all in them end.
    holder: Process,
    /// systemd-nspawn.
    nspawn: OwnedFd,
    /// The number, on the host, of the machine's process 1.
    init: u32,
}

impl Machine {
    /// Boots a fresh machine and waits until it is up; or why that cannot be here.
    #[track_caller]
    pub fn boot() -> Result<Self, Skipped> {
        Self::boot_debian("12")
    }

    /// As [`Machine::boot`], with this version of Debian.
    #[track_caller]
    pub fn boot_debian(version: &str) -> Result<Self, Skipped> {
        let mut machine = Self::prepare(version)?;
        machine.switch_on().map_err(Skipped::because)?;
        machine.wait_booted();
        Ok(machine)
    }

    /// A machine that is not booted yet; or why there can be none here.
    fn prepare(version: &str) -> Result<Self, Skipped> {
        surroundings::as_root_with_own_mounts()?;
        for program in ["systemd-nspawn", "mmdebstrap"] {
            if !PathBuf::from("/usr/bin").join(program).exists() {
                let why = format!("{program} is missing: `make deps` installs it");
                return Err(Skipped::because(why));
            }
        }
        surroundings::reset_signals();
        let root = lair::debian_root(version);
        let lair = Lair::new();
        can_mount(&root, &lair).map_err(Skipped::because)?;
        let cgroup = Cgroup::new(lair.name()).map_err(Skipped::because)?;
        Ok(Self {
            root,
            lair,
            cgroup,
            running: None,
        })
    }

    /// Boots it again, and waits until systemd has started all that belongs to the boot.
    #[track_caller]
    pub fn start(&mut self) {
        self.switch_on().unwrap_or_else(|why| panic!("{why}"));
        self.wait_booted();
    }

    /// Starts systemd in it; or says why that cannot be here.
    fn switch_on(&mut self) -> Result<(), String> {
        assert!(self.running.is_none(), "it runs already");
        let console = File::create(self.lair.console()).unwrap();
        let holder = Process::spawn(
            command("setpriv")
                .args(["--pdeathsig", "KILL"])
                .args(["unshare", "--mount", "--propagation", "private"])
                .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
                .args(["sh", "-c", BOOT, "sh"])
                .arg(self.lair.path())
                .arg(&self.root)
                .args(self.cgroup.doors())
                .stdin(Stdio::null())
                .stdout(console.try_clone().unwrap())
                .stderr(console),
        );
        self.running = Some(self.arrived(holder)?);
        Ok(())
    }

    /// Waits until the machine's process 1 is systemd; or says why nspawn gave up.
    fn arrived(&self, mut holder: Process) -> Result<Running, String> {
        let begun = eventually(LATER, "systemd is process 1 of the machine", || {
            if let Some(status) = holder.ended() {
                let said = self.console();
                return Some(Err(format!(
                    "systemd-nspawn cannot boot here, {status}: {said}"
                )));
            }
            let nspawn = child_named(holder.pid(), "systemd-nspawn")?;
            Some(Ok((nspawn, child_named(nspawn, "systemd")?)))
        });
        let (nspawn, init) = begun?;
        let nspawn = Pid::from_raw(nspawn.cast_signed()).unwrap();
        Ok(Running {
            holder,
            nspawn: pidfd_open(nspawn, PidfdFlags::empty()).unwrap(),
            init,
        })
    }

    /// Waits for the end of the boot.
    #[track_caller]
    fn wait_booted(&self) {
        let state = eventually(LATER, "the machine has booted", || {
            let state = self.run(["systemctl", "is-system-running"]).stdout;
            let state = state.trim().to_owned();
            (["running", "degraded"].contains(&state.as_str())).then_some(state)
        });
        if state == "degraded" {
            eprintln!("{}", self.ok(["systemctl", "--failed", "--no-pager"]));
        }
    }

    /// Shuts it down as the power button does, and waits for its end.
    #[track_caller]
    pub fn shut_down(&mut self) {
        let mut running = self.running.take().expect("the machine does not run");
        pidfd_send_signal(&running.nspawn, Signal::TERM).unwrap();
        if running.holder.wait(LATER).is_none() {
            self.running = Some(running);
            panic!("the machine did not shut down:\n{}", self.console());
        }
    }

    /// Shuts it down and boots it again.
    #[track_caller]
    pub fn reboot(&mut self) {
        self.shut_down();
        self.start();
    }

    /// A command that runs in the machine as root; add arguments to it.
    pub fn command(&self, program: &str) -> Command {
        let init = self
            .running
            .as_ref()
            .expect("the machine does not run")
            .init;
        let mut inside = command("nsenter");
        inside
            .args(["--target", &init.to_string(), "--all", "--wdns=/"])
            .args(["--", program])
            .env("HOME", "/root");
        inside
    }

    /// Gives the machine's loopback interface an address, which nothing outside reaches.
    #[track_caller]
    pub fn add_address(&self, address: &str) {
        let init = self
            .running
            .as_ref()
            .expect("the machine does not run")
            .init
            .to_string();
        // By the host's ip: the machine has none.
        let mut ip = command("nsenter");
        ip.args(["--target", &init, "--net", "--", "ip", "address", "add"])
            .args([&format!("{address}/32"), "dev", "lo"]);
        let done = run(&mut ip, SOON);
        assert_eq!(done.code(), 0, "{done:?}");
    }

    /// The number on the host of a process of the machine.
    #[track_caller]
    pub fn outside(&self, pid: u64) -> i32 {
        let space = |path: String| fs::read_link(path + "/ns/pid").ok();
        let init = self
            .running
            .as_ref()
            .expect("the machine does not run")
            .init;
        let own = space(format!("/proc/{init}"));
        let processes = procfs::process::all_processes().unwrap();
        let mut outside = processes.flatten().filter(|process| {
            let number = process.status().ok().and_then(|status| status.nspid?.pop());
            number.is_some_and(|number| u64::try_from(number) == Ok(pid))
                && space(format!("/proc/{}", process.pid)) == own
        });
        outside.next().expect("the process runs").pid
    }

    /// What the machine wrote to its console since the last boot.
    fn console(&self) -> String {
        let console = fs::read(self.lair.console()).unwrap_or_default();
        tail(&String::from_utf8_lossy(&console))
    }

    /// What a failed test leaves to read.
    fn last_words(&self) {
        eprintln!("--- the machine's console\n{}", self.console());
        if self.running.is_some() {
            let journal = ["journalctl", "--no-pager", "--boot", "--lines=60"];
            eprintln!("--- its journal\n{}", self.run(journal).stdout);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.last_words();
        }
        if let Some(mut running) = self.running.take() {
            running.holder.kill();
        }
        self.cgroup.remove();
        self.lair.remove();
    }
}

/// Tries the mounts that a machine needs, which a container may not allow.
fn can_mount(root: &std::path::Path, lair: &Lair) -> Result<(), String> {
    let mount = r#"cd "$1" && mount -t overlay overlay -o "lowerdir=$2,upperdir=changes,workdir=work" files"#;
    crate::world::process::run(
        command("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                mount,
                "sh",
            ])
            .arg(lair.path())
            .arg(root),
        SOON,
    )
    .result()
    .map(drop)
    .map_err(|error| format!("a machine cannot mount its files here: {error}"))
}

/// The child of this name, if there is one.
fn child_named(parent: u32, name: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children
        .split_whitespace()
        .filter(|child| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .find_map(|child| child.parse().ok())
}
