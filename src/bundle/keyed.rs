//! A bundle together with its private key: for as long as it takes to check it and to write it.

use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::order::arranged;
use super::pem::{self, Block, PemSource};
use super::{
    Bundle, BundleError, ClientTrust, Form, FoundChain, Part, PrivateKey, check_strength,
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
    /// then `chain.pem`), and the key file. A combined file is given as both. What needs no guess is set right
    /// ([`Bundle::set_right`]).
    ///
    /// # Errors
    /// The first fault found; [`BundleError::class`] tells whether it may be half of a renewal.
    pub fn parse(chain: &[&[u8]], key: &[u8]) -> Result<Self, BundleError> {
        Self::read(chain, key, PemSource::Lineage)
    }

    /// The same of files that a server loads as they are.
    ///
    /// # Errors
    /// As well where that is so only once something was set right.
    pub fn loaded(chain: &[u8], key: &[u8]) -> Result<Self, BundleError> {
        let keyed = Self::read(&[chain], key, PemSource::Server)?;
        if keyed.set_right.iter().all(|right| right.loads_as_it_is()) {
            Ok(keyed)
        } else {
            // The lines were read as they are.
            Err(BundleError::LeafNotFirst)
        }
    }

    fn read(chain: &[&[u8]], key: &[u8], source: PemSource) -> Result<Self, BundleError> {
        let key_file = pem::blocks(key, Part::Key, source);
        let found = read_chain(chain, source).map_err(|error| match &key_file {
            Ok(key_file) if is_swapped(chain, &key_file.blocks, source) => BundleError::OtherForm {
                part: Part::Certificate,
                form: Form::Swapped,
            },
            _ => error,
        })?;
        let key_file = key_file?;
        let FoundChain {
            certificates,
            mut keys,
            mut set_right,
        } = found;
        // A combined file is read twice.
        set_right.extend(key_file.set_right);
        let own_keys = key_file.blocks.into_iter().filter_map(|block| match block {
            Block::Key(kind, der) => Some((Part::Key, kind, der)),
            Block::Certificate(_) | Block::Revocations(_) => None,
        });
        let before = keys.len();
        keys.extend(own_keys);
        if keys.len() == before {
            return Err(BundleError::NoKey);
        }
        let strong = check_strength(&certificates);
        let key = match the_one_key(keys) {
            // A key that cannot be used is so for its certificate's reason, where that is known.
            Err(error @ BundleError::UnusableKey { .. }) => {
                return Err(strong.err().unwrap_or(error));
            }
            key => key?,
        };
        let arranged = match arranged(certificates, &key) {
            // So is a link that cannot be checked.
            Err(error @ BundleError::NotLinked { .. }) => {
                return Err(strong.err().unwrap_or(error));
            }
            arranged => arranged?,
        };
        check_strength([&arranged.leaf].into_iter().chain(&arranged.intermediates))?;
        set_right.extend(arranged.set_right);
        let bundle = Arc::new(Bundle {
            leaf: arranged.leaf,
            intermediates: arranged.intermediates,
            key: key.digest(),
            companions: ClientTrust::default(),
            set_right,
        });
        Ok(Self { bundle, key })
    }

    /// The same with these files beside it.
    pub(crate) fn with(self, companions: ClientTrust) -> Self {
        let bundle = Arc::unwrap_or_clone(self.bundle).with(companions);
        Self {
            bundle: Arc::new(bundle),
            key: self.key,
        }
    }

    /// All of it but the key.
    pub(crate) fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The private key as canonical PEM, labelled by its encoding.
    pub(crate) fn key_pem(&self) -> Zeroizing<Vec<u8>> {
        pem::encode(&[self.key_block()])
    }

    /// The chain, then the key: one file that serves as `ssl_cert_file` and `ssl_key_file`.
    pub(crate) fn combined_pem(&self) -> Zeroizing<Vec<u8>> {
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

/// Whether the files hold each other's content: keys where certificates should be, and certificates in place of a key.
fn is_swapped(chain: &[&[u8]], key_file: &[Block], source: PemSource) -> bool {
    let is_certificate = |block: &Block| matches!(block, Block::Certificate(_));
    let is_key = |block: &Block| matches!(block, Block::Key(..));
    let [first, ..] = chain else { return false };
    let first = pem::blocks(first, Part::Certificate, source).map(|read| read.blocks);
    let first = first.unwrap_or_default();
    let swapped = first.iter().any(is_key) && !first.iter().any(is_certificate);
    swapped && key_file.iter().any(is_certificate) && !key_file.iter().any(is_key)
}
