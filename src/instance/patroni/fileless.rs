//! Patronis that have no configuration file: what they are told stands in their environment.
//!
//! Without an argument, or with one that does not exist, Patroni takes `PATRONI_CONFIGURATION`, a whole YAML
//! document, or else `PATRONI_*` alone (`Config.__init__`, the same in 2.1 to 4.1). Nothing then tells from outside which
//! Patroni is meant, and none of it can be changed without a restart: they are named, and left alone.

use std::path::Path;

use procfs::process::Process;
use rustix::process::Signal;

use super::process::{arguments, is_script, not_python};

/// What pgcertd supports of the ways to configure a Patroni, and how to get there.
pub(in crate::instance) const BY_FILE: &str = "pgcertd supports a Patroni whose configuration is a YAML file, or a directory of such, that it is \
    started with: write what the environment sets into config_file, and restart Patroni with that as its argument; if \
    another Patroni is meant, start that";

/// The numbers of the Patronis of the user `owner`, or of any, that run without a file. Blocks.
#[must_use]
pub(in crate::instance) fn without_file(owner: Option<u32>) -> Vec<u32> {
    let all = procfs::process::all_processes().into_iter().flatten();
    let found: Vec<(u32, i32)> = all
        .flatten()
        .filter_map(|it| fileless(&it, owner))
        .collect();
    // Its own children have its arguments until they become other programs.
    let leads = |(_, parent): &&(u32, i32)| {
        let mut numbers = found.iter().map(|(pid, _)| *pid);
        !numbers.any(|pid| i32::try_from(pid) == Ok(*parent))
    };
    let mut leading: Vec<u32> = found.iter().filter(leads).map(|(pid, _)| *pid).collect();
    leading.sort_unstable();
    leading
}

/// Number and parent of the process, if it is such a Patroni.
fn fileless(process: &Process, owner: Option<u32>) -> Option<(u32, i32)> {
    let proc = Path::new("/proc").join(process.pid().to_string());
    let words = arguments(&proc);
    let script = words.iter().position(is_script)?;
    let mut behind = words[script + 1..].iter().map(Path::new);
    // An option such as --version is none that leaves it running.
    if behind.any(|argument| is_there(&proc, argument) != Some(false)) {
        return None;
    }
    let (status, stat) = (process.status().ok()?, process.stat().ok()?);
    let handles = status.sigcgt & (1 << (Signal::HUP.as_raw() - 1)) != 0;
    let fits = handles && owner.is_none_or(|uid| uid == status.euid) && not_python(&proc).is_none();
    fits.then_some((u32::try_from(process.pid()).ok()?, stat.ppid))
}

/// Whether there is such a file as the process sees it; nothing where that may not be looked at.
fn is_there(proc: &Path, argument: &Path) -> Option<bool> {
    let seen = match argument.strip_prefix("/") {
        Ok(below) => proc.join("root").join(below),
        Err(_) => proc.join("cwd").join(argument),
    };
    seen.try_exists().ok()
}

/// That these have no file, as a clause.
pub(in crate::instance) fn told_by_environment(pids: &[u32]) -> String {
    let numbers: Vec<String> = pids.iter().map(u32::to_string).collect();
    let (processes, take) = match pids.len() {
        1 => ("process", "is a Patroni that takes"),
        _ => ("processes", "are Patronis that take"),
    };
    format!(
        "{processes} {} {take} configuration from the environment (PATRONI_CONFIGURATION, PATRONI_*), which \
         pgcertd does not support",
        numbers.join(", ")
    )
}
