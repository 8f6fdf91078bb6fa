//! `pgcertd sync`: reconcile once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;

use super::exit::{Exit, Failure, named, prober};
use super::manual::{Chapter, Manual};
use super::outcomes::{Manner, Outcomes};
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
        "Compares each instance with its lineage, and brings it up to date: install, reload, verify, and roll back if \
         Postgres rejects it. An instance that is up to date is neither written nor reloaded.",
        "The lineage is read once nobody else is working on the instance: a `sync` that had to wait never deploys \
         anything older than what was deployed meanwhile.",
        "If the server is down, it installs what the lineage holds, unless the server rejected that before or it is \
         held. Nobody has seen it served in that case: if the server doesn't start with it, the next `sync` restores \
         the previous files.",
        "A deploy hook runs it with `--lineage`, which says that the renewal is complete: what the files hold is \
         installed or refused at once. Without that option a lineage that may be half written is left to wait, and the \
         exit status is 1, since nobody follows up unless the daemon is running.",
        "Run it as the owner of the data directories, or as root, which then uses each owner's rights. The daemon can be \
         running.",
    ],
    exit: &[
        (
            Exit::Well,
            "every instance has what its lineage holds (`in_sync` or `not_running`), or a `delay` is holding it back, \
             which the output says",
        ),
        (
            Exit::Problem,
            "some instance doesn't; the output says which, and why",
        ),
        (
            Exit::Usage,
            "wrong usage or config, such as an unknown instance",
        ),
    ],
    chapters: outcomes,
    examples: &[
        ("pgcertd sync --dry-run", "What would be done?"),
        (
            "pgcertd sync --force 16-main",
            "The drill: deploy what is there already. No session ends.",
        ),
        (
            "certbot renew --deploy-hook /usr/lib/pgcertd/certbot-deploy-hook",
            "Without the daemon: run `pgcertd sync --lineage` for what was renewed.",
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
        "`sync` and the daemon take turns at an instance. `sync` waits up to {} s, then the instance counts as failed.",
        LOCK_PATIENCE.as_secs()
    );
    vec![outcomes, Chapter::new("Locking", lock)]
}

#[derive(Debug, Args)]
pub(super) struct SyncArguments {
    /// The instances; all if none is named.
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Only the instances of this lineage, by name or directory, as deploy hooks get it: its renewal is
    /// complete. Can be given more than once. A lineage that no instance uses is not an error.
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "instances")]
    lineage: Vec<PathBuf>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Install, reload and verify even if nothing changed; also a held bundle, or one that would lock out
    /// only some clients.
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
            // Don't hold the lock while waiting for files that are being written.
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
    prober.drain().await;
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

/// What the lineage holds and this run has not installed, although the state alone looks fine.
struct LeftUndone {
    is_due: bool,
    problem: Problem,
}

/// What this run leaves to the daemon, which may not be running.
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
        let fix = format!("if no daemon is running, run `{command}` {when}");
        let problem = Problem::new(told.to_string(), fix);
        return Some(LeftUndone { is_due, problem });
    }
    // A hook has just brought it, and nobody else would deploy it.
    let waits_for_server = seen.is_taken_back() && !intent.renewed;
    if state != State::NotRunning || seen.source_is_installed() || waits_for_server {
        return None;
    }
    let file = instance.cert_file.display();
    let (lineage, kind) = (&instance.lineage.name, instance.kind().name());
    let what = told.map_or_else(
        || format!("{kind} is down, and {file} does not have what lineage {lineage} holds"),
        |told| told.to_string(),
    );
    let fix = format!("if no daemon is running, start {kind} and run `{command}`");
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

/// Whether `lineage`, a name or a directory, is that of `instance`; a directory may be spelled differently in the config.
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

/// A line for each requested lineage that none of the `chosen` instances uses.
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
