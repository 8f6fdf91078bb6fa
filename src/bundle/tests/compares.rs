//! Whether a bundle may be installed, and what it is beside the one that is.

use super::*;

fn issued_from(authority: &Authority, names: &[&str], month: u8) -> KeyedBundle {
    let mut params = leaf_params(names);
    params.not_before = date_time_ymd(2024, month, 1);
    bundle(&authority.issue(params, &KeyPair::generate().unwrap()))
}

#[test]
fn a_bundle_within_its_dates_that_covers_the_names_may_be_installed() {
    let bundle = bundle(&self_signed(&leaf_params(&["db.example.com", "192.0.2.1"])));
    let names = [server("db.example.com"), server("192.0.2.1")];
    for now in ["2024-01-01T00:00:00Z", "2024-04-01T00:00:00Z"] {
        assert_eq!(bundle.check(&names, at(now)), Ok(()));
        assert_eq!(bundle.check(&[], at(now)), Ok(()));
    }
}

#[test]
fn an_expired_bundle_is_refused_with_its_date() {
    let bundle = bundle(&self_signed(&leaf_params(&["db.example.com"])));
    let refusal = bundle.check(&[], at("2024-04-01T00:00:01Z")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the certificate expired at 2024-04-01T00:00:00Z"
    );
}

#[test]
fn a_bundle_that_is_not_yet_valid_is_refused_with_its_date() {
    let bundle = bundle(&self_signed(&leaf_params(&["db.example.com"])));
    let refusal = bundle.check(&[], at("2023-12-31T23:59:59Z")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the certificate is not valid before 2024-01-01T00:00:00Z"
    );
}

#[test]
fn names_that_are_not_covered_are_named() {
    let bundle = bundle(&self_signed(&leaf_params(&[
        "db.example.com",
        "*.example.org",
    ])));
    let names = [
        server("db.example.com"),
        server("a.b.example.org"),
        server("192.0.2.1"),
    ];
    let refusal = bundle
        .check(&names, at("2024-02-01T00:00:00Z"))
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the certificate does not cover a.b.example.org, 192.0.2.1, it names db.example.com, *.example.org"
    );
}

#[test]
fn a_bundle_is_the_same_as_itself_and_not_as_its_renewal() {
    let root = Authority::root("Root");
    let key = KeyPair::generate().unwrap();
    let one = bundle(&root.issue(leaf_params(&["db.example.com"]), &key));
    let other = bundle(&root.issue(leaf_params(&["db.example.com", "b.example.com"]), &key));
    assert!(one.same_content(&one));
    assert!(!one.same_content(&other));
}

#[test]
fn a_bundle_with_another_chain_is_not_the_same() {
    let root = Authority::root("Root");
    let leaf = root.leaf(&["db.example.com"]);
    let longer = parse(&(leaf.pem.clone() + &root.pem), &leaf.key).unwrap();
    assert!(!bundle(&leaf).same_content(&longer));
}

#[test]
fn a_shorter_chain_of_the_same_issuer_is_noticed() {
    let root = Authority::root("Root");
    let leaf = root.leaf(&["db.example.com"]);
    let longer = parse(&(leaf.pem.clone() + &root.pem), &leaf.key).unwrap();
    assert!(bundle(&leaf).shorter_than(&longer));
    assert!(!longer.shorter_than(&bundle(&leaf)));
    let elsewhere = Authority::root("Elsewhere").leaf(&["db.example.com"]);
    assert!(!bundle(&elsewhere).shorter_than(&longer));
}

#[test]
fn a_renewal_raises_no_warning() {
    let root = Authority::root("Root");
    let old = issued_from(&root, &["db.example.com"], 1);
    let new = issued_from(&root, &["DB.example.com", "b.example.com"], 2);
    assert_eq!(new.warnings(&old, at("2024-02-01T00:00:00Z")), []);
    assert_eq!(old.warnings(&old, at("2024-02-01T00:00:00Z")), []);
}

#[test]
fn names_that_a_wildcard_still_covers_are_not_lost() {
    let root = Authority::root("Root");
    let old = issued_from(
        &root,
        &["db.example.com", "192.0.2.1", "*.b.example.com"],
        1,
    );
    let new = issued_from(&root, &["*.example.com"], 1);
    let warnings = new.warnings(&old, at("2024-02-01T00:00:00Z"));
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].to_string(),
        "the certificate no longer covers 192.0.2.1, *.b.example.com, which the installed one does"
    );
}

#[test]
fn an_older_generation_is_noticed() {
    let root = Authority::root("Root");
    let old = issued_from(&root, &["db.example.com"], 1);
    let new = issued_from(&root, &["db.example.com"], 2);
    let warnings = old.warnings(&new, at("2024-02-01T00:00:00Z"));
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].to_string(),
        "the certificate is valid from 2024-01-01T00:00:00Z and thus older than the installed one, \
         valid from 2024-02-01T00:00:00Z"
    );
}
