//! What is so of a server that is no Postgres: a pooler before it, or what runs it.

use super::{Case, served, server, unknown};
use crate::doctor::{Finding, Kind};
use crate::instance::settings::TlsSettings;
use crate::instance::{Server, Sight};
use crate::reconcile::Keeper;
use crate::reconcile::state::Observation;

pub(super) async fn findings(
    case: &Case,
    keeper: &mut Keeper,
    sight: &Sight,
    seen: &Observation,
) -> Vec<Finding> {
    let process = match &sight.server {
        Server::Down(absence) => return vec![server::down(absence, sight)],
        Server::Up(process) => process,
    };
    let (name, pid) = (process.kind().name(), process.pid());
    let runs = Finding::good(Kind::Server, format!("{name} runs, process {pid}"));
    let mut findings = vec![runs];
    match keeper.instance.tls_settings(process, sight).await {
        Ok(settings) => findings.extend(of_settings(case, &settings)),
        Err(error) => findings.push(unknown(
            Kind::ServerFiles,
            sight,
            format!("which files the server uses is not known: {error}"),
        )),
    }
    findings.extend(served::proven(case, sight, seen));
    findings.extend(served::of_process(case, process).await);
    findings
}

/// Whether its configuration turns TLS on, and names the files of the instance.
fn of_settings(case: &Case, settings: &TlsSettings) -> Vec<Finding> {
    let config = case.instance();
    let (cert, key) = (&config.cert_file, &config.key_file);
    let mend = settings.not_used(cert, key).map(|it| it.mend);
    let mended = |finding: Finding| finding.advised(mend.as_deref().unwrap_or_default());
    let on = match settings.on {
        true => Finding::good(Kind::Ssl, "TLS is on"),
        false => mended(Finding::problem(Kind::Ssl, settings.names.off)),
    };
    let files = match settings.other_files(cert, key) {
        None => Finding::good(Kind::ServerFiles, "the server uses these files"),
        Some(why) => mended(Finding::problem(Kind::ServerFiles, why)),
    };
    let faults = settings.faults_elsewhere();
    let faults = faults.into_iter().map(|fault| {
        let (seen, mend) = fault.split_once("; ").unwrap_or((&fault, ""));
        Finding::problem(Kind::Restart, seen).advised(mend)
    });
    [on, files].into_iter().chain(faults).collect()
}
