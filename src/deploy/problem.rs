//! What is wrong, and what mends it.

use serde::{Deserialize, Serialize};

use crate::text::{CommandLine, UNPASTEABLE};

/// What is wrong with an instance, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) why: String,
    /// What to do about it; empty where the command says it, or `why` does.
    pub(crate) mend: String,
    /// What to type, as root; where `mend` says something, this is how its end is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<CommandLine>,
}

impl Problem {
    /// With what a person has to do; empty where `why` says it.
    pub(crate) fn new(why: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            why: why.into(),
            mend: mend.into(),
            command: None,
        }
    }

    /// With a command that mends it, or brings the end of what `mend` says about; with words where a word of it
    /// would not be seen as what it is.
    pub(crate) fn with(mut self, command: impl Into<String>) -> Problem {
        self.command = CommandLine::checked(command);
        if self.command.is_none() {
            let mend = [self.mend.as_str(), UNPASTEABLE];
            self.mend = mend.join(if self.mend.is_empty() { "" } else { ": " });
        }
        self
    }

    /// What to do about it, in one line; empty where `why` says it.
    pub(crate) fn remedy(&self) -> String {
        match (self.mend.as_str(), &self.command) {
            (mend, None) => mend.to_owned(),
            ("", Some(command)) => format!("run `{command}`"),
            (mend, Some(command)) => format!("{mend}: `{command}`"),
        }
    }

    pub(crate) fn sentence(&self) -> String {
        match self.remedy() {
            remedy if remedy.is_empty() => self.why.clone(),
            remedy => format!("{}; {remedy}", self.why),
        }
    }
}
