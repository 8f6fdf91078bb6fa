//! What is so of the host, whatever its instances.

mod asked;
mod clock;
mod cron;
mod facts;
mod hooks;
mod inotify;
mod renewal;
mod sandbox;
mod survey;
mod timers;
mod uncovered;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::unit::{Unit, root_operation};
use super::{Finding, FindingKind};
use crate::config::Config;
use crate::host::privilege::{self, PrivilegeError, landlock_available};
use crate::server::probe::Prober;
use facts::HostFacts;
use survey::AcmeSurvey;

/// The findings of the host; `unit` is the service's, where one is installed.
pub(crate) async fn findings(
    config: &Arc<Config>,
    unit: &Arc<Option<Unit>>,
    prober: &Prober,
) -> Vec<Finding> {
    let mut findings = vec![configured(config)];
    findings.extend(uncovered::findings(config).await);
    findings.extend(unit.as_ref().as_ref().map(unit_user));
    let facts = facts::facts(config, prober).await;
    findings.push(clock::finding(facts.iter().filter_map(|host_facts| host_facts.issued)).await);
    match of_files(config, unit, facts).await {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let seen = format!("the host's files cannot be looked at: {error}");
            findings.push(
                Finding::notice(FindingKind::OldHook, seen).sentence("look at what it names"),
            );
        }
    }
    findings.push(landlock());
    findings.sort_by_key(|finding| finding.kind);
    findings
}

/// What the host's files and its systemd tell.
async fn of_files(
    config: &Arc<Config>,
    unit: &Arc<Option<Unit>>,
    facts: Vec<HostFacts>,
) -> Result<Vec<Finding>, PrivilegeError> {
    let reader = survey::reader().await?;
    let survey = Arc::new(survey::survey(&reader, config).await?);
    let (timers, cron) = (timers::timers().await, cron::cron().await);
    let mut findings = renewal::findings(&survey, &timers, &cron);
    let (of_hooks, with) = (Arc::clone(config), Arc::clone(&survey));
    findings.extend(
        reader
            .call(move || hooks::findings(&of_hooks, &with, &facts))
            .await?,
    );
    let (of_paths, with, unit) = (Arc::clone(config), Arc::clone(&survey), Arc::clone(unit));
    // Other processes' descriptors are looked at with the caller's own rights.
    findings.extend(watchable(unit.as_ref().as_ref(), &survey));
    findings.extend(
        reader
            .call(move || match unit.as_ref() {
                Some(unit) => sandbox::findings(&of_paths, unit, &with),
                None => Vec::new(),
            })
            .await?,
    );
    Ok(findings)
}

/// Whether the service's user, or else the caller, may watch all that is to be watched.
fn watchable(unit: Option<&Unit>, survey: &AcmeSurvey) -> Vec<Finding> {
    let uid = unit.and_then(Unit::uid);
    let uid = uid.unwrap_or_else(|| privilege::Ids::own().uid);
    let directories: BTreeSet<_> = survey
        .lineages
        .iter()
        .flat_map(|lineage| &lineage.directories)
        .collect();
    inotify::findings(uid, directories.len())
}

fn configured(config: &Config) -> Finding {
    let kind = FindingKind::Configured;
    match config.instances.len() {
        0 => Finding::notice(kind, "no instance is configured").command(config.command(&["setup"])),
        1 => Finding::good(kind, "1 instance"),
        count => Finding::good(kind, format!("{count} instances")),
    }
}

fn unit_user(unit: &Unit) -> Finding {
    let kind = FindingKind::UnitUser;
    match unit.missing() {
        Some(missing) => Finding::problem(kind, missing).command(root_operation()),
        None => Finding::good(kind, format!("the service runs as user {}", unit.user())),
    }
}

fn landlock() -> Finding {
    let kind = FindingKind::Landlock;
    if landlock_available() {
        Finding::good(kind, "Landlock confines each thread")
    } else {
        Finding::notice(kind, "this kernel has no Landlock")
            .sentence("use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list")
    }
}
