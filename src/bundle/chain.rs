//! Reads the certificates of chain files, and finds the chain of a key among them, whatever their order.
//!
//! OpenSSL sends the first certificate of a file as the leaf and the rest as they stand, and clients find their way
//! through the issuers among them (RFC 8446, 4.4.2). Several issuers of one name, which come from cross-signing, are all
//! kept. A certificate that issued nothing in the chain is of no use to clients.

use std::collections::BTreeSet;

use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::error::{BundleError, LinkError, MAX_CERTIFICATES};
use super::facts::Authority;
use super::key::PrivateKey;
use super::pem::{self, Block, PemSource};
use super::piece::Piece;
use super::set_right::SetRight;

/// A private key as it was found, and in which file.
pub(super) type FoundKey = (Piece, Zeroizing<PrivateKeyDer<'static>>);

/// What the chain files hold.
pub(super) struct FoundChain {
    /// The certificates, each once, in their order.
    pub(super) certificates: Vec<Certificate>,
    /// The private keys that lie among them.
    pub(super) keys: Vec<FoundKey>,
    pub(super) set_right: BTreeSet<SetRight>,
}

impl FoundChain {
    /// Reads all chain files; the first begins with the leaf, the rest hold intermediates alone.
    pub(super) fn read(chain: &[&[u8]], source: PemSource) -> Result<Self, BundleError> {
        let mut ders: Vec<Vec<u8>> = Vec::new();
        let mut keys = Vec::new();
        let mut set_right = BTreeSet::new();
        let pieces = std::iter::once(Piece::Certificate).chain(std::iter::repeat(Piece::Chain));
        for (text, piece) in chain.iter().zip(pieces) {
            let mut found = false;
            let read = pem::blocks(text, piece, source)?;
            set_right.extend(read.set_right);
            for block in read.blocks {
                match block {
                    Block::Certificate(der) => {
                        found = true;
                        if ders.contains(&der) {
                            set_right.insert(SetRight::Once);
                        } else {
                            ders.push(der);
                        }
                    }
                    Block::Key(der) => keys.push((piece, der)),
                    Block::List(_) => {}
                }
            }
            if !found {
                return Err(BundleError::NoContent { piece });
            }
        }
        let piece = Piece::Certificate;
        if ders.is_empty() {
            return Err(BundleError::NoContent { piece });
        }
        if ders.len() > MAX_CERTIFICATES {
            return Err(BundleError::TooManyCertificates);
        }
        let numbered = (1..).zip(ders);
        let certificates = numbered.map(|(position, der)| {
            Certificate::from_der(der).map_err(|_| BundleError::Damaged { piece, position })
        });
        Ok(FoundChain {
            certificates: certificates.collect::<Result<_, _>>()?,
            keys,
            set_right,
        })
    }
}

/// The leaf among the certificates of a chain file, for a caller without the key: the first that is not an authority and
/// issued none of the others, or else the first of all.
///
/// # Errors
/// The file is not a chain file.
pub(crate) fn leaf_of(chain: &[u8]) -> Result<Certificate, BundleError> {
    let mut certificates = FoundChain::read(&[chain], PemSource::Lineage)?.certificates;
    let is_leaf = |one: &Certificate| {
        let issued = |other: &Certificate| other != one && one.issued(other).is_ok();
        !matches!(one.facts().authority, Authority::Yes(_)) && !certificates.iter().any(issued)
    };
    let place = certificates.iter().position(is_leaf).unwrap_or_default();
    Ok(certificates.swap_remove(place))
}

/// A chain, the leaf first, and what was done to put it in order.
pub(super) struct Arranged {
    pub(super) leaf: Certificate,
    pub(super) intermediates: Vec<Certificate>,
    pub(super) set_right: BTreeSet<SetRight>,
}

/// Puts certificates, all different, in order from the one of this key.
///
/// # Errors
/// None is of this key, or one has an issuer's name and did not sign: the files may be of two renewals.
pub(super) fn arranged(
    certificates: Vec<Certificate>,
    key: &PrivateKey,
) -> Result<Arranged, BundleError> {
    let owner = certificates
        .iter()
        .position(|certificate| certificate.public_key() == key.public())
        .ok_or(BundleError::KeyMismatch)?;
    let mut order = Vec::new();
    let mut open = vec![owner];
    while let Some(child) = open.pop() {
        if order.contains(&child) {
            continue;
        }
        order.push(child);
        let issuers = issuers(&certificates, child, owner)?;
        // The first in the file is next.
        open.extend(issuers.into_iter().rev());
    }
    let mut set_right = BTreeSet::new();
    if owner != 0 {
        set_right.insert(SetRight::LeafFirst);
    }
    if order.len() < certificates.len() {
        set_right.insert(SetRight::StrangersOut);
    }
    let behind = order.get(1..).unwrap_or_default();
    if !behind.is_sorted() {
        set_right.insert(SetRight::Order);
    }
    let mut places: Vec<Option<Certificate>> = certificates.into_iter().map(Some).collect();
    let mut chain = order.into_iter().filter_map(|at| places[at].take());
    let leaf = chain.next().ok_or(BundleError::KeyMismatch)?;
    Ok(Arranged {
        leaf,
        intermediates: chain.collect(),
        set_right,
    })
}

/// The places of those that issued the one at `child`, in the order of the file.
fn issuers(
    certificates: &[Certificate],
    child: usize,
    leaf: usize,
) -> Result<Vec<usize>, BundleError> {
    let mut issuers = Vec::new();
    let mut reason = None;
    for (place, certificate) in certificates.iter().enumerate() {
        if place == child {
            continue;
        }
        match certificate.issued(&certificates[child]) {
            Ok(()) => issuers.push(place),
            Err(LinkError::IssuerMismatch) => {}
            // It has the issuer's name, and signed another.
            Err(other) => reason = Some(other),
        }
    }
    let is_its_own = || certificates[child].issued(&certificates[child]).is_ok();
    if !issuers.is_empty() || is_its_own() {
        return Ok(issuers);
    }
    // A leaf among unrelated certificates may be half of a renewal.
    let alone = child == leaf && certificates.len() > 1;
    match reason.or(alone.then_some(LinkError::IssuerMismatch)) {
        Some(reason) => Err(BundleError::NotLinked {
            position: child + 1,
            reason,
        }),
        None => Ok(issuers),
    }
}
