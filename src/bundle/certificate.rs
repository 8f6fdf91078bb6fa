//! One X.509 certificate: what it says, whom it covers, how long it lasts.

use std::fmt;

use jiff::Timestamp;
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::error::{BundleError, LinkError};
use super::expiry::{Expiry, Thresholds};
use super::facts::{CertificateFacts, printable};
use super::fingerprint::Fingerprint;
use super::key::PublicKey;
use super::signature;

/// A certificate that was parsed once.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    subject: String,
    issuer: String,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    serial: String,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: PublicKey,
    weak_digest: Option<&'static str>,
    facts: CertificateFacts,
}

impl Certificate {
    /// Parses one certificate, and nothing after it.
    ///
    /// # Errors
    /// [`BundleError::CertificateUnreadable`] for anything that is not one whole certificate.
    pub(crate) fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, BundleError> {
        let der = der.into();
        let parsed = parse(&der)?;
        if !has_readable_names(&parsed) {
            return Err(BundleError::CertificateUnreadable);
        }
        let validity = parsed.validity();
        let public_key = PublicKey::from_spki(parsed.public_key());
        let facts = CertificateFacts::from_certificate(&parsed, &public_key);
        Ok(Self {
            fingerprint: Fingerprint::from_der(&der),
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            serial: serial(parsed.raw_serial()),
            not_before: timestamp(&validity.not_before),
            not_after: timestamp(&validity.not_after),
            names: facts.names(),
            facts,
            public_key,
            weak_digest: signature::weak_digest(&parsed.signature_algorithm),
            der,
        })
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the encoding.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The subject's distinguished name as text; control characters are escaped.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer's distinguished name as text; control characters are escaped.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The serial number: lower-case hexadecimal, whole bytes, no colons.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// The names it holds for, as libpq reads it: DNS names and IP addresses in its order, and its
    /// common name where that counts.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The first second in which it is valid. Years that a timestamp cannot hold are cut off.
    pub(crate) fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second in which it is valid. "No end" (RFC 5280, 4.1.2.5: the year 9999) becomes
    /// the last second that a timestamp holds.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether this certificate issued `child`: its subject is the child's issuer, byte for byte,
    /// and its key verifies the child's signature. Dates and extensions are not checked.
    ///
    /// # Errors
    /// Why it did not.
    pub(crate) fn issued(&self, child: &Certificate) -> Result<(), LinkError> {
        // Of a chain most pairs end here, before anything is parsed again.
        if !child.names_as_issuer(self) {
            return Err(LinkError::IssuerMismatch);
        }
        let (Ok(issuer), Ok(child)) = (parse(&self.der), parse(&child.der)) else {
            return Err(LinkError::BadSignature);
        };
        signature::check(&issuer, &child)
    }

    /// What a verifying client checks besides dates and names.
    pub(crate) fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Whether it names itself as its issuer, byte for byte.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether the subject of `other` is this one's issuer, byte for byte.
    pub(crate) fn names_as_issuer(&self, other: &Self) -> bool {
        self.issuer_der == other.subject_der
    }

    /// Why OpenSSL rejects its key at security level 2, the default of Debian and others.
    pub(crate) fn weak_key(&self) -> Option<String> {
        let bits = self.public_key.weak_rsa()?;
        Some(format!("an RSA key of {bits} bits"))
    }

    /// How near to its end it is at `now`.
    pub(crate) fn expiry(&self, now: Timestamp, thresholds: Thresholds) -> Expiry {
        Expiry::from_validity(self.not_before, self.not_after, now, thresholds)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// The subject's distinguished name as it is encoded, by which a server tells clients whose
    /// certificates it accepts (RFC 8446, 4.2.4).
    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// Whether both name the same issuer, byte for byte.
    pub(super) fn has_issuer_of(&self, other: &Self) -> bool {
        self.issuer_der == other.issuer_der
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The digest of its signature, if OpenSSL rejects that. It exempts what is self-issued,
    /// whose signature proves nothing.
    pub(crate) fn weak_digest(&self) -> Option<&'static str> {
        self.weak_digest.filter(|_| !self.is_self_issued())
    }

    /// A weak key, or else a weak digest.
    pub(super) fn weakness(&self) -> Option<String> {
        let digest = || Some(format!("a signature by {}", self.weak_digest()?));
        self.weak_key().or_else(digest)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint)
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("serial", &self.serial)
            .field("names", &self.names())
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, BundleError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if is_strict_outside(der, &certificate) => Ok(certificate),
        _ => Err(BundleError::CertificateUnreadable),
    }
}

/// Whether what the signature does not cover is as it must be: a SEQUENCE of the signed part, the
/// algorithm that the signed part names too, byte for byte (RFC 5280, 4.1.1.2), and a BIT STRING of
/// whole bytes. The parser accepts other tags there, and OpenSSL does not.
fn is_strict_outside(der: &[u8], certificate: &X509Certificate<'_>) -> bool {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let signed: &[u8] = certificate.tbs_certificate.as_ref();
    let header = match der.get(1) {
        // The long form of a length says in how many bytes it follows (X.690, 8.1.3.5).
        Some(first) if first & 0x80 != 0 => 2 + usize::from(first & 0x7f),
        _ => 2,
    };
    let Some(beside) = der.get(header + signed.len()..) else {
        return false;
    };
    let Ok((signature, _)) = Any::from_der(beside) else {
        return false;
    };
    let algorithm = &beside[..beside.len() - signature.len()];
    let Ok((_, bits)) = Any::from_der(signature) else {
        return false;
    };
    der.first() == Some(&SEQUENCE)
        && signature.first() == Some(&BIT_STRING)
        && bits.data.first() == Some(&0)
        && !algorithm.is_empty()
        && signed.windows(algorithm.len()).any(|w| w == algorithm)
}

/// A certificate whose alternative names do not parse is damaged.
fn has_readable_names(certificate: &X509Certificate<'_>) -> bool {
    let mut extensions = certificate.extensions().iter();
    extensions.all(|extension| {
        extension.oid != x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME
            || matches!(
                extension.parsed_extension(),
                ParsedExtension::SubjectAlternativeName(_)
            )
    })
}

fn serial(bytes: &[u8]) -> String {
    let first = bytes.iter().position(|byte| *byte != 0);
    match first {
        Some(first) => bytes[first..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        None => "00".to_owned(),
    }
}

pub(super) fn timestamp(time: &ASN1Time) -> Timestamp {
    let seconds = time
        .timestamp()
        .clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
