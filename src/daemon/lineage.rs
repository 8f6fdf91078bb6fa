//! The task of one lineage: reads it when it is due, publishes what it holds, and answers the instances
//! that ask what that is now, once they have their lock.
//!
//! What is published is a reason to compare, and never what is deployed. A private key is kept for the moment in which
//! the deployments that follow a reading ask for it; later ones have it read again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::news::DaemonNews;
use crate::host::privilege::PrivilegeError;
use crate::lineage::tracked::PATIENCE_UNDER_LOCK;
use crate::lineage::{Change, LineageReader, Opened, Source, Tracked};
use crate::problem::Problem;

/// How long files may stay unmatched before anyone is told. certbot's renewal passes through
/// such moments, and whoever worked on one of them would be late for its end.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a key that was read is kept for the deployments that follow. Whoever comes later has it read again.
const FRESH: Duration = Duration::from_secs(1);

/// How long an instance waits for a lineage's answer. Its own file system is then the likely reason
/// that there is none.
const ANSWER: Duration = Duration::from_secs(10);

/// What a lineage is told.
#[derive(Debug)]
pub(super) enum ToLineage {
    /// Something happened to a path, be it one of the lineage's or not.
    Event {
        path: PathBuf,
        change: Change,
        at: Instant,
    },
    /// Something may have happened unseen.
    Unknown,
    /// An instance asks what it holds now.
    Asked(LineageQuestion),
}

#[derive(Debug)]
pub(super) struct LineageQuestion {
    wanted: WantedLineage,
    at: Instant,
    answer: oneshot::Sender<Opened>,
}

/// What an answer has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WantedLineage {
    Bundle,
    /// The key as well, if the last reading still has it.
    KeyAtHand,
    Key,
}

type Inbox = (
    mpsc::UnboundedSender<ToLineage>,
    mpsc::UnboundedReceiver<ToLineage>,
);
type Sources = (
    watch::Sender<Option<Source>>,
    watch::Receiver<Option<Source>>,
);

/// Whether the files fit, and who knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unmatched {
    /// They fit, or are past waiting for.
    No,
    /// They do not since then, which may pass.
    Since(Instant),
    /// They do not, and the instances were told.
    Told,
}

pub(super) struct LineageTask {
    pub(crate) index: usize,
    pub(crate) tracked: Tracked,
    pub(crate) inbox: mpsc::UnboundedReceiver<ToLineage>,
    pub(crate) publish: watch::Sender<Option<Source>>,
    /// Tells the instances that its files are changing, before they are read.
    pub(crate) stirred: watch::Sender<()>,
    pub(crate) news: mpsc::UnboundedSender<DaemonNews>,
    pub(crate) unmatched: Unmatched,
    /// Questions that wait for a reading that counts.
    pub(crate) questions: Vec<LineageQuestion>,
    /// Whether an instance went away without a true answer: it is told when there is one.
    pub(crate) owed: bool,
    /// The last reading with its key, for the deployments that follow it at once.
    pub(crate) fresh: Option<Fresh>,
}

/// A reading that still has its key.
pub(super) struct Fresh {
    opened: Opened,
    until: Instant,
}

impl LineageTask {
    /// The ways in and out of a task.
    pub(crate) fn channels() -> (Inbox, Sources) {
        (mpsc::unbounded_channel(), watch::channel(None))
    }

