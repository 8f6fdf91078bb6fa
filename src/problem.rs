//! The one way a fault is reported: what is wrong, why it matters, how to fix it, and the command to run.
//!
//! An error has a `problem()`, which is passed on whole. Its parts become a sentence only where a person reads it;
//! no code takes a sentence apart again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{CommandLine, UNPASTEABLE};

/// A fault in its parts. In JSON it is an object with `why` (what is wrong), `mend` and `command`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, as a sentence without its full stop.
    #[serde(rename = "why")]
    pub(crate) what: String,
    /// Why it matters, as `check` explains it; empty elsewhere.
    #[serde(skip)]
    pub(crate) why: String,
    /// How to fix it, also without a full stop; empty if the command says it, or no action is needed.
    #[serde(rename = "mend")]
    pub(crate) fix: String,
    /// The command to run, as root; it completes what `fix` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<CommandLine>,
}

impl Problem {
    /// `fix` is empty if no action is needed, or a command follows.
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            fix: fix.into(),
            ..Problem::default()
        }
    }

    /// With the command that fixes it, or completes what `fix` says. If it has a character that a terminal would obey or
    /// hide, the fix says so instead.
    pub(crate) fn with(mut self, command: impl Into<String>) -> Problem {
        self.command = CommandLine::checked(command);
        if self.command.is_none() {
            let fix = [self.fix.as_str(), UNPASTEABLE];
            self.fix = fix.join(if self.fix.is_empty() { "" } else { ": " });
        }
        self
    }

    /// Puts the subject and a colon before what is wrong.
    pub(crate) fn about(self, subject: impl fmt::Display) -> Problem {
        Problem {
            what: format!("{subject}: {}", self.what),
            ..self
        }
    }

    /// Adds a clause to what is wrong.
    pub(crate) fn and(self, more: impl fmt::Display) -> Problem {
        Problem {
            what: format!("{}; {more}", self.what),
            ..self
        }
    }

    /// What is wrong in each of them, as one text.
    pub(crate) fn whats(problems: &[Problem]) -> String {
        let whats: Vec<&str> = problems.iter().map(|problem| &*problem.what).collect();
        whats.join("; ")
    }

    /// How to fix it, in one line; empty if no action is needed.
    pub(crate) fn remedy(&self) -> String {
        match (self.fix.as_str(), &self.command) {
            (fix, None) => fix.to_owned(),
            ("", Some(command)) => format!("run `{command}`"),
            (fix, Some(command)) => format!("{fix}: `{command}`"),
        }
    }
}

/// What is wrong and how to fix it, in one sentence.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.remedy() {
            remedy if remedy.is_empty() => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

/// A fault without a fix beyond what it says.
impl<Text: Into<String>> From<Text> for Problem {
    fn from(what: Text) -> Problem {
        Problem::new(what, "")
    }
}
