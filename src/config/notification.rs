//! `[notify]`: who is notified of what, and how.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::document::TomlFile;
use super::from_text::choices;
use super::keys::WrittenNotify;
use super::table::Keys;

/// The default of [`Notify::state_directory`]: the one that the unit creates.
pub(crate) const DEFAULT_NOTIFY_DIRECTORY: &str = "/var/lib/pgcertd-notify";

/// The `[notify]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notify {
    /// The program and its arguments, never empty. None: nobody is notified.
    pub(crate) command: Option<Vec<String>>,
    /// How long the command may run.
    pub(crate) timeout: Duration,
    /// What to report. May be empty.
    pub(crate) on: BTreeSet<Occasion>,
    /// How long a change must last before it is reported. May be zero.
    pub(crate) after: Duration,
    /// What is still failing is reported again after this time.
    pub(crate) repeat: Duration,
    /// Holds a record of what was reported.
    pub(crate) state_directory: PathBuf,
}

choices! {
    /// What is reported.
    #[derive(PartialOrd, Ord, Hash, serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum Occasion {
        /// An instance fails, or fails in a different way; a certificate is about to expire; the daemon has stopped or
        /// hangs; a server is running that no instance covers.
        Failure = "failure",
        /// The failure is over.
        Recovery = "recovery",
        /// An instance serves a new certificate.
        Deployed = "deployed",
    }
}

impl Notify {
    pub(super) fn from_table(document: &TomlFile, table: &WrittenNotify) -> Notify {
        let keys = Keys::new(table, document);
        Notify {
            command: keys.command().map(|words| words.value.0.clone()),
            timeout: keys.timeout().0,
            on: keys.on().into_iter().collect(),
            after: keys.after().0,
            repeat: keys.repeat().0,
            state_directory: document.resolve(keys.state_directory()),
        }
    }
}
