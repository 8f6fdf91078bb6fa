//! The chain of a key among the certificates of its files, whatever their order is.
//!
//! OpenSSL sends the first certificate of a file as the leaf and the rest as they stand, and clients find their way
//! through those that issued something (RFC 8446, 4.4.2): several issuers of one name, as cross-signing makes them, are all
//! kept. What issued nothing in the chain helps no client.

use std::collections::BTreeSet;

use super::error::{BundleError, LinkError};
use super::set_right::SetRight;
use super::{Certificate, PrivateKey};

/// A chain, the leaf first, and what was done to have it so.
pub(super) struct Arranged {
    pub(super) leaf: Certificate,
    pub(super) intermediates: Vec<Certificate>,
    pub(super) set_right: BTreeSet<SetRight>,
}

/// Arranges certificates, of which none is there twice, around the one of this key.
///
/// # Errors
/// None is, or what could be the issuer of one is not: then the files may be of two renewals.
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
        // The first of the file next.
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
            // One of its issuer's name, which has signed another.
            Err(other) => reason = Some(other),
        }
    }
    let is_its_own = || certificates[child].issued(&certificates[child]).is_ok();
    if !issuers.is_empty() || is_its_own() {
        return Ok(issuers);
    }
    // A leaf among nothing but strangers may be half of a renewal.
    let alone = child == leaf && certificates.len() > 1;
    match reason.or(alone.then_some(LinkError::IssuerMismatch)) {
        Some(reason) => Err(BundleError::NotLinked {
            position: child + 1,
            reason,
        }),
        None => Ok(issuers),
    }
}
