//! Which directories are watched, and whom an event in them concerns.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::DaemonError;
use super::instance::Nudge;
use crate::config::{Config, Instance};
use crate::privilege::{Rights, Worker};
use crate::source::{Hint, Trail, WatchError, Watcher};

/// The watcher, on a thread of its own that may look into every directory and open nothing.
pub(super) struct Watching {
    worker: Worker,
    watcher: Arc<Mutex<Watcher>>,
    /// What could not be watched when it was last tried: said once.
    failing: BTreeSet<String>,
}

impl Watching {
    pub async fn start(hints: mpsc::UnboundedSender<Hint>) -> Result<Watching, DaemonError> {
        let worker = Worker::start("watcher", || Rights::Watcher).await?;
        let watcher = worker
            .call(move || {
                // The receiver is gone only when the daemon ends.
                Watcher::start(move |hint| drop(hints.send(hint)))
            })
            .await??;
        Ok(Watching {
            worker,
            watcher: Arc::new(Mutex::new(watcher)),
            failing: BTreeSet::new(),
        })
    }

    /// Watches what the trails and the instances need; what is newly watched is returned.
    pub async fn arm(&mut self, trails: &[Trail], config: &Config) -> BTreeSet<PathBuf> {
        let mut wanted: BTreeSet<PathBuf> = trails
            .iter()
            .flat_map(|trail| trail.directories.iter().cloned())
            .collect();
        wanted.extend(config.instances.iter().flat_map(directories));
        let watcher = Arc::clone(&self.watcher);
        let armed = self
            .worker
            .call(move || {
                watcher
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .watch(&wanted)
            })
            .await;
        let watched = match armed {
            Ok(watched) => watched,
            Err(error) => {
                tracing::error!("{error}");
                return BTreeSet::new();
            }
        };
        let failing: BTreeSet<String> = watched
            .errors
            .iter()
            // One that vanished meanwhile is awaited at its parent after the next reading.
            .filter(|error| !matches!(error, WatchError::Gone { .. }))
            .map(ToString::to_string)
            .collect();
        for error in failing.difference(&self.failing) {
            tracing::warn!("{error}; the comparison at every resync still finds what changes");
        }
        self.failing = failing;
        watched.armed
    }

    /// The instances whose server or files an event on `path` is about.
    pub fn concerned(&self, path: &Path, config: &Config) -> Vec<(usize, Nudge)> {
        let mut all = Vec::new();
        for (index, instance) in config.instances.iter().enumerate() {
            let is = |file: &Path| canonical(file).as_deref() == Some(path);
            if is(&instance.data_directory.join("postmaster.pid"))
                || canonical_directory(&instance.data_directory).as_deref() == Some(path)
            {
                all.push((index, Nudge::Compare));
            } else if is(&instance.cert_file) || is(&instance.key_file) {
                all.push((index, Nudge::Touched));
            }
        }
        all
    }

    /// The instances that lie in newly watched directories.
    pub fn instances_in(&self, armed: &BTreeSet<PathBuf>, config: &Config) -> Vec<usize> {
        if armed.is_empty() {
            return Vec::new();
        }
        let inside = |instance: &Instance| directories(instance).iter().any(|d| armed.contains(d));
        let all = config.instances.iter().enumerate();
        all.filter(|(_, i)| inside(i)).map(|(n, _)| n).collect()
    }
}

/// The directories of an instance's pid file and targets, or, for one that does not exist yet,
/// the nearest one above it.
fn directories(instance: &Instance) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let wanted = [
        Some(instance.data_directory.as_path()),
        instance.data_directory.parent(),
        instance.cert_file.parent(),
        instance.key_file.parent(),
    ];
    for directory in wanted.into_iter().flatten() {
        all.extend(directory.ancestors().find_map(canonical_directory));
    }
    all
}

fn canonical_directory(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok().filter(|p| p.is_dir())
}

/// The path that an event on `file` bears.
fn canonical(file: &Path) -> Option<PathBuf> {
    let directory = canonical_directory(file.parent()?)?;
    Some(directory.join(file.file_name()?))
}
