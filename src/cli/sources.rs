//! Reads the lineages that a command needs, each once and all in parallel.

use std::collections::HashMap;

use tokio::task::JoinSet;

use super::exit::Failure;
use crate::config::{Config, InstanceConfig};
use crate::lineage::{Source, Spec, Tracked};

/// The lineage of `instance`, not yet read.
pub(super) fn tracked(config: &Config, instance: &InstanceConfig) -> Tracked {
    let watch = &config.watch;
    Tracked::new(Spec::from(instance), watch.debounce, watch.settle_timeout)
}

/// What the lineage of each of `instances` holds, by the instance's name.
pub(super) async fn read(
    config: &Config,
    instances: &[&InstanceConfig],
) -> Result<HashMap<String, Source>, Failure> {
    let mut reading = JoinSet::new();
    for instance in instances {
        let name = instance.name.clone();
        let mut tracked = tracked(config, instance);
        reading.spawn(async move { (name, tracked.settled().await) });
    }
    let mut sources = HashMap::new();
    while let Some(read) = reading.join_next().await {
        let (name, source) = read.map_err(|e| Failure::problem(&e))?;
        sources.insert(name, source.map_err(|e| Failure::problem(&e))?);
    }
    Ok(sources)
}
