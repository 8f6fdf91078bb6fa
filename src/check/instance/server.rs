//! The server, and what its configuration says of TLS.

use super::look::InstanceLook;
use super::words::{setup, unanswered, unknown};
use crate::check::finding::Finding;
use crate::config::ServerKind;
use crate::server::postmaster::Absence;
use crate::server::probe::AskedName;
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{InstanceSnapshot, Server};

pub(in crate::check) fn server(look: &InstanceLook) -> Option<Finding> {
    let sight = look.sight()?;
    if let Some(Err(error)) = &look.reader {
        let finding = Finding::problem(error.to_string());
        return Some(finding.because("the server's files could not be looked at"));
    }
    Some(match &sight.server {
        Server::Down(absence) => down(absence, sight),
        Server::Up(process) => {
            let (name, pid) = (process.kind().name(), process.pid());
            Finding::good(format!("{name} is running, process {pid}"))
        }
    })
}

/// A server that is not running, or may not be.
fn down(absence: &Absence, sight: &InstanceSnapshot) -> Finding {
    let unknown_state = "whether it is running is not known";
    match absence {
        Absence::NotKnown(cannot) => return Finding::not_known(unknown_state, cannot),
        // To one who may look it is no lack of a right.
        Absence::Unreadable(why) => return unknown(sight, format!("{unknown_state}: {why}")),
        Absence::Unsupported { .. } => return Finding::problem(absence.problem()),
        _ => {}
    }
    let fix = match absence.problem().fix {
        fix if fix.is_empty() => "what it serves can be checked once it is running".into(),
        fix => fix,
    };
    Finding::notice(format!("the server is not running: {absence}")).fix(fix)
}

pub(in crate::check) fn ssl(look: &InstanceLook) -> Option<Finding> {
    let settings = look.tls.as_ref()?.as_ref().ok()?;
    Some(match look.instance().kind() {
        ServerKind::Postgres if settings.on => Finding::good("ssl is on"),
        _ if settings.on => Finding::good("TLS is on"),
        ServerKind::Postgres => set_up(look, Finding::problem("ssl = off")),
        _ => Finding::problem(settings.names.tls_off()),
    })
}

/// A finding that the set-up fixes.
pub(super) fn set_up(look: &InstanceLook, finding: Finding) -> Finding {
    let is_up = look.sight().is_some_and(|sight| sight.server.is_up());
    look.edits
        .set_up(finding, is_up, setup(look.instance(), &[]))
}

pub(in crate::check) fn server_files(look: &InstanceLook) -> Option<Finding> {
    const NOT_KNOWN: &str = "which files the server uses is not known";
    let (sight, config) = (look.sight()?, look.instance());
    let is_postgres = config.kind() == ServerKind::Postgres;
    let settings = match look.tls.as_ref()? {
        // That the configuration is refused is what `restart` finds.
        Err(SettingsError::Refused { .. }) if is_postgres => return None,
        Err(error @ SettingsError::Untrusted(_)) => {
            return Some(Finding::problem(error.to_string()));
        }
        Err(error) => return Some(unanswered(sight, NOT_KNOWN, error)),
        // What another server calls the file may by now be an older one.
        Ok(_) if !is_postgres && matches!(look.pinned, Some(Ok(Some(_)) | Err(_))) => return None,
        Ok(settings) => settings,
    };
    Some(
        match settings.other_files(&config.cert_file, &config.key_file) {
            Ok(None) => Finding::good("the server uses these files"),
            Ok(Some(not_used)) if !is_postgres || settings.hosts().is_some() => {
                Finding::problem(not_used)
            }
            Ok(Some(not_used)) => set_up(look, Finding::problem(not_used.what)),
            Err(cannot) => Finding::not_known(NOT_KNOWN, &cannot),
        },
    )
}

/// Which names decide what is served; for PostgreSQL only.
pub(in crate::check) fn ssl_sni(look: &InstanceLook) -> Option<Finding> {
    look.start.as_ref()?;
    let settings: &TlsSettings = look.tls.as_ref()?.as_ref().ok()?;
    let seen = match (&settings.hosts, settings.hosts()) {
        (None, _) => "every name gets the same certificate".to_owned(),
        (Some(hosts), None) => format!(
            "ssl_sni is on, but {} is empty: every name gets the same certificate",
            hosts.file.display()
        ),
        (Some(hosts), Some(_)) => {
            let names = settings.asked_names.iter().map(AskedName::to_string);
            let names: Vec<String> = names.collect();
            let file = hosts.file.display();
            format!(
                "ssl_sni is on, and {file} decides; checked for {}",
                names.join(", ")
            )
        }
    };
    Some(Finding::good(seen))
}
