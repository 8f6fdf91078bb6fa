//! What Postgres can load is a bundle, however its files are cut and written.

use super::*;

#[test]
fn a_full_chain_with_its_key_is_a_bundle() {
    let (chain, key) = full_chain();
    let bundle = parse(&chain, &key).unwrap();
    assert_eq!(bundle.intermediates().len(), 2);
    assert_eq!(bundle.leaf().names(), ["db.example.com"]);
    assert_eq!(bundle.fingerprint(), bundle.leaf().fingerprint());
}

#[test]
fn a_leaf_and_a_chain_file_are_the_same_bundle_as_the_full_chain() {
    let root = Authority::root("Root");
    let intermediate = root.intermediate("Intermediate");
    let leaf = intermediate.leaf(&["db.example.com"]);
    let rest = format!("{}{}", intermediate.pem, root.pem);
    let cut =
        KeyedBundle::parse(&[leaf.pem.as_bytes(), rest.as_bytes()], leaf.key.as_bytes()).unwrap();
    let whole = parse(&format!("{}{rest}", leaf.pem), &leaf.key).unwrap();
    assert!(cut.same_content(&whole));
}

#[test]
fn a_combined_file_is_chain_and_key_at_once_in_either_order() {
    let (chain, key) = full_chain();
    for combined in [format!("{chain}{key}"), format!("{key}{chain}")] {
        let bundle = parse(&combined, &combined).unwrap();
        assert_eq!(bundle.intermediates().len(), 2);
    }
}

#[test]
fn certificates_in_the_key_file_are_left_out() {
    let (chain, key) = full_chain();
    let stranger = Authority::root("Stranger").pem;
    let bundle = parse(&chain, &format!("{stranger}{key}")).unwrap();
    assert_eq!(bundle.intermediates().len(), 2);
}

#[test]
fn carriage_returns_are_line_ends_too() {
    let (chain, key) = full_chain();
    let dos = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
    let unix = |text: &str| text.replace("\r\n", "\n");
    let one = parse(&dos(&chain), &dos(&key)).unwrap();
    let other = parse(&unix(&chain), &unix(&key)).unwrap();
    assert!(one.same_content(&other));
}

#[test]
fn text_around_blocks_is_allowed() {
    let (chain, key) = full_chain();
    let explained = chain.replace(
        "-----BEGIN CERTIFICATE-----",
        "subject=CN: it's \u{e9}\n\n-- \n---------\n-----BEGIN CERTIFICATE-----",
    ) + "\nthe end";
    assert_eq!(
        parse(&explained, &format!("Bag Attributes\n{key}"))
            .unwrap()
            .intermediates()
            .len(),
        2
    );
}

#[test]
fn a_last_line_without_its_end_is_complete() {
    let (chain, key) = full_chain();
    assert!(parse(chain.trim_end(), key.trim_end()).is_ok());
}

#[test]
fn a_self_signed_leaf_is_a_bundle() {
    let issued = self_signed(&leaf_params(&["db.example.com"]));
    assert!(bundle(&issued).intermediates().is_empty());
}

