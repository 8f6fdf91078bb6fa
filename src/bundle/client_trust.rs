//! The files by which Postgres judges its clients, loaded together with chain and key: the CAs whose certificates it
//! accepts (`ssl_ca_file`), and what these have revoked (`ssl_crl_file`).
//!
//! Postgres silently loads files with which nobody can connect. This was tried on PostgreSQL 15 with OpenSSL 3.0 and
//! clients that have certificates:
//!
//! | file | at a start and a reload | then |
//! | --- | --- | --- |
//! | empty, text alone, DER, or with one broken block after good ones | rejected, FATAL at a start | |
//! | CA file with a certificate that is no CA, or one whose key may not sign certificates | loaded | every client of it is rejected |
//! | CA file with an intermediate alone, without its root | loaded | every client is rejected |
//! | CA file with an expired CA, or whose RSA key is below 2048 bits | loaded | every client of it is rejected |
//! | CA file with a self-signed certificate of one client | loaded | that client is accepted |
//! | CRL file with certificates | loaded | each of them is trusted as a CA, as if in the CA file |
//! | CRL file without a list of one CA | loaded | every client of that CA is rejected (`X509_V_FLAG_CRL_CHECK_ALL`) |
//! | CRL file whose only list of a CA is past its next update, or not valid yet | loaded | every client of that CA is rejected |
//! | CRL file whose list was signed by another key, or by a CA without `cRLSign` | loaded | every client of that CA is rejected |
//!
//! So a CA or CRL file is refused here where it would lock out all clients of a CA, or let in
//! clients nobody meant to.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{self, Certificate, timestamp};
use super::error::{BundleError, LinkError, Refusal};
use super::facts::{Authority, printable};
use super::fingerprint::Fingerprint;
use super::pem::{self, Block, PemSource};
use super::piece::{Piece, TrustFiles};
use super::signature;

/// What an instance's CA and CRL files hold, if it has them. Where there are CRLs, the CAs that made them are there too.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientTrust {
    pub(super) authorities: Vec<Certificate>,
    lists: Vec<RevocationList>,
}

/// What one CA has revoked (RFC 5280, 5).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RevocationList {
    der: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
    /// The issuer's distinguished name as text; control characters are escaped.
    pub(super) issuer: String,
    issuer_der: Vec<u8>,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
}

impl RevocationList {
    fn from_der(der: Vec<u8>, position: usize) -> Result<Self, BundleError> {
        let Ok(([], parsed)) = CertificateRevocationList::from_der(&der) else {
            let piece = Piece::Crl;
            return Err(BundleError::Damaged { piece, position });
        };
        let mut extensions = parsed.extensions().iter();
        if extensions
            .any(|extension| extension.critical && is_beyond(&extension.oid.to_id_string()))
        {
            return Err(BundleError::PartialList { position });
        }
        Ok(Self {
            issuer: printable(&parsed.issuer().to_string()),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            this_update: timestamp(&parsed.last_update()),
            next_update: parsed.next_update().as_ref().map(timestamp),
            fingerprint: Fingerprint::from_der(&der),
            der,
        })
    }

    fn has_begun(&self, now: Timestamp) -> bool {
        self.this_update <= now
    }

    fn signed_by(&self, authority: &Certificate) -> Result<(), LinkError> {
        let issuer = certificate::parse(authority.der()).map_err(|_| LinkError::BadSignature)?;
        let (_, list) =
            CertificateRevocationList::from_der(&self.der).map_err(|_| LinkError::BadSignature)?;
        signature::check_list(&issuer, &list)
    }

    /// Refuses a list that none of the CAs made.
    fn check_issuer(
        &self,
        position: usize,
        authorities: &[Certificate],
    ) -> Result<(), BundleError> {
        let issuer = || self.issuer.clone();
        let mut fault = BundleError::Stranger {
            position,
            issuer: issuer(),
        };
        let named = |certificate: &&Certificate| certificate.subject_der() == self.issuer_der;
        for authority in authorities.iter().filter(named) {
            fault = match self.signed_by(authority) {
                Err(reason) => BundleError::NotSigned {
                    position,
                    issuer: issuer(),
                    reason,
                },
                Ok(()) if authority.facts().may_sign_lists == Some(false) => {
                    BundleError::MayNotSign {
                        subject: authority.subject().to_owned(),
                        usage: "cRLSign",
                        what: "CRLs",
                    }
                }
                Ok(()) => return Ok(()),
            };
        }
        Err(fault)
    }
}

