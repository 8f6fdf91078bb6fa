//! The pieces of a bundle: certificate and key, and the files by which a server judges its clients.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::expiry::{Expiry, Thresholds};
use super::fingerprint::Fingerprint;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// The server's own: leaf and intermediates, and in a combined file the key.
    Certificate,
    /// Intermediates in a file of their own.
    Chain,
    Key,
    /// The CAs whose certificates it accepts from clients, for `ssl_ca_file`.
    Ca,
    /// What these have revoked, for `ssl_crl_file`.
    Crl,
}

impl Piece {
    /// Those that have a source and an end of their own.
    pub const RENEWED: [Piece; 3] = [Piece::Certificate, Piece::Ca, Piece::Crl];

    /// As in JSON, in the journal, in labels, and in the names of settings and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Piece::Certificate => "certificate",
            Piece::Chain => "chain",
            Piece::Key => "key",
            Piece::Ca => "ca",
            Piece::Crl => "crl",
        }
    }

    /// The key of the config that names where its file comes from.
    pub(crate) fn source_key(self) -> &'static str {
        match self {
            Piece::Ca => "ca_source",
            Piece::Crl => "crl_source",
            _ => "files",
        }
    }

    /// What its file must have at least one of.
    pub(super) fn content(self) -> &'static str {
        match self {
            Piece::Certificate | Piece::Chain | Piece::Ca => "certificate",
            Piece::Key => "private key",
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
            Piece::Crl => Expiry::from_list(begin, end, now),
            Piece::Ca => Expiry::from_validity(begin, end, now, Thresholds::default()),
            _ => Expiry::from_validity(begin, end, now, thresholds),
        }
    }
}

/// As a person reads it.
impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Piece::Ca => "CA",
            Piece::Crl => "CRL",
            other => other.as_str(),
        })
    }
}

/// A digest of each of [`Piece::RENEWED`] that a bundle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pieces(pub(super) [Option<Fingerprint>; 3]);

impl Pieces {
    /// Which of them differ from those of `before`; all where there was nothing. What is not among
    /// these was not replaced.
    pub(crate) fn since(self, before: Option<Pieces>) -> Vec<Piece> {
        let before = before.map_or([None; 3], |pieces| pieces.0);
        let digests = self.0.into_iter().zip(before);
        let pieces = Piece::RENEWED.into_iter().zip(digests);
        pieces
            .filter(|(_, (now, before))| now.is_some() && now != before)
            .map(|(piece, _)| piece)
            .collect()
    }
}

/// One value for the CA file and one for the CRL file, by which a server judges its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TrustFiles<T> {
    #[serde(default)]
    pub(crate) ca: T,
    #[serde(default)]
    pub(crate) crl: T,
}

impl<T> TrustFiles<T> {
    pub(crate) fn from_pieces(mut value: impl FnMut(Piece) -> T) -> Self {
        Self {
            ca: value(Piece::Ca),
            crl: value(Piece::Crl),
        }
    }

    /// That of [`Piece::Ca`] or [`Piece::Crl`]; there is none of another.
    pub(crate) fn get(&self, piece: Piece) -> Option<&T> {
        let mut files = self.iter();
        files.find_map(|(own, value)| (own == piece).then_some(value))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Piece, &T)> {
        [(Piece::Ca, &self.ca), (Piece::Crl, &self.crl)].into_iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Piece, &mut T)> {
        [(Piece::Ca, &mut self.ca), (Piece::Crl, &mut self.crl)].into_iter()
    }

    pub(crate) fn map<U>(self, mut change: impl FnMut(T) -> U) -> TrustFiles<U> {
        TrustFiles {
            ca: change(self.ca),
            crl: change(self.crl),
        }
    }
}

/// What there is of each; there is none of any other piece.
impl<T> FromIterator<(Piece, T)> for TrustFiles<Option<T>> {
    fn from_iter<I: IntoIterator<Item = (Piece, T)>>(files: I) -> Self {
        let mut files = BTreeMap::from_iter(files);
        Self::from_pieces(|piece| files.remove(&piece))
    }
}

impl<T> TrustFiles<Option<T>> {
    /// Those that are there.
    pub(crate) fn present(&self) -> impl DoubleEndedIterator<Item = (Piece, &T)> {
        self.iter()
            .filter_map(|(piece, value)| Some((piece, value.as_ref()?)))
    }
}
