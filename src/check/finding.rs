//! One thing that was looked at, and what to do about it.

use std::fmt::Display;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::FindingKind;
use crate::host::look::CannotLook;
use crate::host::privilege::is_root;
use crate::problem::Problem;
use crate::text::{CommandLine, UNPASTEABLE};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// Something is broken or unsafe, or will be.
    Problem,
    /// It could not be looked at, for lack of a right.
    Unseen,
    Notice,
    Good,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mend {
    /// A line for a root shell.
    Command(CommandLine),
    /// What a person has to do, where no command can.
    Sentence(String),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it is, for programs.
    #[serde(rename = "id")]
    pub(crate) kind: FindingKind,
    pub(crate) weight: Weight,
    /// What was seen, as a sentence without its full stop.
    pub(crate) seen: String,
    /// Why that matters, the same.
    pub(crate) why: String,
    /// The right without which it could not be looked at.
    pub(crate) lacks: Option<String>,
    pub(crate) mend: Option<Mend>,
}

impl Finding {
    fn new(kind: FindingKind, weight: Weight, seen: impl Into<String>) -> Finding {
        Finding {
            kind,
            weight,
            seen: seen.into(),
            why: kind.why().to_owned(),
            lacks: None,
            mend: None,
        }
    }

    pub(crate) fn good(kind: FindingKind, seen: impl Into<String>) -> Finding {
        Finding::new(kind, Weight::Good, seen)
    }

    pub(crate) fn notice(kind: FindingKind, seen: impl Into<String>) -> Finding {
        Finding::new(kind, Weight::Notice, seen)
    }

    pub(crate) fn problem(kind: FindingKind, seen: impl Into<String>) -> Finding {
        Finding::new(kind, Weight::Problem, seen)
    }

    /// Not looked at, for lack of the right that is named: "root, or the user postgres".
    pub(crate) fn unseen(
        kind: FindingKind,
        seen: impl Into<String>,
        lacks: impl Into<String>,
    ) -> Finding {
        Finding {
            lacks: Some(lacks.into()),
            ..Finding::new(kind, Weight::Unseen, seen)
        }
    }

    /// A problem that was told elsewhere.
    pub(crate) fn from_problem(kind: FindingKind, problem: Problem) -> Finding {
        let remedy = problem.remedy();
        match (problem.fix.as_str(), problem.command) {
            ("", Some(command)) => Finding::problem(kind, problem.what).command(&*command),
            _ => Finding::problem(kind, problem.what).advised(&remedy),
        }
    }

    /// Not known, since a look at the host failed: for lack of a right, or for a fault of the host, which is a problem.
    pub(crate) fn not_known(kind: FindingKind, what: impl Display, cannot: &CannotLook) -> Finding {
        let seen = format!("{what}: {cannot}");
        if cannot.is_denied() && !is_root() {
            Finding::unseen(kind, seen, "root")
        } else {
            Finding::problem(kind, seen).sentence(cannot.remedy())
        }
    }

    /// Another reason why it matters than the kind's own.
    pub(crate) fn because(self, why: impl Into<String>) -> Finding {
        Finding {
            why: why.into(),
            ..self
        }
    }

    /// Mended by this line in a root shell; see [`Config::command`](crate::config::Config::command) and [`quoted`]. By
    /// a person where a word of it would not be seen as what it is.
    pub(crate) fn command(self, line: impl Into<String>) -> Finding {
        match CommandLine::checked(line) {
            None => self.sentence(UNPASTEABLE),
            Some(line) => Finding {
                mend: Some(Mend::Command(line)),
                ..self
            },
        }
    }

    pub(crate) fn sentence(self, text: impl Into<String>) -> Finding {
        Finding {
            mend: Some(Mend::Sentence(text.into())),
            ..self
        }
    }

    /// Mended by a person who reads `text`; not at all where that is empty.
    pub(crate) fn advised(self, text: &str) -> Finding {
        match text {
            "" => self,
            text => self.sentence(text),
        }
    }
}

/// A path as a word for a shell.
pub(crate) fn quoted(path: impl AsRef<Path>) -> String {
    shell_words::quote(&path.as_ref().to_string_lossy()).into_owned()
}

/// The findings of one instance.
#[derive(Debug, Serialize)]
pub(crate) struct FindingSection {
    pub(crate) name: String,
    /// What was looked at, in the order of [`FindingKind::ALL`].
    pub(crate) findings: Vec<Finding>,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) host: Vec<Finding>,
    /// Of each instance, in the config's order.
    pub(crate) instances: Vec<FindingSection>,
}

impl Report {
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let instances = self.instances.iter().flat_map(|section| &section.findings);
        instances.chain(&self.host)
    }

    /// How many findings weigh this.
    pub(crate) fn count(&self, weight: Weight) -> usize {
        self.findings()
            .filter(|finding| finding.weight == weight)
            .count()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut document = serializer.serialize_struct("Report", 3)?;
        document.serialize_field("version", &crate::report::view::VERSION)?;
        document.serialize_field("host", &self.host)?;
        document.serialize_field("instances", &self.instances)?;
        document.end()
    }
}
