//! What can be wrong with a bundle, each in one sentence that quotes nothing of a file's content.

use std::fmt;

use jiff::Timestamp;

use super::piece::Piece;

/// What makes a file broken PEM. OpenSSL rejects a chain file for most of these, even where
/// they come after a good leaf; the others are the marks of a file cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    #[error("a block begins but does not end")]
    Unterminated,
    #[error("a BEGIN line is cut off or malformed")]
    BadBegin,
    #[error("an END line has no BEGIN line")]
    StrayEnd,
    #[error("a block has an empty line, a header or no content")]
    BadBody,
    #[error("a block is not valid base64")]
    BadBase64,
    /// As a crash leaves it in a file that was being written.
    #[error("there is a NUL byte")]
    Nul,
}

/// What a file holds where a certificate or a key in PEM should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Der,
    DerKey,
    Pkcs12,
    DerPkcs7,
    Pkcs7,
    JavaKeyStore,
    /// As Windows' shells write it.
    Utf16,
    Html,
    /// PEM in a string of JSON or of an environment file.
    Escaped,
    Request,
    OpensshKey,
    /// The key is in the certificate's file, and the other way round.
    Swapped,
}

impl Form {
    /// What the file is, and how to get PEM from it.
    fn explained(self) -> [&'static str; 2] {
        match self {
            Self::Der => [
                "is a certificate in DER: convert it to PEM",
                "openssl x509 -inform DER -in FILE -out cert.pem; append the intermediates to it",
            ],
            Self::DerKey => [
                "is a private key in DER: convert it to PEM",
                "openssl pkey -inform DER -in FILE -out privkey.pem",
            ],
            Self::Pkcs12 => [
                "is PKCS#12 (.p12, .pfx): convert it to PEM",
                "openssl pkcs12 -in FILE -nodes -out both.pem, which holds certificates and key; name that with `files`",
            ],
            Self::DerPkcs7 => [
                "is PKCS#7 (.p7b): convert it to PEM",
                "openssl pkcs7 -inform DER -print_certs -in FILE -out fullchain.pem",
            ],
            Self::Pkcs7 => [
                "is PKCS#7 (.p7b): convert it to PEM",
                "openssl pkcs7 -print_certs -in FILE -out fullchain.pem",
            ],
            Self::JavaKeyStore => [
                "is a Java key store: convert it to PEM",
                "keytool -importkeystore -srckeystore FILE -destkeystore new.p12 -deststoretype PKCS12, then \
                 openssl pkcs12 -in new.p12 -nodes -out both.pem",
            ],
            Self::Utf16 => [
                "is PEM in UTF-16, which OpenSSL cannot read: convert it to UTF-8",
                "iconv -f UTF-16 -t UTF-8 FILE >fullchain.pem; in PowerShell write it with -Encoding ascii",
            ],
            Self::Html => [
                "is a web page, not a certificate",
                "check what its address returns (curl -I), and fetch the certificate itself",
            ],
            Self::Escaped => [
                "has its line ends written as \\n, as in a string of JSON",
                "extract the string with jq -r, or expand it with printf '%b\\n' \"$(cat FILE)\" >fullchain.pem",
            ],
            Self::Request => [
                "holds a certificate request (CSR), and no certificate",
                "put the certificate there that the CA issued for it",
            ],
            Self::OpensshKey => [
                "holds a key in OpenSSH's format: convert it to PEM",
                "ssh-keygen -p -N '' -m PKCS8 -f FILE, which rewrites it in place",
            ],
            Self::Swapped => [
                "holds the private key, and the key file the certificate",
                "swap chain and key in `files`, or the two files",
            ],
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explained()[0])
    }
}

/// Why one certificate is not the issuer of another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("it names another issuer")]
    IssuerMismatch,
    /// Another key made the signature, or the certificate was altered.
    #[error("its signature does not verify with that certificate's key")]
    BadSignature,
    /// The object identifier of a signature algorithm, or of one that the issuer's key is not for.
    #[error("its signature is of a kind that cannot be checked ({algorithm})")]
    Unsupported { algorithm: String },
}

