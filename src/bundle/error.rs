//! What can be wrong with a bundle, each in one sentence that quotes nothing of a file's content.

use std::fmt;

use jiff::Timestamp;

use super::companions::{CompanionError, CompanionRefusal};

/// Which of the files that make a bundle a fault was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The file that begins with the leaf: `fullchain.pem`, `cert.pem`, or a combined file.
    Certificate,
    /// A file that holds intermediates alone: `chain.pem`.
    Chain,
    /// The file that holds the private key.
    Key,
    /// The file with the CAs of clients.
    Authorities,
    /// The file with what these have revoked.
    Revocations,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate file",
            Self::Chain => "chain file",
            Self::Key => "key file",
            Self::Authorities => "CA file",
            Self::Revocations => "CRL file",
        })
    }
}

/// What makes a file broken PEM. OpenSSL refuses a chain file for most of these, even where
/// they come after a good leaf; the others are the marks of a file cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFault {
    /// A `BEGIN` line without its `END` line.
    Unterminated,
    /// A `BEGIN` line that is cut off or malformed.
    BadBegin,
    /// An `END` line without its `BEGIN` line.
    StrayEnd,
    /// A block with an empty line, a header, or nothing in it.
    BadBody,
    /// A block whose content is not base64.
    BadBase64,
    /// A NUL byte, as a crash leaves in a file that was being written.
    Nul,
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unterminated => "a block begins but does not end",
            Self::BadBegin => "a BEGIN line is cut off or malformed",
            Self::StrayEnd => "an END line has no BEGIN line",
            Self::BadBody => "a block has an empty line, a header or no content",
            Self::BadBase64 => "a block is not valid base64",
            Self::Nul => "there is a NUL byte",
        })
    }
}

/// What a file holds where a certificate or a key in PEM should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A certificate as bare bytes.
    Der,
    /// A private key as bare bytes.
    DerKey,
    /// PKCS#12, `.p12` or `.pfx`.
    Pkcs12,
    /// PKCS#7 as bare bytes, `.p7b`.
    DerPkcs7,
    /// PKCS#7 in PEM.
    Pkcs7,
    JavaKeyStore,
    /// Text in UTF-16, as Windows' shells write it.
    Utf16,
    Html,
    /// PEM in a string of JSON or of an environment file.
    Escaped,
    /// A request for a certificate.
    Request,
    /// A key as OpenSSH writes it.
    OpensshKey,
    /// The key is in the certificate's file, and the other way round.
    Swapped,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Der => "is a certificate in DER: convert it to PEM",
            Self::DerKey => "is a private key in DER: convert it to PEM",
            Self::Pkcs12 => "is PKCS#12 (.p12, .pfx): convert it to PEM",
            Self::DerPkcs7 | Self::Pkcs7 => "is PKCS#7 (.p7b): convert it to PEM",
            Self::JavaKeyStore => "is a Java key store: convert it to PEM",
            Self::Utf16 => "is PEM in UTF-16, which nothing reads: convert it to UTF-8",
            Self::Html => "is a web page: what was fetched is no certificate",
            Self::Escaped => "has its line ends written as \\n, as in a string of JSON",
            Self::Request => "holds a request for a certificate (CSR), and no certificate",
            Self::OpensshKey => "holds a key in OpenSSH's form: convert it to PEM",
            Self::Swapped => "holds the private key, and the key file the certificate",
        })
    }
}

impl Form {
    fn remedy(self) -> &'static str {
        match self {
            Self::Der => {
                "openssl x509 -inform DER -in FILE -out cert.pem; the intermediates belong behind it"
            }
            Self::DerKey => "openssl pkey -inform DER -in FILE -out privkey.pem",
            Self::Pkcs12 => {
                "openssl pkcs12 -in FILE -nodes -out both.pem, which holds certificates and key; name that with `files`"
            }
            Self::DerPkcs7 => "openssl pkcs7 -inform DER -print_certs -in FILE -out fullchain.pem",
            Self::Pkcs7 => "openssl pkcs7 -print_certs -in FILE -out fullchain.pem",
            Self::JavaKeyStore => {
                "keytool -importkeystore -srckeystore FILE -destkeystore new.p12 -deststoretype PKCS12, then \
                 openssl pkcs12 -in new.p12 -nodes -out both.pem"
            }
            Self::Utf16 => {
                "iconv -f UTF-16 -t UTF-8 FILE >fullchain.pem; in PowerShell write it with -Encoding ascii"
            }
            Self::Html => "see what its address gives (curl -I), and fetch the certificate itself",
            Self::Escaped => {
                "take the string out with jq -r, or write the lines with printf '%b\\n' \"$(cat FILE)\" >fullchain.pem"
            }
            Self::Request => "put there the certificate that the CA gave for it",
            Self::OpensshKey => {
                "ssh-keygen -p -N '' -m PKCS8 -f FILE, which rewrites it in its place"
            }
            Self::Swapped => "swap chain and key in `files`, or the two files",
        }
    }
}

