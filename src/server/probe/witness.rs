//! What a handshake shows to those who only look: the chain, whatever it is, and the CAs that the
//! server would like client certificates of.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::bundle::Certificate;

/// Has no certificate for the server, and takes down of which CAs it would like one.
#[derive(Debug, Default)]
pub(super) struct ClientHelloSent(Mutex<BTreeSet<Vec<u8>>>);

impl ClientHelloSent {
    pub(super) fn names(&self) -> BTreeSet<Vec<u8>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesClientCert for ClientHelloSent {
    fn resolve(&self, names: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let names = names.iter().map(|name| name.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
        None
    }

    fn has_certs(&self) -> bool {
        // Else it would not be asked.
        true
    }
}

/// How a version of TLS has a signature of the handshake verified.
type Rule = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error>;

/// Accepts any certificate, and demands that the server holds its key. One for each connection: it
/// remembers what was shown there.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    shown: Mutex<Presented>,
}

/// What a server has shown so far.
#[derive(Debug, Default)]
struct Presented {
    /// The leaf, and what came after it, as DER.
    chain: Vec<Vec<u8>>,
    /// Whether a signature of the handshake was the leaf's.
    proven: bool,
}

impl AnyCertificate {
    pub(super) fn by(provider: &Arc<CryptoProvider>) -> Arc<AnyCertificate> {
        Arc::new(AnyCertificate {
            provider: Arc::clone(provider),
            shown: Mutex::default(),
        })
    }

    fn shown(&self) -> MutexGuard<'_, Presented> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chain, where the server has proven that it holds the leaf's key.
    pub(super) fn proven(&self) -> Option<Vec<Vec<u8>>> {
        let shown = self.shown();
        shown.proven.then(|| shown.chain.clone())
    }

    /// Notes whether a signature is right, by the rule of its version of TLS.
    fn noted(
        &self,
        rule: Rule,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = rule(message, leaf, signed, algorithms);
        let verified = verified.or_else(|error| beyond_webpki(leaf, error));
        self.shown().proven = verified.is_ok();
        verified
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(intermediates);
        self.shown().chain = chain.map(|der| der.to_vec()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.noted(verify_tls12_signature, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.noted(verify_tls13_signature, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A leaf that webpki does not parse at all (X.509 version 1, which Postgres serves without a
/// word), or whose key is too weak for it, is shown unverified rather than not at all.
fn beyond_webpki(
    leaf: &CertificateDer<'_>,
    error: rustls::Error,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let is_weak = || {
        Certificate::from_der(leaf.as_ref())
            .is_ok_and(|certificate| certificate.weak_key().is_some())
    };
    match webpki::EndEntityCert::try_from(leaf) {
        Ok(_) if !is_weak() => Err(error),
        _ => Ok(HandshakeSignatureValid::assertion()),
    }
}
