//! Whether a certificate is for the host that a client asks for, by libpq's rule.
//!
//! From 15 on libpq compares every DNS name as text and every IP address as an address. The
//! common name counts where there is no alternative name of the host's own kind, so that it may
//! match an IP address beside DNS names (`pgtls_verify_peer_name_matches_certificate_guts`).

use std::net::IpAddr;

use super::{Fault, Kind};
use crate::bundle::{Certificate, Facts};

/// By what a certificate covers a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    DnsName,
    Address,
    CommonName,
}

pub(super) fn covers(facts: &Facts, host: &str) -> Option<Ground> {
    let address: Option<IpAddr> = host.parse().ok();
    if facts.dns_names.iter().any(|name| matches(name, host)) {
        return Some(Ground::DnsName);
    }
    if address.is_some_and(|it| facts.addresses.contains(&it)) {
        return Some(Ground::Address);
    }
    let has_own_kind = match address {
        Some(_) => !facts.addresses.is_empty(),
        None => !facts.dns_names.is_empty(),
    };
    let common = facts.common_name.as_ref().filter(|_| !has_own_kind)?;
    matches(common, host).then_some(Ground::CommonName)
}

/// Equal but for case, or a wildcard that is the whole first label and stands for exactly one
/// (`wildcard_certificate_match`). It is text to libpq, also where the host is an IP address.
fn matches(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((_, rest))) => !parent.is_empty() && parent.eq_ignore_ascii_case(rest),
        _ => false,
    }
}

pub(super) fn mismatch(leaf: &Certificate, host: &str) -> Fault {
    let own = leaf.names();
    let why = match own {
        [] => format!("it names no host at all, and {host} was asked for"),
        names => format!("it is for {}, and {host} was asked for", names.join(", ")),
    };
    let mend = match own {
        [] => format!("issue it with {host} as a subject alternative name"),
        _ => format!("connect by a name that it has, or issue it for {host} as well"),
    };
    Fault {
        kind: Kind::NameMismatch,
        why,
        mend,
    }
}
