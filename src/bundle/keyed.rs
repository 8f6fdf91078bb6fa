//! A bundle together with its private key: for as long as it takes to check it and to write it.

use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::pem::{self, Block};
use super::{
    Bundle, BundleError, Companions, Part, PrivateKey, check_leaf, check_links, check_strength,
    read_chain, the_one_key,
};

/// A bundle and its private key. Whoever only compares keeps [`KeyedBundle::bundle`]; the key is
/// zeroed with this.
pub struct KeyedBundle {
    bundle: Arc<Bundle>,
    key: PrivateKey,
}

impl KeyedBundle {
    /// Makes a bundle of the content of files: `chain` in order (`fullchain.pem`; or `cert.pem`,
    /// then `chain.pem`), and the key file. A combined file is given as both.
    ///
    /// # Errors
    /// The first fault found; [`BundleError::class`] tells whether it may be half of a renewal.
    pub fn parse(chain: &[&[u8]], key: &[u8]) -> Result<Self, BundleError> {
        let (certificates, mut keys) = read_chain(chain)?;
        let key_blocks = pem::blocks(key, Part::Key)?;
        let own_keys = key_blocks.into_iter().filter_map(|block| match block {
            Block::Key(kind, der) => Some((Part::Key, kind, der)),
            Block::Certificate(_) | Block::Revocations(_) => None,
        });
        let before = keys.len();
        keys.extend(own_keys);
        if keys.len() == before {
            return Err(BundleError::NoKey);
        }
        check_strength(&certificates)?;
        let key = the_one_key(keys)?;
        check_leaf(&certificates, &key)?;
        check_links(&certificates)?;
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or(BundleError::NoCertificate {
            part: Part::Certificate,
        })?;
        let bundle = Arc::new(Bundle {
            leaf,
            intermediates: certificates.collect(),
            key: key.digest(),
            companions: Companions::default(),
        });
        Ok(Self { bundle, key })
    }

    /// The same with these files beside it.
    #[must_use]
    pub fn with(self, companions: Companions) -> Self {
        let bundle = Arc::unwrap_or_clone(self.bundle).with(companions);
        Self {
            bundle: Arc::new(bundle),
            key: self.key,
        }
    }

    /// All of it but the key.
    #[must_use]
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The private key as canonical PEM, labelled by its encoding.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<Vec<u8>> {
        pem::encode(&[self.key_block()])
    }

    /// The chain, then the key: one file that serves as `ssl_cert_file` and `ssl_key_file`.
    #[must_use]
    pub fn combined_pem(&self) -> Zeroizing<Vec<u8>> {
        let mut blocks = self.chain_blocks();
        blocks.push(self.key_block());
        pem::encode(&blocks)
    }

    fn key_block(&self) -> (&'static str, &[u8]) {
        (self.key.label(), self.key.der())
    }
}

impl Deref for KeyedBundle {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

impl std::fmt::Debug for KeyedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bundle.fmt(f)
    }
}
