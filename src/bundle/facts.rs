//! What decides whether a client accepts a certificate, besides dates and names: its key,
//! its signature, what it may be used for.
//!
//! These are facts; [`crate::trust`] judges them.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, Oid};

use super::key::PublicKey;
use crate::text::shown;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    /// The version of X.509 that it has: 1 to 3.
    pub(crate) version: u32,
    /// Kind and size of its key, such as `RSA 2048` or `ECDSA P-256`.
    pub(crate) key: String,
    /// How it was signed, in OpenSSL's words: `ecdsa-with-SHA384`.
    pub(crate) signature: String,
    /// Whether it may issue others.
    pub(crate) authority: Authority,
    /// Whether its key may sign certificates; `None` where it has no such list of uses.
    pub(crate) may_sign_certificates: Option<bool>,
    /// Whether its key may sign CRLs; `None` where it has no such list of uses.
    pub(crate) may_sign_lists: Option<bool>,
    /// Whether its key may be used in a handshake; `None` where it has no such list of uses.
    pub(crate) may_shake_hands: Option<bool>,
    /// Whether it is for servers; `None` where it has no such list of purposes. As to OpenSSL,
    /// "any purpose" is not among them.
    pub(crate) may_serve: Option<bool>,
    /// Whether Netscape's list of types, which OpenSSL still reads, excludes servers.
    pub(crate) is_typed_for_others: bool,
    /// Whether it is for clients too; `None` where it has no such list of purposes.
    pub(crate) may_authenticate: Option<bool>,
    /// Whether it limits the names of those below it.
    pub(crate) limits_names: bool,
    /// Whether it has a critical extension that OpenSSL does not know.
    pub(crate) demands_unknown: bool,
    /// Whether its signature is made over a digest. Without one there is nothing that SCRAM could bind
    /// to (RFC 5929, `tls-server-end-point`).
    pub(crate) has_digest: bool,
    /// Whether it is in a Certificate Transparency log (RFC 6962, 3.3): then a public authority issued it, and these
    /// only issue through intermediates.
    pub(crate) is_logged: bool,
    /// DNS names and IP addresses among its alternative names, in its order.
    pub(crate) alternative_names: Vec<AlternativeName>,
    /// The subject's first common name.
    pub(crate) common_name: Option<String>,
}

/// A name of the subject beside its distinguished one, as far as libpq looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AlternativeName {
    Dns(String),
    Address(IpAddr),
    /// One that makes libpq give up: a name with a NUL byte, an address of another length.
    Unusable,
}

/// What basic constraints (RFC 5280, 4.2.1.9) say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// It is an authority, with at most this many intermediates below it.
    Yes(Option<u32>),
    No,
    Unsaid,
}

impl CertificateFacts {
    pub(super) fn from_certificate(certificate: &X509Certificate<'_>, key: &PublicKey) -> Self {
        let usage = certificate
            .key_usage()
            .ok()
            .flatten()
            .map(|basic_extension| basic_extension.value);
        let purposes = certificate.extended_key_usage().ok().flatten();
        Self {
            version: certificate.version().0 + 1,
            key: key.to_string(),
            signature: named(&certificate.signature_algorithm.algorithm),
            authority: Authority::from_certificate(certificate),
            may_sign_certificates: usage.map(|usage| usage.key_cert_sign()),
            may_sign_lists: usage.map(|usage| usage.crl_sign()),
            may_shake_hands: usage
                .map(|found| found.digital_signature() || found.key_encipherment() || found.key_agreement()),
            may_serve: purposes
                .as_ref()
                .map(|candidate| candidate.value.server_auth || candidate.value.other.iter().any(is_gated_crypto)),
            is_typed_for_others: certificate.extensions().iter().any(|extension| {
                matches!(extension.parsed_extension(), ParsedExtension::NSCertType(types) if !types.ssl_server())
            }),
            may_authenticate: purposes.map(|known| known.value.client_auth),
            limits_names: certificate
                .extensions()
                .iter()
                .any(|extension| extension.oid == OID_X509_EXT_NAME_CONSTRAINTS),
            demands_unknown: demands_unknown(certificate),
            has_digest: !is_digestless(&certificate.signature_algorithm.algorithm),
            is_logged: certificate.extensions().iter().any(|extension| {
                extension.oid.to_id_string() == SIGNED_CERTIFICATE_TIMESTAMPS
            }),
            alternative_names: alternative_names(certificate),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|attribute| attribute.as_str().ok())
                .map(printable),
        }
    }
}

