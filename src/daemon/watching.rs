//! Which directories are watched, and whom an event in them concerns.
//!
//! Everything that touches a file system happens on the watcher's own thread, which may look
//! into every directory and open nothing; the loop is told when it is done. A directory that does
//! not answer is not watched, and keeps no other from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::error::DaemonError;
use super::nudge::Nudge;
use crate::config::InstanceConfig;
use crate::host::patience::Questions;
use crate::host::privilege::{PrivilegeError, Rights, Worker};
use crate::lineage::{Hint, WatchError, WatchedDirectory, Watcher};
use crate::report::{Latch, News, notices};

/// How long what does not answer is left alone before it is tried again.
const SILENCE: Duration = Duration::from_secs(10);

/// The watcher and what it watches for.
pub(super) struct Watching {
    worker: Arc<Worker>,
    armory: Arc<Armory>,
    tell: Arc<dyn Fn(Result<Armed, PrivilegeError>) + Send + Sync>,
    /// Where each instance's files really lie, as of the last arming.
    places: Vec<Places>,
    /// What could not be watched when it was last tried: said once.
    failing: BTreeMap<Option<PathBuf>, Latch<String>>,
    /// Whether an arming is under way, and whether another is wanted after it.
    under_way: bool,
    again: bool,
}

/// What an arming needs, on the watcher's thread.
struct Armory {
    watcher: Mutex<Watcher>,
    /// Where the files of an instance lie, by its place in the config.
    places: Questions<usize>,
    /// Whether a directory answers; notify's one thread would wait for it.
    directories: Questions<PathBuf>,
}

/// What an instance's server is known to have where, by its own configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Learned {
    /// The directories in which that configuration lies.
    pub(crate) configuration: BTreeSet<PathBuf>,
    /// Where it leaves its number, where the config does not tell.
    pub(crate) pid_file: Option<PathBuf>,
}

/// The paths that events on an instance's files bear.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pid_file: Option<PathBuf>,
    /// The data directory, or the file that a server of another kind is started with.
    home: Option<PathBuf>,
    targets: Vec<PathBuf>,
    /// Where the server's configuration lies, as far as that is known.
    configuration: BTreeSet<PathBuf>,
    /// What is watched for them; for what does not exist yet, the nearest directory above.
    directories: BTreeSet<PathBuf>,
}

/// What an arming came to.
pub(super) struct Armed {
    watched: WatchedDirectory,
    places: Vec<Places>,
    /// Something has not answered in time.
    silence: bool,
}

impl Watching {
    pub(crate) async fn start(
        hints: mpsc::UnboundedSender<Hint>,
        tell: impl Fn(Result<Armed, PrivilegeError>) + Send + Sync + 'static,
    ) -> Result<Watching, DaemonError> {
        let worker = Worker::start("watcher", || Rights::Watcher).await?;
        let watcher = worker
            .call(move || {
                // The receiver is gone only when the daemon ends.
                Watcher::start(move |hint| drop(hints.send(hint)))
            })
            .await??;
        Ok(Watching {
            worker: Arc::new(worker),
            armory: Arc::new(Armory {
                watcher: Mutex::new(watcher),
                places: Questions::default(),
                directories: Questions::default(),
            }),
            tell: Arc::new(tell),
            places: Vec::new(),
            failing: BTreeMap::new(),
            under_way: false,
            again: false,
        })
    }

    /// Watches the directories of the `trails`, and what the instances need, and tells what came of it.
    pub(crate) fn arm(
        &mut self,
        trails: BTreeSet<PathBuf>,
        instances: &[InstanceConfig],
        learned: &[Learned],
    ) {
        if self.under_way {
            self.again = true;
            return;
        }
        self.under_way = true;
        let learned = learned.iter().cloned();
        let instances: Vec<_> = instances.iter().cloned().zip(learned).collect();
        let armory = Arc::clone(&self.armory);
        let worker = Arc::clone(&self.worker);
        let tell = Arc::clone(&self.tell);
        tokio::spawn(async move {
            let armed = worker.call(move || armory.arm(trails, instances)).await;
            tell(armed);
        });
    }

