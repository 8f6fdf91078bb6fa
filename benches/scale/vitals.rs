//! What the kernel says of a process: memory, processor time, wake-ups, watches, system calls.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::world::{SOON, command, process::Process};

/// What it holds, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its own: heap, arenas and stacks.
    pub anonymous: u64,
    /// With the pages of files that it has in memory, most of them the program itself.
    pub resident: u64,
}

/// Of `/proc/PID/status`.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| field(&status, key).with_context(|| format!("no {key}"));
    Ok(Memory {
        anonymous: kib("RssAnon")?,
        resident: kib("VmRSS")?,
    })
}

/// How often each of its threads has gone to sleep, by number and name.
pub fn sleeps(pid: u32) -> Result<BTreeMap<(u32, String), u64>> {
    threads(pid)?
        .into_iter()
        .map(|(number, directory)| {
            let status = fs::read_to_string(directory.join("status"))?;
            let count = field(&status, "voluntary_ctxt_switches").context("no switches")?;
            let name = fs::read_to_string(directory.join("comm"))?;
            Ok(((number, name.trim_end().to_owned()), count))
        })
        .collect()
}

/// How long each of its threads has run on a processor, by number.
pub fn processor_time(pid: u32) -> Result<BTreeMap<u32, Duration>> {
    let mut ran = BTreeMap::new();
    for (number, directory) in threads(pid)? {
        let schedule = fs::read_to_string(directory.join("schedstat"))?;
        let nanoseconds = schedule.split_whitespace().next().context("no schedstat")?;
        ran.insert(number, Duration::from_nanos(nanoseconds.parse()?));
    }
    Ok(ran)
}

/// How many threads it has.
pub fn thread_count(pid: u32) -> Result<usize> {
    Ok(threads(pid)?.len())
}

/// How many inotify watches it has.
pub fn watches(pid: u32) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may have closed one meanwhile.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        count += info
            .lines()
            .filter(|line| line.starts_with("inotify "))
            .count();
    }
    Ok(count)
}

fn threads(pid: u32) -> Result<Vec<(u32, PathBuf)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse()?;
        threads.push((number, entry.path()));
    }
    Ok(threads)
}

fn field(status: &str, key: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Counts what a process and its children ask of the kernel.
pub struct CallCounter {
    strace: Process,
    output: PathBuf,
}

/// How often each system call was made.
pub type Calls = BTreeMap<String, u64>;

impl CallCounter {
    /// Begins to count; all threads are seen when this returns.
    pub fn start(pid: u32, output: &Path) -> Result<Self> {
        let strace = Process::spawn(
            command("strace")
                .args(["-f", "-c", "-qq", "-o"])
                .arg(output)
                .args(["-p", &pid.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let begun = Instant::now();
        while !is_traced(pid)? {
            ensure!(
                begun.elapsed() < SOON,
                "strace does not come to trace {pid}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            strace,
            output: output.to_owned(),
        })
    }

    /// Ends the count, and gives it.
    pub fn stop(mut self) -> Result<Calls> {
        self.strace.signal(Signal::INT);
        self.strace.wait(SOON).context("strace does not end")?;
        calls(&fs::read_to_string(&self.output)?)
    }
}

fn is_traced(pid: u32) -> Result<bool> {
    for (_, directory) in threads(pid)? {
        // One that has ended meanwhile is no longer to be traced.
        let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
        if field(&status, "TracerPid") == Some(0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The table that `strace -c` writes: the calls are the fourth column, the name is the last one,
/// and a sum ends it.
fn calls(table: &str) -> Result<Calls> {
    let rows = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let count = columns.get(3)?.parse().ok()?;
        let name = *columns.last()?;
        (name != "total").then(|| (name.to_owned(), count))
    });
    let calls: Calls = rows.collect();
    ensure!(!calls.is_empty(), "strace has counted nothing: {table:?}");
    Ok(calls)
}
