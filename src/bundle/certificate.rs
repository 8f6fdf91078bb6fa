//! One X.509 certificate: what it says, whom it covers, how long it lasts.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::error::{BundleError, LinkError};
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

/// How near a certificate or a CRL is to its end.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expiry {
    Fine,
    /// Less is left than a quarter of the lifetime or 21 days, whichever is shorter: clients
    /// that renew at a third should have renewed by now. Of a certificate, [`Thresholds`] may say
    /// otherwise; of a CRL, see [`Expiry::of_list`].
    Warning,
    /// Less is left than a tenth of the lifetime or 7 days, whichever is shorter, or than
    /// [`Thresholds`] say.
    Critical,
    Expired,
}

/// How long before its end a certificate is reported, where the operator says so: one that is renewed late in its life
/// would be reported in every cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Thresholds {
    /// [`Expiry::Warning`] from this long before the end.
    pub(crate) warn: Option<SignedDuration>,
    /// [`Expiry::Critical`] from this long before the end; never more than `warn`.
    pub(crate) critical: Option<SignedDuration>,
}

impl Thresholds {
    /// These, or the usual ones; the one that is not written gives way to the other, so that a warning comes first.
    fn or(self, [warn, critical]: [SignedDuration; 2]) -> [SignedDuration; 2] {
        match (self.warn, self.critical) {
            (None, None) => [warn, critical],
            (Some(warn), None) => [warn, critical.min(warn)],
            (None, Some(critical)) => [warn.max(critical), critical],
            (Some(warn), Some(critical)) => [warn, critical],
        }
    }

    pub(crate) fn are_usual(&self) -> bool {
        *self == Thresholds::default()
    }
}

impl Expiry {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Expired => "expired",
        }
    }

    /// How near to its end a certificate's validity is at `now`.
    pub(crate) fn from_not_before(
        not_before: Timestamp,
        not_after: Timestamp,
        now: Timestamp,
        thresholds: Thresholds,
    ) -> Self {
        let [warn, critical] = thresholds.or(Self::usual(not_before, not_after, [21, 7]));
        Self::by(not_after, now, warn, critical)
    }

    /// How near to its end a CRL is at `now`: as for a certificate, but with 3 days and 1 day in
    /// place of 21 and 7, and with no warning in the first 25 hours of one that lasts a day or
    /// longer. One that is made anew every day is never near its end, however short it lasts.
    pub(crate) fn of_list(this_update: Timestamp, next_update: Timestamp, now: Timestamp) -> Self {
        let lasts_a_day = next_update.duration_since(this_update) >= SignedDuration::from_hours(24);
        let is_young = now.duration_since(this_update) < SignedDuration::from_hours(25);
        let [warn, critical] = Self::usual(this_update, next_update, [3, 1]);
        match Self::by(next_update, now, warn, critical) {
            Self::Warning | Self::Critical if lasts_a_day && is_young => Self::Fine,
            expiry => expiry,
        }
    }

    /// A quarter and a tenth of the lifetime, or these days where they are shorter.
    fn usual(begin: Timestamp, end: Timestamp, days: [i64; 2]) -> [SignedDuration; 2] {
        let lifetime = end.duration_since(begin).max(SignedDuration::ZERO);
        let [warn, critical] = days.map(|days| SignedDuration::from_hours(days * 24));
        [(lifetime / 4).min(warn), (lifetime / 10).min(critical)]
    }

    fn by(end: Timestamp, now: Timestamp, warn: SignedDuration, critical: SignedDuration) -> Self {
        let remaining = end.duration_since(now);
        if remaining.is_negative() {
            Self::Expired
        } else if remaining < critical {
            Self::Critical
        } else if remaining < warn {
            Self::Warning
        } else {
            Self::Fine
        }
    }
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
    /// and its key verifies the child's signature. Dates and extensions are not looked at.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn issued(&self, child: &Certificate) -> Result<(), LinkError> {
        let (Ok(issuer), Ok(child)) = (parse(&self.der), parse(&child.der)) else {
            return Err(LinkError::BadSignature);
        };
        signature::check(&issuer, &child)
    }

    /// What a client that verifies looks at, beside dates and names.
    pub(crate) fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Whether it names itself as its issuer, byte for byte.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether `other` bears, as its subject, the name of this one's issuer, byte for byte.
    pub(crate) fn names_as_issuer(&self, other: &Self) -> bool {
        self.issuer_der == other.subject_der
    }

    /// Why OpenSSL refuses its key at security level 2, the default of Debian and others.
    pub(crate) fn weak_key(&self) -> Option<String> {
        let bits = self.public_key.weak_rsa()?;
        Some(format!("an RSA key of {bits} bits"))
    }

    /// How near to its end it is at `now`.
    pub(crate) fn expiry(&self, now: Timestamp, thresholds: Thresholds) -> Expiry {
        Expiry::from_not_before(self.not_before, self.not_after, now, thresholds)
    }

    /// Whether nothing of its validity is left at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// The subject's distinguished name as it is encoded, by which a server tells clients whose
    /// certificates it takes (RFC 8446, 4.2.4).
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

    /// The digest of its signature, if OpenSSL refuses that. It exempts what is self-issued,
    /// whose signature proves nothing.
    pub(crate) fn weak_digest(&self) -> Option<&'static str> {
        self.weak_digest.filter(|_| !self.is_self_issued())
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
/// whole bytes. The parser takes other tags there, and OpenSSL does not.
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

/// One whose alternative names do not parse is damaged.
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
