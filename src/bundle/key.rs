//! Private keys and the public keys they are compared with.

use std::fmt;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{Any, Class, Sequence};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::fingerprint::Fingerprint;

/// A private key that loads. It is zeroed when dropped, cannot be cloned,
/// and has no `Debug`.
pub(crate) struct PrivateKey {
    der: Zeroizing<PrivateKeyDer<'static>>,
    public: PublicKey,
}

impl PrivateKey {
    /// `None` for a key of a kind or size that is not supported, or with damaged content.
    pub(super) fn load(der: Zeroizing<PrivateKeyDer<'static>>) -> Option<Self> {
        if matches!(&*der, PrivateKeyDer::Pkcs8(key) if holds_public_key(key.secret_pkcs8_der())) {
            return None;
        }
        let signing_key = any_supported_type(&der).ok()?;
        let spki = signing_key.public_key()?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
        let public = PublicKey::from_spki(&spki);
        public.is_supported().then_some(Self { der, public })
    }

    /// The PEM label of its encoding: RFC 8017, 5915, or 5958.
    pub(super) fn label(&self) -> &'static str {
        match *self.der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        }
    }

    pub(super) fn der(&self) -> &[u8] {
        self.der.secret_der()
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn digest(&self) -> KeyDigest {
        let labelled = Zeroizing::new([self.label().as_bytes(), self.der()].concat());
        KeyDigest(Fingerprint::from_der(&labelled))
    }
}

/// Identifies a private key in its encoding. It is a SHA-256 of something that nobody can guess, so that it reveals nothing
/// of the key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyDigest(Fingerprint);

/// Whether a PKCS#8 key includes the public one, as version 2 of that form may (RFC 5958,
/// `[1] publicKey`): aws-lc loads such a key, OpenSSL 3.0 does not.
fn holds_public_key(der: &[u8]) -> bool {
    let Ok((_, sequence)) = Sequence::from_der(der) else {
        return false;
    };
    let mut rest: &[u8] = &sequence.content;
    while let Ok((after, part)) = Any::from_der(rest) {
        if part.class() == Class::ContextSpecific && part.tag().0 == 1 {
            return true;
        }
        rest = after;
    }
    false
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Algorithm {
    Rsa {
        bits: usize,
    },
    Other(&'static str),
    /// By name or object identifier.
    Unsupported(String),
}

/// A public key, in a form in which two encodings of the same key are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl PublicKey {
    pub(super) fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        Self {
            algorithm: Algorithm::from_spki(spki),
            bytes: spki.subject_public_key.data.to_vec(),
        }
    }

    pub(super) fn is_supported(&self) -> bool {
        !matches!(self.algorithm, Algorithm::Unsupported(_)) && self.weak_rsa().is_none()
    }

    /// The length of an RSA modulus that is below 2048 bits.
    pub(super) fn weak_rsa(&self) -> Option<usize> {
        match self.algorithm {
            Algorithm::Rsa { bits } if bits < 2048 => Some(bits),
            _ => None,
        }
    }

    pub(super) fn unsupported(&self) -> Option<&str> {
        match &self.algorithm {
            Algorithm::Unsupported(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            Algorithm::Rsa { bits } => write!(f, "RSA {bits}"),
            Algorithm::Other(name) => f.write_str(name),
            Algorithm::Unsupported(name) => f.write_str(name),
        }
    }
}

impl Algorithm {
    fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        let oid = &spki.algorithm.algorithm;
        if *oid == OID_PKCS1_RSAENCRYPTION {
            return match spki.parsed() {
                Ok(ParsedKey::RSA(key)) => Self::Rsa {
                    bits: bit_length(key.modulus),
                },
                _ => Self::Unsupported("a damaged RSA key".to_owned()),
            };
        }
        if *oid == OID_SIG_ED25519 {
            return Self::Other("Ed25519");
        }
        if *oid != OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Self::Unsupported(oid.to_id_string());
        }
        // 4 marks an uncompressed point (SEC 1, 2.3.3); compressed ones do not compare.
        if spki.subject_public_key.data.first() != Some(&4) {
            return Self::Unsupported("a compressed elliptic curve point".to_owned());
        }
        let parameters = spki.algorithm.parameters.as_ref();
        match parameters.and_then(|parameters| parameters.as_oid().ok()) {
            Some(oid) if oid == OID_EC_P256 => Self::Other("ECDSA P-256"),
            Some(oid) if oid == OID_NIST_EC_P384 => Self::Other("ECDSA P-384"),
            Some(oid) if oid == OID_NIST_EC_P521 => Self::Other("ECDSA P-521"),
            Some(oid) => Self::Unsupported(format!("the elliptic curve {}", oid.to_id_string())),
            None => Self::Unsupported("an elliptic curve without a name".to_owned()),
        }
    }
}

/// The length of an unsigned number in big-endian bytes, without its leading zeros.
fn bit_length(number: &[u8]) -> usize {
    let mut bytes = number.iter().skip_while(|byte| **byte == 0);
    let bits = |first: &u8| 8 - first.leading_zeros() as usize;
    bytes.next().map_or(0, bits) + bytes.count() * 8
}
