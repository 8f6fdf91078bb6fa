//! What is so of a server that is no Postgres: a pooler before it, or what runs it.

use super::{Case, files, served, server, unknown};
use crate::check::{Finding, FindingKind, Weight};
use crate::config;
use crate::deploy::Keeper;
use crate::deploy::state::Observation;
use crate::host::privilege::Ids;
use crate::server::patroni::{Patroni, Rehearsal};
use crate::server::process::Process;
use crate::server::settings::TlsSettings;
use crate::server::{InstanceSnapshot, Server};

/// The first version of PgBouncer that loads its TLS files at a reload (its changelog, 1.16.0).
const OLDEST: (u32, u32) = (1, 16);

pub(super) async fn findings(
    case: &Case,
    keeper: &mut Keeper,
    sight: &InstanceSnapshot,
    seen: &Observation,
) -> Vec<Finding> {
    let process = match &sight.server {
        Server::Down(absence) => return vec![server::down(absence, sight)],
        Server::Up(process) => process,
    };
    let (name, pid) = (process.kind().name(), process.pid());
    let runs = Finding::good(FindingKind::Server, format!("{name} runs, process {pid}"));
    let mut findings = vec![runs];
    let user = sight.targets.server;
    match &**process {
        Process::Postmaster(_) => {}
        Process::PgBouncer(pgbouncer) => findings.push(of_version(pgbouncer.version(user).await)),
        Process::Patroni(patroni) => {
            findings.push(of_patronis_version(patroni.version(user).await));
            findings.extend(of_next_start(patroni, user, case.instance()).await);
        }
    }
    let single = files::single(sight, process).await;
    let is_pinned = single.weight == Weight::Problem;
    findings.push(single);
    match keeper.instance.tls_settings(process, sight).await {
        Ok(settings) => {
            let mut said = of_settings(case, &settings);
            // What it calls the file may by now be an older one.
            said.retain(|finding| !(is_pinned && finding.kind == FindingKind::ServerFiles));
            findings.extend(said);
        }
        Err(error) => findings.push(unknown(
            FindingKind::ServerFiles,
            sight,
            format!("which files the server uses is not known: {error}"),
        )),
    }
    findings.extend(served::proven(case, sight, seen));
    findings.extend(served::of_process(case, process).await);
    findings
}

/// Whether a PgBouncer of this version loads its TLS files at a reload.
fn of_version(version: Option<(u32, u32)>) -> Finding {
    let kind = FindingKind::Version;
    let supported = format!(
        "pgcertd supports PgBouncer {}.{} and later",
        OLDEST.0, OLDEST.1
    );
    let Some(version) = version else {
        return Finding::notice(kind, "which version it is of is not known")
            .sentence(format!("see what pgbouncer --version says: {supported}"));
    };
    let seen = format!("it is PgBouncer {}.{}", version.0, version.1);
    if version >= OLDEST {
        Finding::good(kind, seen)
    } else {
        Finding::problem(kind, seen)
            .because("before 1.16 it loads its TLS files when it starts, and at no reload")
            .sentence(format!("upgrade it: {supported}"))
    }
}

/// Whether a Patroni of this version loads a renewed certificate at a reload: from 2.1.0 on, but for
/// 3.0.3 (its release notes, 2.1.0 and 3.0.4).
fn of_patronis_version(version: Option<(u32, u32, u32)>) -> Finding {
    let kind = FindingKind::Version;
    let supported = "pgcertd supports Patroni 2.1 and later, but for 3.0.3";
    let Some((major, minor, patch)) = version else {
        return Finding::notice(kind, "which version it is of is not known")
            .sentence(format!("see what patroni --version says: {supported}"));
    };
    let seen = format!("it is Patroni {major}.{minor}.{patch}");
    if (major, minor, patch) < (2, 1, 0) || (major, minor, patch) == (3, 0, 3) {
        Finding::problem(kind, seen)
            .because("it does not load a renewed certificate at a reload")
            .sentence(format!("upgrade it: {supported}"))
    } else {
        Finding::good(kind, seen)
    }
}

/// Whether a Patroni would have its REST API again after a restart, or a reload: with a pair that it
/// cannot load it goes on without.
async fn of_next_start(
    patroni: &Patroni,
    user: Ids,
    config: &config::InstanceConfig,
) -> Option<Finding> {
    let kind = FindingKind::Restart;
    Some(match patroni.rehearsed(user, config).await? {
        Rehearsal::Loads => Finding::good(kind, "Patroni can load what its configuration names"),
        Rehearsal::Refused(said) => {
            let seen = format!("Patroni cannot load what its configuration names: {said}");
            Finding::problem(kind, seen)
                .because("when it starts or is told to reload, it goes on without its REST API")
                .sentence("have files placed that it can load before it is restarted or reloaded")
        }
    })
}

/// Whether its configuration turns TLS on, and names the files of the instance.
fn of_settings(case: &Case, settings: &TlsSettings) -> Vec<Finding> {
    let config = case.instance();
    let (cert, key) = (&config.cert_file, &config.key_file);
    let on = if settings.on {
        Finding::good(FindingKind::Ssl, "TLS is on")
    } else {
        Finding::from_problem(FindingKind::Ssl, settings.names.tls_off())
    };
    let mut settings = settings.clone();
    settings.on = true;
    // With TLS on, what is not used are the files.
    let files = match settings.not_used(cert, key) {
        Ok(None) => Finding::good(FindingKind::ServerFiles, "the server uses these files"),
        Ok(Some(not_used)) => Finding::from_problem(FindingKind::ServerFiles, not_used),
        Err(cannot) => Finding::not_known(FindingKind::ServerFiles, server::OF_FILES, &cannot),
    };
    let faults = settings.faults_elsewhere(config);
    let faults = faults.into_iter();
    let faults = faults.map(|fault| Finding::from_problem(FindingKind::Restart, fault));
    [on, files].into_iter().chain(faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patroni_that_loads_no_certificate_at_a_reload_is_named_with_what_is_supported() {
        let weight = |version| of_patronis_version(version).weight;
        assert_eq!(weight(Some((2, 0, 2))), Weight::Problem);
        assert_eq!(weight(Some((2, 1, 0))), Weight::Good);
        assert_eq!(weight(Some((3, 0, 3))), Weight::Problem);
        assert_eq!(weight(Some((4, 1, 0))), Weight::Good);
        assert_eq!(weight(None), Weight::Notice);
    }

    #[test]
    fn a_pooler_that_loads_no_tls_files_at_a_reload_is_named_with_what_is_supported() {
        let weight = |version| of_version(version).weight;
        assert_eq!(weight(Some((1, 15))), Weight::Problem);
        assert_eq!(weight(Some((1, 16))), Weight::Good);
        assert_eq!(weight(Some((2, 0))), Weight::Good);
        assert_eq!(weight(None), Weight::Notice);
    }
}
