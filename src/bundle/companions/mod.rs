//! The files that Postgres loads together with chain and key, to judge its clients: the CAs whose
//! certificates it takes (`ssl_ca_file`), and what these have revoked (`ssl_crl_file`).
//!
//! Postgres loads more than serves anybody, and says nothing. What stands here of it was tried on
//! PostgreSQL 15 with OpenSSL 3.0 and clients that have certificates:
//!
//! | file | at a start and a reload | then |
//! | --- | --- | --- |
//! | empty, text alone, DER, or with one broken block after good ones | refused, FATAL at a start | |
//! | CA file with a certificate that is no CA, or one whose key may not sign certificates | loaded | every client of it is refused |
//! | CA file with an intermediate alone, without its root | loaded | every client is refused |
//! | CA file with a CA that expired, or whose RSA key is below 2048 bits | loaded | every client of it is refused |
//! | CA file with a self-signed certificate of one client | loaded | that client is accepted |
//! | CRL file with certificates | loaded | each of them is trusted as a CA, as if in the CA file |
//! | CRL file without a list of one CA | loaded | every client of that CA is refused (`X509_V_FLAG_CRL_CHECK_ALL`) |
//! | CRL file whose only list of a CA is past its next update, or not begun | loaded | every client of that CA is refused |
//! | CRL file whose list was signed by another key, or by a CA without `cRLSign` | loaded | every client of that CA is refused |
//!
//! So a CA or CRL file is refused here where it would keep a whole CA's clients out, or let in
//! whom nobody meant.

mod ends;
mod error;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{self, Certificate, timestamp};
use super::error::{LinkError, Part};
use super::facts::{Authority, printable};
use super::fingerprint::Fingerprint;
use super::pem::{self, Block};
use super::signature;

pub(crate) use error::{CompanionError, CompanionRefusal};

/// A CA file and a CRL file, as far as an instance has such. Where there are lists of revocations
/// there are the CAs that made them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientTrust {
    authorities: Vec<Certificate>,
    revocations: Vec<RevocationList>,
}

/// What one CA has revoked (RFC 5280, 5).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RevocationList {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    issuer: String,
    issuer_der: Vec<u8>,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
}

