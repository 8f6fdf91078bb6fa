//! The certificates that a client trusts.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::bundle::Certificate;

/// What a client trusts: libpq's `sslrootcert`.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    certificates: Vec<Certificate>,
}

/// A file of roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    #[error("it is not a PEM file: {0}")]
    NotPem(String),
    /// There is none in it.
    #[error("there is no certificate in it")]
    Empty,
    #[error("its certificate {position} cannot be parsed")]
    Unreadable {
        /// Counted from 1.
        position: usize,
    },
}

impl Roots {
    pub(crate) fn none() -> Self {
        Self {
            certificates: Vec::new(),
        }
    }

    /// What of a chain is its own issuer, and so may be the root of some client.
    pub(super) fn sent_along(leaf: &Certificate, rest: &[Certificate]) -> Self {
        let sent = std::iter::once(leaf).chain(rest);
        Self {
            certificates: sent
                .filter(|certificate| certificate.is_self_issued())
                .cloned()
                .collect(),
        }
    }

    /// What libpq trusts with `sslrootcert=system`: OpenSSL's directory, or what `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` name. What does not parse there is left out, as OpenSSL does.
    pub(crate) fn system() -> Self {
        let certificates = rustls_native_certs::load_native_certs()
            .certs
            .into_iter()
            .filter_map(|der| Certificate::from_der(der.as_ref()).ok())
            .collect();
        Self { certificates }
    }

    /// The certificates of a PEM file; other blocks in it do not count.
    ///
    /// # Errors
    /// It holds none, or one that is broken.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, RootsError> {
        let certificates = CertificateDer::pem_slice_iter(text)
            .enumerate()
            .map(|(index, der)| {
                let der = der.map_err(|e| RootsError::NotPem(e.to_string()))?;
                let position = index + 1;
                Certificate::from_der(der.as_ref()).map_err(|_| RootsError::Unreadable { position })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(RootsError::Empty);
        }
        Ok(Self { certificates })
    }

    pub(crate) fn len(&self) -> usize {
        self.certificates.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter()
    }

    pub(super) fn contains(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate)
    }
}