/// Whether a critical extension says that a list is not a CA's complete one: a delta, which OpenSSL
/// takes for a complete list all the same (tried), or something that OpenSSL does not know.
pub(super) fn is_beyond(oid: &str) -> bool {
    const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
    const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";
    const CRL_NUMBER: &str = "2.5.29.20";
    ![
        ISSUING_DISTRIBUTION_POINT,
        AUTHORITY_KEY_IDENTIFIER,
        CRL_NUMBER,
    ]
    .contains(&oid)
}

impl ClientTrust {
    /// Parses the content of the files that an instance has.
    ///
    /// # Errors
    /// The first fault that would remain whatever the date is.
    pub(crate) fn parse<T: AsRef<[u8]>>(
        files: &TrustFiles<Option<T>>,
    ) -> Result<Self, BundleError> {
        let mut trust = Self::default();
        for (piece, text) in files.present() {
            for block in pem::blocks(text.as_ref(), piece, PemSource::Server)?.blocks {
                trust.add(piece, block)?;
            }
            if trust.ders(piece).is_empty() {
                return Err(BundleError::NoContent { piece });
            }
        }
        for (index, list) in trust.lists.iter().enumerate() {
            list.check_issuer(index + 1, &trust.authorities)?;
        }
        Ok(trust)
    }

    /// Adds a block of one of the files.
    fn add(&mut self, piece: Piece, block: Block) -> Result<(), BundleError> {
        let what = match (piece, block) {
            (Piece::Ca, Block::Certificate(der)) => {
                let position = self.authorities.len() + 1;
                let certificate = Certificate::from_der(der)
                    .map_err(|_| BundleError::Damaged { piece, position })?;
                check_authority(&certificate, position)?;
                self.authorities.push(certificate);
                return Ok(());
            }
            (Piece::Crl, Block::List(der)) => {
                let list = RevocationList::from_der(der, self.lists.len() + 1)?;
                self.lists.push(list);
                return Ok(());
            }
            (_, Block::Certificate(_)) => return Err(BundleError::WouldBeTrusted),
            (_, Block::List(_)) => "a CRL",
            (_, Block::Key(_)) => "a private key",
        };
        Err(BundleError::Stray { piece, what })
    }

    /// The names by which a server that has loaded the CA file asks clients for certificates
    /// (`SSL_load_client_CA_file`, each once); none where there is no such file.
    pub(crate) fn names(&self) -> Option<BTreeSet<Vec<u8>>> {
        let subjects = self
            .authorities
            .iter()
            .map(|authority| authority.subject_der().to_vec());
        (!self.authorities.is_empty()).then(|| subjects.collect())
    }

    /// The DER of each block of a file; empty if there is no such file.
    fn ders(&self, piece: Piece) -> Vec<&[u8]> {
        match piece {
            Piece::Ca => self.authorities.iter().map(Certificate::der).collect(),
            Piece::Crl => self.lists.iter().map(|list| list.der.as_slice()).collect(),
            _ => Vec::new(),
        }
    }

    /// A file as canonical PEM, if there is one.
    pub(crate) fn pem(&self, piece: Piece) -> Option<Vec<u8>> {
        let label = match piece {
            Piece::Crl => "X509 CRL",
            _ => "CERTIFICATE",
        };
        let ders = self.ders(piece);
        (!ders.is_empty()).then(|| pem::encode_public(label, ders))
    }

    /// SHA-256 of each file as it is written.
    pub(crate) fn digests(&self) -> TrustFiles<Option<Fingerprint>> {
        TrustFiles::from_pieces(|piece| Some(Fingerprint::from_der(&self.pem(piece)?)))
    }

