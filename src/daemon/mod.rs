//! The loop: hints, timers, signals, systemd.
//!
//! A task for each lineage follows it and publishes what it holds; a task for each instance
//! keeps it equal to that. The loop here carries hints to them, collects what they saw, and
//! answers signals. Nothing in it waits for a file, a process or a socket, so that one that
//! hangs delays no other.
//!
//! A new config starts new tasks with new threads; the process stays.

mod error;
mod handover;
mod instance;
mod lineage;
mod metrics;
mod news;
mod nudge;
mod servers;
mod status_file;
pub(crate) mod systemd;
mod trails;
mod turns;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::deploy::Keeper;
use crate::host::privilege::PrivilegeError;
use crate::lineage::{Hint, Tracked};
use crate::report::headline::headline;
use crate::report::metrics::Metrics;
use crate::report::notices;
use crate::report::view::{DaemonView, InstanceView, StatusView, VERSION};
use crate::server::Instance;
use crate::server::probe::Prober;
use crate::text;
use servers::Servers;

pub(crate) use error::DaemonError;
use handover::{Handover, reloaded_config};
use lineage::ToLineage;
use metrics::Outlets;
use news::DaemonNews;
use nudge::Nudge;
use status_file::{GATHER, Pace, StatusDocument, StatusFile};
use systemd::{Systemd, watchdog_pause};
use trails::Trails;
use turns::Turns;
use watching::{Learned, Watching};

/// How long the steps in hand may take after SIGTERM. Shorter than systemd's 90 s.
pub(crate) const FAREWELL: Duration = Duration::from_secs(40);

/// Start-up counts as done after this, whatever file system has not answered yet: Postgres is
/// ordered after it, and must not wait for it.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(2);

/// How long the last writing of `status.json` may take when the daemon ends.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// How many servers' configurations are asked at once while nothing seems amiss, after start-up: some nine programs each.
const ASKED_AT_ONCE: usize = 2;

/// How long the others wait for one of them that does not answer.
const ASKING: Duration = Duration::from_millis(500);

struct DaemonSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or a part of it ended unexpectedly.
pub(crate) async fn run(file: &Path) -> Result<(), DaemonError> {
    let mut next = Handover {
        config: Config::load(file)?,
        seen: Vec::new(),
    };
    let mut signals = DaemonSignals {
        terminate: signal(SignalKind::terminate()).map_err(DaemonError::Signals)?,
        interrupt: signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?,
        hangup: signal(SignalKind::hangup()).map_err(DaemonError::Signals)?,
    };
    let since = Timestamp::now();
    let systemd = Systemd::start().map_err(DaemonError::Thread)?;
    let outlets = Outlets::start(Metrics::new(since));
    let (status_file, writing) = StatusFile::start();
    notices::started(next.config.instances.len(), file);
    loop {
        let ways = (systemd.clone(), outlets.clone(), status_file.clone());
        let generation = Generation::start(next, since, ways).await?;
        match generation.serve(file, &mut signals).await? {
            Some(new) => {
                notices::config_taken(new.config.instances.len(), file);
                next = new;
            }
            None => {
                drop(status_file);
                let (_closed, written) = tokio::join!(
                    outlets.close(),
                    tokio::time::timeout(WRITTEN_WITHIN, writing)
                );
                if written.is_err() {
                    tracing::debug!("status.json was not written in time");
                }
                return Ok(());
            }
        }
    }
}

/// Everything that one config brought to life.
struct Generation {
    config: Config,
    watching: Watching,
    hints: mpsc::UnboundedReceiver<Hint>,
    news: mpsc::UnboundedReceiver<DaemonNews>,
    lineages: Vec<mpsc::UnboundedSender<ToLineage>>,
    nudges: Vec<mpsc::UnboundedSender<Nudge>>,
    trails: Trails,
    /// What each instance's server is known to have where.
    learned: Vec<Learned>,
    views: Vec<Option<InstanceView>>,
    /// Whose files were not looked at yet.
    unfiled: BTreeSet<usize>,
    /// Tells the instances that it is ready.
    go: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), PrivilegeError>>,
    tell: mpsc::UnboundedSender<DaemonNews>,
    watch_at: Option<Instant>,
    servers: Servers,
    status_file: StatusFile,
    pace: Pace,
    since: Timestamp,
    ready: bool,
    /// The turns of what nobody waits for, from when this is ready.
    leisure: Turns,
    prober: Prober,
    systemd: Systemd,
    outlets: Outlets,
    /// What systemd was last told of how it is.
    said: String,
}

