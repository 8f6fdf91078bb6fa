//! What `verify-full` and `verify-ca` make of certificates of all kinds.

use std::{fs, path::Path, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    SanType,
};

use super::{
    Desk,
    table::{HOST, Table},
};
use crate::world::{
    SOON, World,
    ca::{Ca, DAY, KeyType, Options},
    command,
    process::run,
};

/// Another name.
const OTHER: &str = "db.example.com";

type Change = fn(&mut CertificateParams);

/// Chain and key of a certificate that is a little unlike the usual one.
fn changed(ca: &Ca, name: &str, adjust: Change) -> String {
    let options = Options {
        adjust,
        ..Options::default()
    };
    ca.issue_with(&[name], &options).combined_pem()
}

fn dns(name: &str) -> Vec<SanType> {
    vec![SanType::DnsName(name.try_into().unwrap())]
}

#[test]
fn names_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut table = Table::new(&world);
    table.trust(&ca.root_pem());

    let right = ca.issue(&[HOST]).combined_pem();
    table.takes("right", &right, HOST);
    table.takes("case", &right, "PG.Example.COM");
    table.misnames("wrong", &right, OTHER);
    table.misnames("dot", &right, "pg.example.com.");
    let two = ca.issue(&[OTHER, HOST]).combined_pem();
    table.takes("second name", &two, HOST);
    let wild = ca.issue(&["*.example.com"]).combined_pem();
    table.takes("wildcard", &wild, HOST);
    table.misnames("wildcard, deeper", &wild, "a.b.example.com");
    table.misnames("wildcard, its parent", &wild, "example.com");

    let common = changed(&ca, HOST, |params| params.subject_alt_names.clear());
    let alone = &["common name alone"];
    table
        .takes("common name alone", &common, HOST)
        .noting(alone);
    table.misnames("another common name", &common, OTHER);
    let beside = changed(&ca, HOST, |params| params.subject_alt_names = dns(OTHER));
    table.misnames("common name beside others", &beside, HOST);
    let none = changed(&ca, HOST, |params| {
        params.subject_alt_names.clear();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Nameless");
    });
    table.misnames("no name", &none, HOST);

    let address = ca.issue(&["127.0.0.1", "::1"]).combined_pem();
    for host in ["127.0.0.1", "::1", "0::1"] {
        let row = table.takes("IP address", &address, host);
        row.noting(&["before 15"]);
    }
    table.misnames("another IP address", &address, "127.0.0.2");
    let text = changed(&ca, "x", |params| {
        params.subject_alt_names = dns("127.0.0.1")
    });
    table.takes("IP address as DNS name", &text, "127.0.0.1");
    let common = changed(&ca, "127.0.0.1", |params| {
        params.subject_alt_names = dns(OTHER)
    });
    let row = table.takes("IP address as common name", &common, "127.0.0.1");
    row.noting(alone);
    table.check();
}

#[test]
fn chains_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let (ca, other) = (Ca::new(&world, "Test Root"), Ca::new(&world, "Other Root"));
    let root = ca.root_pem();
    let good = ca.issue(&[HOST]);
    let (leaf, key, between) = (&good.leaf_pem, &good.key_pem, &good.chain_pem());
    let whole = &good.combined_pem();
    let bare = &format!("{leaf}{key}");
    let with_root = &format!("{leaf}{between}{root}{key}");
    let mut table = Table::new(&world);

    table.trust(&other.root_pem());
    table.refuses("unknown root", whole, &["unknown_root"]);
    table.refuses("unknown root that is sent", with_root, &["unknown_root"]);
    let namesake = Ca::new(&world, "Test Root").root_pem();
    table.trust(&namesake);
    table.refuses("namesake root", whole, &["bad_signature"]);
    table.trust(&(namesake + &root));
    table.takes("namesake beside the root", whole, HOST);
    table.trust(&format!("{between}{root}"));
    table.takes("intermediate among the roots", bare, HOST);
    table.trust(between);
    table.refuses("intermediate as root", whole, &["unknown_root"]);
    table.trust(leaf);
    table.refuses("leaf as root", whole, &["unknown_root"]);

    table.trust(&root);
    table.takes("root sent", with_root, HOST);
    table.refuses("no intermediate", bare, &["incomplete_chain"]);
    let stranger = other.issue(&[HOST]).chain_pem();
    let astray = format!("{leaf}{stranger}{between}{key}");
    table.takes("a stranger between", &astray, HOST);
    let astray = format!("{leaf}{stranger}{key}");
    table.refuses("a stranger instead", &astray, &["incomplete_chain"]);
    for intermediates in [0, 3] {
        let options = Options {
            intermediates,
            ..Options::default()
        };
        let mut issued = ca.issue_with(&[HOST], &options);
        table.takes("another length", &issued.combined_pem(), HOST);
        issued.intermediates.reverse();
        table.takes("in no order", &issued.combined_pem(), HOST);
    }
    table.check();
}

