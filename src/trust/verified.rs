//! What webpki makes of a path.

use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::fault::{Fault, FaultKind};
use super::path::{Path, whose};

pub(super) enum WebpkiVerdict {
    Accepted,
    /// OpenSSL accepts it, and webpki objects to this.
    ByOpenSsl(String),
    Rejected(Fault),
}

/// What webpki says about a path whose last certificate is trusted.
pub(super) fn verified(path: &Path<'_>, now: Timestamp) -> WebpkiVerdict {
    let Some((root, below)) = path.certificates.split_last() else {
        return WebpkiVerdict::Accepted;
    };
    let leaf = CertificateDer::from(path.leaf().der());
    let root = CertificateDer::from(root.der());
    let between: Vec<_> = below
        .iter()
        .skip(1)
        .map(|certificate| CertificateDer::from(certificate.der()))
        .collect();
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let outcome = webpki::anchor_from_trusted_cert(&root).and_then(|anchor| {
        let leaf = webpki::EndEntityCert::try_from(&leaf)?;
        leaf.verify_for_usage(
            algorithms.all,
            &[anchor],
            &between,
            UnixTime::since_unix_epoch(now),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map(|_path| ())
    });
    let form = match outcome {
        Ok(()) => return WebpkiVerdict::Accepted,
        Err(webpki::Error::NameConstraintViolation) => {
            return WebpkiVerdict::Rejected(Fault::new(
                FaultKind::Refused,
                "an authority on the path may not issue for these names (name constraints)",
                "have it issued by an authority that may",
            ));
        }
        Err(webpki::Error::CaUsedAsEndEntity) => "it is an authority's certificate".to_owned(),
        Err(webpki::Error::UnsupportedCertVersion) if path.leaf().facts().version < 3 => {
            "it is an X.509 certificate of version 1".to_owned()
        }
        // What OpenSSL does not know either was rejected for that.
        Err(webpki::Error::UnsupportedCriticalExtension) => {
            "a certificate has a critical extension that these do not know".to_owned()
        }
        Err(error) => {
            return WebpkiVerdict::Rejected(Fault::not_judged(format!(
                "pgcertd cannot verify it: {error}"
            )));
        }
    };
    // Only the path has checked the certificates then, and it does not know name constraints.
    let certificates = &path.certificates;
    match certificates
        .iter()
        .position(|certificate| certificate.facts().limits_names)
    {
        None => WebpkiVerdict::ByOpenSsl(form),
        Some(index) => WebpkiVerdict::Rejected(Fault::not_judged(format!(
            "{form}, and {} limits the names, which pgcertd cannot judge in such a chain",
            whose(certificates, index)
        ))),
    }
}
