//! `pgcertd sync`: reconcile once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;

use super::manual::{Chapter, Manual};
use super::outcomes::{Manner, Outcomes};
use super::{Exit, Failure, named, prober};
use crate::config::{Config, InstanceConfig};
use crate::deploy::plan::{Intent, Readiness};
use crate::deploy::state::State;
use crate::deploy::{Keeper, LOCK_PATIENCE, Reconciled, SyncOutcome};
use crate::host::look::is_same_file;
use crate::host::privilege::PrivilegeError;
use crate::lineage::{Spec, Tracked};
use crate::problem::Problem;
use crate::server::Instance;

pub(super) const MANUAL: Manual = Manual {
    command: "sync",
    description: &[
        "Compares each instance with its lineage, and does what makes them equal: install, reload, verify, and roll \
         back what Postgres refuses. What is equal already is neither written nor reloaded.",
        "What the lineage holds is read once nobody else works on the instance: a `sync` that had to wait deploys \
         nothing older than what was deployed meanwhile.",
        "While the server is down it installs what the lineage holds, unless the server rejected it before or it is \
         held. Nobody has seen it served then: if the server does not start on it, the next `sync` puts back what was \
         installed before.",
        "A deploy hook runs it with `--lineage`, which says that the writer is done: what the files hold by then is \
         installed or refused at once. Without that option a lineage that may be half written waits, and the exit status \
         is 1, since nobody follows up unless the daemon runs.",
        "It may be run by root, then with the rights of each data directory's owner, or by that owner. The daemon may \
         run at the same time.",
    ],
    exit: &[
        (
            Exit::Well,
            "every instance has what its lineage holds, `in_sync` or `not_running`, or a `delay` holds that, which \
             the output says",
        ),
        (
            Exit::Problem,
            "some instance has not; the output says which, and why",
        ),
        (
            Exit::Usage,
            "wrong usage or config, such as an instance that the config does not have",
        ),
    ],
    chapters: outcomes,
    examples: &[
        ("pgcertd sync --dry-run", "What would be done?"),
        (
            "pgcertd sync --force 16-main",
            "The drill: a deployment of what is there already. No session ends.",
        ),
        (
            "certbot renew --deploy-hook /usr/lib/pgcertd/certbot-deploy-hook",
            "Without the daemon: `pgcertd sync --lineage` for what was renewed.",
        ),
    ],
};

fn outcomes() -> Vec<Chapter> {
    let outcomes = Chapter::new(
        "Outcomes",
        "`outcome` of each instance, with `--json`; `changed` lists what is new: `certificate`, `ca`, `crl`.",
    );
    let outcomes = SyncOutcome::ALL.iter().fold(outcomes, |chapter, outcome| {
        chapter.term(outcome.as_str(), outcome.meaning())
    });
    let lock = format!(
        "`sync` and the daemon wait for each other at an instance, for {} s at most; then the instance counts as \
         failed.",
        LOCK_PATIENCE.as_secs()
    );
    vec![outcomes, Chapter::new("Locking", lock)]
}

#[derive(Debug, Args)]
pub(super) struct SyncArguments {
    /// The instances; all where none is named.
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Only the instances of this lineage, by name or directory, as a deploy hook is told it: its writer is
    /// done. May be given more than once. One that no instance uses is no error.
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "instances")]
    lineage: Vec<PathBuf>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Install, reload and verify although nothing changed, and try a held bundle, or one that would keep
    /// only some clients out.
    #[arg(long)]
    force: bool,
}