impl Authority {
    fn from_certificate(certificate: &X509Certificate<'_>) -> Self {
        match certificate.basic_constraints() {
            Ok(Some(said)) if said.value.ca => Self::Yes(said.value.path_len_constraint),
            Ok(Some(_)) => Self::No,
            Ok(None) | Err(_) => Self::Unsaid,
        }
    }
}

/// OpenSSL's short name, which `openssl x509 -text` shows too; else the object identifier.
fn named(algorithm: &Oid<'_>) -> String {
    match oid2sn(algorithm, oid_registry()) {
        Ok(name) => name.to_owned(),
        Err(_) => algorithm.to_id_string(),
    }
}

/// The purposes of the nineties that OpenSSL still accepts for a server (`XKU_SGC`).
fn is_gated_crypto(purpose: &Oid<'_>) -> bool {
    ["1.3.6.1.4.1.311.10.3.3", "2.16.840.1.113730.4.1"].contains(&purpose.to_id_string().as_str())
}

/// RFC 6962, 3.3.
const SIGNED_CERTIFICATE_TIMESTAMPS: &str = "1.3.6.1.4.1.11129.2.4.2";

/// The critical extensions that OpenSSL knows (`X509_supported_extension`), without proxies,
/// which it rejects.
const KNOWN_TO_OPENSSL: [&str; 12] = [
    "2.5.29.15",             // keyUsage
    "2.5.29.17",             // subjectAltName
    "2.5.29.19",             // basicConstraints
    "2.5.29.30",             // nameConstraints
    "2.5.29.31",             // cRLDistributionPoints
    "2.5.29.32",             // certificatePolicies
    "2.5.29.33",             // policyMappings
    "2.5.29.36",             // policyConstraints
    "2.5.29.37",             // extKeyUsage
    "2.5.29.54",             // inhibitAnyPolicy
    "1.3.6.1.5.5.7.48.1.5",  // id-pkix-ocsp-nocheck
    "2.16.840.1.113730.1.1", // nsCertType
];

fn demands_unknown(certificate: &X509Certificate<'_>) -> bool {
    let mut extensions = certificate.extensions().iter();
    extensions.any(|extension| {
        let oid = extension.oid.to_id_string();
        extension.critical && !KNOWN_TO_OPENSSL.contains(&oid.as_str())
    })
}

/// Ed25519 and Ed448 (RFC 8410), ML-DSA and SLH-DSA (RFC 9881, RFC 9909) sign the message itself.
fn is_digestless(signed_with: &Oid<'_>) -> bool {
    let oid = signed_with.to_id_string();
    let nist = oid.strip_prefix("2.16.840.1.101.3.4.3.");
    let nist = nist.and_then(|last| last.parse::<u32>().ok());
    matches!(oid.as_str(), "1.3.101.112" | "1.3.101.113")
        || nist.is_some_and(|last| (17..=31).contains(&last))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<AlternativeName> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        found.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) if name.contains('\0') => Some(AlternativeName::Unusable),
            GeneralName::DNSName(name) => Some(AlternativeName::Dns(printable(name))),
            GeneralName::IPAddress(bytes) => Some(address(bytes)),
            _ => None,
        }));
    }
    found
}

/// The address of four or sixteen bytes (RFC 5280, 4.2.1.6).
fn address(bytes: &[u8]) -> AlternativeName {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return AlternativeName::Address(octets.into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    octets.map_or(AlternativeName::Unusable, AlternativeName::Address)
}

/// Names come from whoever made the certificate, and go to terminals and logs.
pub(super) fn printable(text: &str) -> String {
    shown(text).into_owned()
}
