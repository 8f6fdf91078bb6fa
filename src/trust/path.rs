//! The path from a leaf to a root, as OpenSSL builds it, and what OpenSSL finds wrong on it.
//!
//! OpenSSL takes an issuer from the trusted certificates before one that was sent, a valid one
//! before an expired one, and never turns back; from the first trusted one on, only trusted ones
//! follow (`build_chain` in `x509_vfy.c`, with `X509_V_FLAG_TRUSTED_FIRST`, the default). The path
//! must end at a trusted certificate that is its own issuer: libpq accepts no partial chains.
//!
//! Where no root is known, the path leads through all that was sent ([`Path::by_names`]).

use jiff::Timestamp;

use super::fault::{Fault, FaultKind};
use super::roots::Roots;

use crate::bundle::{Authority, Certificate, LinkError, MAX_CERTIFICATES};
use crate::text::day;

/// Certificates, the leaf first, each but the last issued by the next.
pub(super) struct Path<'a> {
    pub(super) certificates: Vec<&'a Certificate>,
    /// Whether the last one was taken from the roots.
    is_among_roots: bool,
    sent: Vec<usize>,
    end: PathEnd,
}

enum PathEnd {
    Root,
    /// At a certificate that is its own issuer and no root.
    SelfIssued,
    Missing,
    /// Someone with the issuer's name is there, and has not signed.
    BadSignature,
    /// Someone with the issuer's name is there, and the signature is of an unknown kind.
    Unverifiable(String),
}

impl<'a> Path<'a> {
    pub(super) fn from(leaf: &'a Certificate, rest: &'a [Certificate], roots: &'a Roots) -> Self {
        let mut path = Self {
            certificates: vec![leaf],
            is_among_roots: false,
            sent: vec![0],
            end: PathEnd::Missing,
        };
        while path.certificates.len() <= MAX_CERTIFICATES {
            let last = path.certificates[path.certificates.len() - 1];
            if last.is_self_issued() {
                path.end = if roots.contains(last) {
                    PathEnd::Root
                } else {
                    PathEnd::SelfIssued
                };
                break;
            }
            match path.issuer_of(last, rest, roots) {
                Ok((issuer, position)) => {
                    match position {
                        Some(position) => path.sent.push(position),
                        None => path.is_among_roots = true,
                    }
                    path.certificates.push(issuer);
                }
                Err(end) => {
                    path.end = end;
                    break;
                }
            }
        }
        path
    }

    /// The path through what was sent, to a root that is not known here: by the names of issuers alone,
    /// whose signatures were checked when the chain was read.
    pub(super) fn by_names(leaf: &'a Certificate, rest: &'a [Certificate]) -> Self {
        let mut certificates = vec![leaf];
        let mut last = leaf;
        while let Some(issuer) = rest.iter().find(|certificate| {
            last.names_as_issuer(certificate) && !certificates.contains(certificate)
        }) {
            certificates.push(issuer);
            last = issuer;
        }
        Self {
            certificates,
            is_among_roots: false,
            sent: Vec::new(),
            end: PathEnd::Missing,
        }
    }

    /// The issuer, and its position among those sent where it is one of them.
    fn issuer_of(
        &self,
        last: &Certificate,
        rest: &'a [Certificate],
        roots: &'a Roots,
    ) -> Result<(&'a Certificate, Option<usize>), PathEnd> {
        let mut end = PathEnd::Missing;
        let mut signed = |candidate: &Certificate| {
            if !last.names_as_issuer(candidate) || self.certificates.contains(&candidate) {
                return false;
            }
            match candidate.issued(last) {
                Ok(()) => true,
                // What is too weak to be verified here is rejected for that; the path goes on.
                Err(_) if last.weak_digest().is_some() || candidate.weak_key().is_some() => true,
                Err(LinkError::Unsupported { algorithm }) => {
                    end = PathEnd::Unverifiable(algorithm);
                    false
                }
                Err(_) => {
                    end = PathEnd::BadSignature;
                    false
                }
            }
        };
        let trusted = roots
            .iter()
            .filter(|root| signed(root))
            .max_by_key(|root| root.not_after());
        if let Some(root) = trusted {
            return Ok((root, None));
        }
        let sent = rest
            .iter()
            .enumerate()
            .filter(|_| !self.is_among_roots)
            .find(|(_, candidate)| signed(candidate));
        match sent {
            Some((index, issuer)) => Ok((issuer, Some(index + 1))),
            None => Err(end),
        }
    }

