//! `pgcertd check`: the config, and everything a deployment needs, without changing anything.
//!
//! The checks are in [`mod@crate::check`]; this prints them, problems first.

use super::exit::{Exit, Failure, print, print_json, prober};
use super::manual::{Chapter, Manual};
use super::page::Page;
use super::paint::{BAD, FAINT, GOOD, ODD};
use super::sources;
use crate::check::{self, CHECKS, Report, ReportLine, Weight};
use crate::config::Config;

pub(super) const MANUAL: Manual = Manual {
    command: "check",
    description: &[
        "Reads the config as the daemon does, then checks whether a renewal would get through, and whether clients \
         get what they should: the lineage, the service's rights, the installed files, the server and its \
         configuration, what it serves at each of its addresses, and this host. It changes nothing.",
        "Each finding says what was seen and, unless it is good, why that matters and how to fix it: with a \
         command on one line for a root shell, or with a sentence if no command can.",
        "Run it as root: other users see less, and it says what they can't see.",
    ],
    exit: &[
        (
            Exit::Well,
            "everything was checked, and no problem was found; notes don't count",
        ),
        (
            Exit::Problem,
            "a problem was found, or something could not be checked",
        ),
        (
            Exit::Usage,
            "wrong usage or config; it says in which file, line and column, and what was expected",
        ),
    ],
    chapters,
    examples: &[
        (
            "pgcertd check",
            "After editing the config, before the reload.",
        ),
        (
            "pgcertd check --config-only --config ./pgcertd.toml",
            "Is this file right? Only needs the right to read it.",
        ),
    ],
};

fn chapters() -> Vec<Chapter> {
    let findings = Chapter::new(
        "Findings",
        "Each has an id, which `--json` shows too. If all is well:",
    );
    vec![
        Chapter::new("Weights", "Each finding starts with its weight:")
            .term("!", "something is broken or unsafe, or will be")
            .term("?", "it could not be checked; the missing right is named")
            .term("note", "worth knowing")
            .term("ok", "good"),
        CHECKS
            .iter()
            .fold(findings, |chapter, check| chapter.term(check.id, check.good)),
        Chapter::new(
            "Findings in JSON",
            "`host`, and `findings` of each of the `instances`, are lists of these:",
        )
        .term("id", "what it is, as above")
        .term("weight", "`problem`, `unseen`, `notice` or `good`")
        .term("seen, why", "what was seen, and why that matters")
        .term("lacks", "for `unseen`, the missing right; else null")
        .term(
            "mend",
            "an object with `command`, a line for a root shell, or with `sentence`; null if there is nothing to do",
        ),
    ]
}

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Only check the config, as a reload of the service does first; look at no lineage and no server.
    #[arg(long)]
    config_only: bool,
}

pub(super) async fn check(
    config: &Config,
    wanted: &CheckArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let report = if wanted.config_only {
        Report::default()
    } else {
        let all: Vec<_> = config.instances.iter().collect();
        let sources = sources::read(config, &all).await?;
        let prober = prober()?;
        let report = check::examined(config, sources, &prober).await;
        prober.drain().await;
        report
    };
    if json {
        print_json(&report)?;
    } else {
        print(&drawn(config, &report))?;
    }
    let ill = report.count(Weight::Problem) + report.count(Weight::Unseen);
    Ok(if ill == 0 { Exit::Well } else { Exit::Problem })
}

fn drawn(config: &Config, report: &Report) -> Page {
    let file = config.file.display();
    let mut out = match summary(report) {
        None => Page::of_line(format_args!("{file} is right")),
        Some(summary) => Page::of_line(format_args!("{file} is right; {summary}")),
    };
    let instances = report.instances.iter();
    let mut sections: Vec<(&str, &[ReportLine])> = instances
        .map(|section| (section.name.as_str(), section.findings.as_slice()))
        .collect();
    sections.push(("this host", &report.host));
    sections.retain(|(_, findings)| !findings.is_empty());
    // What needs a person stands first, in the sections and among them.
    sections.sort_by_key(|(_, lines)| lines.iter().map(|line| line.finding.weight).min());
    for (name, lines) in sections {
        out.end().line(name);
        let mut lines: Vec<&ReportLine> = lines.iter().collect();
        lines.sort_by_key(|line| line.finding.weight);
        for line in lines {
            out.add(told(line));
        }
    }
    out
}

