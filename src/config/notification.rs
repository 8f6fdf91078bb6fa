//! `[notify]`: whom `pgcertd notify` tells what, and how.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{At, TomlFile};
use super::error::ConfigError;
use super::layers::{at, directory};
use super::values::{any_duration, choice, command, positive};
use super::written;

/// What [`Notify::timeout`] is by default.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What [`Notify::after`] is by default.
pub(crate) const DEFAULT_AFTER: Duration = Duration::from_secs(30);

/// What [`Notify::repeat`] is by default.
pub(crate) const DEFAULT_REPEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`Notify::on`] is by default.
pub(crate) const DEFAULT_ON: [Occasion; 2] = [Occasion::Failure, Occasion::Recovery];

/// Where [`Notify::state_directory`] is by default: the one that the unit makes.
pub(crate) const DEFAULT_NOTIFY_DIRECTORY: &str = "/var/lib/pgcertd-notify";

/// The occasions by their names.
pub(super) const OCCASIONS: &[(&str, Occasion)] = &[
    ("failure", Occasion::Failure),
    ("recovery", Occasion::Recovery),
    ("deployed", Occasion::Deployed),
];

/// The `[notify]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notify {
    /// The program and its arguments. Default: none, nobody is told. Never empty.
    pub(crate) command: Option<Vec<String>>,
    /// How long the command may run. Default: 30 seconds.
    pub(crate) timeout: Duration,
    /// What is told. Default: failures and recoveries. May be empty.
    pub(crate) on: BTreeSet<Occasion>,
    /// How long a change must last to be told. Default: 30 seconds. May be zero.
    pub(crate) after: Duration,
    /// What is still not well is told again after this. Default: one day.
    pub(crate) repeat: Duration,
    /// Where it is remembered what was told. Default: `/var/lib/pgcertd-notify`.
    pub(crate) state_directory: PathBuf,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Occasion {
    Failure,
    Recovery,
    /// A new certificate is served.
    Deployed,
}

#[cfg(test)]
impl Occasion {
    /// As in the config and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Occasion::Failure => "failure",
            Occasion::Recovery => "recovery",
            Occasion::Deployed => "deployed",
        }
    }
}

pub(super) fn notify(
    document: &TomlFile,
    written: Option<&written::WrittenNotify>,
) -> Result<Notify, ConfigError> {
    let none = written::WrittenNotify::default();
    let written = written.unwrap_or(&none);
    let longer = |key, default| at(document, key).map_or(Ok(default), |value| positive(&value));
    Ok(Notify {
        command: at(document, &written.command)
            .map(|value| command(&value))
            .transpose()?,
        timeout: longer(&written.timeout, DEFAULT_TIMEOUT)?,
        on: match &written.on {
            None => DEFAULT_ON.into(),
            Some(list) => {
                let names = list.get_ref().iter();
                let occasions = names.map(|name| choice(&At::new(document, name), OCCASIONS));
                occasions.collect::<Result<_, _>>()?
            }
        },
        after: at(document, &written.after)
            .map_or(Ok(DEFAULT_AFTER), |value| any_duration(&value))?,
        repeat: longer(&written.repeat, DEFAULT_REPEAT)?,
        state_directory: directory(
            document,
            &written.state_directory,
            Path::new(DEFAULT_NOTIFY_DIRECTORY),
        )?,
    })
}
