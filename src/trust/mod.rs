//! Whether a client that verifies takes what a server serves: `sslmode=verify-ca`, `verify-full`.
//!
//! The measure is libpq with OpenSSL 3 at security level 2. `path` chooses the way from the
//! leaf to a root as OpenSSL does, and finds what OpenSSL finds wrong on it; rustls's webpki then
//! verifies that way, and knows name constraints. A chain is taken where both are content, and where
//! webpki minds no more than what OpenSSL does not mind: a leaf of X.509 version 1 or of an
//! authority, an extension that OpenSSL knows. The names are
//! compared by libpq's own rule, which stands in `CertificateFacts::covers` of the bundle.
//!
//! By the same rules `needed` says before an installation what clients would refuse whatever they
//! trust, and which certificate of a chain ends first.
//!
//! Pure functions over values, but for [`Roots::system`], which reads the system's roots.

mod needed;
mod path;
mod roots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Serialize;

use crate::bundle::{Certificate, Ground};
pub(crate) use needed::Needed;
use path::{Path, whose};
pub(crate) use roots::Roots;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// What it is, for programs.
    pub(crate) kind: FaultKind,
    /// What it is, as a sentence without its full stop.
    pub(crate) why: String,
    /// What to do about it; empty where there is nothing to say.
    pub(crate) mend: String,
    /// When it ends by itself.
    #[serde(skip)]
    pub(crate) until: Option<Timestamp>,
}

impl Fault {
    fn new(kind: FaultKind, why: impl Into<String>, mend: impl Into<String>) -> Fault {
        Fault {
            kind,
            why: why.into(),
            mend: mend.into(),
            until: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// A certificate on the way is past its end.
    Expired,
    /// A certificate on the way begins later.
    NotYetValid,
    /// The way ends at a certificate that is not among the roots, or whose issuer is not.
    UnknownRoot,
    /// The server's certificate is its own issuer, and is not among the roots.
    SelfSigned,
    /// The issuer of the server's certificate is missing.
    IncompleteChain,
    /// A key that OpenSSL holds for too weak.
    WeakKey,
    /// A digest that OpenSSL holds for too weak.
    WeakSignature,
    /// A signature that is not its issuer's.
    BadSignature,
    /// A certificate on the way may not issue others, or not as deep a chain.
    NotAnAuthority,
    /// A certificate on the way is not for servers.
    WrongPurpose,
    /// What webpki refuses beside these.
    Refused,
    /// What pgcertd cannot judge; libpq may.
    NotJudged,
    /// It is for other names.
    NameMismatch,
}

/// What clients make of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Why the chain is refused, which `verify-ca` looks at.
    pub(crate) chain: Vec<Fault>,
    /// Why the names are, which `verify-full` looks at as well.
    pub(crate) name: Option<Fault>,
    /// In which certificates of those sent the way leads to a root: positions, the leaf's first.
    pub(crate) used: Vec<usize>,
    /// The root that it leads to.
    pub(crate) root: Option<Certificate>,
    /// Where other clients judge otherwise.
    pub(crate) notes: Vec<String>,
}

impl Judgement {
    /// Whether `sslmode=verify-ca` takes it.
    pub(crate) fn is_trusted(&self) -> bool {
        self.chain.is_empty()
    }

    /// The reasons of `verify-full`.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.chain.iter().chain(&self.name)
    }
}

/// Judges what a server sent, `leaf` and then `rest`, as clients do that trust `roots` and ask
/// for `host`, at `now`.
pub(crate) fn judge(
    leaf: &Certificate,
    rest: &[Certificate],
    roots: &Roots,
    host: &str,
    now: Timestamp,
) -> Judgement {
    let path = Path::from(leaf, rest, roots);
    let mut notes = Vec::new();
    let mut chain = path.faults(roots, now);
    if chain.is_empty() {
        match verified(&path, now) {
            Ok(None) => {}
            Ok(Some(form)) => notes.push(format!(
                "clients built on rustls refuse it: {form}; libpq takes it"
            )),
            Err(fault) => chain.push(fault),
        }
    }
    let ground = leaf.facts().covers(host);
    match ground {
        Some(Ground::CommonName) => notes.push(format!(
            "{host} is its common name alone: libpq takes that, clients in Go and Rust do not; \
             issue it with a subject alternative name"
        )),
        Some(Ground::Address) => {
            notes.push("libpq before 15 reads no IP addresses in certificates".into());
        }
        Some(Ground::DnsName) | None => {}
    }
    if !leaf.facts().has_digest {
        notes.push(format!("if this is PostgreSQL, {}", no_digest(leaf)));
    }
    Judgement {
        name: ground.is_none().then(|| mismatch(leaf, host)),
        used: path.sent(),
        root: path.root().cloned(),
        chain,
        notes,
    }
}

/// What webpki says of a way whose last certificate is trusted: nothing, or what it alone minds, or
/// what is wrong.
fn verified(path: &Path<'_>, now: Timestamp) -> Result<Option<String>, Fault> {
    let Some((root, below)) = path.certificates.split_last() else {
        return Ok(None);
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
        .map(|_way| ())
    });
    let form = match outcome {
        Ok(()) => return Ok(None),
        Err(webpki::Error::NameConstraintViolation) => {
            let why = "an authority on the way may not issue for these names (name constraints)";
            return Err(Fault::new(
                FaultKind::Refused,
                why,
                "have an authority issue it that may",
            ));
        }
        Err(webpki::Error::CaUsedAsEndEntity) => "it is an authority's certificate".to_owned(),
        Err(webpki::Error::UnsupportedCertVersion) if path.leaf().facts().version < 3 => {
            "it is an X.509 certificate of version 1".to_owned()
        }
        // What OpenSSL does not know either was refused for that.
        Err(webpki::Error::UnsupportedCriticalExtension) => {
            "a certificate has a critical extension that these do not know".to_owned()
        }
        Err(error) => return Err(not_judged(&format!("pgcertd cannot verify it: {error}"))),
    };
    // Nobody but the path has looked at the certificates then, and it does not know these.
    let certificates = &path.certificates;
    match certificates
        .iter()
        .position(|certificate| certificate.facts().limits_names)
    {
        None => Ok(Some(form)),
        Some(index) => Err(not_judged(&format!(
            "{form}, and {} limits the names, which pgcertd cannot judge in such a chain",
            whose(certificates, index)
        ))),
    }
}

fn not_judged(why: &str) -> Fault {
    let mend = "ask libpq itself: psql with sslmode=verify-full";
    Fault::new(FaultKind::NotJudged, why, mend)
}

/// That no client gets in by SCRAM's channel binding, which libpq uses wherever a server of PostgreSQL
/// offers it.
pub(crate) fn no_digest(leaf: &Certificate) -> String {
    format!(
        "the certificate's signature ({}) has no digest to which SCRAM's channel binding could bind, so that no client with a \
         password gets in over TLS (libpq: could not find digest for NID UNDEF)",
        leaf.facts().signature
    )
}

fn mismatch(leaf: &Certificate, host: &str) -> Fault {
    let own = leaf.names();
    let why = match own {
        [] => format!("it names no host at all, and {host} was asked for"),
        names => format!("it is for {}, and {host} was asked for", names.join(", ")),
    };
    let mend = match own {
        [] => format!("issue it with {host} as a subject alternative name"),
        _ => format!("connect by a name that it has, or issue it for {host} as well"),
    };
    Fault::new(FaultKind::NameMismatch, why, mend)
}