impl RevocationList {
    fn from_der(der: Vec<u8>, position: usize) -> Result<Self, CompanionError> {
        let broken = CompanionError::RevocationsBroken { position };
        let Ok(([], parsed)) = CertificateRevocationList::from_der(&der) else {
            return Err(broken);
        };
        if parsed
            .extensions()
            .iter()
            .any(|extension| extension.critical && is_beyond(&extension.oid.to_id_string()))
        {
            return Err(CompanionError::RevocationsPartial { position });
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

    /// The issuer's distinguished name as text; control characters are escaped.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    fn signed_by(&self, authority: &Certificate) -> Result<(), LinkError> {
        let issuer = certificate::parse(authority.der()).map_err(|_| LinkError::BadSignature)?;
        let (_, list) =
            CertificateRevocationList::from_der(&self.der).map_err(|_| LinkError::BadSignature)?;
        signature::check_revocations(&issuer, &list)
    }
}

/// Whether a critical extension makes a list one that is not a CA's whole: a delta, which OpenSSL
/// takes for a whole list all the same (tried), or what OpenSSL does not know.
fn is_beyond(oid: &str) -> bool {
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
    /// Makes them of the content of files; what an instance does not have is none.
    ///
    /// # Errors
    /// The first fault found that no time mends; [`CompanionError::class`] tells whether it may be
    /// half of a renewal.
    pub(crate) fn parse(ca: Option<&[u8]>, crl: Option<&[u8]>) -> Result<Self, CompanionError> {
        let authorities = ca.map(authorities).transpose()?.unwrap_or_default();
        let revocations = crl.map(revocations).transpose()?.unwrap_or_default();
        for (index, list) in revocations.iter().enumerate() {
            check_issuer(list, index + 1, &authorities)?;
        }
        Ok(Self {
            authorities,
            revocations,
        })
    }

    /// The certificates of the CA file, in its order; none where the instance has no such file.
    #[cfg(test)]
    pub(crate) fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// The names by which a server that has loaded the CA file asks clients for certificates
    /// (`SSL_load_client_CA_file`, each once); none where there is no such file.
    pub(crate) fn names(&self) -> Option<BTreeSet<Vec<u8>>> {
        let names = self
            .authorities
            .iter()
            .map(|certificate| certificate.subject_der().to_vec());
        (!self.authorities.is_empty()).then(|| names.collect())
    }

    /// Whether each file of `other` is the one that is here.
    pub(super) fn holds(&self, other: &Self) -> bool {
        let ca = other.authorities.is_empty() || self.authorities == other.authorities;
        let crl = other.revocations.is_empty() || self.revocations == other.revocations;
        ca && crl
    }

    /// SHA-256 of all of it, as it is written; none where there is nothing.
    pub(crate) fn digest(&self) -> Option<Fingerprint> {
        let whole = [self.ca_pem(), self.crl_pem()];
        let whole: Vec<u8> = whole.into_iter().flatten().flatten().collect();
        (!whole.is_empty()).then(|| Fingerprint::from_der(&whole))
    }

    /// The CA file as canonical PEM.
    pub(crate) fn ca_pem(&self) -> Option<Vec<u8>> {
        let ders = self.authorities.iter().map(Certificate::der);
        written("CERTIFICATE", ders.collect())
    }

    /// The CRL file as canonical PEM.
    pub(crate) fn crl_pem(&self) -> Option<Vec<u8>> {
        let ders = self.revocations.iter().map(|list| list.der.as_slice());
        written("X509 CRL", ders.collect())
    }

    /// Whether clients could get in at `now`.
    ///
    /// # Errors
    /// Which could not.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), CompanionRefusal> {
        if self.authorities.is_empty() {
            return Ok(());
        }
        let alive = |certificate: &&Certificate| {
            (certificate.not_before()..=certificate.not_after()).contains(&now)
        };
        let begins = |certificate: &Certificate| certificate.is_self_issued();
        if !self.authorities.iter().filter(alive).any(begins) {
            return Err(CompanionRefusal::NoAuthority);
        }
        if self.revocations.is_empty() {
            return Ok(());
        }
        let mut needed = self.authorities.iter().filter(alive);
        needed.try_for_each(|authority| self.check_revocations_of(authority, now))
    }

    /// The CAs that have expired.
    pub(super) fn expired_authorities(&self, now: Timestamp) -> impl Iterator<Item = &Certificate> {
        let expired = move |certificate: &&Certificate| now > certificate.not_after();
        self.authorities.iter().filter(expired)
    }

    /// The lists that bear the name of `authority` as their issuer.
    fn lists_of(&self, authority: &Certificate) -> impl Iterator<Item = &RevocationList> {
        let of = |list: &&RevocationList| list.issuer_der == authority.subject_der();
        self.revocations.iter().filter(of)
    }

    /// OpenSSL takes of several lists of a CA one that is good now (tried with an expired one
    /// before it).
    fn check_revocations_of(
        &self,
        authority: &Certificate,
        now: Timestamp,
    ) -> Result<(), CompanionRefusal> {
        let lists: Vec<_> = self.lists_of(authority).collect();
        let begun = |revocation_list: &RevocationList| revocation_list.this_update <= now;
        let lasts = |list: &RevocationList| list.next_update.is_none_or(|end| now <= end);
        if lists.iter().any(|list| begun(list) && lasts(list)) {
            return Ok(());
        }
        let issuer = authority.subject().to_owned();
        match lists.iter().find(|found| !begun(found)) {
            Some(list) => Err(CompanionRefusal::RevocationsNotBegun {
                issuer,
                this_update: list.this_update,
            }),
            None => match lists
                .iter()
                .filter_map(|candidate| candidate.next_update)
                .max()
            {
                Some(next_update) => Err(CompanionRefusal::RevocationsExpired {
                    issuer,
                    next_update,
                }),
                None => Err(CompanionRefusal::RevocationsMissing { issuer }),
            },
        }
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companions")
            .field("authorities", &self.authorities.len())
            .field("revocations", &self.revocations.len())
            .finish()
    }
}