/// The largest number of certificates in a chain. OpenSSL's clients give up at 100, and no
/// public chain has more than five.
pub(crate) const MAX_CERTIFICATES: usize = 32;

/// Why files are not a bundle: chain and key, or the CA and CRL files that Postgres loads with them. Positions count
/// from 1, which in the chain is the leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the {piece} file is empty")]
    Empty { piece: Piece },
    #[error("the {piece} file holds no PEM")]
    NoPem { piece: Piece },
    #[error("the {piece} file {form}")]
    OtherForm { piece: Piece, form: Form },
    /// It is cut off or damaged; lines count from 1.
    #[error("the {piece} file is damaged or not completely written: {fault}, at line {line}")]
    BrokenPem {
        piece: Piece,
        fault: PemFault,
        line: usize,
    },
    /// A certificate in a form that only OpenSSL reads.
    #[error(
        "the {piece} file holds a TRUSTED or X509 CERTIFICATE block: convert it with openssl x509"
    )]
    UncommonCertificate { piece: Piece },
    /// There are PEM blocks, but none of the kind that the file is for.
    #[error("the {piece} file holds no {}", piece.content())]
    NoContent { piece: Piece },
    #[error("it is not an X.509 certificate, or a damaged one")]
    CertificateUnreadable,
    /// A block has sound PEM, and something else than it says inside.
    #[error("{} {position} of the {} is damaged", piece.content(), if *piece == Piece::Certificate { "chain".to_owned() } else { format!("{piece} file") })]
    Damaged { piece: Piece, position: usize },
    #[error("the chain holds more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    #[error(
        "the private key in the {piece} file is encrypted: it must be stored without a passphrase"
    )]
    EncryptedKey { piece: Piece },
    /// A private key of a kind that is not supported, or with damaged content.
    #[error(
        "the private key in the {piece} file is damaged or not supported: it must be RSA of 2048 bits or more, \
         ECDSA on P-256, P-384 or P-521, or Ed25519, in PKCS#8 version 1 or the form of its own"
    )]
    UnusableKey { piece: Piece },
    #[error("the files hold two different private keys")]
    TwoKeys,
    #[error(
        "the leaf's key is not supported ({algorithm}): it must be RSA of 2048 bits or more, \
         ECDSA on P-256, P-384 or P-521, or Ed25519"
    )]
    UnsupportedLeaf { algorithm: String },
    /// What OpenSSL rejects at its default security level (`ee key too small`, `ca key too small`, `ca md too weak`).
    #[error(
        "certificate {position} of the chain has {weakness}: Postgres rejects RSA keys below 2048 bits, and signatures by SHA-1 and MD5"
    )]
    Weak { position: usize, weakness: String },
    /// The key belongs to none of the certificates.
    #[error("the private key does not belong to the leaf")]
    KeyMismatch,
    /// The key belongs to a certificate further down, which a server does not look for.
    #[error("the chain is out of order: the private key does not belong to its first certificate")]
    LeafNotFirst,
    /// None of the others issued it, though one should have.
    #[error("certificate {position} of the chain is not issued by any other: {reason}")]
    NotLinked { position: usize, reason: LinkError },
    #[error("the {piece} file holds {what}, which does not belong there")]
    Stray { piece: Piece, what: &'static str },
    #[error(
        "the CRL file holds a certificate: Postgres would take it for a CA of its clients, as if it stood in the CA file"
    )]
    WouldBeTrusted,
    /// A certificate of the CA file that neither is a CA nor stands for itself.
    #[error(
        "certificate {position} of the CA file, {subject}, is no CA: no client is accepted by it"
    )]
    NotAuthority { position: usize, subject: String },
    /// A CA whose key lacks a `usage` that it must have.
    #[error(
        "the key of the CA {subject} may not sign {what} (keyUsage without {usage}): Postgres rejects all its clients"
    )]
    MayNotSign {
        subject: String,
        usage: &'static str,
        what: &'static str,
    },
    /// A CA that OpenSSL rejects at its default security level.
    #[error("the CA {subject} has {weakness}: Postgres rejects all its clients")]
    WeakAuthority { subject: String, weakness: String },
    /// A list that is not all of what its CA has revoked, or that OpenSSL does not understand.
    #[error(
        "CRL {position} of the CRL file is a delta CRL, or has a critical extension that OpenSSL does not know"
    )]
    PartialList { position: usize },
    /// A list of a CA that the CA file does not hold.
    #[error(
        "CRL {position} of the CRL file is of {issuer}, which is not in the CA file: it cannot be checked"
    )]
    Stranger { position: usize, issuer: String },
    /// A list that its CA did not sign.
    #[error(
        "CRL {position} of the CRL file is of {issuer}, and {reason}: Postgres rejects all clients of that CA"
    )]
    NotSigned {
        position: usize,
        issuer: String,
        reason: LinkError,
    },
}