/// Why one certificate is not the issuer of another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The child names another issuer.
    #[error("it names another issuer")]
    IssuerMismatch,
    /// The signature was made by another key, or the certificate was altered.
    #[error("its signature does not verify with that certificate's key")]
    BadSignature,
    /// The signature's algorithm, or the issuer's key, is none that can be checked.
    #[error("its signature is of a kind that cannot be checked ({algorithm})")]
    Unsupported {
        /// The signature algorithm's object identifier.
        algorithm: String,
    },
}

/// Whether a fault may mend by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may be half of a renewal: the files that are still to be written may complete it.
    Incomplete,
    /// It is complete, and can never be used: the certificate or its settings must change.
    Unfit,
}

/// Why files are not a bundle, those beside chain and key included. Positions in the chain count from 1, the leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The file has no content.
    #[error("the {part} is empty")]
    Empty { part: Part },
    /// The file has content, and no PEM block.
    #[error("the {part} holds no PEM")]
    NoPem { part: Part },
    /// The file holds something in another form than PEM, or something else than its name says.
    #[error("the {part} {form}")]
    OtherForm { part: Part, form: Form },
    /// The file is cut off or damaged.
    #[error("the {part} is damaged or not completely written: {fault}, at line {line}")]
    BrokenPem {
        part: Part,
        fault: PemFault,
        /// The line, counted from 1.
        line: usize,
    },
    /// A certificate in a form that only OpenSSL reads.
    #[error("the {part} holds a TRUSTED or X509 CERTIFICATE block: convert it with openssl x509")]
    UncommonCertificate { part: Part },
    /// The file has PEM blocks, none of them a certificate.
    #[error("the {part} holds no certificate")]
    NoCertificate { part: Part },
    /// The bytes are not a certificate.
    #[error("it is not an X.509 certificate, or a damaged one")]
    CertificateUnreadable,
    /// A block of the chain is not a certificate inside.
    #[error("certificate {position} of the chain is damaged")]
    CertificateBroken { position: usize },
    /// More certificates than any chain has.
    #[error("the chain holds more than {limit} certificates")]
    TooManyCertificates {
        /// The largest number that is accepted.
        limit: usize,
    },
    /// The key file has PEM blocks, none of them a private key.
    #[error("the key file holds no private key")]
    NoKey,
    /// The private key needs a passphrase.
    #[error("the private key in the {part} is encrypted: it must be stored without a passphrase")]
    EncryptedKey { part: Part },
    /// A private key of a kind that is not supported, or with damaged content.
    #[error(
        "the private key in the {part} is damaged or not supported: it must be RSA of 2048 bits or more, \
         ECDSA on P-256, P-384 or P-521, or Ed25519, in PKCS#8 version 1 or the form of its own"
    )]
    UnusableKey { part: Part },
    /// Two private keys that are not the same.
    #[error("the files hold two different private keys")]
    TwoKeys,
    /// The leaf's public key is of a kind that is not supported.
    #[error(
        "the leaf's key is not supported ({algorithm}): it must be RSA of 2048 bits or more, \
         ECDSA on P-256, P-384 or P-521, or Ed25519"
    )]
    UnsupportedLeaf { algorithm: String },
    /// An RSA key that OpenSSL refuses at its default security level (`ee key too small`,
    /// `ca key too small`).
    #[error(
        "certificate {position} of the chain has an RSA key of {bits} bits: Postgres refuses fewer than 2048"
    )]
    WeakRsa { position: usize, bits: usize },
    /// A signature by SHA-1 or MD5 that OpenSSL 3 refuses (`ca md too weak`); what is
    /// self-signed is exempt there and here.
    #[error(
        "certificate {position} of the chain is signed with {digest}: Postgres refuses that (ca md too weak)"
    )]
    WeakSignature {
        position: usize,
        /// `SHA-1` or `MD5`.
        digest: &'static str,
    },
    /// The key belongs to none of the certificates.
    #[error("the private key does not belong to the leaf")]
    KeyMismatch,
    /// The key belongs to a certificate further down, which a server does not look for.
    #[error("the chain is out of order: the private key does not belong to its first certificate")]
    LeafNotFirst,
    /// A certificate is issued by none of the others, though one should have.
    #[error("certificate {position} of the chain is not issued by any other: {reason}")]
    NotLinked { position: usize, reason: LinkError },
    /// The CA or the CRL file, which Postgres loads together with chain and key.
    #[error(transparent)]
    Companion(#[from] CompanionError),
}

