//! `pgcertd sync`: reconcile once.

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Exit, Failure, chosen, paint, print, print_json, prober, sources};
use crate::bundle::Fingerprint;
use crate::config::Config;
use crate::instance::Instance;
use crate::reconcile::plan::Intent;
use crate::reconcile::{Done, Keeper, SyncOutcome};
use crate::report::Event;
use crate::report::view::VERSION;
use crate::source::Source;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The instances; all where none is named.
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Install, reload and verify although nothing changed, and try a held bundle.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Document {
    version: u32,
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    outcome: SyncOutcome,
    fingerprint: Option<Fingerprint>,
    problem: Option<String>,
    seconds: f64,
}

pub(super) async fn sync(
    config: &Config,
    wanted: &Arguments,
    json: bool,
    journal: bool,
) -> Result<Exit, Failure> {
    let chosen = chosen(config, &wanted.instances)?;
    let intent = Intent {
        force: wanted.force,
        dry_run: wanted.dry_run,
        follow_up: false,
    };
    let mut sources = sources::read(config, &chosen).await?;
    let prober = prober()?;
    let mut work = JoinSet::new();
    for (index, instance) in chosen.iter().enumerate() {
        let source = sources
            .remove(&instance.name)
            .unwrap_or_else(|| Source::Invalid {
                why: "the lineage was not read".into(),
                denied: false,
            });
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let settle = config.watch.settle_timeout;
        work.spawn(async move { (index, keeper.reconcile(&source, intent, settle).await) });
    }
    let mut done: Vec<(usize, Done)> = Vec::new();
    while let Some(ended) = work.join_next().await {
        done.push(ended.map_err(|e| Failure::problem(&e))?);
    }
    prober.farewells().await;
    done.sort_by_key(|(index, _)| *index);
    let mut rows = Vec::new();
    let mut text = String::new();
    let mut well = true;
    for (index, done) in &done {
        let instance = chosen[*index];
        let (state, _) = done.seen.state(instance);
        well &= state.is_well() && done.outcome != SyncOutcome::Failed;
        let event = Event::of(&instance.name, &instance.lineage.name, done);
        // Under systemd or with --json the journal keeps the line that a person would read.
        if done.acted && (json || journal) {
            event.emit();
        }
        for warning in &done.warnings {
            tracing::warn!("{}: {warning}", instance.name);
        }
        text.push_str(&paint::hanging(&event.message()));
        rows.push(Row {
            name: instance.name.clone(),
            outcome: done.outcome,
            fingerprint: done.fingerprint,
            problem: done.problem.clone(),
            seconds: done.took.as_secs_f64(),
        });
    }
    if json {
        print_json(&Document {
            version: VERSION,
            instances: rows,
        })?;
    } else {
        print(&text)?;
    }
    Ok(if well { Exit::Well } else { Exit::Problem })
}
