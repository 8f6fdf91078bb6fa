//! Whether cron runs.

use super::asked::said;
use crate::check::unit::systemd_runs;

/// The names of cron's process: Debian's, that of cronie, busybox and dcron, and others.
const PROCESSES: [&str; 4] = ["cron", "crond", "fcron", "supercronic"];

/// The units that start it.
const UNITS: [&str; 4] = [
    "cron.service",
    "crond.service",
    "cronie.service",
    "fcron.service",
];

/// Whether cron runs, and what starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cron {
    Running,
    /// It doesn't; the unit that would start it, if there is one.
    Stopped(Option<String>),
}

/// Looks for its process, and failing that for a unit that would start it.
pub(super) async fn cron() -> Cron {
    let processes = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten();
    let mut stats = processes.filter_map(|process| process.stat().ok());
    if stats.any(|stat| PROCESSES.contains(&&*stat.comm)) {
        return Cron::Running;
    }
    if !systemd_runs() {
        return Cron::Stopped(None);
    }
    // systemd-cron makes timers of crontabs.
    if said("systemctl", &["is-active", "cron.target"])
        .await
        .is_some()
    {
        return Cron::Running;
    }
    let list = ["list-unit-files", "--no-legend", "--no-pager", "--plain"];
    let files = said("systemctl", &[&list, &UNITS[..]].concat()).await;
    let files = files.unwrap_or_default();
    let unit = files.split_whitespace().find(|word| UNITS.contains(word));
    Cron::Stopped(unit.map(str::to_owned))
}
