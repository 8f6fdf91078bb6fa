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

/// What the lineage of each of `instances` holds, by the instance's name; one that several share is read once.
pub(super) async fn read(
    config: &Config,
    instances: &[&InstanceConfig],
) -> Result<HashMap<String, Source>, Failure> {
    let mut lineages: Vec<(Spec, Tracked, Vec<String>)> = Vec::new();
    for instance in instances {
        let spec = Spec::from(*instance);
        let name = instance.name.clone();
        match lineages.iter_mut().find(|(known, ..)| *known == spec) {
            Some((_, _, names)) => names.push(name),
            None => lineages.push((spec, tracked(config, instance), vec![name])),
        }
    }
    let mut reading = JoinSet::new();
    for (_, mut tracked, names) in lineages {
        reading.spawn(async move { (names, tracked.settled().await) });
    }
    let mut sources = HashMap::new();
    while let Some(read) = reading.join_next().await {
        let (names, source) = read.map_err(|e| Failure::problem(&e))?;
        let source = source.map_err(|e| Failure::problem(&e))?;
        sources.extend(names.into_iter().map(|name| (name, source.clone())));
    }
    Ok(sources)
}
