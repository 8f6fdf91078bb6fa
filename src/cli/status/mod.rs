//! `pgcertd status`: source, installed and served of every instance, live.
//!
//! Where the caller may not look, the daemon's last view is shown, with its age.

mod drawn;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::manual::{Chapter, Manual};
use super::page::Page;
use super::{Exit, Failure, print, print_json, prober, sources};
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
        "Looks at each instance now: what its lineage holds, what is installed, and what a new TLS connection \
         gets. For each that is not well it says why, and what mends it.",
        "Every user may ask. Who may not look is shown what the daemon saw last, with its age; without a daemon \
         the instance is `unknown`.",
        "A certificate that was not renewed when it should have been is named with `?` while there is time: less than \
         a quarter of its lifetime or 21 days is left, whichever is less. From a tenth or 7 days on it is a problem \
         as any other. The worst of source, installed and served counts, and of each chain the first to end of the certificates that clients need: an \
         intermediate may end before the leaf. A PostgreSQL server of this host that no \
         instance covers is named with `?` too.",
        "A CA of clients and a CRL are named in the same way, since every client of a CA is refused once it, or its CRL, \
         has ended; of a CRL 3 days and 1 day count in place of 21 and 7, and none of the first 25 hours of one that \
         lasts a day or longer.",
    ],
    exit: &[
        (
            Exit::Well,
            "every instance is `in_sync`, `not_running` or `waiting`, no certificate, CA of clients or CRL is about to expire, and \
             the processes of this host could be looked at",
        ),
        (
            Exit::Problem,
            "some instance is in another state, a look at the host failed, or a certificate or a CA of clients has less than a tenth of its lifetime or 7 days \
             left, or a CRL a tenth or 1 day",
        ),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: states,
    examples: &[
        ("pgcertd status", "The whole picture."),
        (
            "pgcertd status --json | jq -r '.instances[] | .name + \" \" + .state'",
            "For a machine: a line for each instance.",
        ),
    ],
};

fn states() -> Vec<Chapter> {
    let states = Chapter::new("States", "The first three are well.");
    let states = State::ALL.iter().fold(states, |chapter, state| {
        let says = format!("{}\nto do: {}", state.meaning(), state.remedy());
        chapter.term(state.as_str(), says)
    });
    let json = Chapter::new("JSON", "One document; a certificate that is not there is null.")
        .term("instances", "`name`, `lineage`, `state`, `problem` (a sentence, or null), `source`, `installed`, `served`, `ca`, `crl`")
        .term("a certificate", "`fingerprint` (SHA-256), `not_before`, `not_after`, `names`, `issuer`, `serial`, `expiry` (`fine`, `warning`, `critical` or `expired`, of what ends first), `chain_end` (what ends before it of the chain that clients need: `name`, `fingerprint`, `not_before`, `not_after`, `expiry`; null where it ends first itself)")
        .term("ca, crl", "the files by which clients are judged, as `source` and as `installed`: `digest` (SHA-256 of the file) and `first_end` (`name` of the CA, `fingerprint`, `not_before`, `not_after`, `expiry`; null where nothing ends)")
        .term("uncovered", "the data directories of servers that no instance covers")
        .term("uncovered_unknown", "why there may be more of those than were found, or null")
        .term("checked", "when this was seen; times are in UTC, as in RFC 3339")
        .term("daemon", "since when it runs, or null");
    vec![states, json]
}

/// The daemon's view is too old to stand for what is, after so many `resync` periods.
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

