//! What Postgres cannot load, or may be half of a renewal, is not a bundle.

use super::*;

fn broken(error: BundleError) -> PemFault {
    assert!(error.may_pass());
    match error {
        BundleError::BrokenPem { fault, .. } => fault,
        other => panic!("expected broken PEM, not: {other}"),
    }
}

#[test]
fn an_empty_file_is_incomplete() {
    let (chain, key) = full_chain();
    for empty in ["", "\n", " \r\n\n"] {
        let piece = Piece::Certificate;
        assert_eq!(refused(empty, &key), BundleError::Empty { piece });
        let piece = Piece::Key;
        assert_eq!(refused(&chain, empty), BundleError::Empty { piece });
    }
    let no_chain = KeyedBundle::parse(&[chain.as_bytes(), b""], key.as_bytes()).map(drop);
    assert_eq!(
        no_chain,
        Err(BundleError::Empty {
            piece: Piece::Chain
        })
    );
    assert!(refused("", &key).may_pass());
}

#[test]
fn no_chain_file_at_all_is_no_bundle() {
    let (_, key) = full_chain();
    assert_eq!(
        KeyedBundle::parse(&[], key.as_bytes()).map(drop),
        Err(BundleError::NoContent {
            piece: Piece::Certificate
        })
    );
}

#[test]
fn a_file_without_pem_is_incomplete() {
    let (_, key) = full_chain();
    let error = refused("hello\nworld\n", &key);
    let piece = Piece::Certificate;
    assert_eq!(error, BundleError::NoPem { piece });
    assert!(error.may_pass());
}

#[test]
fn der_is_recognised() {
    let (_, key) = full_chain();
    let der = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/rsa.der"
    ));
    let error = KeyedBundle::parse(&[der], key.as_bytes())
        .map(drop)
        .unwrap_err();
    let piece = Piece::Certificate;
    let form = Form::Der;
    assert_eq!(error, BundleError::OtherForm { piece, form });
    assert!(!error.may_pass());
}

#[test]
fn a_block_without_its_end_is_broken_also_after_a_good_leaf() {
    let (chain, key) = full_chain();
    let cut = &chain[..chain.len() - 40];
    assert_eq!(broken(refused(cut, &key)), PemFault::Unterminated);
    let nested = chain
        .replace("\r\n", "\n")
        .replacen("-----END CERTIFICATE-----\n", "", 1);
    assert_eq!(broken(refused(&nested, &key)), PemFault::Unterminated);
    let cut_key = &key[..key.len() - 10];
    assert_eq!(broken(refused(&chain, cut_key)), PemFault::Unterminated);
}

#[test]
fn a_begin_line_that_is_cut_off_is_broken() {
    let (chain, key) = full_chain();
    for tail in [
        "-",
        "-----",
        "-----BEGIN",
        "-----BEGIN CERT",
        "-----BEGIN CERTIFICATE----",
    ] {
        let torn = format!("{chain}{tail}");
        assert_eq!(broken(refused(&torn, &key)), PemFault::BadBegin, "{tail}");
    }
}

