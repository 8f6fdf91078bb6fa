//! The files that the server checks its clients against: whether it uses them, and when they expire.

use jiff::Timestamp;

use super::look::InstanceLook;
use crate::bundle::{Expiry, Piece};
use crate::check::finding::Finding;
use crate::text::day;

/// Whether the server uses them; none if the instance has no such files, or it is not known.
pub(in crate::check) fn files(look: &InstanceLook) -> Option<Finding> {
    look.start.as_ref()?;
    look.instance().ca.as_ref()?;
    let settings = look.tls.as_ref()?.as_ref().ok()?;
    Some(match settings.companions_not_used(look.instance()) {
        Ok(None) => Finding::good("the server checks its clients against these files"),
        Ok(Some(not_used)) => Finding::problem(not_used),
        Err(cannot) => {
            let what = "whether the server checks its clients against these files is not known";
            Finding::not_known(what, &cannot)
        }
    })
}

/// When the first of the source's files expires; none if there are none. What can't be installed is reported by `source`.
pub(in crate::check) fn expiry(look: &InstanceLook) -> Option<Finding> {
    let trust = look.seen.source.bundle()?.client_trust();
    let alive = trust
        .ends(Timestamp::now())
        .filter(|end| end.expiry != Expiry::Expired);
    let first = alive.min_by_key(|end| (std::cmp::Reverse(end.expiry), end.end))?;
    let (name, day) = (first.name, day(first.end));
    let (seen, fix) = match first.piece {
        Piece::Crl => (
            format!("the next CRL of {name} is due by {day}"),
            "make sure that whatever fetches or makes it does so before then",
        ),
        _ => (
            format!("the CA {name} expires by {day}"),
            "have it reissued, and put both certificates into the CA file",
        ),
    };
    Some(match first.expiry {
        Expiry::Fine => Finding::good(seen),
        _ => Finding::notice(seen).fix(fix),
    })
}
