//! Whether the unit's sandbox allows what the config asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::look::HostLook;
use super::survey::AcmeSurvey;
use crate::check::finding::Finding;
use crate::check::sandbox::{Need, Needs, Sandbox, Shortfall, command, needs};
use crate::check::unit::{UNIT, Unit};
use crate::config::Config;

pub(in crate::check) async fn sandbox(look: &HostLook) -> Vec<Finding> {
    // `old_hook` says why they cannot be read.
    let Ok(files) = &look.files else {
        return Vec::new();
    };
    let (config, unit) = (&look.context.config, &look.context.unit);
    let (config, unit) = (Arc::clone(config), Arc::clone(unit));
    let survey = Arc::clone(&files.survey);
    // Links are followed.
    let looked = files.reader.call(move || {
        let unit = unit.as_ref().as_ref();
        unit.map(|unit| findings(&config, unit, &survey))
    });
    match looked.await {
        Ok(findings) => findings.unwrap_or_default(),
        Err(error) => vec![Finding::notice(error.to_string())],
    }
}

/// A finding for each instance, and for pgcertd's own directories, if the unit denies a path; else one that it doesn't.
fn findings(config: &Config, unit: &Unit, survey: &AcmeSurvey) -> Vec<Finding> {
    let sandbox = Sandbox::from_unit(unit);
    let own = BTreeSet::from([
        (config.state_directory.clone(), Need::Write),
        (config.runtime_directory.clone(), Need::Write),
    ]);
    let mut findings = Vec::from_iter(finding(&sandbox, "pgcertd", &own));
    let nothing = BTreeSet::new();
    for instance in &config.instances {
        let name = &instance.lineage.name;
        let lineage = survey.lineages.iter().find(|found| found.name == *name);
        let directories = lineage.map_or(&nothing, |lineage| &lineage.directories);
        let needs = needs(config, instance, directories);
        findings.extend(finding(&sandbox, &instance.name, &needs));
    }
    if findings.is_empty() {
        findings.push(Finding::good(format!("{UNIT} lets pgcertd use every path")));
    }
    findings
}

fn finding(sandbox: &Sandbox, name: &str, needs: &Needs) -> Option<Finding> {
    let shortfall = Shortfall::between(sandbox, needs)?;
    let finding = Finding::problem(format!("{UNIT}, for {name}: {shortfall}"));
    Some(match shortfall.settings() {
        Ok(lines) => finding.command(command(name, &lines)),
        Err(elsewhere) => finding.fix(elsewhere),
    })
}