#[test]
fn garbage_in_a_block_after_a_good_leaf_is_broken_whatever_its_label() {
    let (chain, key) = full_chain();
    for (body, fault) in [
        ("!!!!", PemFault::BadBase64),
        ("AAAAA", PemFault::BadBase64),
        ("AA==AAAA", PemFault::BadBase64),
        ("A===", PemFault::BadBase64),
        ("", PemFault::BadBody),
        ("Comment: x\n\nAAAA", PemFault::BadBody),
        ("AA\rAA", PemFault::BadBase64),
    ] {
        for label in ["CERTIFICATE", "WHATEVER"] {
            let garbage =
                format!("{chain}-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            assert_eq!(broken(refused(&garbage, &key)), fault, "{label} {body:?}");
        }
    }
}

#[test]
fn a_nul_byte_is_broken() {
    let (chain, key) = full_chain();
    let holed = chain.clone() + "\0\0\0\0";
    assert_eq!(broken(refused(&holed, &key)), PemFault::Nul);
}

#[test]
fn der_that_is_not_a_certificate_is_refused_after_a_good_leaf() {
    let (chain, key) = full_chain();
    let garbage = format!("{chain}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(
        refused(&garbage, &key),
        BundleError::Damaged {
            piece: Piece::Certificate,
            position: 4
        }
    );
}

#[test]
fn bytes_after_a_certificate_in_its_block_are_refused() {
    let issued = self_signed(&leaf_params(&["db.example.com"]));
    let mut der = issued.der;
    der.push(0);
    assert_eq!(
        Certificate::from_der(der).map(drop),
        Err(BundleError::CertificateUnreadable)
    );
}

#[test]
fn a_key_alone_has_no_certificate_and_certificates_alone_have_no_key() {
    let (chain, key) = full_chain();
    let piece = Piece::Certificate;
    assert_eq!(refused(&key, &key), BundleError::NoContent { piece });
    assert_eq!(refused(&chain, &chain), NO_KEY);
    let combined = format!("{chain}{key}");
    assert_eq!(refused(&combined, &chain), NO_KEY);
}

#[test]
fn an_encrypted_key_is_unfit_in_both_encodings() {
    let chain = fixture!("rsa.chain.pem");
    for key in [
        fixture!("rsa.encrypted-pkcs8.key"),
        fixture!("rsa.encrypted-pkcs1.key"),
    ] {
        let error = refused(chain, key);
        assert_eq!(error, BundleError::EncryptedKey { piece: Piece::Key });
        assert!(!error.may_pass());
    }
}

#[test]
fn an_encrypted_key_that_is_cut_off_is_incomplete() {
    let key = fixture!("rsa.encrypted-pkcs1.key");
    let error = refused(fixture!("rsa.chain.pem"), &key[..key.len() / 2]);
    assert_eq!(broken(error), PemFault::Unterminated);
}

#[test]
fn rsa_below_2048_bits_is_unfit_in_leaf_and_issuer() {
    let leaf = refused(fixture!("weak.chain.pem"), fixture!("weak.key"));
    let weak = |position| BundleError::Weak {
        position,
        weakness: "an RSA key of 1024 bits".to_owned(),
    };
    assert_eq!(leaf, weak(1));
    assert!(!leaf.may_pass());
    let issuer = refused(fixture!("weak-issuer.chain.pem"), fixture!("rsa.pkcs8.key"));
    assert_eq!(issuer, weak(2));
}

#[test]
fn a_weak_key_beside_a_strong_leaf_cannot_be_used() {
    let error = refused(fixture!("rsa.chain.pem"), fixture!("weak.key"));
    assert_eq!(error, BundleError::UnusableKey { piece: Piece::Key });
}

#[test]
fn sha1_and_md5_signatures_by_a_ca_are_unfit() {
    for (chain, digest) in [
        (fixture!("sha1.chain.pem"), "SHA-1"),
        (fixture!("md5.chain.pem"), "MD5"),
    ] {
        let error = refused(chain, fixture!("rsa.pkcs8.key"));
        let weakness = format!("a signature by {digest}");
        let position = 1;
        assert_eq!(error, BundleError::Weak { position, weakness });
        assert!(!error.may_pass());
    }
}

#[test]
fn keys_of_other_kinds_are_unfit() {
    for (chain, key) in [
        (fixture!("ed448.chain.pem"), fixture!("ed448.key")),
        (fixture!("rsa-pss.chain.pem"), fixture!("rsa-pss.key")),
        (fixture!("p256k1.chain.pem"), fixture!("p256k1.sec1.key")),
    ] {
        let error = refused(chain, key);
        assert!(
            matches!(error, BundleError::UnsupportedLeaf { .. }),
            "{error}"
        );
        assert!(!error.may_pass());
        let error = refused(fixture!("rsa.chain.pem"), key);
        assert_eq!(error, BundleError::UnusableKey { piece: Piece::Key });
    }
    let dsa = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n";
    assert_eq!(
        refused(fixture!("rsa.chain.pem"), dsa),
        BundleError::UnusableKey { piece: Piece::Key }
    );
}

#[test]
fn signatures_that_cannot_be_checked_are_unfit() {
    for chain in [
        fixture!("ed448-issuer.chain.pem"),
        fixture!("pss-long-salt.chain.pem"),
    ] {
        let error = refused(chain, fixture!("rsa.pkcs8.key"));
        assert!(
            matches!(
                error,
                BundleError::NotLinked {
                    position: 1,
                    reason: LinkError::Unsupported { .. }
                }
            ),
            "{error}"
        );
        assert!(!error.may_pass());
    }
}

#[test]
fn a_key_of_another_leaf_is_incomplete() {
    let (chain, _) = full_chain();
    let (_, key) = full_chain();
    let error = refused(&chain, &key);
    assert_eq!(error, BundleError::KeyMismatch);
    assert!(error.may_pass());
}

#[test]
fn a_key_of_another_algorithm_is_incomplete() {
    let (chain, _) = full_chain();
    let error = refused(&chain, fixture!("rsa.pkcs8.key"));
    assert_eq!(error, BundleError::KeyMismatch);
}

#[test]
fn two_different_keys_are_refused_in_one_file_and_in_two() {
    let (chain, key) = full_chain();
    let (_, other) = full_chain();
    assert_eq!(
        refused(&chain, &format!("{key}{other}")),
        BundleError::TwoKeys
    );
    assert_eq!(
        refused(&format!("{chain}{other}"), &key),
        BundleError::TwoKeys
    );
}

#[test]
fn an_intermediate_of_the_same_name_with_another_key_is_not_linked() {
    let leaf = Authority::root("Root").leaf(&["db.example.com"]);
    let imposter = Authority::root("Root");
    let error = refused(&(leaf.pem.clone() + &imposter.pem), &leaf.key);
    let (position, reason) = (1, LinkError::BadSignature);
    assert_eq!(error, BundleError::NotLinked { position, reason });
    assert!(error.may_pass());
}

#[test]
fn more_certificates_than_any_chain_has_are_refused() {
    let (chain, key) = full_chain();
    let strangers = (0..30).map(|_| self_signed(&leaf_params(&["other.example.com"])).pem);
    let error = refused(&(chain + &strangers.collect::<String>()), &key);
    assert_eq!(error, BundleError::TooManyCertificates);
}

#[test]
fn no_error_shows_what_a_file_holds() {
    let (chain, key) = full_chain();
    let secret = key.lines().nth(2).unwrap();
    let torn = key.replace("-----END", "----END");
    for error in [refused(&chain, &torn), refused(&torn, &key)] {
        assert!(!format!("{error} {error:?}").contains(&secret[..8]));
    }
    let shown = format!("{:?}", parse(&chain, &key).unwrap());
    assert!(shown.contains("fingerprint") && shown.contains("intermediates: 2"));
    assert!(!shown.contains(&secret[..8]) && !shown.to_lowercase().contains("key"));
}

#[test]
fn a_leaf_among_strangers_alone_may_be_half_of_a_renewal() {
    let leaf = Authority::root("Root").leaf(&["db.example.com"]);
    let stranger = Authority::root("Stranger").pem;
    for chain in [leaf.pem.clone() + &stranger, stranger + &leaf.pem] {
        let error = refused(&chain, &leaf.key);
        let reason = LinkError::IssuerMismatch;
        assert!(matches!(&error, BundleError::NotLinked { reason: it, .. } if *it == reason));
        assert!(error.may_pass());
    }
}

#[test]
fn an_intermediate_without_its_own_issuer_is_refused_where_an_impostor_of_that_is_there() {
    let root = Authority::root("Root");
    let first = root.intermediate("First");
    let second = first.intermediate("Second");
    let leaf = second.leaf(&["db.example.com"]);
    let impostor = root.intermediate("First").pem;
    let error = refused(&(leaf.pem + &second.pem + &impostor), &leaf.key);
    let (position, reason) = (2, LinkError::BadSignature);
    assert_eq!(error, BundleError::NotLinked { position, reason });
}

#[test]
fn what_is_no_pem_is_told_by_what_it_is() {
    let (chain, key) = full_chain();
    let utf16 = |text: &str, mark: &[u8]| {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect::<Vec<u8>>()
    };
    let request = chain.replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let pkcs7 = chain.replace("CERTIFICATE", "PKCS7");
    let escaped = chain.replace("\r\n", "\n").replace('\n', "\\n");
    let json = format!("{{\"certificate\": \"{escaped}\"}}");
    let html = "\u{feff}\n<!DOCTYPE html>\n<html><body>404</body></html>\n";
    for (text, form) in [
        (utf16(&chain, b"\xff\xfe"), Form::Utf16),
        (utf16(&chain, b""), Form::Utf16),
        (request.into_bytes(), Form::Request),
        (pkcs7.into_bytes(), Form::Pkcs7),
        (escaped.into_bytes(), Form::Escaped),
        (json.into_bytes(), Form::Escaped),
        (html.into(), Form::Html),
        (b"\x30\x82\x09\x00\x02\x01\x03\x30".to_vec(), Form::Pkcs12),
        (b"\x30\x82\x01\x00\x02\x01\x00\x30".to_vec(), Form::DerKey),
        (b"\x30\x77\x02\x01\x01\x04".to_vec(), Form::DerKey),
        (
            b"\x30\x82\x03\x2d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0".to_vec(),
            Form::DerPkcs7,
        ),
        (b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec(), Form::JavaKeyStore),
        (key.clone().into_bytes(), Form::Swapped),
    ] {
        let key_file = match form {
            Form::Swapped => &chain,
            _ => &key,
        };
        let error = KeyedBundle::parse(&[&text], key_file.as_bytes());
        let error = error.map(drop).unwrap_err();
        let piece = Piece::Certificate;
        assert_eq!(error, BundleError::OtherForm { piece, form });
        assert!(!error.may_pass());
        assert!(error.remedy().len() > 20, "{form:?}");
    }
    let openssh = key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
    let (piece, form) = (Piece::Key, Form::OpensshKey);
    assert_eq!(
        refused(&chain, &openssh),
        BundleError::OtherForm { piece, form }
    );
}

#[test]
fn what_was_set_right_is_not_what_a_server_would_load() {
    let (chain, key) = full_chain();
    let root = Authority::root("Root");
    let leaf = root.leaf(&["db.example.com"]);
    let loaded =
        |chain: &str, key: &str| KeyedBundle::loaded(chain.as_bytes(), key.as_bytes()).map(drop);
    assert_eq!(
        loaded(&(root.pem + &leaf.pem), &leaf.key),
        Err(BundleError::LeafNotFirst)
    );
    let unix = chain.replace("\r\n", "\n");
    for lines in [
        unix.replace("-----\n-----", "----------"),
        unix.replace('\n', "\r"),
        unix.replace('\n', "\n\n"),
        unix.replace('\n', "\n  ").replacen("-----", "  -----", 1),
    ] {
        assert!(parse(&lines, &key).is_ok());
        let error = loaded(&lines, &key).unwrap_err();
        assert!(
            matches!(
                error,
                BundleError::BrokenPem { .. } | BundleError::NoPem { .. }
            ),
            "{error}"
        );
    }
}
