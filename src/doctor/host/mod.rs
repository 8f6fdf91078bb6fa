//! What is so of the host, whatever its instances.

mod uncovered;

use super::unit::{Unit, root_operation};
use super::{Finding, Kind};
use crate::config::Config;
use crate::privilege::landlock_available;

/// The findings of the host; `unit` is the service's, where one is installed.
pub async fn findings(config: &Config, unit: Option<&Unit>) -> Vec<Finding> {
    let mut findings = vec![configured(config)];
    findings.extend(uncovered::findings(config).await);
    findings.extend(unit.map(unit_user));
    findings.push(landlock());
    findings
}

fn configured(config: &Config) -> Finding {
    let kind = Kind::Configured;
    match config.instances.len() {
        0 => Finding::notice(kind, "no instance is configured").command(config.command(&["setup"])),
        1 => Finding::good(kind, "1 instance"),
        count => Finding::good(kind, format!("{count} instances")),
    }
}

fn unit_user(unit: &Unit) -> Finding {
    let kind = Kind::UnitUser;
    match unit.missing() {
        Some(missing) => Finding::problem(kind, missing).command(root_operation()),
        None => Finding::good(kind, format!("the service runs as user {}", unit.user())),
    }
}

fn landlock() -> Finding {
    let kind = Kind::Landlock;
    match landlock_available() {
        true => Finding::good(kind, "Landlock confines each thread"),
        false => Finding::notice(kind, "this kernel has no Landlock")
            .sentence("use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list"),
    }
}
