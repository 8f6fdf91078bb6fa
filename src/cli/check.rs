//! `pgcertd check`: the config, and everything a deployment needs, without changing anything.
//!
//! The checks are in [`mod@crate::check`]; this prints them, problems first.

use super::manual::{Chapter, Manual};
use super::page::Page;
use super::paint::{BAD, FAINT, GOOD, ODD};
use super::{Exit, Failure, print, print_json, prober, sources};
use crate::check::{self, Finding, FindingKind, Mend, Report, Weight};
use crate::config::Config;

pub(super) const MANUAL: Manual = Manual {
    command: "check",
    description: &[
        "Reads the config as the daemon does, then checks whether a renewal would get through and whether clients get \
         what they should: the lineage, the service's rights, the installed files, the server and its configuration, \
         what it serves at each of its addresses, and this host. Nothing is changed.",
        "Each finding says what was seen and, unless it is good, why it matters and how to fix it: a command for a root \
         shell, whole on one line, or a sentence if no command can do it.",
        "Run it as root: other users see less, and it says what they can't see.",
    ],
    exit: &[
        (
            Exit::Well,
            "everything was checked, and there is no problem; notes don't count",
        ),
        (
            Exit::Problem,
            "there is a problem, or something could not be checked",
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
            "After changing the config, before the reload.",
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
        Chapter::new("Weights", "Each finding begins with its weight:")
            .term("!", "something is broken or unsafe, or will be")
            .term("?", "it could not be checked; says which right is missing")
            .term("note", "worth knowing")
            .term("ok", "good"),
        FindingKind::ALL
            .iter()
            .fold(findings, |chapter, kind| chapter.term(kind.id(), kind.good())),
        Chapter::new(
            "Findings in JSON",
            "`host`, and `findings` of each of the `instances`, are lists of these:",
        )
        .term("id", "what it is, as above")
        .term("weight", "`problem`, `unseen`, `notice` or `good`")
        .term("seen, why", "what was seen, and why that matters")
        .term("lacks", "for `unseen`: the right that is missing; otherwise null")
        .term(
            "mend",
            "the fix: an object with `command`, a line for a root shell, or with `sentence`; null if no action is needed",
        ),
    ]
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Check only the config, as a reload of the service does first; don't look at lineages or servers.
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
        prober.farewells().await;
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
    let mut sections: Vec<(&str, &[Finding])> = instances
        .map(|section| (section.name.as_str(), section.findings.as_slice()))
        .collect();
    sections.push(("this host", &report.host));
    sections.retain(|(_, findings)| !findings.is_empty());
    // Problems come first, in the sections and among them.
    sections.sort_by_key(|(_, findings)| worst(findings));
    for (name, findings) in sections {
        out.end().line(name);
        let mut findings: Vec<&Finding> = findings.iter().collect();
        findings.sort_by_key(|finding| finding.weight);
        for finding in findings {
            out.add(explained(finding));
        }
    }
    out
}

/// How many findings there are of each weight; none if nothing was checked.
fn summary(report: &Report) -> Option<String> {
    report.findings().next()?;
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

fn worst(findings: &[Finding]) -> Option<Weight> {
    findings.iter().map(|finding| finding.weight).min()
}

/// One finding: a line if it is good, otherwise what, why and the fix.
fn explained(finding: &Finding) -> Page {
    let (style, label) = match finding.weight {
        Weight::Problem => (BAD, "!"),
        Weight::Unseen => (ODD, "?"),
        Weight::Notice => (ODD, "note"),
        Weight::Good => (GOOD, "ok"),
    };
    let mut out = Page::default();
    out.marked(style, label, &finding.seen);
    if finding.weight == Weight::Good {
        return out;
    }
    let why = format!("{} ({})", finding.why, finding.kind.id());
    out.put(" ".repeat(8)).indented(FAINT, 8, why);
    if let Some(lacks) = &finding.lacks {
        out.labelled("ask", format_args!("as {lacks}"));
    }
    match &finding.mend {
        Some(Mend::Command(line)) => out.mended("", Some(line)),
        Some(Mend::Sentence(text)) => out.mended(text, None),
        None => &mut out,
    };
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::check::FindingSection;

    fn plain(report: &Report) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").unwrap();
        let mut config = Config::load(&file).unwrap();
        config.file = crate::config::DEFAULT_FILE.into();
        drawn(&config, report).plain()
    }

    fn section(name: &str, findings: Vec<Finding>) -> FindingSection {
        let name = name.to_owned();
        FindingSection { name, findings }
    }

    #[test]
    fn problems_come_first_with_their_reason_and_fix() {
        let command =
            "pgcertd setup --yes --instance 15-left --and-so-on-until-it-is-longer-than-80-columns";
        let report = Report {
            host: vec![Finding::good(
                FindingKind::Landlock,
                "Landlock confines each thread",
            )],
            instances: vec![
                section(
                    "16-main",
                    vec![Finding::good(FindingKind::Ssl, "ssl is on")],
                ),
                section(
                    "15-left",
                    vec![
                        Finding::good(FindingKind::Server, "the server runs, process 7"),
                        Finding::notice(FindingKind::ServerNames, "no names")
                            .sentence("write them into the config"),
                        Finding::unseen(FindingKind::Source, "no permission", "root"),
                        Finding::problem(FindingKind::Ssl, "ssl = off").command(command),
                    ],
                ),
            ],
        };
        let expected = format!(
            "/etc/pgcertd/pgcertd.toml is right; 1 problem, 1 unchecked, 1 note

15-left
  !     ssl = off
        without it no client is encrypted, whatever is installed (ssl)
  fix   {command}
  ?     no permission
        nothing new is installed before it does (source)
  ask   as root
  note  no names
        without them a certificate for other names is installed, and clients
        refuse it (server_names)
  fix   write them into the config
  ok    the server runs, process 7

16-main
  ok    ssl is on

this host
  ok    Landlock confines each thread
"
        );
        assert_eq!(plain(&report), expected);
    }

    #[test]
    fn a_check_of_the_config_alone_prints_one_line() {
        let printed = plain(&Report::default());
        assert_eq!(printed, "/etc/pgcertd/pgcertd.toml is right\n");
    }

    #[test]
    fn if_all_is_well_it_says_so() {
        let report = Report {
            host: vec![Finding::good(FindingKind::Landlock, "it is there")],
            instances: Vec::new(),
        };
        let first = plain(&report);
        assert!(first.starts_with("/etc/pgcertd/pgcertd.toml is right; all is well\n"));
    }
}
