//! Whether a client that verifies (`sslmode=verify-ca`, `verify-full`) accepts what a server serves.
//!
//! The standard is libpq with OpenSSL 3 at security level 2. `path` builds the path from the
//! leaf to a root as OpenSSL does, and finds what OpenSSL finds wrong on it; rustls's webpki then
//! verifies that path, and knows name constraints. A chain is accepted where both accept it, or where
//! webpki objects only to what OpenSSL allows: a leaf of X.509 version 1 or of an
//! authority, an extension that OpenSSL knows. The names are
//! compared by libpq's own rule, which is `CertificateFacts::covers` in `bundle`.
//!
//! By the same rules `needed` tells before an install what clients would reject whatever they
//! trust, and which certificate of a chain ends first.
//!
//! Pure functions over values, but for [`Roots::system`], which reads the system's roots.

mod fault;
mod needed;
mod path;
mod roots;
#[cfg(test)]
mod tests;
mod verified;

use jiff::Timestamp;

use crate::bundle::{Certificate, Ground};
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use needed::Needed;
use path::Path;
pub(crate) use roots::Roots;
use verified::{WebpkiVerdict, verified};

/// What clients make of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Why `verify-ca` and `verify-full` reject the chain.
    pub(crate) chain: Vec<Fault>,
    /// Why `verify-full` rejects the names.
    pub(crate) name: Option<Fault>,
    /// Which of the certificates that were sent are on the path to a root: positions, the leaf's first.
    pub(crate) used: Vec<usize>,
    /// The root that it leads to.
    pub(crate) root: Option<Certificate>,
    /// Where other clients decide differently.
    pub(crate) notes: Vec<String>,
}

impl Judgement {
    /// Whether `sslmode=verify-ca` accepts it.
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
            WebpkiVerdict::Accepted => {}
            WebpkiVerdict::ByOpenSsl(form) => notes.push(format!(
                "clients built on rustls refuse it: {form}; libpq takes it"
            )),
            WebpkiVerdict::Rejected(fault) => chain.push(fault),
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
    let (what, fix) = match own {
        [] => (
            format!("it names no host at all, and {host} was asked for"),
            format!("issue it with {host} as a subject alternative name"),
        ),
        names => (
            format!("it is for {}, and {host} was asked for", names.join(", ")),
            format!("connect by a name that it has, or issue it for {host} as well"),
        ),
    };
    Fault::new(FaultKind::NameMismatch, what, fix)
}
