//! What of a certificate decides whether a client takes it, beside dates and names: its key,
//! its signature, what it may be used for.
//!
//! Facts alone; [`crate::trust`] judges them.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
};

use super::certificate::printable;
use super::key::PublicKey;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version of X.509 that it has: 1 to 3.
    pub version: u32,
    /// Kind and size of its key, such as `RSA 2048` or `ECDSA P-256`.
    pub key: String,
    /// How it was signed, in OpenSSL's words: `ecdsa-with-SHA384`.
    pub signature: String,
    /// Whether it may issue others.
    pub authority: Authority,
    /// Whether its key may sign certificates; `None` where it has no such list of uses.
    pub may_sign_certificates: Option<bool>,
    /// Whether its key may sign lists of what it revokes; `None` where it has no such list of uses.
    pub may_sign_revocations: Option<bool>,
    /// Whether its key may be used in a handshake; `None` where it has no such list of uses.
    pub may_shake_hands: Option<bool>,
    /// Whether it is for servers; `None` where it has no such list of purposes. As to OpenSSL,
    /// "any purpose" is not among them.
    pub may_serve: Option<bool>,
    /// Whether it limits those below it, or demands to be understood, by more than the above.
    pub is_constrained: bool,
    /// Its DNS names, as alternative names.
    pub dns_names: Vec<String>,
    /// Its IP addresses, as alternative names.
    pub addresses: Vec<IpAddr>,
    /// The subject's first common name.
    pub common_name: Option<String>,
}

/// What basic constraints (RFC 5280, 4.2.1.9) say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// It is an authority, with as many intermediates below it at most.
    Yes(Option<u32>),
    /// It is none.
    No,
    /// It does not say.
    Unsaid,
}

impl Facts {
    pub(super) fn of(certificate: &X509Certificate<'_>, key: &PublicKey) -> Self {
        let usage = certificate.key_usage().ok().flatten().map(|it| it.value);
        let purposes = certificate.extended_key_usage().ok().flatten();
        let (dns_names, addresses) = alternative_names(certificate);
        Self {
            version: certificate.version().0 + 1,
            key: key.to_string(),
            signature: named(&certificate.signature_algorithm.algorithm),
            authority: Authority::of(certificate),
            may_sign_certificates: usage.map(|it| it.key_cert_sign()),
            may_sign_revocations: usage.map(|it| it.crl_sign()),
            may_shake_hands: usage
                .map(|it| it.digital_signature() || it.key_encipherment() || it.key_agreement()),
            may_serve: purposes
                .map(|it| it.value.server_auth || it.value.other.iter().any(is_gated_crypto)),
            is_constrained: is_constrained(certificate),
            dns_names,
            addresses,
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
    fn of(certificate: &X509Certificate<'_>) -> Self {
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

/// The purposes of the nineties that OpenSSL still takes for a server's (`XKU_SGC`).
fn is_gated_crypto(purpose: &Oid<'_>) -> bool {
    ["1.3.6.1.4.1.311.10.3.3", "2.16.840.1.113730.4.1"].contains(&purpose.to_id_string().as_str())
}

fn is_constrained(certificate: &X509Certificate<'_>) -> bool {
    let known = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    ];
    certificate.extensions().iter().any(|extension| {
        extension.oid == OID_X509_EXT_NAME_CONSTRAINTS
            || (extension.critical && !known.contains(&extension.oid))
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => dns_names.push(printable(name)),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    (dns_names, addresses)
}

/// The address of four or sixteen bytes (RFC 5280, 4.2.1.6).
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