    /// Runs until nobody is left who could ask or tell it anything.
    pub(crate) async fn run(mut self) -> Result<(), PrivilegeError> {
        loop {
            // All that is known is taken in before a reading is decided.
            loop {
                match self.inbox.try_recv() {
                    Ok(message) => self.hear(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.fresh.take_if(|fresh| fresh.until <= Instant::now());
            let due = self.tracked.due();
            if due.is_some_and(|due| due <= Instant::now()) {
                self.read().await?;
                continue;
            }
            if !self.questions.is_empty() && self.tracked.is_settled() {
                self.answer().await?;
                continue;
            }
            self.put_off();
            let tell = match self.unmatched {
                Unmatched::Since(since) => Some(since + MOMENT),
                Unmatched::No | Unmatched::Told => None,
            };
            let patience = self.questions.iter().map(LineageQuestion::latest).min();
            let wake = async {
                let stale = self.fresh.as_ref().map(|fresh| fresh.until);
                let moments = [due, tell, patience, stale];
                match moments.into_iter().flatten().min() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return Ok(()),
                },
                () = wake => self.publish(),
            }
        }
    }

    fn hear(&mut self, message: ToLineage) {
        match message {
            ToLineage::Event { path, change, at } => {
                if self.tracked.trail().paths.contains(&path) {
                    self.stirred.send_replace(());
                }
                self.tracked.event(&path, change, at);
            }
            ToLineage::Unknown => self.tracked.unknown(),
            ToLineage::Asked(question) => self.questions.push(question),
        }
    }

    async fn read(&mut self) -> Result<(), PrivilegeError> {
        // A file system that does not answer must not keep the key in memory.
        self.fresh = None;
        let opened = self.tracked.read().await?;
        if let Some(opened) = opened {
            for question in std::mem::take(&mut self.questions) {
                self.tell(question, &opened);
            }
            self.fresh = opened.keyed.is_some().then(|| Fresh {
                opened,
                until: Instant::now() + FRESH,
            });
        }
        self.publish();
        let read = DaemonNews::Read {
            lineage: self.index,
            trail: self.tracked.trail().clone(),
        };
        drop(self.news.send(read));
        Ok(())
    }

    /// Answers what can be answered by what is known, if the files still look like that; reads them
    /// for the rest.
    async fn answer(&mut self) -> Result<(), PrivilegeError> {
        let needs_key = |question: &LineageQuestion| question.wanted == WantedLineage::Key;
        if self.questions.iter().any(needs_key) && self.fresh.is_none() {
            return self.read().await;
        }
        let Some(known) = self.tracked.unchanged().await?.cloned() else {
            return self.read().await;
        };
        let known = Opened {
            keyed: self
                .fresh
                .as_ref()
                .and_then(|fresh| fresh.opened.keyed.clone()),
            source: known,
            trail: self.tracked.trail().clone(),
        };
        for question in std::mem::take(&mut self.questions) {
            self.tell(question, &known);
        }
        Ok(())
    }

    fn tell(&mut self, question: LineageQuestion, opened: &Opened) {
        let keyed = opened.keyed.clone();
        let answer = Opened {
            source: opened.source.clone(),
            keyed: keyed.filter(|_| question.wanted != WantedLineage::Bundle),
            trail: opened.trail.clone(),
        };
        // Whoever has stopped waiting has gone by what was not known.
        self.owed |= question.answer.send(answer).is_err();
    }

    /// Answers questions while files are being written: at once where nothing was known to be
    /// deployable before, else when they have waited for long enough, since they hold a lock.
    fn put_off(&mut self) {
        let now = Instant::now();
        let known = self.tracked.source();
        let known = known.filter(|source| source.bundle().is_none()).cloned();
        let is_due = |question: &mut LineageQuestion| known.is_some() || question.latest() <= now;
        let due: Vec<LineageQuestion> = self.questions.extract_if(.., is_due).collect();
        let answer = match known {
            Some(source) => Opened::from(source),
            None => self.tracked.restless(),
        };
        for question in due {
            self.tell(question, &answer);
            self.owed = true;
        }
    }

    /// Tells the instances what the lineage holds, if that is new and no passing moment.
    fn publish(&mut self) {
        let Some(new) = self.tracked.source() else {
            return;
        };
        self.unmatched = match (new, self.unmatched) {
            (Source::Waiting { .. }, Unmatched::No) => Unmatched::Since(Instant::now()),
            (Source::Waiting { .. }, Unmatched::Since(since)) if since.elapsed() >= MOMENT => {
                Unmatched::Told
            }
            (Source::Waiting { .. }, before) => before,
            _ => Unmatched::No,
        };
        if matches!(self.unmatched, Unmatched::Since(_)) {
            return;
        }
        let owed = self.tracked.is_settled() && std::mem::take(&mut self.owed);
        self.publish.send_if_modified(|published| {
            let same = published.as_ref().is_some_and(|old| old.same(new));
            if !same {
                *published = Some(new.clone());
            }
            !same || owed
        });
    }
}

impl LineageQuestion {
    /// When it has waited for long enough.
    fn latest(&self) -> Instant {
        self.at + PATIENCE_UNDER_LOCK
    }
}

/// Asks the task of a lineage.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(crate) to: mpsc::UnboundedSender<ToLineage>,
    pub(crate) name: String,
}

impl Asker {
    async fn ask(&mut self, wanted: WantedLineage) -> Opened {
        let (answer, answered) = oneshot::channel();
        let at = Instant::now();
        let question = LineageQuestion { wanted, at, answer };
        if self.to.send(ToLineage::Asked(question)).is_ok()
            && let Ok(Ok(opened)) = tokio::time::timeout(ANSWER, answered).await
        {
            return opened;
        }
        Opened::from(Source::Invalid {
            problem: Problem::new(
                format!(
                    "lineage {}: reading it took longer than {} s",
                    self.name,
                    ANSWER.as_secs()
                ),
                "check that its file system responds (findmnt, dmesg)",
            ),
            denied: false,
        })
    }
}

impl LineageReader for Asker {
    async fn current(&mut self) -> Source {
        self.ask(WantedLineage::Bundle).await.source
    }

    async fn at_hand(&mut self) -> Opened {
        self.ask(WantedLineage::KeyAtHand).await
    }

    async fn opened(&mut self) -> Opened {
        self.ask(WantedLineage::Key).await
    }
}
