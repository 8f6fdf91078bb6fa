//! Whether one certificate signed another, or a CRL.
//!
//! x509-parser verifies RSA, RSA-PSS, Ed25519 and ECDSA on P-256 and P-384 with SHA-256 and
//! SHA-384; the rest of ECDSA is done here with the same library beneath.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::asn1_rs::BitString;
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
use x509_parser::verify::verify_signature;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name};

use super::error::LinkError;

/// Whether `issuer` names itself as `child`'s issuer does, and its key made `child`'s signature.
pub(super) fn check(
    issuer: &X509Certificate<'_>,
    child: &X509Certificate<'_>,
) -> Result<(), LinkError> {
    Signed {
        issuer: child.issuer(),
        with: &child.signature_algorithm,
        value: &child.signature_value,
        content: child.tbs_certificate.as_ref(),
    }
    .check(issuer)
}

/// The same of a CRL.
pub(super) fn check_list(
    issuer: &X509Certificate<'_>,
    list: &CertificateRevocationList<'_>,
) -> Result<(), LinkError> {
    Signed {
        issuer: list.issuer(),
        with: &list.signature_algorithm,
        value: &list.signature_value,
        content: list.tbs_cert_list.as_ref(),
    }
    .check(issuer)
}

/// What was signed, by whom, and how.
struct Signed<'a> {
    issuer: &'a X509Name<'a>,
    with: &'a AlgorithmIdentifier<'a>,
    value: &'a BitString<'a>,
    content: &'a [u8],
}

impl Signed<'_> {
    fn check(&self, issuer: &X509Certificate<'_>) -> Result<(), LinkError> {
        if issuer.subject().as_raw() != self.issuer.as_raw() {
            return Err(LinkError::IssuerMismatch);
        }
        let key = issuer.public_key();
        let verified = if has_unusual_pss_parameters(self.with) {
            Err(X509Error::SignatureUnsupportedAlgorithm)
        } else if let Some(algorithm) = beyond_x509_parser(key, self.with) {
            UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
                .verify(self.content, &self.value.data)
                .map_err(|_| X509Error::SignatureVerificationError)
        } else {
            verify_signature(key, self.with, self.value, self.content)
        };
        verified.map_err(|error| match error {
            X509Error::SignatureVerificationError => LinkError::BadSignature,
            _ => LinkError::Unsupported {
                algorithm: self.with.algorithm.to_id_string(),
            },
        })
    }
}

/// ECDSA that x509-parser 0.18 does not know: P-521, and SHA-512 on any curve.
fn beyond_x509_parser(
    key: &SubjectPublicKeyInfo<'_>,
    signed_with: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let known: [(_, _, &dyn VerificationAlgorithm); 5] = [
        (
            OID_EC_P256,
            OID_SIG_ECDSA_WITH_SHA512,
            &signature::ECDSA_P256_SHA512_ASN1,
        ),
        (
            OID_NIST_EC_P384,
            OID_SIG_ECDSA_WITH_SHA512,
            &signature::ECDSA_P384_SHA512_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA512,
            &signature::ECDSA_P521_SHA512_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA384,
            &signature::ECDSA_P521_SHA384_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA256,
            &signature::ECDSA_P521_SHA256_ASN1,
        ),
    ];
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let mut known = known.into_iter();
    let (.., algorithm) =
        known.find(|(on, digest, _)| *on == curve && *digest == signed_with.algorithm)?;
    Some(algorithm)
}

/// What RSA-PSS was used with; none where that cannot be read.
fn pss_parameters<'a>(signed_with: &'a AlgorithmIdentifier<'a>) -> Option<RsaSsaPssParams<'a>> {
    RsaSsaPssParams::try_from(signed_with.parameters.as_ref()?).ok()
}

/// The verifier expects a salt as long as the digest (RFC 8446, 4.2.3); another length is one
/// that cannot be checked, not a bad signature.
fn has_unusual_pss_parameters(signed_with: &AlgorithmIdentifier<'_>) -> bool {
    let lengths = [
        (OID_NIST_HASH_SHA256, 32),
        (OID_NIST_HASH_SHA384, 48),
        (OID_NIST_HASH_SHA512, 64),
    ];
    let is_usual = |used: RsaSsaPssParams<'_>| {
        let salt = (used.hash_algorithm_oid().clone(), used.salt_length());
        lengths.contains(&salt)
    };
    signed_with.algorithm == OID_PKCS1_RSASSAPSS
        && !pss_parameters(signed_with).is_some_and(is_usual)
}

/// The name of a digest that OpenSSL 3 rejects in a certificate's signature.
pub(super) fn weak_digest(signed_with: &AlgorithmIdentifier<'_>) -> Option<&'static str> {
    // RFC 3279, 2.2.3: ecdsa-with-SHA1, which the registry does not have.
    const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
    let oid = &signed_with.algorithm;
    if *oid == OID_PKCS1_MD5WITHRSAENC || *oid == OID_MD5_WITH_RSA {
        return Some("MD5");
    }
    let by_sha1 = |used: RsaSsaPssParams<'_>| *used.hash_algorithm_oid() == OID_HASH_SHA1;
    let is_sha1 = *oid == OID_PKCS1_SHA1WITHRSA
        || *oid == OID_SHA1_WITH_RSA
        || oid.to_id_string() == ECDSA_WITH_SHA1
        || *oid == OID_PKCS1_RSASSAPSS && pss_parameters(signed_with).is_some_and(by_sha1);
    is_sha1.then_some("SHA-1")
}
