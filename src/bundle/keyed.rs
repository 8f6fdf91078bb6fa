//! A bundle with its private key, which exists only while it is checked and written.

use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::chain::{FoundChain, FoundKey, arranged};
use super::client_trust::ClientTrust;
use super::error::{BundleError, Form};
use super::key::PrivateKey;
use super::keyless::Bundle;
use super::pem::{self, Block, PemSource};
use super::piece::Piece;

/// A bundle and its private key, which is zeroed when this is dropped. To compare, [`KeyedBundle::bundle`] is enough.
pub struct KeyedBundle {
    bundle: Arc<Bundle>,
    key: PrivateKey,
}

impl KeyedBundle {
    /// Parses the content of files: `chain` in order (`fullchain.pem`; or `cert.pem`,
    /// then `chain.pem`), and the key file. A combined file is given as both. What needs no guess is set right
    /// ([`Bundle::set_right`]).
    ///
    /// # Errors
    /// The first fault found; [`BundleError::may_pass`] tells whether it may be half of a renewal.
    pub fn parse(chain: &[&[u8]], key: &[u8]) -> Result<Self, BundleError> {
        Self::read(chain, key, PemSource::Lineage)
    }

    /// The same for files that a server loads as they are.
    ///
    /// # Errors
    /// The same, and if the server would not load them until something is set right.
    pub fn loaded(chain: &[u8], key: &[u8]) -> Result<Self, BundleError> {
        let keyed = Self::read(&[chain], key, PemSource::Server)?;
        if keyed.set_right.iter().all(|right| right.loads_as_it_is()) {
            Ok(keyed)
        } else {
            // Lines cannot be the reason: these are read strictly here.
            Err(BundleError::LeafNotFirst)
        }
    }

    fn read(chain: &[&[u8]], key: &[u8], source: PemSource) -> Result<Self, BundleError> {
        let key_file = pem::blocks(key, Piece::Key, source);
        let found = FoundChain::read(chain, source).map_err(|error| match &key_file {
            Ok(key_file) if is_swapped(chain, &key_file.blocks, source) => BundleError::OtherForm {
                piece: Piece::Certificate,
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
        let before = keys.len();
        keys.extend(key_file.blocks.into_iter().filter_map(|block| match block {
            Block::Key(der) => Some((Piece::Key, der)),
            Block::Certificate(_) | Block::List(_) => None,
        }));
        if keys.len() == before {
            return Err(NO_KEY);
        }
        let strong = check_strength(&certificates);
        let key = match the_one_key(keys) {
            // What is wrong with its certificate says more.
            Err(error @ BundleError::UnusableKey { .. }) => {
                return Err(strong.err().unwrap_or(error));
            }
            key => key?,
        };
        let arranged = match arranged(certificates, &key) {
            // The same holds for a link that cannot be checked.
            Err(error @ BundleError::NotLinked { .. }) => {
                return Err(strong.err().unwrap_or(error));
            }
            arranged => arranged?,
        };
        set_right.extend(arranged.set_right);
        let bundle = Bundle {
            leaf: arranged.leaf,
            intermediates: arranged.intermediates,
            key: key.digest(),
            client_trust: ClientTrust::default(),
            set_right,
        };
        check_strength(bundle.chain())?;
        let bundle = Arc::new(bundle);
        Ok(Self { bundle, key })
    }

    pub(crate) fn with(self, client_trust: ClientTrust) -> Self {
        let bundle = Arc::unwrap_or_clone(self.bundle).with(client_trust);
        Self {
            bundle: Arc::new(bundle),
            key: self.key,
        }
    }

    /// Everything but the key.
    pub(crate) fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The private key as canonical PEM, labelled by its encoding.
    pub(crate) fn key_pem(&self) -> Zeroizing<Vec<u8>> {
        pem::encode(&[self.key_block()])
    }

    /// The chain, then the key: one file that serves as `ssl_cert_file` and `ssl_key_file`.
    pub(crate) fn combined_pem(&self) -> Zeroizing<Vec<u8>> {
        let chain = self
            .chain()
            .map(|certificate| ("CERTIFICATE", certificate.der()));
        let blocks: Vec<_> = chain.chain([self.key_block()]).collect();
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

pub(super) const NO_KEY: BundleError = BundleError::NoContent { piece: Piece::Key };

/// What OpenSSL refuses to load, whatever the key is.
fn check_strength<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
) -> Result<(), BundleError> {
    for (position, certificate) in (1..).zip(certificates) {
        if let (1, Some(algorithm)) = (position, certificate.public_key().unsupported()) {
            let algorithm = algorithm.to_owned();
            return Err(BundleError::UnsupportedLeaf { algorithm });
        }
        if let Some(weakness) = certificate.weakness() {
            return Err(BundleError::Weak { position, weakness });
        }
    }
    Ok(())
}

/// The private key, which may be there several times, in several encodings: the last one counts,
/// which is the key file's own.
fn the_one_key(keys: Vec<FoundKey>) -> Result<PrivateKey, BundleError> {
    let mut chosen: Option<PrivateKey> = None;
    for (piece, der) in keys {
        let key = PrivateKey::load(der).ok_or(BundleError::UnusableKey { piece })?;
        if chosen.is_some_and(|other| other.public() != key.public()) {
            return Err(BundleError::TwoKeys);
        }
        chosen = Some(key);
    }
    chosen.ok_or(NO_KEY)
}

/// Whether the files hold each other's content: keys where certificates should be, and certificates in place of a key.
fn is_swapped(chain: &[&[u8]], key_file: &[Block], source: PemSource) -> bool {
    let is_certificate = |block: &Block| matches!(block, Block::Certificate(_));
    let is_key = |block: &Block| matches!(block, Block::Key(_));
    let [first, ..] = chain else { return false };
    let first = pem::blocks(first, Piece::Certificate, source).map(|read| read.blocks);
    let first = first.unwrap_or_default();
    let swapped = first.iter().any(is_key) && !first.iter().any(is_certificate);
    swapped && key_file.iter().any(is_certificate) && !key_file.iter().any(is_key)
}
