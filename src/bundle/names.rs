//! Whether a certificate covers the host that a client asks for, by libpq's rule.
//!
//! From 15 on libpq goes through the alternative names in their order: it compares a DNS name as
//! text and an IP address as an address, and stops at the first that fits, or that it cannot use.
//! The common name counts where there is no alternative name of the host's own kind, so that it may
//! be a host name beside IP addresses, or an IP address beside DNS names
//! (`pgtls_verify_peer_name_matches_certificate_guts`).

use std::net::IpAddr;

use super::facts::{AlternativeName, CertificateFacts};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A DNS name among its alternative names.
    DnsName,
    /// An IP address among them.
    Address,
    CommonName,
}

impl CertificateFacts {
    /// By which name the certificate covers `host`; `None` if libpq rejects it for that host.
    pub(crate) fn covers(&self, host: &str) -> Option<Ground> {
        let address: Option<IpAddr> = host.parse().ok();
        let mut has_own_kind = false;
        for name in &self.alternative_names {
            match name {
                AlternativeName::Dns(name) => {
                    has_own_kind |= address.is_none();
                    if matches(name, host) {
                        return Some(Ground::DnsName);
                    }
                }
                AlternativeName::Address(own) => {
                    has_own_kind |= address.is_some();
                    if address == Some(*own) {
                        return Some(Ground::Address);
                    }
                }
                AlternativeName::Unusable => return None,
            }
        }
        let common = self.common_name.as_ref().filter(|_| !has_own_kind)?;
        matches(common, host).then_some(Ground::CommonName)
    }

    /// The names that it covers, in its order: alternative names, and the common name if it counts.
    pub(super) fn names(&self) -> Vec<String> {
        let alternative = self.alternative_names.iter().filter_map(|name| match name {
            AlternativeName::Dns(name) => Some(name.clone()),
            AlternativeName::Address(address) => Some(address.to_string()),
            AlternativeName::Unusable => None,
        });
        let counts = |common: &&String| self.covers(common) == Some(Ground::CommonName);
        let common = self.common_name.as_ref().filter(counts);
        alternative.chain(common.cloned()).collect()
    }
}

/// Equal but for case, or a wildcard that is the whole first label and stands for exactly one
/// (`wildcard_certificate_match`). It is text to libpq, also where the host is an IP address.
fn matches(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((label, rest))) => {
            !parent.is_empty() && !label.is_empty() && parent.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}
