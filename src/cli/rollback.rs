//! `pgcertd rollback`: back to the previous bundle.

use clap::Args;

use super::exit::{Exit, Failure, named, prober};
use super::manual::{Chapter, Manual};
use super::outcomes::{Manner, Outcomes};
use super::sources;
use crate::config::Config;
use crate::deploy::state::State;
use crate::deploy::{Errand, Keeper, LOCK_PATIENCE, Reconciled, SyncOutcome};
use crate::server::Instance;

pub(super) const MANUAL: Manual = Manual {
    command: "rollback",
    description: &[
        "Goes back to the previous bundle: the one that was served before the last deployment. It is installed, \
         reloaded and verified like any other, and no session ends. If Postgres rejects it, pgcertd restores the \
         files that were there.",
        "What the lineage holds now is held back: neither the daemon nor `sync` deploys it, and `status` says `held`. \
         That ends when the lineage changes, such as at the next renewal, or with `pgcertd sync --force INSTANCE`.",
        "Only one previous bundle is kept, so you can go back one step. After a renewal that Postgres rejected you \
         can't, because the kept bundle is the one being served. The bundle you roll back from isn't kept, since the \
         lineage has it. A second `rollback` stays on the same bundle: it reloads the files and verifies again.",
        "A previous bundle that has expired or doesn't cover `server_names` is refused; so is an instance whose \
         `mode` isn't `manage`.",
        "Run it as the owner of the data directory, or as root, which then uses that owner's rights. The daemon can be \
         running.",
    ],
    exit: &[
        (
            Exit::Well,
            "new clients get the previous bundle; with `--dry-run`, it would be installed",
        ),
        (
            Exit::Problem,
            "they don't, or that could not be verified; the output says why",
        ),
        (
            Exit::Usage,
            "wrong usage or config, such as an unknown instance",
        ),
    ],
    chapters: outcomes,
    examples: &[
        (
            "pgcertd rollback --dry-run 16-main",
            "Is there a previous bundle, and can it be installed?",
        ),
        (
            "pgcertd rollback 16-main",
            "Go back to the previous bundle.",
        ),
        (
            "pgcertd sync --force 16-main",
            "Forward again, to what the lineage holds.",
        ),
    ],
};

fn outcomes() -> Vec<Chapter> {
    let outcomes = Chapter::new("Outcomes", "`outcome`, with `--json`:")
        .term(
            SyncOutcome::Deployed.as_str(),
            "new clients get the previous bundle",
        )
        .term(
            SyncOutcome::Installed.as_str(),
            "it is installed, but the server is down or doesn't use the files",
        )
        .term(
            SyncOutcome::Unverified.as_str(),
            "it is installed, but what is served can't be seen",
        )
        .term(
            SyncOutcome::WouldDeploy.as_str(),
            "it would be installed without `--dry-run`",
        )
        .term(
            SyncOutcome::Refused.as_str(),
            "there is none, or it can't be used; nothing was changed",
        )
        .term(
            SyncOutcome::RolledBack.as_str(),
            "the server rejected it; the files that were there are back",
        )
        .term(
            SyncOutcome::Failed.as_str(),
            "a step failed; `problem` says which",
        );
    let lock = format!(
        "`rollback`, `sync` and the daemon take turns at an instance. A command waits up to {} s, then it fails.",
        LOCK_PATIENCE.as_secs()
    );
    vec![outcomes, Chapter::new("Locking", lock)]
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The instance.
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn rollback(
    config: &Config,
    wanted: &RollbackArguments,
    json: bool,
    journal: bool,
) -> Result<Exit, Failure> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    let chosen = named(config, std::slice::from_ref(&wanted.instance))?;
    let prober = prober()?;
    let mut outcomes = Outcomes::new(Manner {
        json,
        journal,
        dry_run: wanted.dry_run,
    });
    let errand = if wanted.dry_run {
        Errand::DryRun
    } else {
        Errand::RollBack
    };
    let mut exit = Exit::Well;
    for instance in chosen {
        let mut lineage = sources::tracked(config, instance);
        lineage.settled().await.map_err(|e| Failure::problem(&e))?;
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let settle = config.watch.settle_timeout;
        let reconciled = keeper.roll_back(&mut lineage, errand, settle).await;
        outcomes.add(instance, &reconciled);
        let Reconciled { done, seen } = reconciled;
        if let (State::Held, Some(held)) = seen.state(instance)
            && done.acted
        {
            outcomes.note(&format!("{}: held: {}", instance.name, held));
        }
        let well = [SyncOutcome::Deployed, SyncOutcome::WouldDeploy];
        if !well.contains(&done.outcome) {
            exit = Exit::Problem;
        }
    }
    prober.drain().await;
    outcomes.print()?;
    Ok(exit)
}
