//! Patronis that have no configuration file: what they are told stands in their environment.
//!
//! Without an argument, or with one that does not exist, Patroni takes `PATRONI_CONFIGURATION`, a whole YAML
//! document, or else `PATRONI_*` alone (`Config.__init__`, the same in 2.1 to 4.1). Nothing then tells from outside which
//! Patroni is meant, and none of it can be changed without a restart: they are named, and left alone.

use std::path::Path;

use rustix::process::Signal;

use super::script::{is_script, not_patroni};
use crate::host::look::{self, CannotLook, if_allowed};
use crate::host::process::{self, HeldProcess, Search};

/// What pgcertd supports of the ways to configure a Patroni, and how to get there.
pub(crate) const BY_FILE: &str = "pgcertd supports a Patroni whose configuration is a YAML file, or a directory of such, that it is \
    started with: write what the environment sets into config_file, and restart Patroni with that as its argument; if \
    another Patroni is meant, start that";

/// The numbers of the Patronis of the user `owner`, or of any, that run without a file. Blocks.
pub(crate) fn without_file(owner: Option<u32>) -> Search<u32> {
    let Search { found, missed } = match owner {
        Some(owner) => process::search_of(owner, |pid| fileless(pid, Some(owner))),
        // Of any: those that may be looked at.
        None => process::search(|pid| if_allowed(fileless(pid, None))),
    };
    // Its own children have its arguments until they become other programs.
    let leads = |(_, parent): &&(u32, u32)| !found.iter().any(|(pid, _)| pid == parent);
    let mut leading: Vec<u32> = found.iter().filter(leads).map(|(pid, _)| *pid).collect();
    leading.sort_unstable();
    Search {
        found: leading,
        missed,
    }
}

/// Number and parent of the process, if it is such a Patroni.
fn fileless(pid: u32, owner: Option<u32>) -> Result<Option<(u32, u32)>, CannotLook> {
    let words = process::arguments_of(pid)?;
    let Some(script) = words.iter().position(is_script) else {
        return Ok(None);
    };
    let Some(held) = HeldProcess::open(pid)? else {
        return Ok(None);
    };
    let fits = held.handles(Signal::HUP) && owner.is_none_or(|uid| uid == held.euid());
    if !fits || not_patroni(&held)?.is_some() {
        return Ok(None);
    }
    // An option such as --version is none that leaves it running.
    for argument in words[script + 1..].iter().map(Path::new) {
        if look::metadata(&held.seen(argument))?.is_some() {
            return Ok(None);
        }
    }
    Ok(Some((pid, held.parent())))
}

/// That these have no file, as a clause.
pub(crate) fn told_by_environment(pids: &[u32]) -> String {
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
