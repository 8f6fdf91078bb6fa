//! `pgcertd rollback`: back to the previous bundle.

use clap::Args;

use super::manual::{Chapter, Manual};
use super::outcomes::{Manner, Outcomes};
use super::{Exit, Failure, named, prober, sources};
use crate::config::Config;
use crate::deploy::state::State;
use crate::deploy::{Errand, Keeper, LOCK_PATIENCE, Reconciled, SyncOutcome};
use crate::server::Instance;

pub(super) const MANUAL: Manual = Manual {
    command: "rollback",
    description: &[
        "Puts the previous bundle back: the one that the last deployment replaced, which was served. It is installed, \
         loaded and verified like any other, and no session ends. Where Postgres refuses it, what was there before \
         comes back.",
        "What the lineage holds now is held back: neither the daemon nor `sync` deploys it, and `status` says `held`. \
         That ends when the lineage changes, by the next renewal for one, or with `pgcertd sync --force INSTANCE`.",
        "One bundle is kept, so one step back is possible, and none after a renewal that Postgres refused: what is \
         kept is served then. The bundle that is rolled back from is not kept, since the lineage has it. A second \
         `rollback` stays where the first led: it has the files loaded again, and looks again.",
        "A previous bundle that has expired, or does not cover `server_names`, is refused; so is an instance whose \
         `mode` is not `manage`.",
        "It may be run by root, then with the rights of the data directory's owner, or by that owner. The daemon may \
         run at the same time.",
    ],
    exit: &[
        (
            Exit::Well,
            "new clients get the previous bundle; with `--dry-run`, it would be installed",
        ),
        (
            Exit::Problem,
            "they do not, or it was not seen; the output says why",
        ),
        (
            Exit::Usage,
            "wrong usage or config, such as an instance that the config does not have",
        ),
    ],
    chapters: outcomes,
    examples: &[
        (
            "pgcertd rollback --dry-run 16-main",
            "Is there a previous bundle, and may it go in?",
        ),
        ("pgcertd rollback 16-main", "Back to the one before."),
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
            "it is installed, and the server is down or does not use the files",
        )
        .term(
            SyncOutcome::Unverified.as_str(),
            "it is installed, and what is served cannot be seen",
        )
        .term(
            SyncOutcome::WouldDeploy.as_str(),
            "without `--dry-run` it would be installed",
        )
        .term(
            SyncOutcome::Refused.as_str(),
            "there is none, or it may not go in; nothing is changed",
        )
        .term(
            SyncOutcome::RolledBack.as_str(),
            "the server refused it; what was there before is back",
        )
        .term(
            SyncOutcome::Failed.as_str(),
            "a step failed; `problem` says which",
        );
    let lock = format!(
        "`rollback`, `sync` and the daemon wait for each other at an instance, for {} s at most; then it has failed.",
        LOCK_PATIENCE.as_secs()
    );
    vec![outcomes, Chapter::new("Locking", lock)]
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The instance.
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Say what would be done, and do nothing.
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
    prober.farewells().await;
    outcomes.print()?;
    Ok(exit)
}
