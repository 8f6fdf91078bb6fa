//! Whether the unit's sandbox allows what the config asks for.

use std::collections::BTreeSet;

use super::survey::AcmeSurvey;
use crate::check::sandbox::{Need, Needs, Sandbox, Shortfall, command, needs};
use crate::check::unit::{UNIT, Unit};
use crate::check::{Finding, FindingKind};
use crate::config::Config;

const KIND: FindingKind = FindingKind::Sandbox;

/// A finding for each instance that the unit keeps from its paths, and for pgcertd's own; one that there is none.
///
/// Links are followed here: call it where that may take its time.
pub(super) fn findings(config: &Config, unit: &Unit, survey: &AcmeSurvey) -> Vec<Finding> {
    let sandbox = Sandbox::from_unit(unit);
    let own = BTreeSet::from([
        (config.state_directory.clone(), Need::Write),
        (config.runtime_directory.clone(), Need::Write),
    ]);
    let mut findings: Vec<Finding> = finding(&sandbox, "pgcertd", &own).into_iter().collect();
    let nothing = BTreeSet::new();
    for instance in &config.instances {
        let name = &instance.lineage.name;
        let lineage = survey
            .lineages
            .iter()
            .find(|surveyed_lineage| surveyed_lineage.name == *name);
        let directories = lineage.map_or(&nothing, |lineage| &lineage.directories);
        let needs = needs(config, instance, directories);
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

fn finding(sandbox: &Sandbox, name: &str, needs: &Needs) -> Option<Finding> {
    let shortfall = Shortfall::between(sandbox, needs)?;
    let finding = Finding::problem(KIND, format!("{UNIT}, for {name}: {shortfall}"));
    Some(match shortfall.settings() {
        Ok(lines) => finding.command(command(name, &lines)),
        Err(elsewhere) => finding.sentence(elsewhere),
    })
}