    /// Takes in what an arming came to: the newly watched directories, the instances in them,
    /// and when to arm again: at once if more was wanted meanwhile, soon if something was silent.
    pub(crate) fn armed(
        &mut self,
        armed: Armed,
    ) -> (BTreeSet<PathBuf>, Vec<usize>, Option<Duration>) {
        self.under_way = false;
        let Armed {
            watched,
            places,
            silence,
        } = armed;
        // What happened to a pid file before it was known as one was no hint.
        let before = std::mem::replace(&mut self.places, places);
        let known = |index: usize| {
            before
                .get(index)
                .and_then(|places| places.pid_file.as_ref())
        };
        let failing: BTreeMap<Option<PathBuf>, String> = watched
            .errors
            .iter()
            // One that vanished meanwhile is awaited at its parent after the next reading.
            .filter(|error| !matches!(error, WatchError::Gone { .. }))
            .map(|error| (error.directory().map(Path::to_owned), error.to_string()))
            .collect();
        for directory in failing.keys() {
            self.failing.entry(directory.clone()).or_default();
        }
        self.failing.retain(|directory, latch| {
            match latch.set(failing.get(directory).cloned()) {
                None => {}
                Some(News::Trouble(error)) => notices::not_watched(directory.as_deref(), error),
                Some(News::Over(_)) => notices::watched_again(directory.as_deref()),
            }
            latch.get().is_some()
        });
        let inside = |places: &Places| !places.directories.is_disjoint(&watched.armed);
        let instances = self.places.iter().enumerate();
        let instances = instances
            .filter(|(n, p)| inside(p) || p.pid_file.as_ref() != known(*n))
            .map(|(n, _)| n);
        let again = if std::mem::take(&mut self.again) {
            Some(Duration::ZERO)
        } else {
            silence.then_some(SILENCE)
        };
        (watched.armed.clone(), instances.collect(), again)
    }

    /// The instances whose server or files an event on `path` is about.
    pub(crate) fn concerned(&self, path: &Path) -> Vec<(usize, Nudge)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(index, places)| {
                // Both are canonical, so that bytes tell.
                let same = |place: &Path| place.as_os_str() == path.as_os_str();
                let is = |place: &Option<PathBuf>| place.as_deref().is_some_and(same);
                if is(&places.pid_file) || is(&places.home) {
                    Some((index, Nudge::Compare))
                } else if places.targets.iter().any(|target| same(target)) {
                    Some((index, Nudge::Touched))
                } else {
                    places.configures(path).then_some((index, Nudge::Edited))
                }
            })
            .collect()
    }
}

impl Armory {
    fn arm(
        &self,
        mut wanted: BTreeSet<PathBuf>,
        instances: Vec<(InstanceConfig, Learned)>,
    ) -> Armed {
        let count = instances.len();
        let mut found = self.places.ask(0..count, move |index| {
            let (instance, learned) = &instances[*index];
            Places::for_instance(instance, learned)
        });
        let mut silence = found.len() < count;
        let places: Vec<Places> = (0..count)
            .map(|index| found.remove(&index).unwrap_or_default())
            .collect();
        wanted.extend(places.iter().flat_map(|p| p.directories.iter().cloned()));
        // Whatever it answers: notify says what is wrong with it.
        let answering = self.directories.ask(wanted.iter().cloned(), |directory| {
            drop(std::fs::symlink_metadata(directory));
        });
        let (answering, silent): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = wanted
            .into_iter()
            .partition(|directory| answering.contains_key(directory));
        let mut watched = self
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .watch(&answering);
        silence |= !silent.is_empty();
        let silent = silent.into_iter();
        watched
            .errors
            .extend(silent.map(|directory| WatchError::Silent { directory }));
        Armed {
            watched,
            places,
            silence,
        }
    }
}

impl Places {
    fn for_instance(instance: &InstanceConfig, learned: &Learned) -> Places {
        let data_directory = instance.data_directory();
        let pid_file = match data_directory {
            Some(data_directory) => Some(data_directory.join("postmaster.pid")),
            None => learned.pid_file.clone(),
        };
        let directories = [
            data_directory,
            instance.home().parent(),
            pid_file.as_deref().and_then(Path::parent),
        ];
        let of_targets = instance.targets().map(Path::parent);
        let configuration: BTreeSet<PathBuf> = learned
            .configuration
            .iter()
            .filter_map(|path| canonical_directory(path))
            .collect();
        Places {
            pid_file: pid_file.as_deref().and_then(canonical),
            home: canonical(instance.home()),
            targets: instance.targets().filter_map(canonical).collect(),
            directories: directories
                .into_iter()
                .chain(of_targets)
                .flatten()
                .filter_map(|d| d.ancestors().find_map(canonical_directory))
                .chain(configuration.iter().cloned())
                .collect(),
            configuration,
        }
    }
}

impl Places {
    /// Whether the server may read its configuration there; an editor's own files are not meant.
    fn configures(&self, path: &Path) -> bool {
        path.extension().is_some_and(|name| name == "conf")
            && path
                .parent()
                .is_some_and(|file| self.configuration.contains(file))
    }
}

fn canonical_directory(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok().filter(|p| p.is_dir())
}

/// The path that an event on `file` bears.
fn canonical(file: &Path) -> Option<PathBuf> {
    let directory = canonical_directory(file.parent()?)?;
    Some(directory.join(file.file_name()?))
}
