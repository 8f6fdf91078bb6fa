//! Why a client that verifies rejects what a server serves.

use jiff::Timestamp;
use serde::Serialize;

use crate::problem::Problem;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// What it is, for programs.
    pub(crate) kind: FaultKind,
    #[serde(flatten)]
    pub(crate) problem: Problem,
    /// When it ends by itself.
    #[serde(skip)]
    pub(crate) until: Option<Timestamp>,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, what: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault {
            kind,
            problem: Problem::new(what, fix),
            until: None,
        }
    }

    /// What pgcertd cannot judge, and libpq may.
    pub(super) fn not_judged(what: impl Into<String>) -> Fault {
        let fix = "ask libpq itself: psql with sslmode=verify-full";
        Fault::new(FaultKind::NotJudged, what, fix)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    Expired,
    NotYetValid,
    /// The path ends at a certificate that is not among the roots, or whose issuer is not.
    UnknownRoot,
    /// The server's certificate is its own issuer, and is not among the roots.
    SelfSigned,
    /// The issuer of the server's certificate is missing.
    IncompleteChain,
    /// A key that is too weak for OpenSSL.
    WeakKey,
    /// A digest that is too weak for OpenSSL.
    WeakSignature,
    /// A signature that is not its issuer's.
    BadSignature,
    /// A certificate on the path may not issue others, or not as deep a chain.
    NotAnAuthority,
    /// A certificate on the path is not for servers.
    WrongPurpose,
    /// Anything else that is rejected.
    Refused,
    /// What pgcertd cannot judge; libpq may.
    NotJudged,
    NameMismatch,
}
