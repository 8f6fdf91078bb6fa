//! A bundle without its private key: it only knows which key belongs to it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::ServerName;

use super::certificate::Certificate;
use super::client_trust::ClientTrust;
use super::error::{Refusal, Warning};
use super::fingerprint::Fingerprint;
use super::key::KeyDigest;
use super::pem;
use super::piece::{Pieces, TrustFiles};
use super::set_right::SetRight;

/// What a lineage holds at one moment: leaf, intermediates, which private key, and, if the
/// instance has them, the CA and CRL files that Postgres loads with them. It reveals nothing of the key.
#[derive(Clone)]
pub struct Bundle {
    pub(super) leaf: Certificate,
    pub(super) intermediates: Vec<Certificate>,
    pub(super) key: KeyDigest,
    pub(super) client_trust: ClientTrust,
    pub(super) set_right: BTreeSet<SetRight>,
}

/// Identifies a bundle: by its leaf, and by the CA and CRL files if it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) leaf: Fingerprint,
    /// See [`ClientTrust::digest`].
    pub(crate) companions: Option<Fingerprint>,
}

impl Bundle {
    pub(crate) fn with(self, client_trust: ClientTrust) -> Self {
        Self {
            client_trust,
            ..self
        }
    }

    /// The same; where there are no such files, nothing is copied.
    pub(crate) fn shared_with(bundle: Arc<Self>, client_trust: ClientTrust) -> Arc<Self> {
        if bundle.client_trust == client_trust {
            bundle
        } else {
            Arc::new(Arc::unwrap_or_clone(bundle).with(client_trust))
        }
    }

    /// The CA and CRL files that come with it.
    pub(crate) fn client_trust(&self) -> &ClientTrust {
        &self.client_trust
    }

    /// What was wrong with its files, and is right here.
    pub(crate) fn set_right(&self) -> &BTreeSet<SetRight> {
        &self.set_right
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            leaf: self.fingerprint(),
            companions: self.client_trust.digest(),
        }
    }

    /// A digest of the chain, whose leaf implies the key, and of the CA and CRL files as they are written.
    pub(crate) fn pieces(&self) -> Pieces {
        let TrustFiles { ca, crl } = self.client_trust.digests();
        Pieces([Some(Fingerprint::from_der(&self.chain_pem())), ca, crl])
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

    /// Whether leaf, intermediates, key, CA and CRL files are all the same, however the
    /// files were written. A key in another encoding is another key.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.same_pair(other) && self.client_trust == other.client_trust
    }

    /// Whether it is the same as `other`, which may lack CA and CRL files.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.same_pair(other) && self.client_trust.holds(&other.client_trust)
    }

    /// Whether leaf, intermediates and key are the same.
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
        self.client_trust.check(now)?;
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

    /// What is odd about it at `now`, as the successor of `installed`.
    pub(crate) fn warnings(&self, installed: &Self, now: Timestamp) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let lost = installed
            .leaf
            .names()
            .iter()
            .filter(|name| !self.covers(name));
        let names: Vec<String> = lost.cloned().collect();
        if !names.is_empty() {
            warnings.push(Warning::NamesLost { names });
        }
        let (new, old) = (self.leaf.not_before(), installed.leaf.not_before());
        if new < old {
            warnings.push(Warning::OlderThanInstalled { new, old });
        }
        let expired = self.client_trust.expired_authorities(now);
        warnings.extend(expired.map(|authority| Warning::AuthorityExpired {
            subject: authority.subject().to_owned(),
            not_after: authority.not_after(),
        }));
        warnings
    }

    /// Whether it has fewer intermediates than `installed` although the same CA issued both: a
    /// sign of a chain file that is not completely written.
    pub(crate) fn shorter_than(&self, installed: &Self) -> bool {
        self.leaf.has_issuer_of(&installed.leaf)
            && self.intermediates.len() < installed.intermediates.len()
    }

    /// Leaf and intermediates as canonical PEM.
    pub(crate) fn chain_pem(&self) -> Vec<u8> {
        pem::encode_public("CERTIFICATE", self.chain().map(Certificate::der))
    }

    /// The leaf, then the intermediates.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.intermediates)
    }

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
