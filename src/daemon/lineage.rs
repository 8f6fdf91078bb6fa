//! The task of one lineage: reads it when it is due, and publishes what it holds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::News;
use crate::privilege::PrivilegeError;
use crate::source::{Change, Source, Tracked};

/// How long files may stay unmatched before anyone is told. certbot's renewal passes through
/// such moments, and whoever worked on one of them would be late for its end.
const MOMENT: Duration = Duration::from_secs(1);

/// What the loop tells a lineage.
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

/// See the module.
pub(super) struct Task {
    pub index: usize,
    pub tracked: Tracked,
    pub inbox: mpsc::UnboundedReceiver<ToLineage>,
    pub publish: watch::Sender<Option<Source>>,
    pub news: mpsc::UnboundedSender<News>,
    pub stopped: watch::Receiver<bool>,
    pub unmatched: Unmatched,
}

impl Task {
    /// The ways in and out of a task.
    pub fn channels() -> (Inbox, Sources) {
        (mpsc::unbounded_channel(), watch::channel(None))
    }

    /// Runs until it is stopped.
    pub async fn run(mut self) -> Result<(), PrivilegeError> {
        loop {
            // All that is known is taken in before a reading is decided.
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
            match self.tracked.due() {
                Some(due) if due <= Instant::now() => self.read().await?,
                due => {
                    let tell = match self.unmatched {
                        Unmatched::Since(since) => Some(since + MOMENT),
                        Unmatched::No | Unmatched::Told => None,
                    };
                    let wake = async {
                        match due.into_iter().chain(tell).min() {
                            Some(at) => tokio::time::sleep_until(at.into()).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        _ = self.stopped.changed() => return Ok(()),
                        message = self.inbox.recv() => match message {
                            Some(message) => self.hear(message),
                            None => return Ok(()),
                        },
                        () = wake => self.publish(),
                    }
                }
            }
            if *self.stopped.borrow() {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, message: ToLineage) {
        match message {
            ToLineage::Event { path, change, at } => self.tracked.event(&path, change, at),
            ToLineage::Unknown => self.tracked.unknown(),
        }
    }

    async fn read(&mut self) -> Result<(), PrivilegeError> {
        self.tracked.read().await?;
        self.publish();
        let read = News::Read {
            lineage: self.index,
            trail: self.tracked.trail().clone(),
        };
        drop(self.news.send(read));
        Ok(())
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
        self.publish.send_if_modified(|published| {
            let same = published.as_ref().is_some_and(|old| old.same(new));
            if !same {
                *published = Some(new.clone());
            }
            !same
        });
    }
}