/// What the daemon saw last. One that cannot be read is as none, which is said.
fn daemon_view(config: &Config) -> Option<StatusView> {
    StatusView::read(&config.runtime_directory).unwrap_or_else(|error| {
        let file = config.runtime_directory.join(view::FILE);
        let file = file.display();
        Page::of_line(format_args!(
            "pgcertd: {file}: {error}; what the daemon saw is not known"
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
    let prober = prober()?;
    let mut looking = JoinSet::new();
    for (index, instance) in config.instances.iter().enumerate() {
        let source = sources.remove(&instance.name).unwrap_or(Source::Invalid {
            problem: Problem::new("the lineage was not read", ""),
            denied: false,
        });
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let settle = config.watch.settle_timeout;
        looking.spawn(async move {
            let seen = keeper.observe(&source, settle).await;
            let view = InstanceView::from_config(&keeper.instance.config, &seen);
            (index, view, seen.is_denied())
        });
    }
    let fresh = i64::from(STALE_AFTER)
        .checked_mul(i64::try_from(config.watch.resync.as_secs()).unwrap_or(i64::MAX))
        .map_or(SignedDuration::MAX, SignedDuration::from_secs);
    let lives = daemon.is_some();
    let daemon = daemon.filter(|view| view.age(now) <= fresh);
    let mut views = Vec::new();
    let mut borrowed = false;
    while let Some(seen) = looking.join_next().await {
        let (index, own, denied) = seen.map_err(|e| Failure::problem(&e))?;
        let told = daemon.and_then(|d| d.instances.iter().find(|i| i.name == own.name));
        let view = match told {
            Some(told) if denied => {
                borrowed = true;
                told.clone().seen_at(now)
            }
            None if denied => unknown(config, own, lives),
            Some(told) => completed(own, told, now),
            None => own,
        };
        views.push((index, view));
    }
    prober.farewells().await;
    views.sort_by_key(|(index, _)| *index);
    let checked = match daemon {
        Some(daemon) if borrowed => daemon.checked,
        _ => now,
    };
    let Search {
        found: uncovered,
        missed,
    } = unclaimed(config, daemon);
    Ok(StatusView {
        version: VERSION,
        instances: views.into_iter().map(|(_, view)| view).collect(),
        uncovered,
        uncovered_unknown: missed.map(|cannot| cannot.problem().to_string()),
        checked,
        daemon: daemon.and_then(|d| d.daemon.clone()),
    })
}

/// The data directories of servers that no instance covers: what the caller can see, and, since
/// only root sees every process whole, what the daemon does.
fn unclaimed(config: &Config, daemon: Option<&StatusView>) -> Search<PathBuf> {
    let mut search = uncovered(&config.data_directories());
    if !is_root() {
        let told = daemon.map_or(&[][..], |view| &view.uncovered);
        search.found.extend(told.iter().cloned());
        search.found.sort();
        search.found.dedup();
    }
    search
}

/// The view of one who may not look, and whom no daemon tells.
fn unknown(config: &Config, mut own: InstanceView, daemon_lives: bool) -> InstanceView {
    // What to do about it is for the daemon's user.
    let why = own.details.take().map(|problem| problem.what);
    let why = why.unwrap_or_default();
    let mend = if daemon_lives {
        "the daemon's view is too old, see in its log what holds it up; ask as root"
    } else {
        "start the daemon, whose view every user is shown, or ask as root"
    };
    let ask = format!("sudo {}", config.command(&["status"]));
    let problem = Problem::new(format!("this user may not look: {why}"), mend).with(ask);
    own.state = State::Unknown;
    own.problem = Some(problem.to_string());
    own.details = Some(problem);
    own
}

/// An own view with what only the daemon can know: why its attempt failed, what it has seen
/// rewritten, and that the caller may read what it may not.
fn completed(mut own: InstanceView, told: &InstanceView, now: Timestamp) -> InstanceView {
    let blind = told.state == State::SourceInvalid && told.source.is_none();
    let leaf = |view: &InstanceView| {
        view.source
            .as_ref()
            .map(|certificate_view| certificate_view.fingerprint)
    };
    if leaf(told) == leaf(&own) && told.state == own.state {
        own.problem.clone_from(&told.problem);
        own.details.clone_from(&told.details);
    } else if told.state == State::Contended && own.state == State::OutOfDate {
        return told.clone().seen_at(now);
    } else if blind && own.source.is_some() {
        let told = told.problem.as_deref().unwrap_or_default();
        own.state = State::SourceInvalid;
        own.problem = Some(format!(
            "the daemon cannot use the lineage, although this user can: {told}"
        ));
        own.details = None;
    }
    own
}
