//! When CAs and CRLs end, as far as a client is refused then.

use jiff::{SignedDuration, Timestamp};

use super::{ClientTrust, RevocationList};
use crate::bundle::certificate::{Certificate, Expiry, Thresholds};
use crate::bundle::fingerprint::Fingerprint;
use crate::bundle::piece::Piece;

/// A CA that ended so long ago, beside others that have not, was left behind by a change of CAs.
const HISTORY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A CA or a CRL, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompanionEnd<'a> {
    /// [`Piece::Ca`] or [`Piece::Crl`].
    pub(crate) piece: Piece,
    /// The CA's distinguished name as text; control characters are escaped.
    pub(crate) name: &'a str,
    /// SHA-256 of its DER.
    pub(crate) fingerprint: Fingerprint,
    /// The first moment of its validity; of a CRL its thisUpdate.
    pub(crate) begin: Timestamp,
    /// The last; of a CRL its nextUpdate.
    pub(crate) end: Timestamp,
    /// How near to its end it is.
    pub(crate) expiry: Expiry,
}

impl ClientTrust {
    /// What ends, and from then on keeps the clients of a CA out. A CA that is there as well with
    /// the same name and key and a later end is not among it, nor is one that was left behind, nor
    /// a CRL beside which there is a later one of the same CA: OpenSSL takes the one that is good
    /// (tried).
    pub(crate) fn ends(&self, now: Timestamp) -> impl Iterator<Item = CompanionEnd<'_>> {
        let authorities = self.authorities.iter();
        let authorities = authorities.filter(move |certificate| self.counts(certificate, now));
        let authorities = authorities.map(|certificate| {
            (
                Piece::Ca,
                certificate.subject(),
                certificate.fingerprint(),
                span(certificate),
            )
        });
        let alive = self.authorities.iter();
        let alive = alive.filter(move |certificate| now <= certificate.not_after());
        let lists = alive.filter_map(move |found| {
            let list = self.list_of(found, now)?;
            let span = (list.this_update, list.next_update?);
            Some((Piece::Crl, list.issuer(), list.fingerprint, span))
        });
        let all = authorities.chain(lists);
        all.map(
            move |(piece, name, fingerprint, (begin, end))| CompanionEnd {
                piece,
                name,
                fingerprint,
                begin,
                end,
                expiry: piece.expiry(begin, end, now, Thresholds::default()),
            },
        )
    }

    /// What of a piece ends first, the nearest to its end before all; none where nothing of it ends.
    pub(crate) fn first_end(&self, piece: Piece, now: Timestamp) -> Option<CompanionEnd<'_>> {
        let ends = self
            .ends(now)
            .filter(|companion_end| companion_end.piece == piece);
        ends.min_by_key(|end| (std::cmp::Reverse(end.expiry), end.end))
    }

    /// Whether somebody is refused when `authority` ends.
    fn counts(&self, authority: &Certificate, now: Timestamp) -> bool {
        let others = || {
            self.authorities
                .iter()
                .filter(|certificate| *certificate != authority)
        };
        let replaced = others().any(|certificate| {
            certificate.subject_der() == authority.subject_der()
                && certificate.public_key() == authority.public_key()
                && certificate.not_after() > authority.not_after()
                && certificate.not_before() <= authority.not_after()
        });
        let history = now.duration_since(authority.not_after()) > HISTORY
            && others().any(|certificate| now <= certificate.not_after());
        !replaced && !history
    }

    /// The list of `authority` that lasts longest, of those that have begun.
    fn list_of(&self, authority: &Certificate, now: Timestamp) -> Option<&RevocationList> {
        let begun = self
            .lists_of(authority)
            .filter(|list| list.this_update <= now);
        begun.max_by_key(|revocation_list| revocation_list.next_update.unwrap_or(Timestamp::MAX))
    }
}

fn span(authority: &Certificate) -> (Timestamp, Timestamp) {
    (authority.not_before(), authority.not_after())
}
