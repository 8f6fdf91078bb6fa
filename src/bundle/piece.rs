//! What of a bundle is renewed by itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::certificate::{Expiry, Thresholds};
use super::fingerprint::Fingerprint;

/// A part of a bundle that has its own source and its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// The server's own: leaf, intermediates and key.
    Certificate,
    /// The CAs whose certificates it takes from clients.
    Ca,
    Crl,
}

impl Piece {
    pub const ALL: [Piece; 3] = [Piece::Certificate, Piece::Ca, Piece::Crl];

    /// As in JSON, in the journal and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Piece::Certificate => "certificate",
            Piece::Ca => "ca",
            Piece::Crl => "crl",
        }
    }

    /// As a person reads it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Piece::Certificate => "certificate",
            Piece::Ca => "CA",
            Piece::Crl => "CRL",
        }
    }

    /// How near to its end what lasts from `begin` to `end` is at `now`: `thresholds` are for the server's own
    /// certificate, and a CRL has a rule of its own.
    pub(crate) fn expiry(
        self,
        begin: Timestamp,
        end: Timestamp,
        now: Timestamp,
        thresholds: Thresholds,
    ) -> Expiry {
        match self {
            Piece::Certificate => Expiry::from_not_before(begin, end, now, thresholds),
            Piece::Ca => Expiry::from_not_before(begin, end, now, Thresholds::default()),
            Piece::Crl => Expiry::of_list(begin, end, now),
        }
    }
}

/// A digest of each piece of a bundle that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pieces(pub(super) [Option<Fingerprint>; 3]);

impl Pieces {
    /// The digest of this piece; none where there is no such.
    pub(crate) fn fingerprint_of(self, piece: Piece) -> Option<Fingerprint> {
        let mut each = Piece::ALL.into_iter().zip(self.0);
        each.find_map(|(it, digest)| digest.filter(|_| it == piece))
    }

    /// Which of them differ from those of `before`; all where there was nothing. What is not among
    /// these was not replaced.
    pub(crate) fn since(self, before: Option<Pieces>) -> Vec<Piece> {
        let before = before.map_or([None; 3], |pieces| pieces.0);
        let pairs = Piece::ALL.into_iter().zip(self.0).zip(before);
        pairs
            .filter(|((_, now), before)| now.is_some() && now != before)
            .map(|((piece, _), _)| piece)
            .collect()
    }
}
