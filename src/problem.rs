//! The one way a fault is told: what is wrong, why that matters, what to do about it, and what to type.
//!
//! An error offers its `problem()`, and whoever passes it on passes all of it. The parts become a sentence only where
//! somebody reads it; nothing takes a sentence apart again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{CommandLine, UNPASTEABLE};

/// A fault, in parts. In JSON it is an object with `why` (what is wrong), `mend` and `command`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, as a sentence without its full stop.
    #[serde(rename = "why")]
    pub(crate) what: String,
    /// Why that matters, as `check` explains it; empty elsewhere.
    #[serde(skip)]
    pub(crate) why: String,
    /// What to do about it, the same; empty where the command says it, or there is nothing to do.
    #[serde(rename = "mend")]
    pub(crate) fix: String,
    /// What to type, as root; where `fix` says something, this is how it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<CommandLine>,
}

impl Problem {
    /// With what a person has to do; empty where there is nothing to do, or a command follows.
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            fix: fix.into(),
            ..Problem::default()
        }
    }

    /// With a command that fixes it, or that ends what `fix` says. Where a character of it would not be seen as what
    /// it is, a person is told so in its place.
    pub(crate) fn with(mut self, command: impl Into<String>) -> Problem {
        self.command = CommandLine::checked(command);
        if self.command.is_none() {
            let fix = [self.fix.as_str(), UNPASTEABLE];
            self.fix = fix.join(if self.fix.is_empty() { "" } else { ": " });
        }
        self
    }

    /// With these words before what is wrong, and a colon between them.
    pub(crate) fn about(self, subject: impl fmt::Display) -> Problem {
        Problem {
            what: format!("{subject}: {}", self.what),
            ..self
        }
    }

    /// With more of what is so.
    pub(crate) fn and(self, more: impl fmt::Display) -> Problem {
        Problem {
            what: format!("{}; {more}", self.what),
            ..self
        }
    }

    /// What is wrong in each of several, one after the other.
    pub(crate) fn whats(problems: &[Problem]) -> String {
        let whats: Vec<&str> = problems.iter().map(|problem| &*problem.what).collect();
        whats.join("; ")
    }

    /// What to do about it, in one line; empty where there is nothing to do.
    pub(crate) fn remedy(&self) -> String {
        match (self.fix.as_str(), &self.command) {
            (fix, None) => fix.to_owned(),
            ("", Some(command)) => format!("run `{command}`"),
            (fix, Some(command)) => format!("{fix}: `{command}`"),
        }
    }
}

/// What is wrong and what to do about it, in one sentence.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.remedy() {
            remedy if remedy.is_empty() => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

/// A fault about which there is nothing to do but what it says.
impl<Text: Into<String>> From<Text> for Problem {
    fn from(what: Text) -> Problem {
        Problem::new(what, "")
    }
}
