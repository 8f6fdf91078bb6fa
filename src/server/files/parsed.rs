//! The bundles of files that were parsed before: the same bytes hold the same bundle.
//!
//! Parsing verifies signatures, and an instance's files are looked at before and after each change. So what a pair of files
//! holds is found by a digest of their bytes for as long as somebody holds the bundle: the instance that looked last. Instances
//! that serve the same certificate share it. Whether a bundle is still good is not remembered; that depends on the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;

use crate::bundle::{Bundle, BundleError, KeyedBundle};

/// SHA-256 of several texts, each with its length.
pub(super) type Digest = [u8; 32];

static PARSED: Mutex<BTreeMap<Digest, Weak<Bundle>>> = Mutex::new(BTreeMap::new());

pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// The bundle that a server loads from these files, as [`KeyedBundle::loaded`] has it.
///
/// # Errors
/// The same.
pub(super) fn loaded(chain: &[u8], key: &[u8]) -> Result<Arc<Bundle>, BundleError> {
    let by = digest([chain, key]);
    let table = || PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = table().get(&by).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let bundle = Arc::clone(KeyedBundle::loaded(chain, key)?.bundle());
    let mut table = table();
    table.retain(|_, bundle| bundle.strong_count() > 0);
    table.insert(by, Arc::downgrade(&bundle));
    Ok(bundle)
}
