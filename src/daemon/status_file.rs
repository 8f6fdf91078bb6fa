//! `status.json`: when it is written, and the task that writes it.
//!
//! It holds what was seen of every instance, so writing it for each change would make a burst of many instances
//! quadratic. The first news is written after [`GATHER`]; while more keeps coming, each pause is twice as long as the one
//! before, up to [`LONGEST`], which is the most that a reader is behind. The last news is always written.
//!
//! The task does the writing on another thread, since that waits for a disk. It outlives a config, so that two writings
//! never meet.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::host::privilege::apart;
use crate::report::view::publish;
use crate::report::{Latch, notices};

/// The pause that gathers what comes in a burst: news into one writing of `status.json`, changes
/// of what is to be watched into one arming.
pub(super) const GATHER: Duration = Duration::from_millis(50);

/// The longest such pause while news keeps coming.
const LONGEST: Duration = Duration::from_secs(1);

/// How long a disk may take before whoever waits for the first writing goes on without.
const FIRST_WITHIN: Duration = Duration::from_secs(2);

/// Decides when to write.
#[derive(Debug)]
pub(super) struct Pace {
    due: Option<Instant>,
    pause: Duration,
    last: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            due: None,
            pause: GATHER,
            last: None,
        }
    }
}

impl Pace {
    /// When to write next, if there is news.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// There is something new to write.
    pub(super) fn news(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        let flows = self.last.is_some_and(|last| now < last + 2 * self.pause);
        self.pause = if flows {
            (2 * self.pause).min(LONGEST)
        } else {
            GATHER
        };
        self.due = Some(now + self.pause);
    }

    /// All that is new is being written.
    pub(super) fn written(&mut self, now: Instant) {
        self.due = None;
        self.last = Some(now);
    }
}

/// What is to be written, and what to do once it is.
pub(super) struct StatusDocument {
    pub(super) directory: PathBuf,
    pub(super) text: serde_json::Result<String>,
    pub(super) then: Option<Box<dyn FnOnce() + Send>>,
}

/// The way to the task that writes.
#[derive(Clone)]
pub(super) struct StatusFile {
    documents: mpsc::Sender<StatusDocument>,
}

impl StatusFile {
    /// Starts the task. It ends, with the last writing, when no way to it is left.
    pub(super) fn start() -> (StatusFile, JoinHandle<()>) {
        // One waits while another is written.
        let (documents, inbox) = mpsc::channel(1);
        (StatusFile { documents }, tokio::spawn(run(inbox)))
    }

    /// Whether the disk keeps up: if not, what is new has to wait.
    pub(super) fn is_free(&self) -> bool {
        self.documents.capacity() > 0
    }

    /// Has it written. If the disk does not keep up, it is dropped, and what was to follow is done at once.
    pub(super) fn write(&self, document: StatusDocument) {
        if let Err(refused) = self.documents.try_send(document)
            && let Some(then) = refused.into_inner().then
        {
            then();
        }
    }
}

async fn run(mut inbox: mpsc::Receiver<StatusDocument>) {
    let mut told = Latch::default();
    while let Some(document) = inbox.recv().await {
        let StatusDocument {
            directory,
            text,
            then,
        } = document;
        let at = directory.clone();
        let mut writing = Box::pin(apart(move || publish(&text?, &at)));
        let first = match then {
            Some(then) => {
                let first = tokio::time::timeout(FIRST_WITHIN, &mut writing).await;
                then();
                first.ok()
            }
            None => None,
        };
        let written = match first {
            Some(written) => written,
            None => writing.await,
        };
        let written = written.unwrap_or_else(|gone| Err(std::io::Error::other(gone)));
        notices::status_file(&mut told, &directory, written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is written while news comes each `step` for `long`, and the longest that one waited.
    fn writings(step: Duration, long: Duration) -> (usize, Duration) {
        let start = Instant::now();
        let mut pace = Pace::default();
        let (mut count, mut longest, mut oldest) = (0, Duration::ZERO, None);
        for millisecond in 0..20_000 {
            let now = start + Duration::from_millis(millisecond);
            if pace.due().is_some_and(|due| due <= now) {
                pace.written(now);
                count += 1;
                longest = longest.max(now - oldest.take().expect("news"));
            }
            let since = now - start;
            if since < long && since.as_millis().is_multiple_of(step.as_millis()) {
                pace.news(now);
                oldest.get_or_insert(now);
            }
        }
        assert_eq!(oldest, None, "the last news was not written");
        (count, longest)
    }

    #[test]
    fn a_burst_is_written_a_few_times_and_nobody_is_far_behind() {
        let seconds = Duration::from_secs;
        let (count, longest) = writings(Duration::from_millis(20), seconds(2));
        assert!((4..=7).contains(&count), "{count}");
        assert!(longest <= LONGEST, "{longest:?}");
        let (count, longest) = writings(Duration::from_millis(1), seconds(10));
        assert!(count <= 15, "{count}");
        assert!(longest <= LONGEST, "{longest:?}");
    }

    #[test]
    fn news_that_comes_alone_is_written_soon() {
        let (count, longest) = writings(Duration::from_secs(3), Duration::from_secs(10));
        assert_eq!((count, longest), (4, GATHER));
        let (count, longest) = writings(Duration::from_millis(300), Duration::from_secs(3));
        assert_eq!((count, longest), (10, GATHER));
    }
}