impl BundleError {
    /// The file that it is about; of chain and key together, the certificate's.
    pub(crate) fn piece(&self) -> Piece {
        match self {
            Self::Empty { piece }
            | Self::NoPem { piece }
            | Self::OtherForm { piece, .. }
            | Self::BrokenPem { piece, .. }
            | Self::UncommonCertificate { piece }
            | Self::NoContent { piece }
            | Self::Damaged { piece, .. }
            | Self::EncryptedKey { piece }
            | Self::UnusableKey { piece }
            | Self::Stray { piece, .. } => *piece,
            Self::NotAuthority { .. } | Self::MayNotSign { .. } | Self::WeakAuthority { .. } => {
                Piece::Ca
            }
            Self::WouldBeTrusted
            | Self::PartialList { .. }
            | Self::Stranger { .. }
            | Self::NotSigned { .. } => Piece::Crl,
            _ => Piece::Certificate,
        }
    }

    /// Whether it may be half of a renewal, which the files that are still to come complete; anything else has to be
    /// changed by someone.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Empty { .. }
            | Self::NoPem { .. }
            | Self::BrokenPem { .. }
            | Self::NoContent { .. }
            | Self::CertificateUnreadable
            | Self::Damaged { .. }
            | Self::TwoKeys
            | Self::KeyMismatch
            // The CA file may come after the CRL file.
            | Self::Stranger { .. }
            | Self::NotSigned { .. } => true,
            Self::NotLinked { reason, .. } => !matches!(reason, LinkError::Unsupported { .. }),
            _ => false,
        }
    }

    /// What to do about it once nothing is being written any more.
    pub(crate) fn remedy(&self) -> &'static str {
        match (self, self.piece()) {
            (Self::Stray { .. }, _) => "take it out",
            (Self::NotAuthority { .. }, _) => "take it out, and put the CA there that issued it",
            (Self::MayNotSign { .. } | Self::WeakAuthority { .. }, _) => {
                "take it out, or have that CA's certificate reissued"
            }
            (Self::WouldBeTrusted, _) => {
                "take it out, and put it into the CA file if it is a CA of clients"
            }
            (Self::PartialList { .. }, _) => "put the CA's complete CRL there",
            (Self::Stranger { .. }, _) => {
                "put that CA's certificate into the CA file, intermediates included, or take the CRL out"
            }
            (Self::NotSigned { .. }, _) => "fetch the CRL of that CA again",
            (_, Piece::Ca) => {
                "put the whole CA file there, in PEM, or name the right file with ca_source"
            }
            (_, Piece::Crl) => {
                "put the whole CRL there, in PEM, or name the right file with crl_source"
            }
            (Self::OtherForm { form, .. }, _) => form.explained()[1],
            (Self::UncommonCertificate { .. }, _) => "or name the right file with `files`",
            (Self::KeyMismatch | Self::TwoKeys, _) => {
                "put the key and the chain of one renewal there, or renew the certificate again"
            }
            (Self::LeafNotFirst | Self::NotLinked { .. }, _) => {
                "put the leaf there with the CA certificates that lead from it to a root, all of one renewal"
            }
            (Self::EncryptedKey { .. }, _) => {
                "decrypt it: openssl pkey -in FILE -out privkey.pem, which asks for the passphrase; or renew with a new key"
            }
            (Self::TooManyCertificates, _) => "keep only the leaf and its intermediates",
            (Self::UnusableKey { .. } | Self::UnsupportedLeaf { .. } | Self::Weak { .. }, _) => {
                "renew with another type of key, or from another CA; see the ACME client's settings"
            }
            _ => "put the whole file there, or renew the certificate again",
        }
    }
}