    pub(super) fn leaf(&self) -> &'a Certificate {
        self.certificates[0]
    }

    /// Positions of those sent that are on the path.
    pub(super) fn sent(&self) -> Vec<usize> {
        self.sent.clone()
    }

    /// The root that it leads to; none where it leads to none that is known.
    pub(super) fn root(&self) -> Option<&'a Certificate> {
        let is_root = matches!(self.end, PathEnd::Root);
        self.certificates.last().copied().filter(|_| is_root)
    }

    /// Whether a certificate on it limits the names of those below.
    pub(super) fn limits_names(&self) -> bool {
        self.certificates
            .iter()
            .any(|certificate| certificate.facts().limits_names)
    }

    pub(super) fn faults(&self, roots: &Roots, now: Timestamp) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(self.end_fault(roots));
        faults.extend((0..self.certificates.len()).flat_map(|index| self.faults_at(index, now)));
        faults
    }

    /// What is wrong with one certificate, in its place.
    pub(super) fn faults_at(&self, index: usize, now: Timestamp) -> Vec<Fault> {
        let faults = [
            self.out_of_date(index, now),
            self.weak(index),
            self.unfit(index),
        ];
        faults.into_iter().flatten().collect()
    }

    fn end_fault(&self, roots: &Roots) -> Option<Fault> {
        let last = self.certificates.len() - 1;
        let end = self.certificates[last];
        let at_leaf = last == 0;
        let (subject, issuer) = (end.subject(), end.issuer());
        let name_the_root = "name the file of that root: --ca FILE (libpq: sslrootcert=FILE)";
        let whose = self.whose(last);
        Some(match &self.end {
            PathEnd::Root => return None,
            PathEnd::SelfIssued if at_leaf => Fault::new(
                FaultKind::SelfSigned,
                "it is self-signed, and not among the roots",
                "name its file: --ca FILE (libpq: sslrootcert=FILE), or serve a certificate \
                 that an authority issued",
            ),
            PathEnd::SelfIssued => Fault::new(
                FaultKind::UnknownRoot,
                format!(
                    "the root that it leads to was sent, and is not among the roots: {subject}"
                ),
                name_the_root,
            ),
            PathEnd::Missing if roots.is_empty() => Fault::new(
                FaultKind::UnknownRoot,
                "no root certificate was found on this host",
                "install ca-certificates, or name a file: --ca FILE",
            ),
            PathEnd::Missing if self.is_among_roots => Fault::new(
                FaultKind::UnknownRoot,
                format!(
                    "{subject} is among the roots, but not its issuer {issuer}, and libpq wants the last root"
                ),
                "add that root to the file",
            ),
            PathEnd::Missing if at_leaf => Fault::new(
                FaultKind::IncompleteChain,
                format!("its issuer was not sent, and is not among the roots: {issuer}"),
                "serve fullchain.pem, which holds the intermediates; if that issuer is a root of \
                 your own, name its file: --ca FILE (libpq: sslrootcert=FILE)",
            ),
            PathEnd::Missing => Fault::new(
                FaultKind::UnknownRoot,
                format!("the root that it leads to is not among the roots: {issuer}"),
                name_the_root,
            ),
            PathEnd::BadSignature => Fault::new(
                FaultKind::BadSignature,
                format!("{whose} names an issuer that is there and has not signed it: {issuer}"),
                "another authority of the same name has: name the right file with --ca, and \
                 serve the chain that came with the certificate",
            ),
            PathEnd::Unverifiable(algorithm) => Fault::not_judged(format!(
                "{whose} bears a signature that pgcertd cannot verify ({algorithm})"
            )),
        })
    }

    fn out_of_date(&self, index: usize, now: Timestamp) -> Option<Fault> {
        let certificate = self.certificates[index];
        let whose = self.whose(index);
        let (begin, end) = (certificate.not_before(), certificate.not_after());
        if now > end {
            let why = format!("{whose} expired on {}", day(end));
            let fix = if index == 0 {
                "renew it; pgcertd status says why that has not happened"
            } else {
                "serve the chain that comes with the latest renewal, and bring the roots up to date"
            };
            return Some(Fault::new(FaultKind::Expired, why, fix));
        }
        (now < begin).then(|| Fault {
            until: Some(begin),
            ..Fault::new(
                FaultKind::NotYetValid,
                format!("{whose} is not valid before {begin}"),
                "check the clocks here and where it was issued",
            )
        })
    }

    /// OpenSSL's security level 2: 112 bits in every key, and in every signature that counts.
    fn weak(&self, index: usize) -> Option<Fault> {
        let certificate = self.certificates[index];
        let whose = self.whose(index);
        if let Some(key) = certificate.weak_key() {
            return Some(Fault::new(
                FaultKind::WeakKey,
                format!("{whose} has {key}, which OpenSSL rejects"),
                "issue it with an ECDSA key, or RSA of 2048 bits or more",
            ));
        }
        let digest = certificate.weak_digest()?;
        Some(Fault::new(
            FaultKind::WeakSignature,
            format!("{whose} is signed with {digest}, which OpenSSL rejects"),
            "have it issued again with SHA-256",
        ))
    }

    /// Whether it may do what it does here (`check_extensions`, `check_purpose_ssl_server`).
    fn unfit(&self, index: usize) -> Option<Fault> {
        let facts = self.certificates[index].facts();
        let whose = self.whose(index);
        if facts.demands_unknown {
            return Some(Fault::new(
                FaultKind::Refused,
                format!("{whose} has a critical extension that OpenSSL does not know"),
                "issue it without that extension, or with one that is not critical",
            ));
        }
        if facts.may_serve == Some(false) {
            return Some(Fault::new(
                FaultKind::WrongPurpose,
                format!("{whose} is not for servers (extended key usage)"),
                "issue it with serverAuth",
            ));
        }
        if index == 0 && facts.is_typed_for_others {
            return Some(Fault::new(
                FaultKind::WrongPurpose,
                format!("{whose} is not for servers (Netscape certificate type)"),
                "issue it without that extension",
            ));
        }
        if index == 0 {
            return (facts.may_shake_hands == Some(false)).then(|| {
                Fault::new(
                    FaultKind::WrongPurpose,
                    format!("{whose} has a key that may not be used in a handshake (key usage)"),
                    "issue it with digitalSignature",
                )
            });
        }
        let is_root = self.certificates[index].is_self_issued();
        let is_authority = match facts.authority {
            // Those between the leaf and the others, as far as they do not issue for themselves.
            Authority::Yes(Some(limit)) => {
                let below = self.certificates[1..index]
                    .iter()
                    .filter(|certificate| !certificate.is_self_issued())
                    .count();
                below <= usize::try_from(limit).unwrap_or(usize::MAX)
            }
            Authority::Yes(None) => true,
            Authority::No => false,
            // OpenSSL lets a root be of version 1, or say it by its key's uses.
            Authority::Unsaid => {
                is_root && (facts.version < 3 || facts.may_sign_certificates == Some(true))
            }
        };
        if is_authority && facts.may_sign_certificates != Some(false) {
            return None;
        }
        Some(Fault::new(
            FaultKind::NotAnAuthority,
            format!("{whose} may not issue what is below it"),
            "serve the chain that came with the certificate",
        ))
    }

    fn whose(&self, index: usize) -> String {
        whose(&self.certificates, index)
    }
}

/// What a certificate of a path is called in a sentence.
pub(super) fn whose(certificates: &[&Certificate], index: usize) -> String {
    let certificate = certificates[index];
    match index {
        0 => "it".to_owned(),
        _ if certificate.is_self_issued() => format!("the root {}", certificate.subject()),
        _ => format!("the intermediate {}", certificate.subject()),
    }
}
