//! What a server's configuration says of TLS.

use super::edits::Edits;
use super::{Answers, Case, client_ca, unanswered, unknown};
use crate::doctor::{Finding, Kind};
use crate::instance::Sight;
use crate::instance::postmaster::Absence;
use crate::instance::settings::SettingsError;

/// That it is not known which files a server uses.
pub(super) const OF_FILES: &str = "which files the server uses is not known";

/// A server that does not run, or is not seen to.
pub(super) fn down(absence: &Absence, sight: &Sight) -> Finding {
    let kind = Kind::Server;
    let unknown_state = "whether it runs is not known";
    match absence {
        Absence::NotKnown(cannot) => return Finding::not_known(kind, unknown_state, cannot),
        // To one who may look it is no lack of a right.
        Absence::Unreadable(why) => {
            return unknown(kind, sight, format!("{unknown_state}: {why}"));
        }
        _ => {}
    }
    if let Absence::Unsupported { why, mend } = absence {
        return Finding::problem(kind, why).sentence(*mend);
    }
    let mend = match absence.mend() {
        "" => "what it would serve can be proven once it runs",
        mend => mend,
    };
    Finding::notice(kind, format!("the server is not running: {absence}")).sentence(mend)
}

pub(super) fn findings(
    case: &Case,
    sight: &Sight,
    answers: &Answers,
    edits: &Edits,
) -> Vec<Finding> {
    let config = case.instance();
    let mut findings = Vec::new();
    match &answers.tls {
        // That the configuration is refused is a finding of its own.
        Err(SettingsError::Refused { .. }) => {}
        Err(error @ SettingsError::Untrusted(_)) => {
            findings.push(Finding::problem(Kind::ServerFiles, error.to_string()));
        }
        Err(error) => findings.push(unanswered(Kind::ServerFiles, sight, OF_FILES, error)),
        Ok(settings) => {
            let set_up = |finding| edits.set_up(finding, sight, case.setup(&[]));
            findings.push(match settings.on {
                true => Finding::good(Kind::Ssl, "ssl is on"),
                false => set_up(Finding::problem(Kind::Ssl, "ssl = off")),
            });
            findings.push(
                match settings.other_files(&config.cert_file, &config.key_file) {
                    Ok(None) => Finding::good(Kind::ServerFiles, "the server uses these files"),
                    Ok(Some(why)) => set_up(Finding::problem(Kind::ServerFiles, why)),
                    Err(cannot) => Finding::not_known(Kind::ServerFiles, OF_FILES, &cannot),
                },
            );
        }
    }
    findings.extend(client_ca::used(config, answers));
    findings.extend(sni(answers.sni.as_ref()));
    findings
}

/// What `postgres -C ssl_sni` answers: before 19 there is no such parameter. Nothing where it
/// could not be asked, which is said of the files.
fn sni(answer: Result<&String, &SettingsError>) -> Option<Finding> {
    let kind = Kind::SslSni;
    match answer.map(String::as_str) {
        Ok("on") => Some(
            Finding::notice(
                kind,
                "ssl_sni is on: pg_hosts.conf chooses the files by the name that a client asks for",
            )
            .sentence(
                "name this instance's files in pg_hosts.conf for each of server_names, or set \
                 ssl_sni = off, and reload",
            ),
        ),
        Ok(_) => Some(Finding::good(kind, "ssl_sni is off")),
        Err(SettingsError::Refused { said, .. }) if said.contains("ssl_sni") => {
            Some(Finding::good(kind, "no ssl_sni here"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Weight;

    fn refused(said: &str) -> SettingsError {
        SettingsError::Refused {
            executable: "postgres".into(),
            setting: "ssl_sni",
            said: said.into(),
        }
    }

    #[test]
    fn ssl_sni_is_worth_knowing_where_it_is_on() {
        let weight = |answer: Result<&str, &SettingsError>| {
            let answer = answer.map(str::to_owned);
            sni(answer.as_ref().map_err(|error| *error)).map(|it| it.weight)
        };
        assert_eq!(weight(Ok("on")), Some(Weight::Notice));
        assert_eq!(weight(Ok("off")), Some(Weight::Good));
        // As PostgreSQL 15 says it.
        let before_19 = refused("unrecognized configuration parameter \"ssl_sni\"");
        assert_eq!(weight(Err(&before_19)), Some(Weight::Good));
        let broken = refused("configuration file \"/d/postgresql.conf\" contains errors");
        assert_eq!(weight(Err(&broken)), None);
    }
}
