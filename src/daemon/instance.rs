//! The task of one instance: keeps it equal to what its lineage holds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::lineage::Asker;
use super::news::DaemonNews;
use super::nudge::Nudge;
use super::turns::Turns;
use crate::config::{Mode, ServerKind};
use crate::deploy::plan::Intent;
use crate::deploy::state::{Observation, State};
use crate::deploy::{Asking, Keeper, Reconciled, SyncOutcome};
use crate::host::privilege::PrivilegeError;
use crate::lineage::{LineageReader, Opened, Source};
use crate::problem::Problem;
use crate::report::Announcer;
use crate::report::metrics::{Compared, Metrics};
use crate::report::nearing::Warned;
use crate::report::view::InstanceView;
use crate::server::files::Seal;
use crate::server::postmaster::Absence;
use crate::server::process::Process;
use crate::server::{InstanceSnapshot, Server};

/// The first pause after an attempt that did not succeed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// How often a server of another kind than Postgres is looked for. One that starts leaves its
/// number before it handles signals, by which it is known, and Patroni leaves none.
const SEARCH: Duration = Duration::from_secs(5);

/// How long an instance keeps its threads once it has nothing to do. They cost more memory than all else that is kept.
const REST: Duration = Duration::from_secs(5);

/// How long a lineage may take to be read for the first time before that is a problem.
const FIRST_READING: Duration = Duration::from_secs(10);

/// The pauses between attempts that do not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pauses {
    next: Duration,
    longest: Duration,
    /// Whether something has told that the server may have started or stopped.
    hinted: bool,
}

impl Pauses {
    fn up_to(longest: Duration) -> Pauses {
        Pauses {
            next: FIRST_PAUSE,
            longest,
            hinted: false,
        }
    }

    /// The one after another attempt that did not succeed.
    fn grown(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Begins with the shortest again.
    fn begin_anew(&mut self) {
        self.next = FIRST_PAUSE;
    }
}

pub(super) struct InstanceTask {
    pub(crate) index: usize,
    pub(crate) keeper: Keeper,
    /// What the lineage was last seen to hold: a reason to compare.
    pub(crate) source: watch::Receiver<Option<Source>>,
    /// Changes when the lineage's files do, before they are read.
    pub(crate) stirred: watch::Receiver<()>,
    /// Says what it holds once that is to be acted on.
    pub(crate) lineage: Asker,
    pub(crate) nudged: mpsc::UnboundedReceiver<Nudge>,
    pub(crate) news: mpsc::UnboundedSender<DaemonNews>,
    /// Whether the daemon has said that it is ready.
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) turns: Turns,
    /// The turns of what nobody waits for.
    pub(crate) leisure: Turns,
    pub(crate) metrics: Metrics,
    pub(crate) settle: Duration,
    pub(crate) debounce: Duration,
    pub(crate) longest_pause: Duration,
}

impl InstanceTask {
    /// Runs until it is stopped.
    pub(crate) async fn run(mut self) -> Result<(), PrivilegeError> {
        if self.serves_already().await && self.stopped_before_ready().await {
            return Ok(());
        }
        let mut told = Announcer::default();
        let mut warned = Warned::default();
        let mut pid_file = None;
        let mut pauses = Pauses::up_to(self.longest_pause);
        let mut configured = BTreeSet::new();
        let mut end = None;
        let mut seal = None;
        let mut next = Some(Instant::now() + FIRST_READING);
        let began = Instant::now();
        loop {
            let is_read = self.source.borrow_and_update().is_some();
            if is_read || began.elapsed() >= FIRST_READING {
                let reconciled = Box::pin(self.compared(is_read)).await;
                let state = self.say(&reconciled, &mut told, &mut warned);
                let Reconciled { done, seen } = &reconciled;
                // Nothing tells when a configuration that was corrected is loaded.
                let unfinished = state == State::NotUsed
                    || matches!(done.outcome, SyncOutcome::Failed | SyncOutcome::Unverified);
                let retry = if unfinished {
                    Some(Instant::now() + pauses.grown())
                } else {
                    pauses.begin_anew();
                    (self.keeper.asking == Asking::Owed).then(Instant::now)
                };
                let hinted = std::mem::take(&mut pauses.hinted);
                let process = process(seen);
                let is_going =
                    process.is_some_and(|process| !process.alive() || hinted && is_other(process));
                // One that is killed leaves its pid file, and Patroni has none.
                end = process
                    .filter(|process| process.alive())
                    .map(|found| Box::pin(found.end()));
                // Files that changed after the decision were seen but not acted on, so the seal only counts if all is well.
                let in_sync = seen.sight.as_ref().ok().filter(|_| state == State::InSync);
                seal = in_sync.map(|sight| sight.look.seal);
                let again = is_sought(seen) || is_going;
                let search = again.then(|| Instant::now() + SEARCH);
                next = earliest(earliest(retry, search), seen.again_at().map(instant));
            }
            self.tell_configuration(&mut configured);
            self.tell_pid_file(&mut pid_file);
            if self.wait(next, &mut end, &mut pauses, seal).await {
                return Ok(());
            }
        }
    }

