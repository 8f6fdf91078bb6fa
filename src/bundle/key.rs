//! Private keys and the public keys they are compared with.

use std::fmt;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::asn1_rs::{Any, Class, Sequence};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

/// How a private key is encoded, which decides its PEM label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// RFC 5958, `PRIVATE KEY`.
    Pkcs8,
    /// RFC 8017, `RSA PRIVATE KEY`.
    Pkcs1,
    /// RFC 5915, `EC PRIVATE KEY`.
    Sec1,
}

impl KeyKind {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }
}

/// A private key that was loaded once, and can be. It is zeroed when dropped, cannot be cloned,
/// and has no `Debug`.
pub(crate) struct PrivateKey {
    kind: KeyKind,
    der: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl PrivateKey {
    /// `None` for a key of a kind or size that is not supported, or with damaged content.
    pub(super) fn load(kind: KeyKind, der: Zeroizing<Vec<u8>>) -> Option<Self> {
        let borrowed = match kind {
            KeyKind::Pkcs8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())),
            KeyKind::Pkcs1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.as_slice())),
            KeyKind::Sec1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.as_slice())),
        };
        if kind == KeyKind::Pkcs8 && holds_public_key(&der) {
            return None;
        }
        let signing_key = any_supported_type(&borrowed).ok()?;
        let spki = signing_key.public_key()?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
        let public = PublicKey::from_spki(&spki);
        public.is_supported().then_some(Self { kind, der, public })
    }

    pub(super) fn label(&self) -> &'static str {
        self.kind.label()
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn digest(&self) -> KeyDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.label().as_bytes());
        context.update(&self.der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        KeyDigest(bytes)
    }
}

/// Which private key: equal for two keys that are encoded alike and hold the same bytes. A SHA-256
/// of something that nobody can guess, and no more of the key than that.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyDigest([u8; 32]);

/// Whether a PKCS#8 key has the public one beside it, as version 2 of that form may (RFC 5958,
/// `[1] publicKey`): OpenSSL 3.0 loads no such key, though aws-lc does.
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

/// What a public key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rsa {
        bits: usize,
    },
    P256,
    P384,
    P521,
    Ed25519,
    /// None that pgcertd supports, by name or object identifier.
    Other(String),
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
        !matches!(self.algorithm, Algorithm::Other(_)) && self.weak_rsa().is_none()
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
            Algorithm::Other(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            Algorithm::Rsa { bits } => write!(f, "RSA {bits}"),
            Algorithm::P256 => f.write_str("ECDSA P-256"),
            Algorithm::P384 => f.write_str("ECDSA P-384"),
            Algorithm::P521 => f.write_str("ECDSA P-521"),
            Algorithm::Ed25519 => f.write_str("Ed25519"),
            Algorithm::Other(name) => f.write_str(name),
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
                _ => Self::Other("a damaged RSA key".to_owned()),
            };
        }
        if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Self::on_curve(spki);
        }
        if *oid == OID_SIG_ED25519 {
            return Self::Ed25519;
        }
        Self::Other(oid.to_id_string())
    }

    fn on_curve(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        let curve = spki
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok());
        // 4 marks an uncompressed point (SEC 1, 2.3.3); compressed ones do not compare.
        if spki.subject_public_key.data.first() != Some(&4) {
            return Self::Other("a compressed elliptic curve point".to_owned());
        }
        match curve {
            Some(oid) if oid == OID_EC_P256 => Self::P256,
            Some(oid) if oid == OID_NIST_EC_P384 => Self::P384,
            Some(oid) if oid == OID_NIST_EC_P521 => Self::P521,
            Some(oid) => Self::Other(format!("the elliptic curve {}", oid.to_id_string())),
            None => Self::Other("an elliptic curve without a name".to_owned()),
        }
    }
}

fn bit_length(number: &[u8]) -> usize {
    let significant = number
        .iter()
        .position(|byte| *byte != 0)
        .map_or(&[][..], |first| &number[first..]);
    match significant.first() {
        Some(first) => significant.len() * 8 - first.leading_zeros() as usize,
        None => 0,
    }
}
