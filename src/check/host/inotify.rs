//! Whether the service's user has inotify watches and instances left (inotify(7)).
//!
//! The kernel counts them for each user, in each user namespace: of two limits the smaller one counts.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::Uid;

use super::look::HostLook;
use crate::check::finding::Finding;
use crate::check::names::user_name;
use crate::check::unit::Unit;
use crate::host::privilege::Ids;

/// A limit, by its names: the kernel's own, and that of this user namespace.
struct Limit {
    names: [&'static str; 2],
    what: &'static str,
    /// What it is raised to.
    generous: u64,
    file: &'static str,
}

const WATCHES: Limit = Limit {
    names: ["fs.inotify.max_user_watches", "user.max_inotify_watches"],
    what: "watches",
    generous: 524_288,
    file: "/etc/sysctl.d/60-pgcertd-watches.conf",
};

const INSTANCES: Limit = Limit {
    names: [
        "fs.inotify.max_user_instances",
        "user.max_inotify_instances",
    ],
    what: "instances",
    generous: 1024,
    file: "/etc/sysctl.d/60-pgcertd-instances.conf",
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    watches: u64,
    instances: u64,
    /// Watches that a pgcertd of this user has.
    own: u64,
    /// Whether some process could not be looked at.
    partly: bool,
}

/// Whether the service's user, or else the caller, may watch everything that has to be watched. Other processes'
/// descriptors are read with the caller's own rights.
pub(in crate::check) fn inotify(look: &HostLook) -> Vec<Finding> {
    // `old_hook` says why they cannot be read.
    let Ok(files) = &look.files else {
        return Vec::new();
    };
    let uid = look.context.unit.as_ref().as_ref().and_then(Unit::uid);
    let uid = uid.unwrap_or_else(|| Ids::own().uid);
    let lineages = files.survey.lineages.iter();
    let directories: BTreeSet<_> = lineages.flat_map(|lineage| &lineage.directories).collect();
    let wanted = directories.len();
    let used = used(uid);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let wanted = wanted.saturating_sub(used.own);
    let instance = u64::from(used.own == 0);
    let user = user_name(uid);
    let short: Vec<Finding> = [
        short(&WATCHES, &user, used.watches, wanted),
        short(&INSTANCES, &user, used.instances, instance),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !short.is_empty() {
        return short;
    }
    if used.partly {
        let seen = format!("how many inotify watches user {user} has cannot be seen");
        return vec![Finding::unseen(seen, "root")];
    }
    vec![Finding::good(format!(
        "user {user} may have more inotify watches and instances than now (watches: {}, instances: {})",
        used.watches, used.instances
    ))]
}

/// What is wrong if a limit leaves less than is wanted.
fn short(limit: &Limit, user: &str, used: u64, wanted: u64) -> Option<Finding> {
    let (name, value) = limit
        .names
        .into_iter()
        .filter_map(|name| Some((name, value(name)?)))
        .min_by_key(|(_, value)| *value)?;
    if used.saturating_add(wanted) <= value {
        return None;
    }
    let seen = format!(
        "{name} is {value}; user {user} has {used} inotify {}, and pgcertd needs {wanted} more",
        limit.what
    );
    let setting = format!("{name}={}", limit.generous.max(value.saturating_mul(2)));
    let file = limit.file;
    Some(Finding::problem(seen).command(format!("echo {setting} >{file} && sysctl -p {file}")))
}

fn value(name: &str) -> Option<u64> {
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Counts what the processes of a user have.
fn used(uid: u32) -> Used {
    let mut used = Used::default();
    for process in procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(status) = process.status() else {
            // It has ended.
            continue;
        };
        if Uid::from_raw(status.ruid) != Uid::from_raw(uid) {
            continue;
        }
        let own = status.name == "pgcertd" && process.pid() != std::process::id().cast_signed();
        match watches(process.pid()) {
            Ok(instances) => {
                used.instances += instances.len() as u64;
                let watches: u64 = instances.iter().sum();
                used.watches += watches;
                used.own += if own { watches } else { 0 };
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                used.partly = true;
            }
            Err(_) => {}
        }
    }
    used
}

/// The watches of each inotify instance that a process has open (proc(5), `fdinfo`).
fn watches(pid: i32) -> std::io::Result<Vec<u64>> {
    let mut instances = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.as_os_str() != "anon_inode:inotify" {
            continue;
        }
        let number = entry.file_name();
        let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
        let info = fs::read_to_string(info).unwrap_or_default();
        let watches = info.lines().filter(|line| line.starts_with("inotify wd:"));
        instances.push(watches.count() as u64);
    }
    Ok(instances)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn watches_are_counted_as_the_kernel_has_them() {
        use notify::{RecursiveMode, Watcher as _};
        let pid = std::process::id().cast_signed();
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        // Other tests of this process watch as well: only what is this one's is told for certain.
        let mut watcher = notify::recommended_watcher(|_| {}).unwrap();
        for path in [directory.path(), &below] {
            watcher.watch(path, RecursiveMode::NonRecursive).unwrap();
        }
        assert!(watches(pid).unwrap().contains(&2));
    }

    #[test]
    fn a_limit_is_short_when_it_leaves_less_than_is_wanted() {
        let value = value(WATCHES.names[0]).unwrap();
        assert_eq!(short(&WATCHES, "db", 0, 1), None);
        let found = short(&WATCHES, "db", value, 1).unwrap();
        assert!(found.problem.what.contains("needs 1 more"), "{found:?}");
    }
}
