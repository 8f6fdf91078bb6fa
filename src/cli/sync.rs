//! `pgcertd sync`: reconcile once.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Exit, Failure, named, paint, print, print_json, prober, sources};
use crate::bundle::Fingerprint;
use crate::config::{Config, Instance as InstanceConfig};
use crate::instance::{Instance, same_file};
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
    /// Only the instances of this lineage, by name or directory, as a deploy hook is told it; may be
    /// given more than once. One that no instance uses is no error.
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "instances")]
    lineage: Vec<PathBuf>,
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
    let chosen = chosen(config, wanted)?;
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
    let mut text = unused(&chosen, &wanted.lineage);
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

fn chosen<'a>(config: &'a Config, wanted: &Arguments) -> Result<Vec<&'a InstanceConfig>, Failure> {
    if !wanted.lineage.is_empty() {
        let uses = |instance: &&InstanceConfig| wanted.lineage.iter().any(|it| is_of(instance, it));
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
    !is_name && own.candidates.iter().any(|it| same_file(it, lineage))
}

/// A line for each lineage that was asked for and that none of the `chosen` has.
fn unused(chosen: &[&InstanceConfig], lineages: &[PathBuf]) -> String {
    lineages
        .iter()
        .filter(|lineage| !chosen.iter().any(|instance| is_of(instance, lineage)))
        .map(|lineage| {
            paint::hanging(&format!(
                "no instance uses lineage {}: nothing to do",
                lineage.display()
            ))
        })
        .collect()
}
