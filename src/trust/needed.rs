//! What of a chain its clients need, and what they would reject whatever they trust.
//!
//! Where the chain leads to a root that is known here, or that was sent along, clients need what lies on
//! the path there: a cross-signed root behind it may have expired. Where no such root is known, as
//! with a private CA, they need all that was sent.

use jiff::Timestamp;

use super::fault::{Fault, FaultKind};
use super::path::Path;
use super::roots::Roots;
use super::verified::{WebpkiVerdict, verified};
use crate::bundle::{Bundle, Certificate, Expiry, Thresholds};

/// What of a chain its clients need.
#[derive(Debug, Clone)]
pub(crate) struct Needed<'a> {
    leaf: &'a Certificate,
    /// Those of what was sent that are needed.
    others: Vec<&'a Certificate>,
    /// Why clients reject them, whatever they trust.
    pub(crate) faults: Vec<Fault>,
}

impl<'a> Needed<'a> {
    /// Of what is sent, `leaf` and then `rest`, at `now`, where `roots` are known.
    pub(crate) fn new(
        leaf: &'a Certificate,
        rest: &'a [Certificate],
        roots: &Roots,
        now: Timestamp,
    ) -> Needed<'a> {
        for known in [roots, &Roots::sent_along(leaf, rest)] {
            if known.is_empty() {
                continue;
            }
            let path = Path::from(leaf, rest, known);
            if path.root().is_some() {
                return Needed::along(&path, leaf, rest, now);
            }
        }
        let mut needed = Needed::along(&Path::by_names(leaf, rest), leaf, rest, now);
        needed.faults.extend(lacks_intermediate(leaf, rest));
        needed
    }

    pub(crate) fn of_bundle(bundle: &'a Bundle, roots: &Roots, now: Timestamp) -> Needed<'a> {
        Needed::new(bundle.leaf(), bundle.intermediates(), roots, now)
    }

    pub(crate) fn leaf(&self) -> &'a Certificate {
        self.leaf
    }

    /// How near to its end it is at `now`: the first of its certificates to end counts.
    pub(crate) fn expiry(&self, now: Timestamp, thresholds: Thresholds) -> Expiry {
        self.first_end().expiry(now, thresholds)
    }

    /// Whether one of its certificates has ended by `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.first_end().is_expired(now)
    }

    /// Whether roots that are known could change what is found without any: they are read only then.
    pub(crate) fn depends_on_roots(
        leaf: &Certificate,
        rest: &[Certificate],
        now: Timestamp,
    ) -> bool {
        let needed = Needed::new(leaf, rest, &Roots::none(), now);
        needed.first_end() != leaf || !needed.faults.is_empty()
    }

    /// The first of them to end; the leaf, where another ends with it.
    pub(crate) fn first_end(&self) -> &'a Certificate {
        let others = self.others.iter().copied();
        others.fold(self.leaf, |first, other| {
            if other.not_after() < first.not_after() {
                other
            } else {
                first
            }
        })
    }

    fn along(
        path: &Path<'_>,
        leaf: &'a Certificate,
        rest: &'a [Certificate],
        now: Timestamp,
    ) -> Needed<'a> {
        let on_it: Vec<(usize, &'a Certificate)> = path
            .certificates
            .iter()
            .enumerate()
            .filter_map(|(index, certificate)| {
                let mut sent = std::iter::once(leaf).chain(rest);
                Some((index, sent.find(|entry| entry == certificate)?))
            })
            .collect();
        let faults = on_it
            .iter()
            .flat_map(|(index, _)| path.faults_at(*index, now));
        let mut faults: Vec<Fault> = faults.collect();
        if faults.is_empty()
            && path.limits_names()
            && let WebpkiVerdict::Rejected(fault) = verified(path, now)
            && fault.kind != FaultKind::NotJudged
        {
            faults.push(fault);
        }
        Needed {
            leaf,
            others: on_it
                .into_iter()
                .map(|(_, certificate)| certificate)
                .collect(),
            faults,
        }
    }
}

/// That a public authority's leaf comes without its issuer, where no root that is known has issued it: public roots issue
/// none themselves, so that no client has the issuer.
fn lacks_intermediate(leaf: &Certificate, rest: &[Certificate]) -> Option<Fault> {
    let has_issuer = rest.iter().any(|other| leaf.names_as_issuer(other));
    (leaf.facts().is_logged && !has_issuer).then(|| {
        Fault::new(
            FaultKind::IncompleteChain,
            format!("its issuer does not come with it: {}", leaf.issuer()),
            "name the file that holds the intermediates as well, such as fullchain.pem",
        )
    })
}