impl Generation {
    async fn start(
        before: Handover,
        since: Timestamp,
        (systemd, outlets, status_file): (Systemd, Outlets, StatusFile),
    ) -> Result<Generation, DaemonError> {
        let prober = Prober::new()?;
        let (hinted, hints) = mpsc::unbounded_channel();
        let (tell, news) = mpsc::unbounded_channel();
        let armed = tell.clone();
        let watching = Watching::start(hinted, move |news| {
            drop(armed.send(DaemonNews::Armed(news)));
        });
        let watching = watching.await?;
        let (stop, stopped) = watch::channel(false);
        let (go, ready) = watch::channel(false);
        let turns = Turns::default();
        let leisure = Turns::closed(ASKING);
        let mut tasks = JoinSet::new();
        let mut lineages = Vec::new();
        let mut nudges = Vec::new();
        let mut published = BTreeMap::new();
        let instances = before.config.instances.iter();
        let views = instances.map(|instance| before.view(instance)).collect();
        let config = before.config;
        outlets.configured(&config);
        for instance in &config.instances {
            let spec = crate::lineage::Spec::from(instance);
            // Instances that share a lineage share its task.
            let key = (
                spec.candidates.clone(),
                instance.files.clone().map(|f| (f.chain, f.key)),
                spec.trust_files.clone(),
            );
            let name = spec.name.clone();
            let (source, stirred, to) = published
                .entry(key)
                .or_insert_with(|| {
                    let (inbox, sources) = lineage::LineageTask::channels();
                    let (stir, stirred) = watch::channel(());
                    let task = lineage::LineageTask {
                        index: lineages.len(),
                        tracked: Tracked::new(
                            spec,
                            config.watch.debounce,
                            config.watch.settle_timeout,
                        ),
                        inbox: inbox.1,
                        publish: sources.0,
                        stirred: stir,
                        news: tell.clone(),
                        unmatched: lineage::Unmatched::No,
                        questions: Vec::new(),
                        owed: false,
                        fresh: None,
                    };
                    lineages.push(inbox.0.clone());
                    tasks.spawn(task.run());
                    (sources.1, stirred, inbox.0)
                })
                .clone();
            let (nudge, nudged) = mpsc::unbounded_channel();
            nudges.push(nudge);
            tasks.spawn(
                instance::InstanceTask {
                    index: nudges.len() - 1,
                    keeper: Keeper::new(Instance::new(&config, instance, prober.clone())),
                    source,
                    stirred,
                    lineage: lineage::Asker { to, name },
                    nudged,
                    news: tell.clone(),
                    ready: ready.clone(),
                    stopped: stopped.clone(),
                    turns: turns.clone(),
                    leisure: leisure.clone(),
                    metrics: outlets.metrics().clone(),
                    settle: config.watch.settle_timeout,
                    debounce: config.watch.debounce,
                    longest_pause: config.watch.resync,
                }
                .run(),
            );
        }
        Ok(Generation {
            trails: Trails::of_unread(lineages.len()),
            learned: vec![Learned::default(); nudges.len()],
            views,
            unfiled: (0..nudges.len()).collect(),
            config,
            watching,
            hints,
            news,
            lineages,
            nudges,
            go,
            stop,
            tasks,
            tell,
            watch_at: None,
            servers: Servers::default(),
            status_file,
            pace: Pace::default(),
            since,
            ready: false,
            leisure,
            prober,
            systemd,
            outlets,
            said: String::new(),
        })
    }

