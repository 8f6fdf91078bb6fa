//! What can be wrong with a CA or a CRL file.

use jiff::Timestamp;

use crate::bundle::error::{BundleError, Class, LinkError, Part};

/// Why a CA or a CRL file can never be used as it is. Positions count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompanionError {
    /// The file is not PEM, or not completely written.
    #[error("{fault}")]
    NotPem { part: Part, fault: Box<BundleError> },
    /// The CA file has PEM blocks, none of them a certificate.
    #[error("the CA file holds no certificate")]
    NoCertificate,
    /// The CRL file has PEM blocks, none of them a list.
    #[error("the CRL file holds no CRL")]
    NoRevocations,
    #[error("the {part} holds {what}, which does not belong there")]
    Stray { part: Part, what: &'static str },
    /// A certificate in the CRL file.
    #[error(
        "the CRL file holds a certificate: Postgres would take it for a CA of its clients, as if it stood in the CA file"
    )]
    WouldBeTrusted,
    /// A block of the CA file is not a certificate inside.
    #[error("certificate {position} of the CA file is damaged")]
    CertificateBroken { position: usize },
    /// A block of the CRL file is not a list inside.
    #[error("CRL {position} of the CRL file is damaged")]
    RevocationsBroken { position: usize },
    /// A certificate of the CA file that neither is a CA nor stands for itself.
    #[error(
        "certificate {position} of the CA file, {subject}, is no CA: no client is accepted by it"
    )]
    NotAuthority { position: usize, subject: String },
    /// A CA whose key may not be used for what it must be.
    #[error(
        "the key of the CA {subject} may not sign {what} (keyUsage without {usage}): Postgres refuses all its clients"
    )]
    MayNotSign {
        subject: String,
        /// The use that it lacks.
        usage: &'static str,
        /// What is signed by it.
        what: &'static str,
    },
    /// A CA that OpenSSL refuses at its default security level.
    #[error("the CA {subject} has {weakness}: Postgres refuses all its clients")]
    Weak { subject: String, weakness: String },
    /// A list that is not all of what its CA has revoked, or that OpenSSL does not understand.
    #[error(
        "CRL {position} of the CRL file is a delta CRL, or has a critical extension that OpenSSL does not know"
    )]
    RevocationsPartial { position: usize },
    /// A list of a CA that the CA file does not hold.
    #[error(
        "CRL {position} of the CRL file is of {issuer}, which is not in the CA file: it cannot be checked"
    )]
    Stranger { position: usize, issuer: String },
    /// A list that its CA did not sign.
    #[error(
        "CRL {position} of the CRL file is of {issuer}, and {reason}: Postgres refuses all clients of that CA"
    )]
    NotSigned {
        position: usize,
        issuer: String,
        reason: LinkError,
    },
}

impl CompanionError {
    /// The file that it is about.
    pub(crate) fn part(&self) -> Part {
        match self {
            Self::NotPem { part, .. } | Self::Stray { part, .. } => *part,
            Self::NoCertificate
            | Self::CertificateBroken { .. }
            | Self::NotAuthority { .. }
            | Self::MayNotSign { .. }
            | Self::Weak { .. } => Part::Authorities,
            Self::NoRevocations
            | Self::WouldBeTrusted
            | Self::RevocationsBroken { .. }
            | Self::RevocationsPartial { .. }
            | Self::Stranger { .. }
            | Self::NotSigned { .. } => Part::Revocations,
        }
    }

    /// Whether the fault may be half of a renewal that mends by itself.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::NotPem { fault, .. } => fault.class(),
            Self::NoCertificate
            | Self::NoRevocations
            | Self::CertificateBroken { .. }
            | Self::RevocationsBroken { .. }
            // The CA file may come after the CRL file.
            | Self::Stranger { .. }
            | Self::NotSigned { .. } => Class::Incomplete,
            Self::Stray { .. }
            | Self::WouldBeTrusted
            | Self::NotAuthority { .. }
            | Self::MayNotSign { .. }
            | Self::Weak { .. }
            | Self::RevocationsPartial { .. } => Class::Unfit,
        }
    }

    /// What to do about it once nothing is being written any more.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::NotPem {
                part: Part::Revocations,
                ..
            }
            | Self::NoRevocations
            | Self::RevocationsBroken { .. } => {
                "put the whole CRL there, in PEM, or name the right file with crl_source"
            }
            Self::NotPem { .. } | Self::NoCertificate | Self::CertificateBroken { .. } => {
                "put the whole CA file there, in PEM, or name the right file with ca_source"
            }
            Self::Stray { .. } => "take it out",
            Self::WouldBeTrusted => {
                "take it out, and put it into the CA file if it is a CA of clients"
            }
            Self::NotAuthority { .. } => "take it out, and put there the CA that issued it",
            Self::MayNotSign { .. } | Self::Weak { .. } => {
                "take it out, or have that CA's certificate issued anew"
            }
            Self::RevocationsPartial { .. } => "put there the CA's complete CRL",
            Self::Stranger { .. } => {
                "put that CA's certificate into the CA file, which an intermediate may stand in too, or take the CRL out"
            }
            Self::NotSigned { .. } => "fetch the CRL of that CA again",
        }
    }
}

/// Why a CA or a CRL file that can be used is not, as things are now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompanionRefusal {
    /// Nothing that a chain could end in.
    #[error(
        "the CA file holds no self-signed certificate that is valid now: Postgres would refuse every client certificate"
    )]
    NoAuthority,
    /// A CA without a list, where there are lists of others.
    #[error(
        "the CRL file holds no CRL of {issuer}: Postgres would refuse every client certificate of that CA"
    )]
    RevocationsMissing { issuer: String },
    /// A CA whose newest list is out of date.
    #[error(
        "the CRL of {issuer} was due to be replaced at {next_update}: Postgres refuses every client certificate of that CA since then"
    )]
    RevocationsExpired {
        issuer: String,
        /// When the next one was due.
        next_update: Timestamp,
    },
    /// A CA whose only list is of the future.
    #[error(
        "the CRL of {issuer} counts from {this_update} on: Postgres refuses every client certificate of that CA until then"
    )]
    RevocationsNotBegun {
        issuer: String,
        /// From when on it counts.
        this_update: Timestamp,
    },
}

impl CompanionRefusal {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::NoAuthority => {
                "put the root of the clients' CA there, not an intermediate alone, and renew it if it expired"
            }
            Self::RevocationsMissing { .. } => {
                "put a CRL of each CA of the CA file there, an empty one where it has revoked nothing"
            }
            Self::RevocationsExpired { .. } => {
                "have the CA issue the next one, and see why what fetches it does not"
            }
            Self::RevocationsNotBegun { .. } => {
                "it is installed then; see whether this host's clock is right"
            }
        }
    }

    /// When that can change without any event.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::RevocationsNotBegun { this_update, .. } => Some(*this_update),
            _ => None,
        }
    }
}