fn written(label: &'static str, ders: Vec<&[u8]>) -> Option<Vec<u8>> {
    let blocks: Vec<_> = ders.into_iter().map(|der| (label, der)).collect();
    (!blocks.is_empty()).then(|| std::mem::take(&mut *pem::encode(&blocks)))
}

fn blocks(text: &[u8], part: Part) -> Result<Vec<Block>, CompanionError> {
    let read = pem::blocks(text, part, pem::PemSource::Server);
    read.map(|read| read.blocks)
        .map_err(|fault| CompanionError::NotPem {
            part,
            fault: Box::new(fault),
        })
}

/// The certificates of a CA file.
fn authorities(text: &[u8]) -> Result<Vec<Certificate>, CompanionError> {
    let part = Part::Authorities;
    let mut found: Vec<Certificate> = Vec::new();
    for block in blocks(text, part)? {
        let what = match block {
            Block::Certificate(der) => {
                let position = found.len() + 1;
                let certificate = Certificate::from_der(der)
                    .map_err(|_| CompanionError::CertificateBroken { position })?;
                check_authority(&certificate, position)?;
                found.push(certificate);
                continue;
            }
            Block::Revocations(_) => "a CRL",
            Block::Key(..) => "a private key",
        };
        return Err(CompanionError::Stray { part, what });
    }
    if found.is_empty() {
        return Err(CompanionError::NoCertificate);
    }
    Ok(found)
}

/// The lists of a CRL file.
fn revocations(text: &[u8]) -> Result<Vec<RevocationList>, CompanionError> {
    let part = Part::Revocations;
    let mut found = Vec::new();
    for block in blocks(text, part)? {
        match block {
            Block::Revocations(der) => {
                found.push(RevocationList::from_der(der, found.len() + 1)?);
            }
            Block::Certificate(_) => return Err(CompanionError::WouldBeTrusted),
            Block::Key(..) => {
                let what = "a private key";
                return Err(CompanionError::Stray { part, what });
            }
        }
    }
    if found.is_empty() {
        return Err(CompanionError::NoRevocations);
    }
    Ok(found)
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

/// Refuses what nobody would put into a CA file who knew what comes of it. A self-issued
/// certificate that is no CA stands for one client, which is accepted by it.
fn check_authority(certificate: &Certificate, position: usize) -> Result<(), CompanionError> {
    let subject = || certificate.subject().to_owned();
    if !is_authority(certificate) && !certificate.is_self_issued() {
        return Err(CompanionError::NotAuthority {
            position,
            subject: subject(),
        });
    }
    if is_authority(certificate) && certificate.facts().may_sign_certificates == Some(false) {
        return Err(CompanionError::MayNotSign {
            subject: subject(),
            usage: "keyCertSign",
            what: "certificates",
        });
    }
    let digest = certificate.weak_digest();
    let weakness = certificate
        .weak_key()
        .or_else(|| digest.map(|text| format!("a signature by {text}")));
    match weakness {
        Some(weakness) => Err(CompanionError::Weak {
            subject: subject(),
            weakness,
        }),
        None => Ok(()),
    }
}

/// Refuses a list that none of the CAs made.
fn check_issuer(
    list: &RevocationList,
    position: usize,
    authorities: &[Certificate],
) -> Result<(), CompanionError> {
    let named = |certificate: &&Certificate| certificate.subject_der() == list.issuer_der;
    let mut fault = CompanionError::Stranger {
        position,
        issuer: list.issuer.clone(),
    };
    for authority in authorities.iter().filter(named) {
        if let Err(reason) = list.signed_by(authority) {
            fault = CompanionError::NotSigned {
                position,
                issuer: list.issuer.clone(),
                reason,
            };
        } else if authority.facts().may_sign_revocations == Some(false) {
            fault = CompanionError::MayNotSign {
                subject: authority.subject().to_owned(),
                usage: "cRLSign",
                what: "CRLs",
            };
        } else {
            return Ok(());
        }
    }
    Err(fault)
}