#[test]
fn a_ca_certificate_may_serve_where_the_key_is_its_own() {
    let mut params = leaf_params(&["db.example.com"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    bundle(&self_signed(&params));
}

#[test]
fn a_root_that_was_left_out_of_the_chain_is_not_missed() {
    let root = Authority::root("Root");
    let intermediate = root.intermediate("Intermediate");
    let leaf = intermediate.leaf(&["db.example.com"]);
    assert!(parse(&(leaf.pem.clone() + &intermediate.pem), &leaf.key).is_ok());
    assert!(parse(&leaf.pem, &leaf.key).is_ok());
}

#[test]
fn rsa_keys_are_taken_in_both_encodings() {
    let chain = fixture!("rsa.chain.pem");
    let pkcs8 = parse(chain, fixture!("rsa.pkcs8.key")).unwrap();
    let pkcs1 = parse(chain, fixture!("rsa.pkcs1.key")).unwrap();
    assert!(!pkcs8.same_content(&pkcs1));
    assert!(
        pkcs1
            .key_pem()
            .starts_with(b"-----BEGIN RSA PRIVATE KEY-----\n")
    );
}

#[test]
fn the_same_key_in_two_encodings_is_one_key() {
    let both = format!("{}{}", fixture!("rsa.pkcs1.key"), fixture!("rsa.pkcs8.key"));
    assert!(parse(fixture!("rsa.chain.pem"), &both).is_ok());
}

#[test]
fn elliptic_curve_keys_are_taken_after_their_parameters_on_each_curve() {
    for (chain, key) in [
        (fixture!("p256.chain.pem"), fixture!("p256.sec1.key")),
        (fixture!("p384.chain.pem"), fixture!("p384.sec1.key")),
        (fixture!("p521.chain.pem"), fixture!("p521.sec1.key")),
        (fixture!("p521-sha256.chain.pem"), fixture!("p521.sec1.key")),
    ] {
        assert!(key.contains("BEGIN EC PARAMETERS"));
        let bundle = parse(chain, key).unwrap();
        assert!(
            bundle
                .key_pem()
                .starts_with(b"-----BEGIN EC PRIVATE KEY-----\n")
        );
    }
}

#[test]
fn ed25519_keys_sign_and_serve() {
    let key = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let (root_key, leaf_key) = (key(), key());
    let root = authority_params("Root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, root_key);
    let leaf = leaf_params(&["db.example.com"])
        .signed_by(&leaf_key, &issuer)
        .unwrap();
    let chain = leaf.pem() + &root_pem;
    assert!(parse(&chain, &as_version_1(&leaf_key)).is_ok());
    // With the public key beside it (version 2), OpenSSL 3.0 does not load it, nor does Postgres.
    let error = parse(&chain, &leaf_key.serialize_pem()).err();
    assert_eq!(error, Some(BundleError::UnusableKey { piece: Piece::Key }));
}

/// An Ed25519 key in PKCS#8 as OpenSSL writes it (RFC 8410, section 7).
fn as_version_1(key: &KeyPair) -> String {
    let der = key.serialize_der();
    let (version, seed) = (&der[2..5], &der[5..48]);
    assert_eq!(version, [2, 1, 1], "version 2");
    let first = [&[0x30, 46, 2, 1, 0], seed].concat();
    pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, &first).unwrap()
}

#[test]
fn rsa_pss_signatures_verify() {
    assert!(parse(fixture!("pss.chain.pem"), fixture!("rsa.pkcs8.key")).is_ok());
}

#[test]
fn an_x509_v1_leaf_is_matched_with_its_key() {
    let bundle = parse(fixture!("v1.chain.pem"), fixture!("rsa.pkcs8.key")).unwrap();
    assert_eq!(bundle.leaf().names(), ["v1.example.com"]);
}

#[test]
fn a_self_signed_sha1_certificate_loads_as_in_openssl() {
    assert!(parse(fixture!("sha1-self.chain.pem"), fixture!("rsa.pkcs8.key")).is_ok());
}

#[test]
fn what_is_written_parses_to_the_same_bundle_and_is_canonical() {
    let (chain, key) = full_chain();
    for (chain, key) in [
        (chain.as_str(), key.as_str()),
        (fixture!("rsa.chain.pem"), fixture!("rsa.pkcs1.key")),
        (fixture!("p521.chain.pem"), fixture!("p521.sec1.key")),
    ] {
        let bundle = parse(chain, key).unwrap();
        let combined = bundle.combined_pem();
        assert_eq!(
            *combined,
            [bundle.chain_pem().as_slice(), &bundle.key_pem()].concat()
        );
        let again = KeyedBundle::parse(&[&combined], &combined).unwrap();
        assert!(bundle.same_content(&again));
        assert_eq!(*again.combined_pem(), *combined);
        let text = std::str::from_utf8(&combined).unwrap();
        assert!(text.ends_with("-----\n") && !text.contains('\r'));
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}

#[test]
fn written_keys_fill_their_buffer_so_that_none_was_moved() {
    let bundle = parse(fixture!("rsa.chain.pem"), fixture!("rsa.pkcs8.key")).unwrap();
    let combined = bundle.combined_pem();
    assert_eq!(combined.len(), combined.capacity());
}

/// The chain in the order in which it is installed, and what was set right.
fn arranged(chain: &str, key: &str) -> (Vec<Vec<u8>>, Vec<SetRight>) {
    let bundle = parse(chain, key).unwrap();
    let all = [bundle.leaf()].into_iter().chain(bundle.intermediates());
    let ders = all.map(|certificate| certificate.der().to_vec()).collect();
    (ders, bundle.set_right().iter().copied().collect())
}

fn der(pem: &str) -> Vec<u8> {
    pem_rfc7468::decode_vec(pem.replace("\r\n", "\n").as_bytes())
        .unwrap()
        .1
}

#[test]
fn every_order_of_a_chain_comes_to_the_one() {
    let root = Authority::root("Root");
    let first = root.intermediate("First");
    let second = first.intermediate("Second");
    let leaf = second.leaf(&["db.example.com"]);
    let right = [&leaf.pem, &second.pem, &first.pem, &root.pem];
    let expected: Vec<Vec<u8>> = right.iter().map(|pem| der(pem)).collect();
    let (ders, set_right) = arranged(&right.map(String::as_str).concat(), &leaf.key);
    assert_eq!((ders, set_right), (expected.clone(), vec![]));
    let mut orders = 0;
    for number in 0..256_usize {
        let places = [number & 3, number >> 2 & 3, number >> 4 & 3, number >> 6];
        if (0..4).any(|count| !places.contains(&count)) {
            continue;
        }
        orders += 1;
        // With one of them twice, and a stranger in the midst.
        let stranger = Authority::root("Stranger").pem;
        let mut pems: Vec<&str> = places.iter().map(|at| right[*at].as_str()).collect();
        assert_eq!(
            arranged(&pems.concat(), &leaf.key).0,
            expected,
            "{places:?}"
        );
        let seen = leaf_of(pems.concat().as_bytes()).unwrap();
        assert_eq!(seen.der(), der(&leaf.pem), "{places:?}");
        pems.insert(number % 4, &stranger);
        pems.push(pems[number % 3]);
        let (ders, set_right) = arranged(&pems.concat(), &leaf.key);
        assert_eq!(ders, expected, "{places:?}");
        assert!(set_right.contains(&SetRight::StrangersOut), "{set_right:?}");
        assert!(set_right.contains(&SetRight::Once), "{set_right:?}");
        assert_eq!(
            set_right.contains(&SetRight::LeafFirst),
            pems[0] != leaf.pem
        );
    }
    assert_eq!(orders, 24);
}

/// Clients that trust either root find their way.
#[test]
fn all_issuers_of_a_cross_signed_chain_are_kept() {
    let (old, new) = (Authority::root("Old Root"), Authority::root("New Root"));
    let key = KeyPair::generate().unwrap();
    let params = authority_params("Intermediate");
    let by = |root: &Authority| params.signed_by(&key, &root.issuer).unwrap().pem();
    let (by_old, by_new) = (by(&old), by(&new));
    let leaf_key = KeyPair::generate().unwrap();
    let intermediate = Issuer::new(params.clone(), key);
    let leaf = leaf_params(&["db.example.com"]);
    let leaf = leaf.signed_by(&leaf_key, &intermediate).unwrap().pem();
    let chain = [&*leaf, &by_old, &by_new].concat();
    let (ders, set_right) = arranged(&chain, &leaf_key.serialize_pem());
    assert_eq!(ders, [der(&leaf), der(&by_old), der(&by_new)]);
    assert_eq!(set_right, []);
    let chain = [&*by_new, &new.pem, &by_old, &old.pem, &leaf].concat();
    let (ders, _) = arranged(&chain, &leaf_key.serialize_pem());
    assert_eq!(ders.len(), 5);
    assert_eq!(ders[..3], [der(&leaf), der(&by_new), der(&new.pem)]);
}

#[test]
fn what_is_wrong_with_the_lines_alone_is_set_right() {
    let (chain, key) = full_chain();
    let unix = chain.replace("\r\n", "\n");
    let whole = parse(&chain, &key).unwrap();
    let marked = format!("\u{feff}{unix}").replacen("-----\n-----", "-----\n\u{feff}-----", 1);
    let lines = SetRight::Lines;
    for (text, expected) in [
        (marked, SetRight::ByteOrderMark),
        (unix.replace("-----\n-----", "----------"), lines),
        (unix.replace("-----\n-----", "-----  -----"), lines),
        (unix.replace('\n', ""), lines),
        (unix.replace('\n', "\r"), lines),
        (unix.replace('\n', "\n\n"), lines),
        (unix.replace('\n', "\r\r\n\r\r\n"), lines),
        (
            unix.replace('\n', "\n    ")
                .replacen("-----", "    -----", 1),
            lines,
        ),
        (
            unix.replace("CERTIFICATE", "X509 CERTIFICATE"),
            SetRight::Label,
        ),
    ] {
        let bundle = parse(&text, &key).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(bundle.same_content(&whole), "{text}");
        let set_right: Vec<SetRight> = bundle.set_right().iter().copied().collect();
        assert_eq!(set_right, [expected], "{text}");
    }
    for key in [
        format!("\u{feff}{key}"),
        key.replace("\r\n", "\n").replace('\n', "\r"),
    ] {
        assert!(parse(&chain, &key).unwrap().same_content(&whole));
    }
}

#[test]
fn a_trusted_certificate_is_taken_without_whom_it_trusts() {
    let bundle = parse(fixture!("trusted.chain.pem"), fixture!("rsa.pkcs8.key")).unwrap();
    assert!(bundle.set_right().contains(&SetRight::Label));
    let text = String::from_utf8(bundle.chain_pem()).unwrap();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"), "{text}");
    assert!(
        parse(&text, fixture!("rsa.pkcs8.key"))
            .unwrap()
            .same_content(&bundle)
    );
}
