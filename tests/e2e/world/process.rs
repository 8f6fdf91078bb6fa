//! Processes that a test starts, and how they end.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A child that is killed and reaped when this is dropped.
///
/// Signals go to a child that is not reaped yet, so that its number cannot be another's.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the command.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
        Self { child }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The handle, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal; false if the process has ended.
    pub fn signal(&mut self, signal: Signal) -> bool {
        if self.ended().is_some() {
            return false;
        }
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        true
    }

    /// Waits for its end; none if it still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if begun.elapsed() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        // An error means that it has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes below this one, at this moment.
pub fn descendants(pid: u32) -> Vec<u32> {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    children
        .flat_map(|child| [vec![child], descendants(child)].concat())
        .collect()
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Done {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Done {
    /// The exit status, or the signal's number negated.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| -self.status.signal().unwrap())
    }

    /// Standard output where the command succeeded, standard error where not.
    pub fn result(self) -> Result<String, String> {
        if self.status.success() {
            Ok(self.stdout.trim_end().to_owned())
        } else {
            Err(format!("{}: {}", self.status, self.stderr.trim_end()))
        }
    }
}

/// Runs a command to its end with nothing to read; panics if it takes longer than `deadline`.
///
/// The output goes to files without a name, so that a grandchild that keeps it open delays nothing.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Done {
    run_reading(command, b"", deadline)
}

/// As [`run`], with `input` on standard input.
#[track_caller]
pub fn run_reading(command: &mut Command, input: &[u8], deadline: Duration) -> Done {
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    if input.is_empty() {
        command.stdin(Stdio::null());
    } else {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, input).unwrap();
        file.rewind().unwrap();
        command.stdin(file);
    }
    command
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap());
    let mut process = Process::spawn(command);
    let Some(status) = process.wait(deadline) else {
        process.kill();
        panic!(
            "{command:?} did not end within {deadline:?}\n{}{}",
            all(&mut stdout),
            all(&mut stderr)
        );
    };
    Done {
        status,
        stdout: all(&mut stdout),
        stderr: all(&mut stderr),
    }
}

fn all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
