//! Whether one certificate signed another, or a list of revocations.
//!
//! x509-parser verifies RSA, RSA-PSS, Ed25519 and ECDSA on P-256 and P-384 with SHA-256 and
//! SHA-384; the rest of ECDSA is done here with the same library beneath.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_HASH_SHA1, OID_MD5_WITH_RSA, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::error::LinkError;

/// Whether `issuer` names itself as `child`'s issuer does, and its key made `child`'s signature.
pub(super) fn check(
    issuer: &X509Certificate<'_>,
    child: &X509Certificate<'_>,
) -> Result<(), LinkError> {
    if issuer.subject().as_raw() != child.issuer().as_raw() {
        return Err(LinkError::IssuerMismatch);
    }
    let signed = Signed {
        with: &child.signature_algorithm,
        value: &child.signature_value.data,
        content: child.tbs_certificate.as_ref(),
    };
    signed.by(issuer, || child.verify_signature(Some(issuer.public_key())))
}

/// The same of a list of revocations.
pub(super) fn check_revocations(
    issuer: &X509Certificate<'_>,
    list: &CertificateRevocationList<'_>,
) -> Result<(), LinkError> {
    if issuer.subject().as_raw() != list.issuer().as_raw() {
        return Err(LinkError::IssuerMismatch);
    }
    let signed = Signed {
        with: &list.signature_algorithm,
        value: &list.signature_value.data,
        content: list.tbs_cert_list.as_ref(),
    };
    signed.by(issuer, || list.verify_signature(issuer.public_key()))
}

/// What was signed, and how.
struct Signed<'a> {
    with: &'a AlgorithmIdentifier<'a>,
    value: &'a [u8],
    content: &'a [u8],
}

impl Signed<'_> {
    /// Whether `issuer`'s key made the signature; `usual` asks x509-parser.
    fn by(
        &self,
        issuer: &X509Certificate<'_>,
        usual: impl FnOnce() -> Result<(), X509Error>,
    ) -> Result<(), LinkError> {
        let unsupported = || LinkError::Unsupported {
            algorithm: self.with.algorithm.to_id_string(),
        };
        if has_unusual_pss_parameters(self.with) {
            return Err(unsupported());
        }
        if let Some(algorithm) = beyond_x509_parser(issuer.public_key(), self.with) {
            return UnparsedPublicKey::new(algorithm, &issuer.public_key().subject_public_key.data)
                .verify(self.content, self.value)
                .map_err(|_| LinkError::BadSignature);
        }
        usual().map_err(|error| match error {
            X509Error::SignatureVerificationError => LinkError::BadSignature,
            _ => unsupported(),
        })
    }
}

/// ECDSA that x509-parser 0.18 does not know: P-521, and SHA-512 on any curve.
fn beyond_x509_parser(
    key: &SubjectPublicKeyInfo<'_>,
    signed_with: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let digest = &signed_with.algorithm;
    if *digest == OID_SIG_ECDSA_WITH_SHA512 {
        if curve == OID_EC_P256 {
            return Some(&signature::ECDSA_P256_SHA512_ASN1);
        }
        if curve == OID_NIST_EC_P384 {
            return Some(&signature::ECDSA_P384_SHA512_ASN1);
        }
    }
    if curve != OID_NIST_EC_P521 {
        return None;
    }
    if *digest == OID_SIG_ECDSA_WITH_SHA512 {
        Some(&signature::ECDSA_P521_SHA512_ASN1)
    } else if *digest == OID_SIG_ECDSA_WITH_SHA384 {
        Some(&signature::ECDSA_P521_SHA384_ASN1)
    } else if *digest == OID_SIG_ECDSA_WITH_SHA256 {
        Some(&signature::ECDSA_P521_SHA256_ASN1)
    } else {
        None
    }
}

/// The verifier expects a salt as long as the digest (RFC 8446, 4.2.3); another length is one
/// that cannot be checked, not a bad signature.
fn has_unusual_pss_parameters(signed_with: &AlgorithmIdentifier<'_>) -> bool {
    if signed_with.algorithm != OID_PKCS1_RSASSAPSS {
        return false;
    }
    let Some(parameters) = signed_with
        .parameters
        .as_ref()
        .and_then(|any| RsaSsaPssParams::try_from(any).ok())
    else {
        return true;
    };
    let digest = parameters.hash_algorithm_oid();
    let digest_length = if *digest == OID_NIST_HASH_SHA256 {
        32
    } else if *digest == OID_NIST_HASH_SHA384 {
        48
    } else if *digest == OID_NIST_HASH_SHA512 {
        64
    } else {
        return true;
    };
    parameters.salt_length() != digest_length
}

/// The name of a digest that OpenSSL 3 refuses in a certificate's signature.
pub(super) fn weak_digest(signed_with: &AlgorithmIdentifier<'_>) -> Option<&'static str> {
    // RFC 3279, 2.2.3: ecdsa-with-SHA1, which the registry does not have.
    const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
    let oid = &signed_with.algorithm;
    if *oid == OID_PKCS1_MD5WITHRSAENC || *oid == OID_MD5_WITH_RSA {
        return Some("MD5");
    }
    let pss_with_sha1 = *oid == OID_PKCS1_RSASSAPSS
        && signed_with
            .parameters
            .as_ref()
            .and_then(|any| RsaSsaPssParams::try_from(any).ok())
            .is_some_and(|parameters| *parameters.hash_algorithm_oid() == OID_HASH_SHA1);
    (pss_with_sha1
        || *oid == OID_PKCS1_SHA1WITHRSA
        || *oid == OID_SHA1_WITH_RSA
        || oid.to_id_string() == ECDSA_WITH_SHA1)
        .then_some("SHA-1")
}