pub(super) async fn sync(
    config: &Config,
    wanted: &SyncArguments,
    json: bool,
    journal: bool,
) -> Result<Exit, Failure> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    let chosen = chosen(config, wanted)?;
    let intent = Intent {
        force: wanted.force,
        dry_run: wanted.dry_run,
        follow_up: false,
        renewed: !wanted.lineage.is_empty(),
    };
    let settle_timeout = if intent.renewed {
        Duration::ZERO
    } else {
        config.watch.settle_timeout
    };
    let prober = prober()?;
    let mut work = JoinSet::new();
    for (index, instance) in chosen.iter().enumerate() {
        let spec = Spec::from(*instance);
        let mut lineage = Tracked::new(spec, config.watch.debounce, settle_timeout);
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        work.spawn(async move {
            // Files that are being written come to rest while others may still have the lock.
            lineage.settled().await?;
            let reconciled = keeper.reconcile(&mut lineage, intent, settle_timeout).await;
            Ok::<_, PrivilegeError>((index, reconciled))
        });
    }
    let mut done: Vec<(usize, Reconciled)> = Vec::new();
    while let Some(ended) = work.join_next().await {
        let ended = ended.map_err(|e| Failure::problem(&e))?;
        done.push(ended.map_err(|e| Failure::problem(&e))?);
    }
    prober.farewells().await;
    done.sort_by_key(|(index, _)| *index);
    let mut outcomes = Outcomes::new(Manner {
        json,
        journal,
        dry_run: wanted.dry_run,
    });
    for line in unused(&chosen, &wanted.lineage) {
        outcomes.note(&line);
    }
    let mut well = true;
    for (index, reconciled) in &mut done {
        let instance = chosen[*index];
        let (state, _) = reconciled.seen.state(instance);
        well &= state.is_well() && reconciled.done.outcome != SyncOutcome::Failed;
        if let Some(left) = left_undone(instance, reconciled, intent) {
            well &= !left.is_due;
            reconciled.done.problem = Some(left.problem);
        }
        outcomes.add(instance, reconciled);
    }
    outcomes.print()?;
    Ok(if well { Exit::Well } else { Exit::Problem })
}

/// What the lineage holds and a run has not installed, where the state alone would be well.
struct LeftUndone {
    is_due: bool,
    problem: Problem,
}

/// What this run leaves to somebody else, who may not exist: no daemon need run.
fn left_undone(
    instance: &InstanceConfig,
    reconciled: &Reconciled,
    intent: Intent,
) -> Option<LeftUndone> {
    let Reconciled { done, seen } = reconciled;
    if intent.dry_run {
        return None;
    }
    let told = done.problem.clone();
    let command = instance.command(&["sync"]);
    let (state, _) = seen.state(instance);
    if let (State::Waiting, Some(told)) = (state, &told) {
        let is_due = !matches!(seen.readiness, Readiness::Delayed { .. });
        let when = seen.again_at().map_or("once it is complete", |_| "then");
        let fix = format!("where no daemon runs, run `{command}` {when}");
        let problem = Problem::new(told.to_string(), fix);
        return Some(LeftUndone { is_due, problem });
    }
    // A hook has just brought what would wait here for a deployment by nobody.
    let waits_for_server = seen.is_taken_back() && !intent.renewed;
    if state != State::NotRunning || seen.source_is_installed() || waits_for_server {
        return None;
    }
    let file = instance.cert_file.display();
    let (lineage, kind) = (&instance.lineage.name, instance.kind().name());
    let what = told.map_or_else(
        || format!("{kind} is down, and {file} does not hold what the lineage {lineage} holds"),
        |told| told.to_string(),
    );
    let fix = format!("where no daemon runs, start {kind} and run `{command}`");
    Some(LeftUndone {
        is_due: true,
        problem: Problem::new(what, fix),
    })
}

fn chosen<'a>(
    config: &'a Config,
    wanted: &SyncArguments,
) -> Result<Vec<&'a InstanceConfig>, Failure> {
    if !wanted.lineage.is_empty() {
        let uses =
            |instance: &&InstanceConfig| wanted.lineage.iter().any(|path| is_of(instance, path));
        return Ok(config.instances.iter().filter(uses).collect());
    }
    named(config, &wanted.instances)
}

/// Whether `lineage`, a name or a directory, is the one of `instance`; a directory may be written
/// in another way than in the config.
fn is_of(instance: &InstanceConfig, lineage: &Path) -> bool {
    let own = &instance.lineage;
    if lineage == Path::new(&own.name) {
        return true;
    }
    let is_name = lineage.components().count() == 1 && lineage.is_relative();
    !is_name
        && own
            .candidates
            .iter()
            .any(|path| is_same_file(path, lineage))
}

/// A line for each lineage that was asked for and that none of the `chosen` has.
fn unused(chosen: &[&InstanceConfig], lineages: &[PathBuf]) -> Vec<String> {
    lineages
        .iter()
        .filter(|lineage| !chosen.iter().any(|instance| is_of(instance, lineage)))
        .map(|lineage| {
            format!(
                "no instance uses lineage {}: nothing to do",
                lineage.display()
            )
        })
        .collect()
}
