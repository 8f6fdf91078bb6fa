//! What one check found, and the report of all of them.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::host::look::CannotLook;
use crate::host::privilege::is_root;
use crate::problem::Problem;
use crate::text::CommandLine;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// Something is broken or unsafe, or will be.
    Problem,
    /// It could not be looked at because of a missing right.
    Unseen,
    Notice,
    Good,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What was seen, and what fixes it; why it matters is empty if the table says it.
    pub(crate) problem: Problem,
    /// The right without which it could not be looked at.
    pub(crate) lacks: Option<String>,
}

impl Finding {
    fn new(weight: Weight, problem: impl Into<Problem>) -> Finding {
        Finding {
            weight,
            problem: problem.into(),
            lacks: None,
        }
    }

    pub(crate) fn good(seen: impl Into<String>) -> Finding {
        Finding::new(Weight::Good, seen.into())
    }

    pub(crate) fn notice(problem: impl Into<Problem>) -> Finding {
        Finding::new(Weight::Notice, problem)
    }

    pub(crate) fn problem(problem: impl Into<Problem>) -> Finding {
        Finding::new(Weight::Problem, problem)
    }

    /// Not looked at, because this right is missing: "root, or the user postgres".
    pub(crate) fn unseen(seen: impl Into<String>, lacks: impl Into<String>) -> Finding {
        Finding {
            lacks: Some(lacks.into()),
            ..Finding::new(Weight::Unseen, seen.into())
        }
    }

    /// Not known, since a look at the host failed: because of a missing right, or of a fault of the host, which is a problem.
    pub(crate) fn not_known(what: impl Display, cannot: &CannotLook) -> Finding {
        let seen = format!("{what}: {cannot}");
        if cannot.is_denied() && !is_root() {
            Finding::unseen(seen, "root")
        } else {
            Finding::problem(seen).fix(cannot.remedy())
        }
    }

    /// Why it matters, instead of the table's reason.
    pub(crate) fn because(mut self, why: impl Into<String>) -> Finding {
        self.problem.why = why.into();
        self
    }

    /// Fixed by this line in a root shell; see [`Config::command`](crate::config::Config::command).
    pub(crate) fn command(self, line: impl Into<String>) -> Finding {
        let mut finding = self.fix("");
        finding.problem = finding.problem.with(line);
        finding
    }

    /// Fixed by a person who reads this.
    pub(crate) fn fix(mut self, text: impl Into<String>) -> Finding {
        self.problem.fix = text.into();
        self.problem.command = None;
        self
    }

    /// Whether anything can be done about it.
    pub(crate) fn has_fix(&self) -> bool {
        !self.problem.fix.is_empty() || self.problem.command.is_some()
    }
}

/// A finding, and what the table says about its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportLine {
    pub(crate) id: &'static str,
    pub(crate) usual_why: &'static str,
    pub(crate) finding: Finding,
}

impl ReportLine {
    /// Why it matters.
    pub(crate) fn why(&self) -> &str {
        match self.finding.problem.why.as_str() {
            "" => self.usual_why,
            why => why,
        }
    }
}

/// As programs read it: the fix is a command, or a sentence.
impl Serialize for ReportLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Mend<'p> {
            Command(&'p CommandLine),
            Sentence(String),
        }
        #[derive(Serialize)]
        struct Line<'p> {
            id: &'p str,
            weight: Weight,
            seen: &'p str,
            why: &'p str,
            lacks: Option<&'p str>,
            mend: Option<Mend<'p>>,
        }
        let problem = &self.finding.problem;
        let mend = match (problem.fix.as_str(), &problem.command) {
            ("", None) => None,
            ("", Some(command)) => Some(Mend::Command(command)),
            _ => Some(Mend::Sentence(problem.remedy())),
        };
        let line = Line {
            id: self.id,
            weight: self.finding.weight,
            seen: &problem.what,
            why: self.why(),
            lacks: self.finding.lacks.as_deref(),
            mend,
        };
        line.serialize(serializer)
    }
}

/// The findings of one instance.
#[derive(Debug, Serialize)]
pub(crate) struct FindingSection {
    pub(crate) name: String,
    /// In the order of the table.
    pub(crate) findings: Vec<ReportLine>,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) host: Vec<ReportLine>,
    /// Of each instance, in the config's order.
    pub(crate) instances: Vec<FindingSection>,
}

impl Report {
    pub(crate) fn lines(&self) -> impl Iterator<Item = &ReportLine> {
        let instances = self.instances.iter().flat_map(|section| &section.findings);
        instances.chain(&self.host)
    }

    /// How many findings weigh this.
    pub(crate) fn count(&self, weight: Weight) -> usize {
        self.lines()
            .filter(|line| line.finding.weight == weight)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn line(id: &'static str, finding: Finding) -> ReportLine {
        let usual_why = "so";
        ReportLine {
            id,
            usual_why,
            finding,
        }
    }

    #[test]
    fn programs_read_the_same_document_in_every_version() {
        let advised = Problem::new("it hangs", "see why, and").with("pgcertd sync");
        let findings = vec![
            line("source", Finding::unseen("no permission", "root")),
            line(
                "ssl",
                Finding::problem("ssl = off").command("pgcertd setup"),
            ),
            line("served", Finding::problem(advised)),
            line(
                "server_names",
                Finding::notice("no names").fix("write them"),
            ),
        ];
        let name = "16-main".into();
        let good = Finding::good("Landlock confines each thread");
        let report = Report {
            host: vec![line("landlock", good)],
            instances: vec![FindingSection { name, findings }],
        };
        let document = concat!(
            r#"{"version":1,"host":[{"id":"landlock","weight":"good","seen":"Landlock confines each thread","why":"so","lacks":null,"mend":null}],"#,
            r#""instances":[{"name":"16-main","findings":["#,
            r#"{"id":"source","weight":"unseen","seen":"no permission","why":"so","lacks":"root","mend":null},"#,
            r#"{"id":"ssl","weight":"problem","seen":"ssl = off","why":"so","lacks":null,"mend":{"command":"pgcertd setup"}},"#,
            r#"{"id":"served","weight":"problem","seen":"it hangs","why":"so","lacks":null,"mend":{"sentence":"see why, and: `pgcertd sync`"}},"#,
            r#"{"id":"server_names","weight":"notice","seen":"no names","why":"so","lacks":null,"mend":{"sentence":"write them"}}]}]}"#,
        );
        assert_eq!(serde_json::to_string(&report).unwrap(), document);
    }
}
