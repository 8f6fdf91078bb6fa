//! Follows the daemon's view: the file in the runtime directory, by inotify and by polling, and the process that wrote it.
//!
//! An event is only a hint to look. A lost event, a directory that systemd has recreated, or a daemon that was killed and
//! couldn't write anything is found at the next look.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::ledger::NoticeMoment;
use super::scene::{DaemonIs, MISSED, NoticeScene};
use crate::config::Config;
use crate::report::view::{FILE, StatusView};

/// How often the file and the process are checked without an event.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Follower {
    directory: PathBuf,
    resync: Duration,
    hints: mpsc::Receiver<()>,
    hint: mpsc::Sender<()>,
    watched: Option<WatchedFile>,
    last: Option<Last>,
}

struct WatchedFile {
    /// Kept alive: dropping it ends the events.
    _watcher: RecommendedWatcher,
    device_and_inode: (u64, u64),
}

struct Last {
    view: StatusView,
    /// When it was written, by the monotonic clock.
    written: Instant,
}

impl Follower {
    /// Follows the daemon of this config.
    pub(crate) fn from_config(config: &Config) -> Follower {
        // One hint is as good as many.
        let (hint, hints) = mpsc::channel(1);
        Follower {
            directory: config.runtime_directory.clone(),
            resync: config.watch.resync,
            hints,
            hint,
            watched: None,
            last: None,
        }
    }

    /// Waits until there may be something new; forever if there are no events.
    pub(crate) async fn hinted(&mut self) {
        // `self` has a sender too, so the channel never closes.
        self.hints.recv().await;
    }

    pub(crate) fn look(&mut self, now: NoticeMoment) -> NoticeScene {
        self.watch();
        let file = self.directory.join(FILE);
        let daemon = match StatusView::read(&self.directory) {
            Ok(Some(view)) => self.seen(view, now),
            Ok(None) => DaemonIs::Stopped(format!("{} does not exist", file.display())),
            Err(error) => DaemonIs::Unreadable(error.to_string()),
        };
        NoticeScene {
            view: self.last.as_ref().map(|last| last.view.clone()),
            daemon,
            file,
            resync: self.resync,
        }
    }

    fn seen(&mut self, view: StatusView, now: NoticeMoment) -> DaemonIs {
        let known = self.last.as_ref().map(|last| last.view.checked);
        let written = match &self.last {
            Some(last) if known == Some(view.checked) => last.written,
            _ => now.at.checked_sub(age(&view, now.wall)).unwrap_or(now.at),
        };
        let is = if !view.daemon_lives() {
            let pid = view.daemon.as_ref().map(|daemon| daemon.pid);
            let pid = pid.map_or_else(String::new, |pid| format!(" {pid}"));
            DaemonIs::Stopped(format!("its process{pid} is gone"))
        } else if now.at.duration_since(written) > self.resync.saturating_mul(MISSED) {
            DaemonIs::Stale
        } else {
            DaemonIs::Running
        };
        self.last = Some(Last { view, written });
        is
    }

    /// Watches the directory that exists now.
    fn watch(&mut self) {
        let place = fs::metadata(&self.directory).map(|metadata| (metadata.dev(), metadata.ino()));
        let Ok(place) = place else {
            self.watched = None;
            return;
        };
        if let Some(watched) = &self.watched
            && watched.device_and_inode == place
        {
            return;
        }
        self.watched = watch(&self.directory, self.hint.clone())
            .inspect_err(|error| tracing::debug!("{}: {error}", self.directory.display()))
            .ok()
            .map(|watcher| WatchedFile {
                _watcher: watcher,
                device_and_inode: place,
            });
    }
}

fn watch(directory: &Path, hint: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event as well.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            // If the channel is full, a hint is waiting already.
            let _waits = hint.try_send(());
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The age of the view by the wall clock, which is only needed for one that was written before we started.
fn age(view: &StatusView, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(view.checked)).unwrap_or(Duration::ZERO)
}