impl BundleError {
    /// Whether the fault may be half of a renewal that mends by itself.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Companion(error) => error.class(),
            Self::Empty { .. }
            | Self::NoPem { .. }
            | Self::BrokenPem { .. }
            | Self::NoCertificate { .. }
            | Self::CertificateUnreadable
            | Self::CertificateBroken { .. }
            | Self::NoKey
            | Self::TwoKeys
            | Self::KeyMismatch
            | Self::NotLinked {
                reason: LinkError::IssuerMismatch | LinkError::BadSignature,
                ..
            } => Class::Incomplete,
            Self::OtherForm { .. }
            | Self::UncommonCertificate { .. }
            | Self::TooManyCertificates { .. }
            | Self::EncryptedKey { .. }
            | Self::UnusableKey { .. }
            | Self::UnsupportedLeaf { .. }
            | Self::WeakRsa { .. }
            | Self::WeakSignature { .. }
            | Self::LeafNotFirst
            | Self::NotLinked {
                reason: LinkError::Unsupported { .. },
                ..
            } => Class::Unfit,
        }
    }
}

impl BundleError {
    /// What to do about it once nothing is being written any more.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Companion(error) => error.remedy(),
            Self::Empty { .. }
            | Self::NoPem { .. }
            | Self::BrokenPem { .. }
            | Self::NoCertificate { .. }
            | Self::CertificateUnreadable
            | Self::CertificateBroken { .. }
            | Self::NoKey => "put the whole file there, or renew the certificate again",
            Self::OtherForm { form, .. } => form.remedy(),
            Self::UncommonCertificate { .. } => "or name the right file with `files`",
            Self::KeyMismatch | Self::TwoKeys => {
                "put there the key and the chain of one renewal, or renew the certificate again"
            }
            Self::LeafNotFirst | Self::NotLinked { .. } => {
                "put there the leaf and the CA certificates that lead from it to a root, all of one renewal"
            }
            Self::EncryptedKey { .. } => {
                "decrypt it: openssl pkey -in FILE -out privkey.pem, which asks for the passphrase; or renew with a new key"
            }
            Self::TooManyCertificates { .. } => "keep the leaf and its intermediates alone",
            Self::UnusableKey { .. }
            | Self::UnsupportedLeaf { .. }
            | Self::WeakRsa { .. }
            | Self::WeakSignature { .. } => {
                "renew with another type of key, or from another CA, and see the ACME client's settings"
            }
        }
    }
}

/// Why a bundle that Postgres could load is not installed all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the certificate expired at {not_after}")]
    Expired {
        /// The end of its validity.
        not_after: Timestamp,
    },
    /// Its time has not come.
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid {
        /// The start of its validity.
        not_before: Timestamp,
    },
    /// Clients that verify one of these names would refuse it.
    #[error("the certificate does not cover {}, it names {}", missing.join(", "), listed(present))]
    NamesMissing {
        /// The instance's server names that are not covered.
        missing: Vec<String>,
        /// The names that the certificate has.
        present: Vec<String>,
    },
    /// With its CA or CRL file, Postgres would refuse clients.
    #[error(transparent)]
    Companion(#[from] CompanionRefusal),
}

impl Refusal {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Companion(refusal) => refusal.remedy(),
            Self::Expired { .. } => "renew it, and see why the ACME client did not",
            Self::NotYetValid { .. } => {
                "it is installed then; see whether this host's clock is right"
            }
            Self::NamesMissing { .. } => {
                "issue the certificate for these names, or correct server_names"
            }
        }
    }
}

/// What is odd about a bundle against the one that is installed, and no reason to refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Names that the installed certificate covers and this one does not.
    NamesLost { names: Vec<String> },
    /// The installed certificate is the newer one, as after a lineage was pointed back at an
    /// earlier generation.
    OlderThanInstalled {
        /// Start of validity of this bundle's leaf.
        new: Timestamp,
        /// Start of validity of the installed leaf.
        old: Timestamp,
    },
    /// A CA of the CA file has expired; others have not.
    AuthorityExpired {
        subject: String,
        /// The end of its validity.
        not_after: Timestamp,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamesLost { names } => write!(
                f,
                "the certificate no longer covers {}, which the installed one does",
                names.join(", ")
            ),
            Self::OlderThanInstalled { new, old } => write!(
                f,
                "the certificate is valid from {new} and thus older than the installed one, valid from {old}"
            ),
            Self::AuthorityExpired { subject, not_after } => write!(
                f,
                "the CA file holds {subject}, which expired at {not_after}: no certificate of that CA is accepted; take it out once no client has one"
            ),
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}
