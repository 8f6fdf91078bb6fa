//! The rules one by one. That they are libpq's is shown by the end-to-end tests, with psql.

use super::names::{Ground, covers};
use crate::bundle::{Authority, Facts};

fn named(dns: &[&str], addresses: &[&str], common: Option<&str>) -> Facts {
    Facts {
        version: 3,
        key: String::new(),
        signature: String::new(),
        authority: Authority::Unsaid,
        may_sign_certificates: None,
        may_sign_revocations: None,
        may_shake_hands: None,
        may_serve: None,
        is_constrained: false,
        dns_names: dns.iter().map(|&it| it.to_owned()).collect(),
        addresses: addresses.iter().filter_map(|it| it.parse().ok()).collect(),
        common_name: common.map(str::to_owned),
    }
}

#[test]
fn a_name_is_compared_without_case_and_as_a_whole() {
    let facts = named(&["PG.example.com"], &[], Some("common.example.com"));
    assert_eq!(covers(&facts, "pg.Example.com"), Some(Ground::DnsName));
    for other in ["g.example.com", "pg.example.co", "common.example.com"] {
        assert_eq!(covers(&facts, other), None, "{other}");
    }
}

#[test]
fn a_wildcard_is_one_whole_first_label() {
    let facts = named(&["*.example.com", "*.", "p*.example.org"], &[], None);
    assert_eq!(covers(&facts, "pg.example.com"), Some(Ground::DnsName));
    for other in ["example.com", "a.b.example.com", "pg.example.org", "pg."] {
        assert_eq!(covers(&facts, other), None, "{other}");
    }
}

#[test]
fn the_common_name_counts_where_no_alternative_name_is_of_the_hosts_kind() {
    let only_common = named(&[], &[], Some("pg.example.com"));
    assert_eq!(
        covers(&only_common, "pg.example.com"),
        Some(Ground::CommonName)
    );
    let address_beside = named(&[], &["10.0.0.1"], Some("pg.example.com"));
    assert_eq!(
        covers(&address_beside, "pg.example.com"),
        Some(Ground::CommonName)
    );
    let name_beside = named(&["pg.example.com"], &[], Some("10.0.0.1"));
    assert_eq!(covers(&name_beside, "10.0.0.1"), Some(Ground::CommonName));
    let both = named(&["pg.example.com"], &["10.0.0.2"], Some("10.0.0.1"));
    assert_eq!(covers(&both, "10.0.0.1"), None);
}

#[test]
fn an_address_is_compared_as_an_address() {
    let facts = named(&[], &["10.0.0.1", "::1"], None);
    assert_eq!(covers(&facts, "10.0.0.1"), Some(Ground::Address));
    assert_eq!(covers(&facts, "0:0::1"), Some(Ground::Address));
    assert_eq!(covers(&facts, "10.0.0.2"), None);
}
