//! Which CAs and CRLs lock clients out when they end, and when that is.

use jiff::{SignedDuration, Timestamp};

use super::certificate::Certificate;
use super::client_trust::ClientTrust;
use super::expiry::{Expiry, Thresholds};
use super::fingerprint::Fingerprint;
use super::piece::Piece;

/// A CA that ended so long ago, beside others that have not, was left behind by a change of CAs.
const HISTORY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A CA or a CRL, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustEnd<'a> {
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
    /// What locks out the clients of a CA when it ends: not a CA that has a successor of the same name and key, nor one that
    /// was left behind long ago, nor a CRL with a later one of the same CA, since OpenSSL uses the one that is valid
    /// (tried).
    pub(crate) fn ends(&self, now: Timestamp) -> impl Iterator<Item = TrustEnd<'_>> {
        let end = move |piece: Piece, name, fingerprint, begin, end| TrustEnd {
            piece,
            name,
            fingerprint,
            begin,
            end,
            expiry: piece.expiry(begin, end, now, Thresholds::default()),
        };
        let lasting = self
            .authorities
            .iter()
            .filter(move |ca| self.counts(ca, now));
        let authorities = lasting.map(move |ca| {
            let (begin, until) = (ca.not_before(), ca.not_after());
            end(Piece::Ca, ca.subject(), ca.fingerprint(), begin, until)
        });
        let unexpired = self
            .authorities
            .iter()
            .filter(move |ca| !ca.is_expired(now));
        let lists = unexpired.filter_map(move |ca| {
            let list = self.longest_list_of(ca, now)?;
            let (begin, until) = (list.this_update, list.next_update?);
            Some(end(
                Piece::Crl,
                &list.issuer,
                list.fingerprint,
                begin,
                until,
            ))
        });
        authorities.chain(lists)
    }

    /// What ends first of a piece: what is nearest to its end by its own rule, then by date.
    pub(crate) fn first_end(&self, piece: Piece, now: Timestamp) -> Option<TrustEnd<'_>> {
        let ends = self.ends(now).filter(|end| end.piece == piece);
        ends.min_by_key(|end| (std::cmp::Reverse(end.expiry), end.end))
    }

    /// Whether somebody is locked out when `authority` ends.
    fn counts(&self, authority: &Certificate, now: Timestamp) -> bool {
        let mut others = self.authorities.iter().filter(|other| *other != authority);
        let replaced = others.clone().any(|other| {
            other.subject_der() == authority.subject_der()
                && other.public_key() == authority.public_key()
                && other.not_after() > authority.not_after()
                && other.not_before() <= authority.not_after()
        });
        let history = now.duration_since(authority.not_after()) > HISTORY
            && others.any(|other| !other.is_expired(now));
        !replaced && !history
    }
}