/// Why a bundle that Postgres could load is not installed now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the certificate expired at {not_after}")]
    Expired { not_after: Timestamp },
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid { not_before: Timestamp },
    /// Clients that verify one of these names would reject it.
    #[error("the certificate does not cover {}, it names {}", missing.join(", "), if present.is_empty() { "nothing".to_owned() } else { present.join(", ") })]
    NamesMissing {
        /// The instance's server names that are not covered.
        missing: Vec<String>,
        /// The names that the certificate has.
        present: Vec<String>,
    },
    /// Nothing that a chain could end in.
    #[error(
        "the CA file holds no self-signed certificate that is valid now: Postgres would reject every client certificate"
    )]
    NoAuthority,
    /// A CA without a list, where there are lists of others.
    #[error(
        "the CRL file holds no CRL of {issuer}: Postgres would reject every client certificate of that CA"
    )]
    NoList { issuer: String },
    #[error(
        "the CRL of {issuer} was due to be replaced at {next_update}: Postgres rejects every client certificate of that CA since then"
    )]
    ListExpired {
        issuer: String,
        next_update: Timestamp,
    },
    #[error(
        "the CRL of {issuer} counts from {this_update} on: Postgres rejects every client certificate of that CA until then"
    )]
    ListNotBegun {
        issuer: String,
        this_update: Timestamp,
    },
}

impl Refusal {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "renew it, and find out why the ACME client did not",
            Self::NotYetValid { .. } | Self::ListNotBegun { .. } => {
                "it will be installed then; check that this host's clock is right"
            }
            Self::NamesMissing { .. } => {
                "issue the certificate for these names, or correct server_names"
            }
            Self::NoAuthority => {
                "put the root of the clients' CA there, not an intermediate alone, and renew it if it expired"
            }
            Self::NoList { .. } => {
                "put a CRL of each CA of the CA file there, an empty one where it has revoked nothing"
            }
            Self::ListExpired { .. } => {
                "have the CA issue the next one, and find out why it was not fetched"
            }
        }
    }

    /// When that ends without any event.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::NotYetValid { not_before } => Some(*not_before),
            Self::ListNotBegun { this_update, .. } => Some(*this_update),
            _ => None,
        }
    }
}

/// What is odd about a bundle, and no reason to refuse it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Warning {
    #[error("the certificate no longer covers {}, which the installed one does", names.join(", "))]
    NamesLost { names: Vec<String> },
    /// As after a lineage was pointed back at an earlier generation; of both leaves the start of validity.
    #[error(
        "the certificate is valid from {new} and thus older than the installed one, valid from {old}"
    )]
    OlderThanInstalled { new: Timestamp, old: Timestamp },
    /// A CA of the CA file has expired; others have not.
    #[error(
        "the CA file holds {subject}, which expired at {not_after}: no certificate of that CA is accepted; remove it once no client has one"
    )]
    AuthorityExpired {
        subject: String,
        not_after: Timestamp,
    },
}