    /// Looks at files and process alone, and tells if the server runs: it is not waiting for its files. What is amiss is
    /// repaired, and what it serves is looked at, once the daemon is ready, which others wait for.
    async fn serves_already(&mut self) -> bool {
        let looking = Box::pin(self.keeper.instance.look());
        let looked = self.turns.take(looking).await;
        let serves = looked.is_ok_and(|seen| seen.server.process().is_some_and(Process::is_whole));
        if serves {
            let instance = self.index;
            drop(self.news.send(DaemonNews::Filed { instance }));
        }
        serves
    }

    /// Waits until the daemon is ready; whether it stops instead.
    async fn stopped_before_ready(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => return true,
            ready = self.ready.wait_for(|ready| *ready) => if ready.is_err() {
                return true;
            },
        }
        // The comparison that follows sees whatever was hinted at.
        while self.nudged.try_recv().is_ok() {}
        false
    }

    /// Has watched where the server's configuration lies, once that is known.
    fn tell_configuration(&self, before: &mut BTreeSet<PathBuf>) {
        let now = self.keeper.configuration_directories();
        if now.is_empty() || now == *before {
            return;
        }
        before.clone_from(&now);
        let configured = DaemonNews::Configured {
            instance: self.index,
            directories: now,
        };
        drop(self.news.send(configured));
    }

    /// Compares. Where that leaves a question to the server's configuration for later, and began nothing, compares again once
    /// that is answered: what is told of an instance that needs no work is told with the answer.
    async fn compared(&mut self, is_read: bool) -> Reconciled {
        self.keeper.asking = Asking::Later;
        let reconciled = self.compare(is_read).await;
        if self.keeper.asking != Asking::Owed || reconciled.done.acted {
            return reconciled;
        }
        let (mut stopped, mut source) = (self.stopped.clone(), self.source.clone());
        tokio::select! {
            biased;
            // Neither a renewal nor the end waits for that.
            _ = stopped.wait_for(|stopped| *stopped) => return reconciled,
            _ = source.changed() => return reconciled,
            () = self.leisure.take(Box::pin(self.keeper.ask(&reconciled.seen))) => {}
        }
        self.keeper.asking = Asking::AtOnce;
        self.compare(is_read).await
    }

    /// Compares with what the lineage holds, which may never have been read.
    async fn compare(&mut self, is_read: bool) -> Reconciled {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("compare");
        let intent = Intent {
            follow_up: true,
            ..Intent::default()
        };
        let filed = DaemonNews::Filed {
            instance: self.index,
        };
        let looked = |sight: &InstanceSnapshot| {
            // A server that runs is not waiting for its files: what is amiss is repaired, and what
            // it serves is looked at, after the start.
            if matches!(sight.server, Server::Up(_)) {
                drop(self.news.send(filed));
            }
        };
        let (keeper, settle) = (&mut self.keeper, self.settle);
        // On the heap: a task that waits, as it nearly always does, is as large as the largest of what it does.
        if is_read {
            let work = keeper.reconcile_telling(&mut self.lineage, intent, settle, looked);
            return self.turns.take(Box::pin(work)).await;
        }
        let mut never_read = NeverRead;
        let work = keeper.reconcile_telling(&mut never_read, intent, settle, looked);
        self.turns.take(Box::pin(work)).await
    }

    /// Waits for a reason to compare, among them the `end` of the server; true once the daemon
    /// stops. After an edit of the server's configuration the next of `pauses` is short again. A touched file is none where
    /// the targets still have the `seal` with which the last comparison found all well.
    async fn wait(
        &mut self,
        mut next: Option<Instant>,
        end: &mut Option<impl Future<Output = ()> + Unpin>,
        pauses: &mut Pauses,
        seal: Option<Seal>,
    ) -> bool {
        let mut touched = None;
        let mut rest = Some(Instant::now() + REST);
        loop {
            let resting = async {
                match rest {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let quiet = async {
                match touched {
                    Some(at) => tokio::time::sleep_until(Instant::into(at)).await,
                    None => std::future::pending().await,
                }
            };
            let wake = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let ended = async {
                match end {
                    Some(end) => end.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = self.stopped.changed() => return true,
                changed = self.source.changed() => return changed.is_err(),
                Ok(()) = self.stirred.changed() => {
                    if self.keeper.instance.config.mode != Mode::Observe {
                        self.turns.take(Box::pin(self.keeper.instance.prepare())).await;
                        rest = Some(Instant::now() + REST);
                    }
                }
                nudge = self.nudged.recv() => match nudge {
                    None => return true,
                    Some(Nudge::Compare) => {
                        pauses.hinted = true;
                        break;
                    }
                    // Whoever writes there may not be done; a renewal does not wait for that.
                    Some(Nudge::Touched) => {
                        touched = earliest(touched, Some(Instant::now() + self.debounce));
                    }
                    Some(Nudge::Edited) => {
                        pauses.begin_anew();
                        next = earliest(next, Some(Instant::now() + self.debounce));
                    }
                },
                () = resting => {
                    rest = None;
                    self.keeper.instance.rest();
                }
                () = quiet => {
                    touched = None;
                    rest = Some(Instant::now() + REST);
                    let now = self.keeper.instance.on_files(|targets| targets.seal());
                    if seal.is_none() || Box::pin(now).await.ok() != seal {
                        break;
                    }
                }
                () = wake => break,
                () = ended => {
                    pauses.hinted = true;
                    break;
                }
            }
        }
        // Whatever else was hinted at meanwhile is seen by the same comparison.
        while self.nudged.try_recv().is_ok() {}
        *self.stopped.borrow()
    }

    /// Has the place watched where the server leaves its number, once that is another one.
    fn tell_pid_file(&self, known: &mut Option<PathBuf>) {
        let file = self.keeper.instance.pid_file();
        if file != known.as_deref() {
            *known = file.map(Path::to_owned);
            drop(self.news.send(DaemonNews::PidFile {
                instance: self.index,
                file: known.clone(),
            }));
        }
    }

    fn say(&self, reconciled: &Reconciled, told: &mut Announcer, warned: &mut Warned) -> State {
        let Reconciled { done, seen } = reconciled;
        let config = &self.keeper.instance.config;
        let view = InstanceView::from_config(config, seen);
        let now = Instant::now();
        let mut events = told.events_for(config, reconciled, &view, now);
        events.extend(warned.hear(config, &view, Timestamp::now(), now));
        for event in events {
            event.emit();
        }
        let compared = Compared {
            view: &view,
            loads: seen.can_start(config),
            deployment: done.acted.then_some((done.outcome, done.took)),
        };
        self.metrics.compared(&compared, seen.at);
        let state = view.state;
        let news = DaemonNews::Seen {
            instance: self.index,
            view: Box::new(view),
        };
        drop(self.news.send(news));
        state
    }
}

/// A lineage that has not answered since pgcertd started; it is not waited for again.
struct NeverRead;

impl LineageReader for NeverRead {
    async fn current(&mut self) -> Source {
        Source::Invalid {
            problem: Problem::new(
                "the lineage has not been read since pgcertd started",
                "check that its file system responds (findmnt, dmesg)",
            ),
            denied: false,
        }
    }

    async fn opened(&mut self) -> Opened {
        self.current().await.into()
    }
}

/// The server, where it runs.
fn process(seen: &Observation) -> Option<&Process> {
    seen.sight.as_ref().ok()?.server.process()
}

/// Whether its pid file comes late or never, and goes before it does.
fn is_other(process: &Process) -> bool {
    process.kind() != ServerKind::Postgres
}

/// Whether no process was found that is the server, and nothing will tell of its start, or that a look succeeds again.
fn is_sought(seen: &Observation) -> bool {
    seen.sight.as_ref().is_ok_and(|sight| match sight.server {
        Server::Down(
            Absence::NotFound { .. } | Absence::Unsupported { .. } | Absence::NotKnown(_),
        ) => true,
        Server::Down(_) | Server::Up(_) => false,
    })
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A moment of the wall clock as one of this process. The resync compares again in any case,
/// should the clock be set meanwhile.
fn instant(wall: Timestamp) -> Instant {
    let left = wall.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_is_small() {
        let size = size_of_future(InstanceTask::run);
        assert!(size <= 8 << 10, "{size} bytes an instance");
    }

    /// How large what an async function returns is, without a call.
    fn size_of_future<A, F>(_function: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::up_to(Duration::from_secs(10));
        let seconds: Vec<u64> = (0..5).map(|_| pauses.grown().as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 10, 10]);
        pauses.begin_anew();
        assert_eq!(pauses.grown(), FIRST_PAUSE);
    }
}
