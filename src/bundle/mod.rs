//! PEM and X.509: parse, check, compare.
//!
//! A [`Bundle`] that exists is one that Postgres can load: its key fits its leaf, its chain is in
//! order, each signature is good, and nothing in it is below what OpenSSL accepts at its default
//! security level. Whether it should be installed now, on this instance, is for
//! [`Bundle::check`] to say.
//!
//! A bundle knows which key belongs to it, and does not hold it: it can be compared and kept for
//! months. The key itself is in a [`KeyedBundle`], which lives as long as it takes to write it.
//!
//! No file is opened here; the bytes that come in are the bytes that were checked, and what goes
//! out is encoded anew from them. No error and no `Debug` shows what a file holds.

mod certificate;
mod companions;
mod error;
mod facts;
mod fingerprint;
mod key;
mod keyed;
mod names;
mod order;
mod pem;
mod piece;
mod set_right;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

pub(crate) use certificate::{Certificate, Expiry, Thresholds};
pub(crate) use companions::ClientTrust;
pub(crate) use error::{BundleError, Class, Form, LinkError, Part, Refusal, Warning};
pub(crate) use facts::Authority;
pub use fingerprint::Fingerprint;
pub(crate) use key::{KeyDigest, PrivateKey};
pub use keyed::KeyedBundle;
pub(crate) use names::Ground;
pub use piece::Piece;
pub(crate) use piece::Pieces;
pub(crate) use set_right::SetRight;

use pem::{Block, PemSource};

/// The largest number of certificates in a chain. OpenSSL's clients give up at 100, and no
/// public chain has more than five.
pub(crate) const MAX_CERTIFICATES: usize = 32;

/// What a lineage holds at one moment: leaf, intermediates, which private key, and where the
/// instance has such, the CA and CRL files that Postgres loads with them. Nothing of the key can be
/// told from it.
#[derive(Clone)]
pub struct Bundle {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
    key: KeyDigest,
    companions: ClientTrust,
    set_right: BTreeSet<SetRight>,
}

/// Which bundle: what tells one from another where only the last of several counts. The leaf does,
/// and where CA or CRL files come with it, these do as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) leaf: Fingerprint,
    /// See [`ClientTrust::digest`].
    pub(crate) companions: Option<Fingerprint>,
}

impl Bundle {
    /// The same with these files beside it.
    pub(crate) fn with(self, companions: ClientTrust) -> Self {
        Self { companions, ..self }
    }

    /// The CA and CRL files that come with it.
    pub(crate) fn companions(&self) -> &ClientTrust {
        &self.companions
    }

    /// What its files do not have as it is here.
    pub(crate) fn set_right(&self) -> &BTreeSet<SetRight> {
        &self.set_right
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            leaf: self.fingerprint(),
            companions: self.companions.digest(),
        }
    }

    /// What tells each of its pieces from another one: of the certificate the chain, whose leaf
    /// tells the key, and the CA and CRL files as they are written.
    pub(crate) fn pieces(&self) -> Pieces {
        let of = |text: Vec<u8>| Fingerprint::from_der(&text);
        Pieces([
            Some(of(self.chain_pem())),
            self.companions.ca_pem().map(of),
            self.companions.crl_pem().map(of),
        ])
    }

    pub(crate) fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// What follows the leaf, each the issuer of one before it.
    pub(crate) fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.leaf.fingerprint()
    }

    /// Whether leaf, intermediates, key and what comes with them are all the same, however the
    /// files were written. A key in another encoding is another key.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.same_pair(other) && self.companions == other.companions
    }

    /// Whether it is `other` as far as that goes, which may come without CA and CRL files.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.same_pair(other) && self.companions.holds(&other.companions)
    }

    /// The same, of leaf, intermediates and key alone.
    pub(crate) fn same_pair(&self, other: &Self) -> bool {
        self.leaf == other.leaf
            && self.intermediates == other.intermediates
            && self.key == other.key
    }

    /// Whether it may be installed at `now` where clients verify `server_names`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &self,
        server_names: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if now > self.leaf.not_after() {
            return Err(Refusal::Expired {
                not_after: self.leaf.not_after(),
            });
        }
        if now < self.leaf.not_before() {
            return Err(Refusal::NotYetValid {
                not_before: self.leaf.not_before(),
            });
        }
        self.companions.check(now)?;
        let names = server_names.iter().map(|name| name.to_str().into_owned());
        let missing: Vec<String> = names.filter(|name| !self.covers(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::NamesMissing {
            missing,
            present: self.leaf.names().to_vec(),
        })
    }

    /// What is odd about it as the successor of `installed`.
    pub(crate) fn warnings_against(&self, installed: &Self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let names: Vec<String> = installed
            .leaf
            .names()
            .iter()
            .filter(|name| !self.covers(name))
            .cloned()
            .collect();
        if !names.is_empty() {
            warnings.push(Warning::NamesLost { names });
        }
        let (new, old) = (self.leaf.not_before(), installed.leaf.not_before());
        if new < old {
            warnings.push(Warning::OlderThanInstalled { new, old });
        }
        warnings
    }

    /// What is odd about it at `now`, whatever is installed.
    pub(crate) fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let expired = self.companions.expired_authorities(now);
        expired
            .map(|certificate| Warning::AuthorityExpired {
                subject: certificate.subject().to_owned(),
                not_after: certificate.not_after(),
            })
            .collect()
    }

    /// Whether it has fewer intermediates than `installed` although the same CA issued both: a
    /// sign of a chain file that is not completely written.
    pub(crate) fn shorter_than(&self, installed: &Self) -> bool {
        self.leaf.has_issuer_of(&installed.leaf)
            && self.intermediates.len() < installed.intermediates.len()
    }

    /// Leaf and intermediates as canonical PEM.
    pub(crate) fn chain_pem(&self) -> Vec<u8> {
        std::mem::take(&mut *pem::encode(&self.chain_blocks()))
    }

    fn chain_blocks(&self) -> Vec<(&'static str, &[u8])> {
        std::iter::once(&self.leaf)
            .chain(&self.intermediates)
            .map(|certificate| ("CERTIFICATE", certificate.der()))
            .collect()
    }

    /// Whether a client that asks for `host` takes the leaf's names.
    fn covers(&self, host: &str) -> bool {
        self.leaf.facts().covers(host).is_some()
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("fingerprint", &self.fingerprint())
            .field("intermediates", &self.intermediates.len())
            .finish_non_exhaustive()
    }
}

