//! Names by libpq's rule, one by one. That it is libpq's is shown by the end-to-end tests, with psql.

use proptest::prelude::*;

use super::*;

/// Of a certificate with these alternative names, in this order, and this common name.
fn named(alternative: &[&str], common: Option<&str>) -> Certificate {
    let mut params = leaf_params(&[]);
    params.subject_alt_names = alternative
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => rcgen::SanType::IpAddress(address),
            Err(_) => rcgen::SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(common) = common {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    Certificate::from_der(self_signed(&params).der).unwrap()
}

fn ground(certificate: &Certificate, host: &str) -> Option<Ground> {
    certificate.facts().covers(host)
}

#[test]
fn a_name_is_compared_without_case_and_as_a_whole() {
    let leaf = named(&["PG.example.com"], Some("common.example.com"));
    assert_eq!(ground(&leaf, "pg.Example.com"), Some(Ground::DnsName));
    for other in [
        "g.example.com",
        "pg.example.co",
        "pg.example.com.",
        "common.example.com",
        "a.pg.example.com",
    ] {
        assert_eq!(ground(&leaf, other), None, "{other}");
    }
}

#[test]
fn a_wildcard_is_one_whole_first_label_of_whatever_domain() {
    let names = ["*.example.com", "*.", "p*.example.org", "*.internal"];
    let leaf = named(&names, None);
    for host in ["pg.example.com", "PG.Internal", "*.internal"] {
        assert_eq!(ground(&leaf, host), Some(Ground::DnsName), "{host}");
    }
    for other in [
        "example.com",
        "a.b.example.com",
        ".example.com",
        "pg.example.org",
        "a.b.internal",
        "internal",
        "pg.",
    ] {
        assert_eq!(ground(&leaf, other), None, "{other}");
    }
}

#[test]
fn the_common_name_counts_where_no_alternative_name_is_of_the_hosts_kind() {
    let alone = named(&[], Some("*.example.com"));
    let found = |leaf: &Certificate, host| ground(leaf, host) == Some(Ground::CommonName);
    assert!(found(&alone, "pg.example.com"));
    assert!(found(
        &named(&["10.0.0.1"], Some("pg.example.com")),
        "pg.example.com"
    ));
    assert!(found(
        &named(&["pg.example.com"], Some("10.0.0.1")),
        "10.0.0.1"
    ));
    for (alternative, common) in [
        (&["pg.example.com", "10.0.0.2"][..], "10.0.0.1"),
        (&["a.example.com"], "10.0.0.2"),
    ] {
        assert_eq!(ground(&named(alternative, Some(common)), "10.0.0.1"), None);
    }
}

#[test]
fn an_address_is_compared_as_an_address() {
    let leaf = named(&["10.0.0.1", "::1"], None);
    assert_eq!(ground(&leaf, "10.0.0.1"), Some(Ground::Address));
    assert_eq!(ground(&leaf, "0:0::1"), Some(Ground::Address));
    assert_eq!(ground(&leaf, "10.0.0.2"), None);
}

/// `pgtls_verify_peer_name_matches_certificate_guts` stops at the first name with an error.
#[test]
fn nothing_counts_behind_a_name_that_libpq_cannot_use() {
    let nul = "pg.example.com\0.evil.example";
    let before = named(&["db.example.com", nul], None);
    assert_eq!(ground(&before, "db.example.com"), Some(Ground::DnsName));
    let behind = named(&[nul, "db.example.com"], None);
    assert_eq!(ground(&behind, "db.example.com"), None);
    assert_eq!(ground(&behind, "pg.example.com"), None);
}

#[test]
fn its_names_are_those_that_a_client_may_ask_for() {
    for (alternative, common, names) in [
        (
            &["a.example.com", "10.0.0.1"][..],
            Some("cn.example.com"),
            &["a.example.com", "10.0.0.1"][..],
        ),
        (
            &["10.0.0.1"],
            Some("cn.example.com"),
            &["10.0.0.1", "cn.example.com"],
        ),
        (
            &["a.example.com"],
            Some("10.0.0.1"),
            &["a.example.com", "10.0.0.1"],
        ),
        (&[], Some("*.example.com"), &["*.example.com"]),
        (&[], None, &[]),
    ] {
        assert_eq!(named(alternative, common).names(), names);
    }
}

/// A name that only an authority knows is no reason to refuse: webpki takes none of these.
#[test]
fn what_libpq_takes_may_be_installed() {
    let mut policies = leaf_params(&["db.example.com"]);
    // certificatePolicies, critical, with a policy of its own (RFC 5280, 4.2.1.4).
    let policy = vec![0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x2a, 0x03, 0x04, 0x05];
    let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 32], policy);
    extension.set_criticality(true);
    policies.custom_extensions.push(extension);
    let mut beside = leaf_params(&["192.0.2.1"]);
    let common = "db.example.com";
    beside.distinguished_name.push(DnType::CommonName, common);
    for (params, host) in [
        (leaf_params(&["*.internal"]), "db.internal"),
        (leaf_params(&["*.internal"]), "DB.INTERNAL"),
        (beside, common),
        (policies, common),
    ] {
        let bundle = bundle(&self_signed(&params));
        let judged = bundle.check(&[server(host)], at("2024-02-01T00:00:00Z"));
        assert_eq!(judged, Ok(()), "{host}");
    }
}

/// `wildcard_certificate_match` and `pg_strcasecmp`, as they are written in C.
fn by_libpq(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (long, wanted) = (pattern.len(), host.len());
    if long < 3 || !pattern.starts_with("*.") || long > wanted {
        return false;
    }
    let tail = wanted + 1 - long;
    host.is_char_boundary(tail)
        && pattern[1..].eq_ignore_ascii_case(&host[tail..])
        && host.find('.').is_some_and(|dot| dot >= tail)
}

proptest! {
    #[test]
    fn a_dns_name_matches_as_in_libpqs_source(
        pattern in r"(\*\.|\*|[aA]\.)?[ab*.]{0,4}",
        host in r"[aAb.]{1,6}",
    ) {
        prop_assume!(!pattern.is_empty() && host.parse::<std::net::IpAddr>().is_err());
        let leaf = named(&[&pattern], None);
        prop_assert_eq!(ground(&leaf, &host).is_some(), by_libpq(&pattern, &host));
    }
}
