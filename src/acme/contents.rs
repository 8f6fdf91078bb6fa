//! What the areas of a host hold: hooks, schedules, and what could not be read.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::tree::Unread;

/// A command that runs at renewals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub place: HookPlace,
    /// Handed to a shell.
    pub commands: String,
    /// The one lineage it runs for; none if it runs for all.
    pub lineage: Option<PathBuf>,
}

/// Where a hook is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookPlace {
    /// A line of its own in a client's file, which can be deleted.
    Setting {
        file: PathBuf,
        /// The line, or the first of several.
        line: String,
        client: Client,
    },
    /// A program in a directory whose programs are all run.
    Program {
        file: PathBuf,
        /// Where it leads, if it is a link.
        link: Option<PathBuf>,
    },
    /// A line of a crontab.
    Crontab {
        file: PathBuf,
        /// The owner, if it is a user's crontab.
        user: Option<String>,
        line: String,
        /// Where in the line the command begins.
        at: usize,
    },
    /// A file that has to be edited by hand.
    File(PathBuf),
}

/// A timer or cron job that renews certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) client: Client,
    /// The crontab, or the name of the timer.
    pub(crate) by: String,
    pub(crate) command: String,
    /// Why it does nothing, if it doesn't.
    pub(crate) idle: Option<String>,
}

#[derive(Debug, Default)]
pub struct AreaContents {
    pub hooks: Vec<Hook>,
    pub(crate) schedules: Vec<Schedule>,
    pub unread: Vec<Unread>,
}

impl HookPlace {
    pub fn file(&self) -> &Path {
        match self {
            HookPlace::Setting { file, .. }
            | HookPlace::Program { file, .. }
            | HookPlace::Crontab { file, .. }
            | HookPlace::File(file) => file,
        }
    }
}

impl AreaContents {
    /// Adds what another area holds, except hooks that are here already.
    pub(crate) fn merge(&mut self, other: AreaContents) {
        for hook in other.hooks {
            if !self.hooks.contains(&hook) {
                self.hooks.push(hook);
            }
        }
        self.schedules.extend(other.schedules);
        self.unread.extend(other.unread);
    }

    /// What was read; a failure is noted and counts as nothing.
    pub(super) fn or_note<T: Default>(&mut self, read: Result<T, Unread>) -> T {
        read.unwrap_or_else(|error| {
            self.unread.push(error);
            T::default()
        })
    }

    /// Adds a hook that runs for every lineage.
    pub(super) fn add(&mut self, place: HookPlace, commands: String) {
        self.hooks.push(Hook {
            place,
            commands,
            lineage: None,
        });
    }
}
