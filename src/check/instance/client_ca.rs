//! The files by which the server judges its clients: does it use them, how long do they last.

use jiff::Timestamp;

use super::{Case, ServerAnswers};
use crate::bundle::{ClientTrust, Expiry, Piece};
use crate::check::{Finding, FindingKind};
use crate::config;
use crate::report::day;

/// Whether the server uses them; none where the instance has no such files, or it is not known.
pub(super) fn used(config: &config::InstanceConfig, answers: &ServerAnswers) -> Option<Finding> {
    let kind = FindingKind::ClientCaFiles;
    config.ca.as_ref()?;
    let settings = answers.tls.as_ref().ok()?;
    Some(match settings.companions_not_used(config) {
        Ok(None) => Finding::good(kind, "the server judges its clients by these files"),
        Ok(Some(not_used)) => Finding::from_problem(kind, not_used),
        Err(cannot) => {
            let what = "whether the server judges its clients by these files is not known";
            Finding::not_known(kind, what, &cannot)
        }
    })
}

/// How long they last, as the source has them; none where there are none. What is refused is
/// said of the source.
pub(super) fn expiry(case: &Case) -> Option<Finding> {
    let companions = case.source.bundle()?.client_trust();
    lasting(companions, Timestamp::now())
}

/// The end that comes first is the one to tell.
fn lasting(companions: &ClientTrust, now: Timestamp) -> Option<Finding> {
    let kind = FindingKind::ClientCaExpiry;
    let alive = companions
        .ends(now)
        .filter(|companion_end| companion_end.expiry != Expiry::Expired);
    let first = alive.min_by_key(|end| (std::cmp::Reverse(end.expiry), end.end))?;
    let (name, day) = (first.name, day(first.end));
    let (seen, mend) = match first.piece {
        Piece::Crl => (
            format!("the CRL of {name} is to be replaced by its next one by {day}"),
            "see that what fetches or makes it does so before that",
        ),
        _ => (
            format!("the CA {name} expires by {day}"),
            "have it issued anew, and put both into the CA file",
        ),
    };
    Some(match first.expiry {
        Expiry::Fine => Finding::good(kind, seen),
        _ => Finding::notice(kind, seen).sentence(mend),
    })
}