    /// Serves until a signal; a new config where that is the reason.
    async fn serve(
        mut self,
        file: &Path,
        signals: &mut DaemonSignals,
    ) -> Result<Option<Handover>, DaemonError> {
        self.watch();
        let mut resync = interval(self.config.watch.resync);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resync.reset();
        let mut poll = interval(self.config.watch.poll.unwrap_or(self.config.watch.resync));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.reset();
        let mut watchdog = interval(watchdog_pause());
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let latest_ready = tokio::time::sleep(READY_WITHIN);
        tokio::pin!(latest_ready);
        if self.unfiled.is_empty() {
            self.become_ready();
        }
        loop {
            let write_due = async {
                match self.pace.due() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let watch_due = async {
                match self.watch_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signals.terminate.recv() => return self.stop(None).await,
                _ = signals.interrupt.recv() => return self.stop(None).await,
                _ = signals.hangup.recv() => {
                    if let Some(new) = reloaded_config(file) {
                        return self.stop(Some(new)).await;
                    }
                }
                Some(hint) = self.hints.recv() => self.hinted(hint),
                Some(news) = self.news.recv() => {
                    if self.told(news)? && self.ready {
                        self.pace.news(Instant::now());
                    }
                }
                Some(ended) = self.tasks.join_next() => return Err(DaemonError::unexpected(ended)),
                _ = resync.tick() => {
                    // What was mounted over or renamed from above raised no event.
                    self.watch();
                    self.outlets.went_round();
                    self.compare_all();
                    self.search();
                }
                _ = poll.tick(), if self.config.watch.poll.is_some() => self.compare_lineages(),
                _ = watchdog.tick() => self.systemd.alive(),
                () = &mut latest_ready, if !self.ready => {
                    self.tell_unfiled();
                    self.become_ready();
                }
                () = watch_due => self.watch(),
                () = write_due => self.write_status(None),
            }
        }
    }

    /// Says that it is ready once the files are; what serves is looked at after that, and what runs
    /// on this host besides.
    fn become_ready(&mut self) {
        self.ready = true;
        self.leisure.open(ASKED_AT_ONCE);
        self.said = self.headline();
        let (systemd, said, go) = (self.systemd.clone(), self.said.clone(), self.go.clone());
        self.write_status(Some(Box::new(move || {
            systemd.ready(said);
            go.send_replace(true);
        })));
        self.search();
    }

    /// Searches for servers that no instance covers.
    fn search(&mut self) {
        let ready = self.go.subscribe();
        self.servers.look(&self.config, ready, &self.tell);
    }

    /// Says whose files did not answer in time.
    fn tell_unfiled(&self) {
        for at in &self.unfiled {
            notices::files_unseen(&self.config.instances[*at], READY_WITHIN.as_secs());
        }
    }

    fn filed(&mut self, instance: usize) {
        self.unfiled.remove(&instance);
        if !self.ready && self.unfiled.is_empty() {
            self.become_ready();
        }
    }

    /// Passes a hint on to whom it may concern.
    fn hinted(&mut self, hint: Hint) {
        match hint {
            Hint::Change { path, change } => {
                for nudged in self.watching.concerned(&path) {
                    self.nudge(nudged.0, nudged.1);
                }
                for lineage in self.trails.concerned(&path) {
                    let event = ToLineage::Event {
                        path: path.clone(),
                        change,
                        at: Instant::now(),
                    };
                    drop(self.lineages[lineage].send(event));
                }
            }
            Hint::Rescan => {
                notices::events_overflowed();
                self.compare_all();
            }
            Hint::Disarmed { directory } => {
                self.read_again(&[directory].into());
                self.watch();
            }
            Hint::Failed { error } => {
                notices::events_failed(&error);
                self.compare_all();
            }
        }
    }

    /// Takes in what a task saw; whether the view changed.
    fn told(&mut self, news: DaemonNews) -> Result<bool, DaemonError> {
        Ok(match news {
            DaemonNews::Read { lineage, trail } => {
                if self.trails.take(lineage, trail) {
                    self.watch_soon();
                }
                false
            }
            DaemonNews::Armed(armed) => {
                self.armed(armed?);
                false
            }
            DaemonNews::Uncovered(search) => {
                let count = self.servers.heard(search);
                self.outlets.metrics().uncovered(count);
                true
            }
            DaemonNews::Configured {
                instance,
                directories,
            } => {
                self.learned[instance].configuration = directories;
                self.watch_soon();
                false
            }
            DaemonNews::Filed { instance } => {
                self.filed(instance);
                false
            }
            DaemonNews::PidFile { instance, file } => {
                self.learned[instance].pid_file = file;
                self.watch_soon();
                false
            }
            DaemonNews::Seen { instance, view } => {
                self.views[instance] = Some(*view);
                self.filed(instance);
                true
            }
        })
    }

    /// Has watched what matters once the burst is over that changed it: a renewal's own work
    /// comes first, and it moves links within directories that are watched already.
    fn watch_soon(&mut self) {
        self.watch_within(GATHER);
    }

    fn watch_within(&mut self, pause: Duration) {
        let at = Instant::now() + pause;
        self.watch_at = Some(self.watch_at.map_or(at, |due| due.min(at)));
    }

    /// Has watched what matters now.
    fn watch(&mut self) {
        self.watch_at = None;
        self.watching.arm(
            self.trails.directories(),
            &self.config.instances,
            &self.learned,
        );
    }

    /// Has the lineages read again whose files one of `directories` leads to.
    fn read_again(&self, directories: &BTreeSet<PathBuf>) {
        for lineage in self.trails.through(directories) {
            drop(self.lineages[lineage].send(ToLineage::Unknown));
        }
    }

    /// Has read again what was not watched before.
    fn armed(&mut self, armed: watching::Armed) {
        let (directories, instances, again) = self.watching.armed(armed);
        self.read_again(&directories);
        for index in instances {
            self.nudge(index, Nudge::Compare);
        }
        if let Some(pause) = again {
            self.watch_within(pause);
        }
    }

    fn nudge(&self, instance: usize, nudge: Nudge) {
        if let Some(to) = self.nudges.get(instance) {
            // A task that has ended is noticed by the loop.
            let _ended = to.send(nudge);
        }
    }

    fn compare_lineages(&self) {
        for lineage in &self.lineages {
            drop(lineage.send(ToLineage::Unknown));
        }
    }

    fn compare_all(&self) {
        self.compare_lineages();
        for index in 0..self.nudges.len() {
            self.nudge(index, Nudge::Compare);
        }
    }

    fn headline(&self) -> String {
        let count = self.servers.uncovered.len();
        headline(&self.views, count, Timestamp::now()) + self.servers.doubt()
    }

    /// Has the view written, and then does this.
    fn write_status(&mut self, then: Option<Box<dyn FnOnce() + Send>>) {
        let now = Instant::now();
        self.pace.written(now);
        if then.is_none() && !self.status_file.is_free() {
            self.pace.news(now);
            return;
        }
        let status = StatusView {
            version: VERSION,
            instances: self.views.iter().flatten().collect(),
            uncovered: self.servers.uncovered.clone(),
            uncovered_unknown: self.servers.unknown.get().cloned(),
            checked: Timestamp::now(),
            daemon: Some(DaemonView {
                version: env!("CARGO_PKG_VERSION").into(),
                pid: std::process::id(),
                since: self.since,
            }),
        };
        self.status_file.write(StatusDocument {
            directory: self.config.runtime_directory.clone(),
            text: text::json(&status, false),
            then,
        });
        self.outlets.changed();
        let line = self.headline();
        if line != self.said {
            self.said.clone_from(&line);
            self.systemd.status(line);
        }
    }

    fn handover(self, config: Config) -> Handover {
        let seen = self.config.instances.into_iter().zip(self.views);
        Handover {
            config,
            seen: seen.filter_map(|(of, view)| Some((of, view?))).collect(),
        }
    }

    /// Lets every task finish the step in hand.
    async fn stop(mut self, new: Option<Config>) -> Result<Option<Handover>, DaemonError> {
        if new.is_some() {
            self.systemd.reloading();
        } else {
            self.systemd.stopping();
        }
        self.stop.send_replace(true);
        // A lineage's task answers until no instance is left that could ask.
        self.lineages.clear();
        let deadline = tokio::time::sleep(FAREWELL);
        tokio::pin!(deadline);
        let mut watchdog = interval(watchdog_pause());
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(Ok(Ok(()))) => {}
                    Some(ended) => return Err(DaemonError::unexpected(ended)),
                    None => {
                        self.prober.drain().await;
                        return Ok(new.map(|new| self.handover(new)));
                    }
                },
                _ = watchdog.tick() => self.systemd.alive(),
                () = &mut deadline => {
                    notices::left_at_stop(self.tasks.len(), FAREWELL.as_secs());
                    return Ok(new.map(|new| self.handover(new)));
                }
            }
        }
    }
}
