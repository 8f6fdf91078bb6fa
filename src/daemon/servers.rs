//! The servers of this host that no instance covers, as the daemon knows them.

use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::news::DaemonNews;
use crate::config::Config;
use crate::host::process::Search;
use crate::report::{Latch, notices};
use crate::server::running::uncovered;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) uncovered: Vec<PathBuf>,
    /// Why there may be more.
    pub(super) unknown: Latch<String>,
    /// Whether a search is under way.
    looking: bool,
}

impl Servers {
    /// Looks through `/proc` beside the loop once the daemon is `ready`, and tells: a busy host has many processes.
    pub(super) fn look(
        &mut self,
        config: &Config,
        mut ready: watch::Receiver<bool>,
        tell: &UnboundedSender<DaemonNews>,
    ) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let (covered, tell) = (config.data_directories(), tell.clone());
        tokio::spawn(async move {
            let is_ready = ready.wait_for(|ready| *ready).await.is_ok();
            if is_ready {
                tokio::task::spawn_blocking(move || {
                    drop(tell.send(DaemonNews::Uncovered(uncovered(&covered))));
                });
            }
        });
    }

    /// Takes in what a search came to, and says what is new; gives how many there are. Where a look failed, what was
    /// there before may still be.
    pub(super) fn heard(&mut self, search: Search<PathBuf>) -> usize {
        let mut directories = search.found;
        if search.missed.is_some() {
            directories.extend(self.uncovered.iter().cloned());
            directories.sort();
            directories.dedup();
        }
        let unknown = search.missed.map(|cannot| cannot.problem().to_string());
        notices::servers_unseen(self.unknown.set(unknown));
        notices::uncovered(&self.uncovered, &directories);
        self.looking = false;
        self.uncovered = directories;
        self.uncovered.len()
    }

    /// What there is to say beside their number, as the end of a line.
    pub(super) fn doubt(&self) -> &'static str {
        match self.unknown.get() {
            Some(_) => "; the servers on this host could not be listed",
            None => "",
        }
    }
}