#[test]
fn dates_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut table = Table::new(&world);
    table.trust(&ca.root_pem());

    let expired = changed(&ca, HOST, |params| {
        params.not_after = (SystemTime::now() - DAY / 48).into()
    });
    table.refuses("expired", &expired, &["expired"]);
    let both = &["expired", "name_mismatch"];
    table.row(
        "expired, another name",
        &expired,
        OTHER,
        (false, false),
        both,
    );
    let early = changed(&ca, HOST, |params| {
        params.not_before = (SystemTime::now() + DAY).into()
    });
    table.refuses("early", &early, &["not_yet_valid"]);
    let old_root = Ca::new_with(&world, "Old Root", |depth, params| {
        if depth == 0 {
            params.not_after = (SystemTime::now() - DAY).into();
        }
    });
    table.trust(&old_root.root_pem());
    let pem = old_root.issue(&[HOST]).combined_pem();
    table.refuses("expired root", &pem, &["expired"]);
    let old_between = Ca::new_with(&world, "Old Between", |depth, params| {
        if depth == 1 {
            params.not_after = (SystemTime::now() - DAY).into();
        }
    });
    table.trust(&old_between.root_pem());
    let pem = old_between.issue(&[HOST]).combined_pem();
    table.refuses("expired intermediate", &pem, &["expired"]);
    table.check();
}

/// A certificate, and chain and key.
fn self_signed(adjust: Change) -> (String, String) {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.is_ca = IsCa::ExplicitNoCa;
    adjust(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let pem = certificate.clone() + &key.serialize_pem();
    (certificate, pem)
}

#[test]
fn self_signed_certificates_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let mut table = Table::new(&world);

    let (plain, pem) = self_signed(|_| {});
    table.trust(&plain);
    table.takes("trusted", &pem, HOST);
    table.misnames("another name", &pem, OTHER);
    table.trust(&Ca::new(&world, "Test Root").root_pem());
    table.refuses("unknown", &pem, &["self_signed"]);
    let (authority, pem) =
        self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    table.trust(&authority);
    table
        .takes("an authority", &pem, HOST)
        .noting(&["an authority's"]);
    let (silent, pem) = self_signed(|params| params.is_ca = IsCa::NoCa);
    table.trust(&silent);
    table.takes("no constraints", &pem, HOST);
    let (signer, pem) =
        self_signed(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    table.trust(&signer);
    table.refuses("a key to sign with", &pem, &["wrong_purpose"]);
    let forms: [(&str, &[&str]); 2] = [
        ("v1", &["version 1", "common name alone"]),
        ("sha1-self", &["", "common name alone"]),
    ];
    for (form, notes) in forms {
        fixture(&mut table, form, (true, true), &[], notes);
    }
    table.check();
}

#[test]
fn purposes_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut table = Table::new(&world);
    table.trust(&ca.root_pem());

    let refused: [(&str, Change, &[&str]); 4] = [
        (
            "for clients",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            &["wrong_purpose"],
        ),
        (
            "for anything",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            &["wrong_purpose"],
        ),
        (
            "a key to sign with",
            |params| params.key_usages = vec![KeyUsagePurpose::CrlSign],
            &["wrong_purpose"],
        ),
        (
            "a critical stranger",
            |params| {
                let oid = [1, 3, 6, 1, 4, 1, 99999, 1];
                let mut stranger = CustomExtension::from_oid_content(&oid, vec![5, 0]);
                stranger.set_criticality(true);
                params.custom_extensions.push(stranger);
            },
            &["refused"],
        ),
    ];
    for (what, adjust, kinds) in refused {
        table.refuses(what, &changed(&ca, HOST, adjust), kinds);
    }
    let unsaid = changed(&ca, HOST, |params| {
        params.extended_key_usages.clear();
        params.key_usages.clear();
    });
    table.takes("nothing said", &unsaid, HOST);
    let authority = changed(&ca, HOST, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    table
        .takes("an authority", &authority, HOST)
        .noting(&["an authority's"]);
    table.check();
}

fn limits(names: &str) -> Option<NameConstraints> {
    Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(names.into())],
        excluded_subtrees: Vec::new(),
    })
}

