//! An strace on a program that runs already.

use std::{fs, path::PathBuf, process::Stdio};

use rustix::process::Signal;

use super::{SOON, World, command, eventually, process::Process, skipped::Skipped};

/// Attached to every thread of a program until it is dropped.
pub struct Attached {
    strace: Process,
    log: PathBuf,
}

impl Attached {
    /// Whether there is an strace that may trace.
    pub fn possible() -> Result<(), Skipped> {
        let traced = command("strace")
            .args(["-e", "trace=none", "true"])
            .output();
        match traced {
            Ok(done) if done.status.success() => Ok(()),
            _ => Err(Skipped::because(
                "strace is not installed, or may not trace",
            )),
        }
    }

    /// Attaches with these arguments.
    #[track_caller]
    pub fn to<A: AsRef<str>>(world: &World, pid: u32, arguments: &[A]) -> Attached {
        let log = world.path().join("attached.log");
        let errors = world.path().join("attached.err");
        let mut strace = command("strace");
        strace
            .args(["-f", "-o"])
            .arg(&log)
            .args(["-p", &pid.to_string()])
            .args(arguments.iter().map(AsRef::as_ref));
        strace.stdin(Stdio::null()).stdout(Stdio::null());
        strace.stderr(fs::File::create(&errors).unwrap());
        let strace = Process::spawn(&mut strace);
        eventually(SOON, "strace is attached", || {
            fs::read_to_string(&errors)
                .unwrap_or_default()
                .contains("attached")
        });
        Attached { strace, log }
    }

    /// What it has written so far; a call goes on only once its line is written.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Lets the program go on as before.
    #[track_caller]
    pub fn detach(mut self) {
        self.strace.signal(Signal::TERM);
        assert!(self.strace.wait(SOON).is_some(), "strace does not end");
    }
}
