//! `pgcertd status`: source, installed and served of every instance, live.
//!
//! A caller who isn't allowed to look is shown the daemon's last view, with its age.

mod drawn;

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::exit::{Exit, Failure, print, print_json, prober};
use super::manual::{Chapter, Manual};
use super::page::Page;
use super::sources;
use crate::config::Config;
use crate::deploy::Keeper;
use crate::deploy::state::State;
use crate::host::privilege::is_root;
use crate::host::process::Search;
use crate::lineage::Source;
use crate::problem::Problem;
use crate::report::view::{self, InstanceView, StatusView, VERSION};
use crate::server::Instance;
use crate::server::running::uncovered;

pub(super) const MANUAL: Manual = Manual {
    command: "status",
    description: &[
        "Looks at each instance now: what its lineage holds, what is installed, and what a new TLS connection gets. If \
         there is a problem, it says why, and how to fix it.",
        "Any user can run it. Users who aren't allowed to look are shown what the daemon last saw, with its age; without \
         a daemon the instance is `unknown`.",
        "A certificate that should have been renewed is marked `?` while there is time: less than a quarter of its \
         lifetime or 21 days is left, whichever is less. From a tenth or 7 days on it is a problem like any other. The \
         worst of source, installed and served counts, and in each chain whichever certificate that clients need expires \
         first: an intermediate may expire before the leaf. A PostgreSQL server on this host that no instance covers is \
         marked `?` too.",
        "CAs of clients and CRLs are marked in the same way, since the server refuses every client of a CA once the CA \
         or its CRL has expired. For a CRL the limits are 3 days and 1 day instead of 21 and 7, and the first 25 hours of \
         one that lasts a day or longer never count.",
    ],
    exit: &[
        (
            Exit::Well,
            "every instance is `in_sync`, `not_running` or `waiting`, no certificate, CA of clients or CRL is about to \
             expire, and the processes of this host could be checked",
        ),
        (
            Exit::Problem,
            "some instance is in another state, the processes of this host could not be checked, or a certificate or a CA \
             of clients has less than a tenth of its lifetime or 7 days left, or a CRL a tenth or 1 day",
        ),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: states,
    examples: &[
        ("pgcertd status", "The whole picture."),
        (
            "pgcertd status --json | jq -r '.instances[] | .name + \" \" + .state'",
            "For scripts: one line per instance.",
        ),
    ],
};

fn states() -> Vec<Chapter> {
    let states = Chapter::new("States", "The first three need no action.");
    let states = State::ALL.iter().fold(states, |chapter, state| {
        let says = format!("{}\nto do: {}", state.meaning(), state.remedy());
        chapter.term(state.as_str(), says)
    });
    let json = Chapter::new("JSON", "One document; a missing certificate is null.")
        .term("instances", "`name`, `lineage`, `state`, `problem` (a sentence, or null), `source`, `installed`, `served`, `ca`, `crl`")
        .term("a certificate", "`fingerprint` (SHA-256), `not_before`, `not_after`, `names`, `issuer`, `serial`, `expiry` (`fine`, `warning`, `critical` or `expired`, of whatever expires first), `chain_end` (if something in the chain that clients need expires before it: `name`, `fingerprint`, `not_before`, `not_after`, `expiry`; otherwise null)")
        .term("ca, crl", "the files that clients are checked against, as `source` and as `installed`: `digest` (SHA-256 of the file) and `first_end` (what expires first: `name` of the CA, `fingerprint`, `not_before`, `not_after`, `expiry`; null if nothing does)")
        .term("uncovered", "the data directories of servers that no instance covers")
        .term("uncovered_unknown", "why there may be more of those, or null")
        .term("checked", "when this was seen; times are in UTC, as in RFC 3339")
        .term("daemon", "since when it has been running, or null");
    vec![states, json]
}

/// After this many `resync` periods the daemon's view is too old to be shown.
const STALE_AFTER: u32 = 3;

pub(super) async fn status(config: &Config, json: bool) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    let daemon = daemon_view(config).filter(StatusView::daemon_lives);
    let view = look(config, daemon.as_ref(), now).await?;
    if json {
        print_json(&view)?;
    } else {
        print(&drawn::drawn(config, &view, now))?;
    }
    Ok(if view.is_well(now) {
        Exit::Well
    } else {
        Exit::Problem
    })
}

/// What the daemon saw last; if it cannot be read, it says so and goes on without.
fn daemon_view(config: &Config) -> Option<StatusView> {
    StatusView::read(&config.runtime_directory).unwrap_or_else(|error| {
        let file = config.runtime_directory.join(view::FILE);
        let file = file.display();
        Page::of_line(format_args!(
            "pgcertd: {file}: {error}; continuing without the daemon's view"
        ))
        .complain();
        None
    })
}

