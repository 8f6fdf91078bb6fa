//! What the checks of the host need to know about the instances.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::config::{Config, InstanceConfig, Mode, ServerKind};
use crate::server::files::Installed;
use crate::server::probe::Prober;
use crate::server::{Instance, InstanceSnapshot, Server};

/// How long one instance may take; what isn't known in time is left out.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default)]
pub(super) struct HostFacts {
    /// The lineage, as the config names it.
    pub(super) lineage: String,
    /// What kind of server it is, and its data directory or configuration; none if others reload it.
    pub(super) server: Option<(ServerKind, PathBuf)>,
    /// What nobody but pgcertd should write: the targets, and the files that the server uses.
    pub(super) files: BTreeSet<PathBuf>,
    /// The data directory, or the server's configuration, and the state directory, likewise.
    pub(super) directories: BTreeSet<PathBuf>,
    /// When the installed certificate was issued.
    pub(super) issued: Option<Timestamp>,
}

/// Looks at every instance, at all of them at the same time.
pub(super) async fn facts(config: &Config, prober: &Prober) -> Vec<HostFacts> {
    let mut looking = JoinSet::new();
    for instance in &config.instances {
        let written = written(config, instance);
        let handle = Instance::new(config, instance, prober.clone());
        looking.spawn(async move {
            match tokio::time::timeout(PATIENCE, seen(handle, written.clone())).await {
                Ok(facts) => facts,
                Err(_) => written,
            }
        });
    }
    looking.join_all().await
}

/// What the config alone says.
fn written(config: &Config, instance: &InstanceConfig) -> HostFacts {
    let mut facts = HostFacts {
        lineage: instance.lineage.name.clone(),
        server: (instance.mode != Mode::Observe)
            .then(|| (instance.kind(), instance.home().to_owned())),
        ..HostFacts::default()
    };
    // Elsewhere others are to write the files.
    if instance.mode == Mode::Manage {
        facts.files = instance.targets().map(PathBuf::from).collect();
        facts.directories = [instance.home().to_owned(), config.state_of(instance)].into();
    }
    facts
}

async fn seen(mut instance: Instance, mut facts: HostFacts) -> HostFacts {
    let Ok(sight) = instance.look().await else {
        return facts;
    };
    if let Installed::Usable(bundle) = &sight.look.installed {
        facts.issued = Some(bundle.leaf().not_before());
    }
    if instance.config.mode == Mode::Manage {
        facts.files.extend(used(&mut instance, &sight).await);
    }
    facts
}

/// The files in the server's configuration, except those that a distribution shares.
async fn used(instance: &mut Instance, sight: &InstanceSnapshot) -> Vec<PathBuf> {
    let Server::Up(process) = &sight.server else {
        return Vec::new();
    };
    let settings = instance.tls_settings(process, sight).await;
    let Ok(settings) = settings else {
        return Vec::new();
    };
    let shared = |path: &PathBuf| path.to_string_lossy().contains("snakeoil");
    [settings.cert_file, settings.key_file]
        .into_iter()
        .filter(|path| !shared(path))
        .collect()
}
