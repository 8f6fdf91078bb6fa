//! Would the server start again: its own program says, by a start on a throw-away data directory
//! ([`dry_start`](crate::server::dry_start)).
//!
//! A running server keeps its old settings when a reload fails; a start fails for good: because of `postgresql.conf`,
//! `pg_hba.conf`, a TLS file or a TLS setting.

use super::look::InstanceLook;
use super::owners::owned;
use super::server::set_up;
use super::words::{unanswered, unknown};
use crate::check::finding::Finding;
use crate::config::InstanceConfig;
use crate::host::privilege::Ids;
use crate::server::InstanceSnapshot;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::patroni::{Patroni, Rehearsal};
use crate::server::process::Process;
use crate::server::settings::{SettingsError, TlsSettings};

const NOT_KNOWN: &str = "whether the server could start again is not known";

pub(in crate::check) async fn restart(look: &InstanceLook) -> Vec<Finding> {
    let Some(sight) = look.sight() else {
        return Vec::new();
    };
    let process = match sight.server.process() {
        None | Some(Process::Postmaster(_)) => {
            return of_postgres(look, sight).into_iter().collect();
        }
        Some(process) => process,
    };
    let mut findings = Vec::new();
    if let Process::Patroni(patroni) = process {
        findings.extend(of_patroni(patroni, sight.targets.server, look.instance()).await);
    }
    if let Some(Ok(settings)) = &look.tls {
        let faults = settings.faults_elsewhere(look.instance());
        findings.extend(faults.into_iter().map(Finding::problem));
    }
    findings
}

fn of_postgres(look: &InstanceLook, sight: &InstanceSnapshot) -> Option<Finding> {
    let start = look.start.as_ref()?;
    let tls = match (look.tls.as_ref()?, &start.around) {
        (Err(SettingsError::Refused { said, .. }), _)
        | (_, Err(SettingsError::Refused { said, .. })) => {
            let finding = Finding::problem(format!("the server would not start: {said}"));
            return Some(finding.fix("fix the file at that line, then run check again"));
        }
        (Err(error), _) | (_, Err(error)) => return Some(unanswered(sight, NOT_KNOWN, error)),
        (Ok(tls), Ok(_)) => tls,
    };
    Some(match &start.tried {
        DryStart::Loads => Finding::good("the server could start again"),
        DryStart::NotKnown(why) => unknown(sight, format!("{NOT_KNOWN}: {why}")),
        DryStart::Fails { stage, said } => {
            let would_not = match stage {
                LoadStage::Configuration => "the server would not start",
                LoadStage::Tls => "the server would not start, and a reload doesn't change its TLS",
                LoadStage::HostRules => {
                    "the server would not start, and a reload doesn't change the rules of pg_hba.conf"
                }
            };
            let finding = Finding::problem(format!("{would_not}: {said}"));
            let is_of_pair = *stage == LoadStage::Tls && tls.is_pair_named_by(said);
            if is_of_pair {
                of_pair(look, sight, tls, finding)
            } else {
                finding.fix("fix what is named, and don't restart the server before that")
            }
        }
    })
}

/// What fixes the pair that the server names: an install if it is ours, a set-up if it is another.
fn of_pair(
    look: &InstanceLook,
    sight: &InstanceSnapshot,
    tls: &TlsSettings,
    finding: Finding,
) -> Finding {
    let config = look.instance();
    if tls.other_files(&config.cert_file, &config.key_file) != Ok(None) {
        return set_up(look, finding);
    }
    finding.command(if sight.targets.key_fault(&sight.look.found).is_some() {
        owned(&sight.targets)
    } else {
        config.command(&["sync"])
    })
}

/// Whether a Patroni would have its REST API after a restart or a reload: if it cannot load the pair, it goes on
/// without.
async fn of_patroni(patroni: &Patroni, user: Ids, config: &InstanceConfig) -> Option<Finding> {
    Some(match patroni.rehearsed(user, config).await? {
        Rehearsal::Loads => Finding::good("Patroni can load what its configuration names"),
        Rehearsal::Refused(said) => Finding::problem(format!(
            "Patroni cannot load what its configuration names: {said}"
        ))
        .because("after a restart or a reload it runs without its REST API")
        .fix("install files that it can load before it is restarted or reloaded"),
    })
}