async fn look(
    config: &Config,
    daemon: Option<&StatusView>,
    now: Timestamp,
) -> Result<StatusView, Failure> {
    let all: Vec<_> = config.instances.iter().collect();
    let mut sources = sources::read(config, &all).await?;
    let fresh = i64::from(STALE_AFTER)
        .checked_mul(i64::try_from(config.watch.resync.as_secs()).unwrap_or(i64::MAX))
        .map_or(SignedDuration::MAX, SignedDuration::from_secs);
    let lives = daemon.is_some();
    let daemon = daemon.filter(|view| view.age(now) <= fresh);
    let told: HashMap<&str, &InstanceView> = daemon
        .iter()
        .flat_map(|view| &view.instances)
        .map(|view| (view.name.as_str(), view))
        .collect();
    let prober = prober()?;
    let mut looking = JoinSet::new();
    for (index, instance) in config.instances.iter().enumerate() {
        let source = sources.remove(&instance.name).unwrap_or(Source::Invalid {
            problem: Problem::new("the lineage was not read", ""),
            denied: false,
        });
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let settle = config.watch.settle_timeout;
        // The daemon asks each server for its configuration, and again when that changes.
        if let Some(view) = told.get(instance.name.as_str())
            && view.state == State::InSync
            && let Some(installed) = &view.installed
        {
            keeper.watched_by_another(installed.fingerprint);
        }
        looking.spawn(async move {
            let seen = keeper.observe(&source, settle).await;
            let view = InstanceView::from_config(&keeper.instance.config, &seen);
            (index, view, seen.is_denied())
        });
    }
    let covered = config.data_directories();
    let searching = tokio::task::spawn_blocking(move || uncovered(&covered));
    let mut views = Vec::new();
    let mut borrowed = false;
    while let Some(seen) = looking.join_next().await {
        let (index, own, denied) = seen.map_err(|e| Failure::problem(&e))?;
        let view = match told.get(own.name.as_str()) {
            Some(told) if denied => {
                borrowed = true;
                (*told).clone().seen_at(now)
            }
            None if denied => unknown(config, own, lives),
            Some(told) => completed(own, told, now),
            None => own,
        };
        views.push((index, view));
    }
    prober.drain().await;
    views.sort_by_key(|(index, _)| *index);
    let checked = match daemon {
        Some(daemon) if borrowed => daemon.checked,
        _ => now,
    };
    let Search {
        found: uncovered,
        missed,
    } = unclaimed(searching.await.map_err(|e| Failure::problem(&e))?, daemon);
    Ok(StatusView {
        version: VERSION,
        instances: views.into_iter().map(|(_, view)| view).collect(),
        uncovered,
        uncovered_unknown: missed.map(|cannot| cannot.problem().to_string()),
        checked,
        daemon: daemon.and_then(|d| d.daemon.clone()),
    })
}

/// The data directories of servers that no instance covers: those that the caller sees (`search`) and, since only root
/// sees everything about a process, those that the daemon sees.
fn unclaimed(mut search: Search<PathBuf>, daemon: Option<&StatusView>) -> Search<PathBuf> {
    if !is_root() {
        let known = daemon.map_or(&[][..], |view| &view.uncovered);
        search.found.extend(known.iter().cloned());
        search.found.sort();
        search.found.dedup();
    }
    search
}

/// The view of a user who isn't allowed to look, without the daemon's.
fn unknown(config: &Config, mut own: InstanceView, daemon_lives: bool) -> InstanceView {
    // Its fix would be for the daemon's user.
    let why = own.details.take().map(|problem| problem.what);
    let why = why.unwrap_or_default();
    let fix = if daemon_lives {
        "the daemon's view is too old: see its log for what is holding it up, and run this as root"
    } else {
        "start the daemon, whose view every user can see, or run this as root"
    };
    let as_root = format!("sudo {}", config.command(&["status"]));
    let what = format!("no permission to look: {why}");
    let problem = Problem::new(what, fix).with(as_root);
    own.state = State::Unknown;
    own.problem = Some(problem.to_string());
    own.details = Some(problem);
    own
}

/// The caller's view, plus what only the daemon knows: why its attempt failed, what keeps being rewritten, and what the
/// caller can read but the daemon can't.
fn completed(mut own: InstanceView, told: &InstanceView, now: Timestamp) -> InstanceView {
    let blind = told.state == State::SourceInvalid && told.source.is_none();
    let leaf = |view: &InstanceView| {
        view.source
            .as_ref()
            .map(|certificate| certificate.fingerprint)
    };
    if leaf(told) == leaf(&own) && told.state == own.state {
        own.problem.clone_from(&told.problem);
        own.details.clone_from(&told.details);
    } else if told.state == State::Contended && own.state == State::OutOfDate {
        return told.clone().seen_at(now);
    } else if blind && own.source.is_some() {
        let problem = told.problem.as_deref().unwrap_or_default();
        own.state = State::SourceInvalid;
        own.problem = Some(format!(
            "the daemon cannot use the lineage, although this user can: {problem}"
        ));
        own.details = None;
    }
    own
}