#[test]
fn authorities_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let mut table = Table::new(&world);
    // The root's change, the intermediate's, and the kind of the refusal; none where it is taken.
    let none: Change = |_| {};
    let no_authority: Change = |params| params.is_ca = IsCa::ExplicitNoCa;
    let unsaid: Change = |params| params.is_ca = IsCa::NoCa;
    let crl_alone: Change = |params| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let for_clients: Change =
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let of_length_0: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let of_length_1: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let here: Change = |params| params.name_constraints = limits("example.com");
    let elsewhere: Change = |params| params.name_constraints = limits("example.org");
    let mut case = |what: &'static str, root: Change, between: Change, kinds| {
        let ca = Ca::new_with(&world, what, move |depth, params| match depth {
            0 => root(params),
            1 => between(params),
            _ => {}
        });
        table.trust(&ca.root_pem());
        let pem = ca.issue(&[HOST]).combined_pem();
        match kinds {
            Some(kinds) => table.refuses(what, &pem, kinds),
            None => drop(table.takes(what, &pem, HOST)),
        }
    };
    let not = Some(["not_an_authority"].as_slice());
    case("between: no authority", none, no_authority, not);
    case("between: does not say", none, unsaid, not);
    case("between: lists alone", none, crl_alone, not);
    case(
        "between: for clients",
        none,
        for_clients,
        Some(&["wrong_purpose"]),
    );
    case("between: other names", none, elsewhere, Some(&["refused"]));
    case("between: these names", none, here, None);
    case("between: the last", none, of_length_0, None);
    case("root: no authority", no_authority, none, not);
    case("root: does not say", unsaid, none, None);
    case("root: lists alone", crl_alone, none, not);
    case(
        "root: for clients",
        for_clients,
        none,
        Some(&["wrong_purpose"]),
    );
    case("root: other names", elsewhere, none, Some(&["refused"]));
    case("root: these names", here, none, None);
    case("root: nobody between", of_length_0, none, not);
    case("root: one between", of_length_1, none, None);
    table.check();
}

/// A chain of the fixtures, whose last certificate is the root; its name is its file's.
fn fixture(
    table: &mut Table<'_>,
    what: &str,
    psql: (bool, bool),
    kinds: &'static [&'static str],
    notes: &'static [&'static str],
) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    let chain = text(&format!("{what}.chain.pem"));
    let key = match what {
        "weak" => text("weak.key"),
        _ => text("rsa.pkcs8.key"),
    };
    let certificates = chain.split_inclusive("-----END CERTIFICATE-----\n");
    table.trust(certificates.last().unwrap());
    let host = format!("{what}.example.com");
    let row = table.row("a fixture", &(chain + &key), &host, psql, kinds);
    row.noting(notes);
}

#[test]
fn keys_and_signatures_are_verified_as_psql_does() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut table = Table::new(&world);
    table.trust(&ca.root_pem());
    for key in [
        KeyType::P384,
        KeyType::P521,
        KeyType::Rsa2048,
        KeyType::Rsa3072,
        KeyType::Ed25519,
    ] {
        let options = Options {
            key,
            // OpenSSL 3.0 does not read one as rcgen writes it, with the public key (RFC 5958).
            reuse_key: (key == KeyType::Ed25519).then(ed25519),
            ..Options::default()
        };
        let pem = ca.issue_with(&[HOST], &options).combined_pem();
        table.takes("another key", &pem, HOST);
    }
    for sound in ["rsa", "pss"] {
        fixture(&mut table, sound, (true, true), &[], &[]);
    }
    for digest in ["sha1", "md5"] {
        fixture(&mut table, digest, (false, false), &["weak_signature"], &[]);
    }
    for key in ["weak", "weak-issuer"] {
        fixture(&mut table, key, (false, false), &["weak_key"], &[]);
    }
    // A server that loads what OpenSSL's defaults refuse.
    let conf = world.path().join("lax.cnf");
    let text = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n\
                CipherString = DEFAULT:@SECLEVEL=0\n";
    fs::write(&conf, text).unwrap();
    let conf = conf.to_str().unwrap();
    let desk = Desk::built(&world, |cluster| cluster.with_env("OPENSSL_CONF", conf));
    table.check_on(desk);
}

fn ed25519() -> String {
    let mut openssl = command("openssl");
    let made = run(openssl.args(["genpkey", "-algorithm", "ED25519"]), SOON);
    made.result().unwrap() + "\n"
}

#[test]
fn what_pgcertd_cannot_judge_it_says_so() {
    let world = or_skip!(World::new());
    let mut table = Table::new(&world);
    for beyond in ["pss-long-salt", "ed448-issuer"] {
        fixture(&mut table, beyond, (true, true), &[], &[]);
    }
    table.check_not_judged();
}
