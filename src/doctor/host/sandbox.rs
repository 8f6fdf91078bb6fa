//! Whether the unit's sandbox allows what the config asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::survey::Survey;
use crate::config::{Config, Instance, Mode, Reload};
use crate::doctor::sandbox::{Denial, Need, Sandbox};
use crate::doctor::unit::{UNIT, Unit};
use crate::doctor::{Finding, Kind, quoted};
use crate::patience::Questions;

const KIND: Kind = Kind::Sandbox;

/// A finding for each instance that the unit keeps from its paths, and for pgcertd's own; one that there is none.
///
/// Links are followed here: call it where that may take its time.
pub(super) fn findings(config: &Config, unit: &Unit, survey: &Survey) -> Vec<Finding> {
    let sandbox = Sandbox::of(unit);
    let own = BTreeSet::from([
        (config.state_directory.clone(), Need::Write),
        (config.runtime_directory.clone(), Need::Write),
    ]);
    let mut findings: Vec<Finding> = finding(&sandbox, "pgcertd", &own).into_iter().collect();
    for instance in &config.instances {
        let needs = needs(config, instance, survey);
        findings.extend(finding(&sandbox, &instance.name, &needs));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            KIND,
            format!("{UNIT} lets pgcertd at each path"),
        ));
    }
    findings
}

/// What an instance needs.
fn needs(config: &Config, instance: &Instance, survey: &Survey) -> BTreeSet<(PathBuf, Need)> {
    let mut needs = BTreeSet::from([(instance.home().to_owned(), Need::Read)]);
    let own = survey
        .lineages
        .iter()
        .find(|it| it.name == instance.lineage.name);
    if let Some(lineage) = own {
        let there = lineage.directories.iter();
        needs.extend(there.map(|directory| (directory.clone(), Need::Read)));
    }
    let companions = [&instance.ca, &instance.crl].into_iter().flatten();
    let elsewhere = companions.filter(|it| it.source.is_absolute());
    needs.extend(elsewhere.map(|it| (it.source.clone(), Need::Read)));
    if instance.mode == Mode::Manage {
        let directories = instance.targets().filter_map(Path::parent);
        needs.extend(directories.map(|it| (it.to_owned(), Need::Write)));
        needs.insert((config.state_of(instance), Need::Write));
    }
    if let Reload::Command(words) = &instance.reload
        && let Some(program) = words.first().map(Path::new)
        && program.is_absolute()
    {
        needs.insert((program.to_owned(), Need::Run));
        needs.insert((program.to_owned(), Need::Read));
    }
    needs
}

fn finding(sandbox: &Sandbox, name: &str, needs: &BTreeSet<(PathBuf, Need)>) -> Option<Finding> {
    let paths = needs.iter().map(|(path, _)| path.clone());
    let real: BTreeMap<PathBuf, PathBuf> =
        Questions::default().ask(paths, |path: &PathBuf| real(path));
    let mut denials: Vec<Denial> = Vec::new();
    for (path, need) in needs {
        let followed = real.get(path);
        for path in [Some(path), followed].into_iter().flatten() {
            let denied = sandbox.denies(path, *need);
            denials.extend(denied.filter(|it| !denials.contains(it)));
        }
    }
    // What cannot be seen is not told again as what cannot be written.
    let denials: Vec<&Denial> = denials
        .iter()
        .filter(|it| {
            it.need != Need::Read
                || !denials
                    .iter()
                    .any(|other| other.need == Need::Write && other.path == it.path)
        })
        .collect();
    let seen: Vec<String> = denials.iter().map(ToString::to_string).collect();
    let first = denials.first()?;
    let finding = Finding::problem(KIND, format!("{UNIT}, for {name}: {}", seen.join("; ")));
    let mut lines = BTreeSet::new();
    for denial in &denials {
        match denial.settings() {
            Some(settings) => lines.extend(settings.iter().cloned()),
            None => {
                return Some(finding.sentence(format!(
                    "keep it elsewhere, or take {} back with `systemctl edit pgcertd`",
                    first.by
                )));
            }
        }
    }
    Some(finding.command(drop_in(name, &lines)))
}

/// The command that adds these lines to a drop-in of the instance's own.
fn drop_in(name: &str, lines: &BTreeSet<String>) -> String {
    let directory = format!("/etc/systemd/system/{UNIT}.d");
    let file = format!("{directory}/paths-{name}.conf");
    let words: Vec<String> = lines.iter().map(quoted).collect();
    format!(
        "mkdir -p {directory} && printf '%s\\n' '[Service]' {} >>{file} && \
         systemctl daemon-reload && systemctl try-restart pgcertd",
        words.join(" ")
    )
}

/// The path with links followed in the longest part of it that is there.
fn real(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}