    /// SHA-256 of both files, one after the other; `None` if there are none.
    pub(crate) fn digest(&self) -> Option<Fingerprint> {
        let files = TrustFiles::from_pieces(|piece| self.pem(piece).unwrap_or_default());
        let whole = [files.ca, files.crl].concat();
        (!whole.is_empty()).then(|| Fingerprint::from_der(&whole))
    }

    /// Whether each file that `other` has is the same here.
    pub(super) fn holds(&self, other: &Self) -> bool {
        [Piece::Ca, Piece::Crl].into_iter().all(|piece| {
            let theirs = other.ders(piece);
            theirs.is_empty() || theirs == self.ders(piece)
        })
    }

    /// Whether clients could get in at `now`.
    ///
    /// # Errors
    /// Whose clients could not.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.authorities.is_empty() {
            return Ok(());
        }
        let valid = |authority: &&Certificate| {
            (authority.not_before()..=authority.not_after()).contains(&now)
        };
        let mut valid = self.authorities.iter().filter(valid);
        if !valid.clone().any(Certificate::is_self_issued) {
            return Err(Refusal::NoAuthority);
        }
        if self.lists.is_empty() {
            return Ok(());
        }
        valid.try_for_each(|authority| self.check_lists_of(authority, now))
    }

    /// The CAs that have expired.
    pub(super) fn expired_authorities(&self, now: Timestamp) -> impl Iterator<Item = &Certificate> {
        self.authorities
            .iter()
            .filter(move |authority| authority.is_expired(now))
    }

    fn lists_of(&self, authority: &Certificate) -> impl Iterator<Item = &RevocationList> {
        let is_issuer = |list: &&RevocationList| list.issuer_der == authority.subject_der();
        self.lists.iter().filter(is_issuer)
    }

    /// The list of `authority` that lasts longest, of those that have begun.
    pub(super) fn longest_list_of(
        &self,
        authority: &Certificate,
        now: Timestamp,
    ) -> Option<&RevocationList> {
        let begun = self.lists_of(authority).filter(|list| list.has_begun(now));
        begun.max_by_key(|list| list.next_update.unwrap_or(Timestamp::MAX))
    }

    /// If a CA has several lists, OpenSSL uses one that is valid now (tried with an expired one
    /// before it).
    fn check_lists_of(&self, authority: &Certificate, now: Timestamp) -> Result<(), Refusal> {
        let ends = self
            .longest_list_of(authority, now)
            .map(|list| list.next_update);
        if ends.is_some_and(|next_update| next_update.is_none_or(|end| now <= end)) {
            return Ok(());
        }
        let issuer = authority.subject().to_owned();
        if let Some(list) = self.lists_of(authority).find(|list| !list.has_begun(now)) {
            let this_update = list.this_update;
            return Err(Refusal::ListNotBegun {
                issuer,
                this_update,
            });
        }
        Err(match ends.flatten() {
            Some(next_update) => Refusal::ListExpired {
                issuer,
                next_update,
            },
            None => Refusal::NoList { issuer },
        })
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust")
            .field("authorities", &self.authorities.len())
            .field("lists", &self.lists.len())
            .finish()
    }
}

/// Whether it issues certificates; of version 1, where nothing says so, a self-issued one does
/// (`check_ca` of OpenSSL).
fn is_authority(certificate: &Certificate) -> bool {
    let facts = certificate.facts();
    match facts.authority {
        Authority::Yes(_) => true,
        Authority::Unsaid => facts.version == 1 && certificate.is_self_issued(),
        Authority::No => false,
    }
}

/// Refuses a certificate by which no client could get in. A self-issued one that is not a CA stands for one client, which
/// is accepted by it.
fn check_authority(certificate: &Certificate, position: usize) -> Result<(), BundleError> {
    let subject = certificate.subject().to_owned();
    if !is_authority(certificate) && !certificate.is_self_issued() {
        return Err(BundleError::NotAuthority { position, subject });
    }
    if is_authority(certificate) && certificate.facts().may_sign_certificates == Some(false) {
        return Err(BundleError::MayNotSign {
            subject,
            usage: "keyCertSign",
            what: "certificates",
        });
    }
    match certificate.weakness() {
        Some(weakness) => Err(BundleError::WeakAuthority { subject, weakness }),
        None => Ok(()),
    }
}
