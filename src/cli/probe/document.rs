//! The document that `probe --json` prints, and that the text is made from.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::answer::{ProbeAnswer, ProbeArguments};
use crate::bundle::{Certificate, Fingerprint, Thresholds};
use crate::report::view::{CertificateView, EndView, VERSION};
use crate::server::probe::Served;
use crate::trust::{self, Fault, Judgement, Needed, Roots};

#[derive(Serialize)]
pub(super) struct ProbeJson {
    version: u32,
    pub(super) host: String,
    pub(super) port: u16,
    /// The address to use instead of the host's own.
    pub(super) hostaddr: Option<IpAddr>,
    /// Whether TLS was started without an SSLRequest.
    pub(super) direct: bool,
    pub(super) roots: RootsView,
    /// Whether `verify-full` accepts what each answering address serves.
    pub(super) accepted: bool,
    /// The first reason why not.
    problem: Option<String>,
    pub(super) addresses: Vec<AddressView>,
}

#[derive(Serialize)]
pub(super) struct RootsView {
    /// `system`, or the file.
    pub(super) from: String,
    count: usize,
}

/// One of the host's addresses.
#[derive(Serialize)]
pub(super) struct AddressView {
    pub(super) address: String,
    /// Why nothing was seen there.
    pub(super) error: Option<String>,
    #[serde(flatten)]
    pub(super) served: Option<ServedView>,
}

/// What was served at an address. Equal ones are drawn once.
#[derive(Serialize, PartialEq)]
pub(super) struct ServedView {
    pub(super) protocol: String,
    pub(super) cipher: String,
    pub(super) key_exchange: String,
    pub(super) verify_full: ProbeVerdict,
    pub(super) verify_ca: ProbeVerdict,
    /// What other clients judge differently, or what was sent in vain.
    pub(super) notes: Vec<String>,
    /// As it was sent, the leaf first.
    pub(super) chain: Vec<Sent>,
    /// The root that the chain leads to.
    pub(super) root: Option<Sent>,
    /// The certificate in the chain that clients need and that expires before the leaf.
    pub(super) chain_end: Option<EndView>,
}

#[derive(Serialize, PartialEq)]
pub(super) struct ProbeVerdict {
    pub(super) accepted: bool,
    /// Whether pgcertd can tell. If it can't, `accepted` is false, although clients may accept it.
    pub(super) judged: bool,
    pub(super) reasons: Vec<Fault>,
}

#[derive(Serialize, PartialEq)]
pub(super) struct Sent {
    pub(super) fingerprint: Fingerprint,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) names: Vec<String>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) key: String,
    pub(super) signature: String,
    /// Whether it is on the path from the leaf to the root.
    pub(super) used: bool,
}

impl ProbeJson {
    pub(super) fn from_wanted(
        wanted: &ProbeArguments,
        seen: &[ProbeAnswer],
        roots: &Roots,
        from: String,
        now: Timestamp,
    ) -> Self {
        let host = &wanted.address.host;
        let addresses: Vec<_> = seen
            .iter()
            .map(|seen| AddressView::from_seen(seen, roots, host, now))
            .collect();
        let problem = addresses
            .iter()
            .filter_map(|view| view.served.as_ref()?.verify_full.reasons.first())
            .map(|fault| fault.problem.what.clone())
            .next();
        Self {
            version: VERSION,
            host: host.clone(),
            port: wanted.address.port,
            hostaddr: wanted.hostaddr,
            direct: wanted.direct,
            roots: RootsView {
                from,
                count: roots.len(),
            },
            accepted: problem.is_none(),
            problem,
            addresses,
        }
    }
}

impl AddressView {
    fn from_seen(seen: &ProbeAnswer, roots: &Roots, host: &str, now: Timestamp) -> Self {
        let (error, served) = match &seen.served {
            Ok(served) => (
                None,
                Some(ServedView::from_served(served, roots, host, now)),
            ),
            Err(unanswered) => (
                Some(format!("{}; {}", unanswered.why, unanswered.fix)),
                None,
            ),
        };
        Self {
            address: seen.socket.to_string(),
            error,
            served,
        }
    }
}

impl ServedView {
    fn from_served(served: &Served, roots: &Roots, host: &str, now: Timestamp) -> Self {
        let rest = served.rest();
        let Judgement {
            chain,
            name,
            used,
            root,
            mut notes,
        } = trust::judge(&served.leaf, &rest, roots, host, now);
        let unreadable = served.intermediates.len() - rest.len();
        if unreadable > 0 {
            notes.push(format!(
                "{unreadable} of the certificates that were sent cannot be parsed and are left out"
            ));
        }
        let sent: Vec<Sent> = std::iter::once(&served.leaf)
            .chain(&rest)
            .enumerate()
            .map(|(at, certificate)| Sent::from_certificate(certificate, used.contains(&at)))
            .collect();
        let full = chain.iter().cloned().chain(name).collect();
        let needed = Needed::new(&served.leaf, &rest, roots, now);
        Self {
            protocol: served.protocol.clone(),
            cipher: served.cipher.clone(),
            key_exchange: served.key_exchange.clone(),
            verify_full: ProbeVerdict::from_reasons(full),
            verify_ca: ProbeVerdict::from_reasons(chain),
            notes,
            root: root.map(|root| Sent::from_certificate(&root, true)),
            chain_end: CertificateView::from_needed(&needed, now, Thresholds::default()).chain_end,
            chain: sent,
        }
    }

    pub(super) fn leaf(&self) -> Option<&Sent> {
        self.chain.first()
    }
}

impl ProbeVerdict {
    fn from_reasons(reasons: Vec<Fault>) -> Self {
        Self {
            accepted: reasons.is_empty(),
            judged: reasons.is_empty()
                || reasons
                    .iter()
                    .any(|fault| fault.kind != trust::FaultKind::NotJudged),
            reasons,
        }
    }
}

impl Sent {
    fn from_certificate(certificate: &Certificate, used: bool) -> Self {
        let facts = certificate.facts();
        Self {
            fingerprint: certificate.fingerprint(),
            subject: certificate.subject().to_owned(),
            issuer: certificate.issuer().to_owned(),
            serial: certificate.serial().to_owned(),
            names: certificate.names().to_vec(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            key: facts.key.clone(),
            signature: facts.signature.clone(),
            used,
        }
    }
}