type FoundKey = (Part, key::KeyKind, Zeroizing<Vec<u8>>);

/// What the chain files hold.
struct FoundChain {
    /// The certificates, each once, in their order.
    certificates: Vec<Certificate>,
    /// The private keys that lie among them.
    keys: Vec<FoundKey>,
    set_right: BTreeSet<SetRight>,
}

/// The certificates of all chain files, and the private keys that lie among them.
fn read_chain(chain: &[&[u8]], source: PemSource) -> Result<FoundChain, BundleError> {
    let mut ders: Vec<Vec<u8>> = Vec::new();
    let mut keys = Vec::new();
    let mut set_right = BTreeSet::new();
    for (index, text) in chain.iter().enumerate() {
        let part = if index == 0 {
            Part::Certificate
        } else {
            Part::Chain
        };
        let mut found = false;
        let read = pem::blocks(text, part, source)?;
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
                Block::Key(kind, der) => keys.push((part, kind, der)),
                Block::Revocations(_) => {}
            }
        }
        if !found {
            return Err(BundleError::NoCertificate { part });
        }
    }
    if ders.is_empty() {
        return Err(BundleError::NoCertificate {
            part: Part::Certificate,
        });
    }
    if ders.len() > MAX_CERTIFICATES {
        return Err(BundleError::TooManyCertificates {
            limit: MAX_CERTIFICATES,
        });
    }
    let certificates = ders
        .into_iter()
        .enumerate()
        .map(|(index, der)| {
            Certificate::from_der(der).map_err(|_| BundleError::CertificateBroken {
                position: index + 1,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(FoundChain {
        certificates,
        keys,
        set_right,
    })
}

/// The leaf among the certificates of a chain file, for who does not see the key: the first that is no authority and
/// issued none of the others; else the first of all.
///
/// # Errors
/// The file is none that a bundle is made of.
pub(crate) fn leaf_of(chain: &[u8]) -> Result<Certificate, BundleError> {
    let mut certificates = read_chain(&[chain], PemSource::Lineage)?.certificates;
    let is_leaf = |one: &Certificate| {
        let is_authority = matches!(one.facts().authority, Authority::Yes(_));
        !is_authority
            && !certificates
                .iter()
                .any(|other| other != one && one.issued(other).is_ok())
    };
    let place = certificates.iter().position(is_leaf).unwrap_or_default();
    Ok(certificates.swap_remove(place))
}

/// What OpenSSL refuses to load whatever the key is.
fn check_strength<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
) -> Result<(), BundleError> {
    for (index, certificate) in certificates.into_iter().enumerate() {
        if let (0, Some(algorithm)) = (index, certificate.public_key().unsupported()) {
            return Err(BundleError::UnsupportedLeaf {
                algorithm: algorithm.to_owned(),
            });
        }
        let position = index + 1;
        if let Some(bits) = certificate.public_key().weak_rsa() {
            return Err(BundleError::WeakRsa { position, bits });
        }
        if let Some(digest) = certificate.weak_digest() {
            return Err(BundleError::WeakSignature { position, digest });
        }
    }
    Ok(())
}

/// The private key, which may be there several times, in several encodings: the last one counts,
/// which is the key file's own.
fn the_one_key(keys: Vec<FoundKey>) -> Result<PrivateKey, BundleError> {
    let mut chosen: Option<PrivateKey> = None;
    for (part, kind, der) in keys {
        let key = PrivateKey::load(kind, der).ok_or(BundleError::UnusableKey { part })?;
        if chosen.is_some_and(|other| other.public() != key.public()) {
            return Err(BundleError::TwoKeys);
        }
        chosen = Some(key);
    }
    chosen.ok_or(BundleError::NoKey)
}