/// How many findings there are of each weight; none if nothing was checked.
fn summary(report: &Report) -> Option<String> {
    report.lines().next()?;
    let of = |weight, one: &str, several: &str| match report.count(weight) {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {several}")),
    };
    let counts: Vec<String> = [
        of(Weight::Problem, "problem", "problems"),
        of(Weight::Unseen, "unchecked", "unchecked"),
        of(Weight::Notice, "note", "notes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    Some(if counts.is_empty() {
        "all is well".into()
    } else {
        counts.join(", ")
    })
}

/// One finding: a line where it is good, else what, why and what to do.
fn told(line: &ReportLine) -> Page {
    let finding = &line.finding;
    let (style, label) = match finding.weight {
        Weight::Problem => (BAD, "!"),
        Weight::Unseen => (ODD, "?"),
        Weight::Notice => (ODD, "note"),
        Weight::Good => (GOOD, "ok"),
    };
    let problem = &finding.problem;
    let mut out = Page::default();
    out.marked(style, label, &problem.what);
    if finding.weight == Weight::Good {
        return out;
    }
    let why = format!("{} ({})", line.why(), line.id);
    out.put(" ".repeat(8)).indented(FAINT, 8, why);
    if let Some(lacks) = &finding.lacks {
        out.labelled("ask", format_args!("as {lacks}"));
    }
    out.remedy(&problem.fix, problem.command.as_ref());
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::check::{Finding, FindingSection, report_line};

    fn plain(report: &Report) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").unwrap();
        let mut config = Config::load(&file).unwrap();
        config.file = crate::config::DEFAULT_FILE.into();
        drawn(&config, report).plain()
    }

    fn section(name: &str, findings: Vec<(&'static str, Finding)>) -> FindingSection {
        FindingSection {
            name: name.to_owned(),
            findings: lines(findings),
        }
    }

    fn lines(findings: Vec<(&'static str, Finding)>) -> Vec<ReportLine> {
        let findings = findings.into_iter();
        findings
            .map(|(id, finding)| report_line(id, finding))
            .collect()
    }

    #[test]
    fn what_needs_a_person_comes_first_with_its_reason_and_its_fix() {
        let command =
            "pgcertd setup --yes --instance 15-left --and-so-on-until-it-is-longer-than-80-columns";
        let report = Report {
            host: lines(vec![(
                "landlock",
                Finding::good("Landlock confines each thread"),
            )]),
            instances: vec![
                section("16-main", vec![("ssl", Finding::good("ssl is on"))]),
                section(
                    "15-left",
                    vec![
                        ("server", Finding::good("Postgres is running, process 7")),
                        (
                            "server_names",
                            Finding::notice("no names").fix("write them into the config"),
                        ),
                        ("source", Finding::unseen("no permission", "root")),
                        ("ssl", Finding::problem("ssl = off").command(command)),
                    ],
                ),
            ],
        };
        let expected = format!(
            "/etc/pgcertd/pgcertd.toml is right; 1 problem, 1 unchecked, 1 note

15-left
  !     ssl = off
        without it no connection is encrypted, whatever is installed (ssl)
  fix   {command}
  ?     no permission
        nothing new is installed until it does (source)
  ask   as root
  note  no names
        without them pgcertd may install a certificate for other names, which
        clients reject (server_names)
  fix   write them into the config
  ok    Postgres is running, process 7

16-main
  ok    ssl is on

this host
  ok    Landlock confines each thread
"
        );
        assert_eq!(plain(&report), expected);
    }

    #[test]
    fn a_config_checked_alone_takes_one_line() {
        let told = plain(&Report::default());
        assert_eq!(told, "/etc/pgcertd/pgcertd.toml is right\n");
    }

    #[test]
    fn all_is_well_is_said_in_the_first_line() {
        let report = Report {
            host: lines(vec![("landlock", Finding::good("it is there"))]),
            instances: Vec::new(),
        };
        let first = plain(&report);
        assert!(first.starts_with("/etc/pgcertd/pgcertd.toml is right; all is well\n"));
    }
}
