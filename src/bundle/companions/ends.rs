//! When CAs and CRLs end, as far as a client is refused then.

use jiff::{SignedDuration, Timestamp};

use super::{Companions, RevocationList};
use crate::bundle::certificate::{Certificate, Expiry, Thresholds};
use crate::bundle::fingerprint::Fingerprint;
use crate::bundle::piece::Piece;

/// A CA that ended so long ago, beside others that have not, was left behind by a change of CAs.
const HISTORY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A CA or a CRL, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End<'a> {
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

impl Companions {
    /// What ends, and from then on keeps the clients of a CA out. A CA that is there as well with
    /// the same name and key and a later end is not among it, nor is one that was left behind, nor
    /// a CRL beside which there is a later one of the same CA: OpenSSL takes the one that is good
    /// (tried).
    pub(crate) fn ends(&self, now: Timestamp) -> impl Iterator<Item = End<'_>> {
        let authorities = self.authorities.iter();
        let authorities = authorities.filter(move |it| self.counts(it, now));
        let authorities =
            authorities.map(|it| (Piece::Ca, it.subject(), it.fingerprint(), span(it)));
        let alive = self.authorities.iter();
        let alive = alive.filter(move |it| now <= it.not_after());
        let lists = alive.filter_map(move |it| {
            let list = self.list_of(it, now)?;
            let span = (list.this_update, list.next_update?);
            Some((Piece::Crl, list.issuer(), list.fingerprint, span))
        });
        let all = authorities.chain(lists);
        all.map(move |(piece, name, fingerprint, (begin, end))| End {
            piece,
            name,
            fingerprint,
            begin,
            end,
            expiry: piece.expiry(begin, end, now, Thresholds::default()),
        })
    }

    /// What of a piece ends first, the nearest to its end before all; none where nothing of it ends.
    pub(crate) fn first_end(&self, piece: Piece, now: Timestamp) -> Option<End<'_>> {
        let ends = self.ends(now).filter(|it| it.piece == piece);
        ends.min_by_key(|it| (std::cmp::Reverse(it.expiry), it.end))
    }

    /// Whether somebody is refused when `authority` ends.
    fn counts(&self, authority: &Certificate, now: Timestamp) -> bool {
        let others = || self.authorities.iter().filter(|it| *it != authority);
        let replaced = others().any(|it| {
            it.subject_der() == authority.subject_der()
                && it.public_key() == authority.public_key()
                && it.not_after() > authority.not_after()
                && it.not_before() <= authority.not_after()
        });
        let history = now.duration_since(authority.not_after()) > HISTORY
            && others().any(|it| now <= it.not_after());
        !replaced && !history
    }

    /// The list of `authority` that lasts longest, of those that have begun.
    fn list_of(&self, authority: &Certificate, now: Timestamp) -> Option<&RevocationList> {
        let begun = self.lists_of(authority).filter(|it| it.this_update <= now);
        begun.max_by_key(|it| it.next_update.unwrap_or(Timestamp::MAX))
    }
}

fn span(authority: &Certificate) -> (Timestamp, Timestamp) {
    (authority.not_before(), authority.not_after())
}
