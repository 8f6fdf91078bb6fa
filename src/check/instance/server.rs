//! What a server's configuration says of TLS.

use super::edits::Edits;
use super::{Case, ServerAnswers, client_ca, unanswered, unknown};
use crate::check::{Finding, FindingKind};
use crate::server::InstanceSnapshot;
use crate::server::postmaster::Absence;
use crate::server::probe::AskedName;
use crate::server::settings::{SettingsError, TlsSettings};

/// That it is not known which files a server uses.
pub(super) const OF_FILES: &str = "which files the server uses is not known";

/// A server that does not run, or is not seen to.
pub(super) fn down(absence: &Absence, sight: &InstanceSnapshot) -> Finding {
    let kind = FindingKind::Server;
    let unknown_state = "whether it runs is not known";
    match absence {
        Absence::NotKnown(cannot) => return Finding::not_known(kind, unknown_state, cannot),
        // To one who may look it is no lack of a right.
        Absence::Unreadable(why) => {
            return unknown(kind, sight, format!("{unknown_state}: {why}"));
        }
        _ => {}
    }
    let problem = absence.problem();
    if let Absence::Unsupported { .. } = absence {
        return Finding::from_problem(kind, problem);
    }
    let fix = match problem.fix.as_str() {
        "" => "what it would serve can be proven once it runs",
        fix => fix,
    };
    Finding::notice(kind, format!("the server is not running: {absence}")).sentence(fix)
}

pub(super) fn findings(
    case: &Case,
    sight: &InstanceSnapshot,
    answers: &ServerAnswers,
    edits: &Edits,
) -> Vec<Finding> {
    let config = case.instance();
    let mut findings = Vec::new();
    match &answers.tls {
        // That the configuration is refused is a finding of its own.
        Err(SettingsError::Refused { .. }) => {}
        Err(error @ SettingsError::Untrusted(_)) => {
            findings.push(Finding::problem(
                FindingKind::ServerFiles,
                error.to_string(),
            ));
        }
        Err(error) => findings.push(unanswered(FindingKind::ServerFiles, sight, OF_FILES, error)),
        Ok(settings) => {
            let set_up = |finding| edits.set_up(finding, sight, case.setup(&[]));
            findings.push(if settings.on {
                Finding::good(FindingKind::Ssl, "ssl is on")
            } else {
                set_up(Finding::problem(FindingKind::Ssl, "ssl = off"))
            });
            findings.push(
                match settings.other_files(&config.cert_file, &config.key_file) {
                    Ok(None) => {
                        Finding::good(FindingKind::ServerFiles, "the server uses these files")
                    }
                    Ok(Some(not_used)) if settings.hosts().is_some() => {
                        Finding::from_problem(FindingKind::ServerFiles, not_used)
                    }
                    Ok(Some(other)) => {
                        set_up(Finding::problem(FindingKind::ServerFiles, other.what))
                    }
                    Err(cannot) => Finding::not_known(FindingKind::ServerFiles, OF_FILES, &cannot),
                },
            );
            findings.push(by_name(settings));
        }
    }
    findings.extend(client_ca::used(config, answers));
    findings
}

/// Whether the name that a client asks for decides which files it gets.
fn by_name(settings: &TlsSettings) -> Finding {
    let seen = match (&settings.hosts, settings.hosts()) {
        (None, _) => "every name gets the same certificate".to_owned(),
        (Some(hosts), None) => format!(
            "ssl_sni is on, and {} says nothing: every name gets the same certificate",
            hosts.file.display()
        ),
        (Some(hosts), Some(_)) => {
            let names: Vec<String> = settings
                .asked_names
                .iter()
                .map(AskedName::to_string)
                .collect();
            format!(
                "ssl_sni is on, and {} decides: asked for here are {}",
                hosts.file.display(),
                names.join(", ")
            )
        }
    };
    Finding::good(FindingKind::SslSni, seen)
}
