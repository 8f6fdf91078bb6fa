//! The daemon's threads as the kernel shows them.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio};

use crate::{
    machine::Machine,
    world::{SOON, command, eventually, process::Process},
};

/// The fields of one `status` in `/proc`.
pub type Status = BTreeMap<String, String>;

/// No capability.
pub const NONE: &str = "0000000000000000";

/// CAP_DAC_READ_SEARCH alone (capability.h: number 2).
pub const DAC_READ_SEARCH: &str = "0000000000000004";

/// The fields of a `status` file's text.
pub fn status(text: &str) -> Status {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| {
            let words: Vec<&str> = value.split_whitespace().collect();
            (key.to_owned(), words.join(" "))
        })
        .collect()
}

/// The threads of a process of the machine, by their names.
#[track_caller]
pub fn threads(machine: &Machine, pid: u64) -> Vec<(String, Status)> {
    // One that ends meanwhile cannot be read.
    let texts = machine.sh(&format!(
        "for task in /proc/{pid}/task/*; do cat $task/status 2>/dev/null && echo ---; done"
    ));
    let all: Vec<(String, Status)> = texts
        .split("---\n")
        .map(status)
        .filter_map(|status| Some((status.get("Name")?.clone(), status)))
        .collect();
    assert!(!all.is_empty(), "process {pid} has no threads");
    all
}

/// Whether it is the thread that reads a lineage, or one of those that watch directories.
pub fn looks(name: &str) -> bool {
    name.starts_with("r:") || name == "watcher" || name.starts_with("notify-rs")
}

/// A strace on the host that is attached to every thread of a process of the machine, and writes these
/// system calls into `log`.
#[track_caller]
pub fn traced(machine: &Machine, pid: u64, calls: &str, log: &Path) -> Process {
    let outside = machine.outside(pid);
    let strace = Process::spawn(
        command("strace")
            .args(["--follow-forks", "--quiet=all", "--decode-pids=comm"])
            .args(["--string-limit=200", "--trace", calls, "--attach"])
            .arg(outside.to_string())
            .arg("--output")
            .arg(log)
            .stdin(Stdio::null()),
    );
    eventually(SOON, "strace is attached", || {
        // In the machine itself a tracer of the host has no number.
        let tasks = fs::read_dir(format!("/proc/{outside}/task")).unwrap();
        let mut statuses =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        statuses.all(|text| status(&text)["TracerPid"] != "0")
    });
    strace
}

/// Ends it, and gives what it wrote.
#[track_caller]
pub fn told(strace: &mut Process, log: &Path) -> String {
    // By a signal that it cannot handle: to detach it would wait for every thread to stop, and one that ends meanwhile never
    // does. The kernel lets all of them go, and a call goes on only once its line is written.
    strace.kill();
    fs::read_to_string(log).unwrap()
}
