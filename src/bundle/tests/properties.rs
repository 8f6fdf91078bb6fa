//! Arbitrary and damaged files: never a panic, never a chain that is not the one written.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static WORLD: LazyLock<(String, String)> = LazyLock::new(full_chain);

/// Every outcome of damage is an error, or a beginning of the chain with the true key.
fn is_a_prefix_or_refused(outcome: &Result<KeyedBundle, BundleError>) -> bool {
    let (chain, key) = &*WORLD;
    let whole = parse(chain, key).unwrap();
    match outcome {
        Err(_) => true,
        Ok(bundle) => {
            bundle.leaf() == whole.leaf()
                && whole.intermediates().starts_with(bundle.intermediates())
        }
    }
}

#[test]
fn every_truncation_of_a_combined_file_is_refused_or_a_prefix() {
    let (chain, key) = &*WORLD;
    // Lines are what the parser sees; within one every cut in the first and last characters.
    let combined = format!("{key}{chain}").replace("\r\n", "\n");
    let mut start = 0;
    for line in combined.split_inclusive('\n') {
        for cut in (0..line.len()).filter(|cut| *cut < 14 || *cut + 8 > line.len()) {
            let torn = &combined[..start + cut];
            assert!(
                is_a_prefix_or_refused(&parse(torn, torn)),
                "cut at {}",
                start + cut
            );
        }
        start += line.len();
    }
}

/// What the signature does not cover: nobody else would notice.
#[test]
fn damage_outside_the_signed_part_is_refused() {
    let (chain, key) = &*WORLD;
    let der = parse(chain, key).unwrap().leaf().der().to_vec();
    let algorithm = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let beside = der
        .windows(algorithm.len())
        .rposition(|w| w == algorithm)
        .unwrap();
    let places = [
        (0, 0x10),
        (beside, 0x10),
        (beside + 2, 0x00),
        (beside + 11, 0x03),
        (beside + 12, 0x43),
        (beside + 14, 0x01),
    ];
    for (place, byte) in places {
        let mut damaged = der.clone();
        damaged[place] = byte;
        assert!(Certificate::from_der(damaged).is_err(), "{place}: {byte}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        chain in prop::collection::vec(any::<u8>(), 0..600),
        key in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let _outcome = KeyedBundle::parse(&[&chain], &key);
        let _certificate = Certificate::from_der(chain);
    }

    #[test]
    fn arbitrary_blocks_never_panic(
        lines in prop::collection::vec(
            prop_oneof![
                Just("-----BEGIN CERTIFICATE-----".to_owned()),
                Just("-----END CERTIFICATE-----".to_owned()),
                Just("-----BEGIN PRIVATE KEY-----".to_owned()),
                Just("-----END PRIVATE KEY-----".to_owned()),
                Just("Proc-Type: 4,ENCRYPTED".to_owned()),
                "[A-Za-z0-9+/]{0,16}={0,3}",
                "-{0,6}[A-Z ]{0,8}-{0,6}",
            ],
            0..12,
        ),
    ) {
        let text = lines.join("\n");
        let _outcome = parse(&text, &text);
    }

    #[test]
    fn a_truncated_chain_is_refused_or_a_prefix(cut in any::<prop::sample::Index>()) {
        let (chain, key) = &*WORLD;
        prop_assert!(is_a_prefix_or_refused(&parse(&chain[..cut.index(chain.len())], key)));
    }

    #[test]
    fn a_chain_with_a_changed_byte_is_refused_or_keeps_its_leaf(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (chain, key) = &*WORLD;
        let mut bytes = chain.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let outcome = KeyedBundle::parse(&[&bytes], key.as_bytes());
        // The last certificate's own signature is for nobody to check here; the leaf's is.
        if let Ok(bundle) = outcome {
            prop_assert_eq!(bundle.fingerprint(), parse(chain, key).unwrap().fingerprint());
        }
    }

    #[test]
    fn a_certificate_with_changed_bytes_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (chain, key) = &*WORLD;
        let bundle = parse(chain, key).unwrap();
        let mut der = bundle.leaf().der().to_vec();
        for (place, byte) in changes {
            let place = place.index(der.len());
            der[place] = byte;
        }
        if let Ok(certificate) = Certificate::from_der(der) {
            let _covered = certificate.facts().covers("db.example.com");
            let _issued = certificate.issued(bundle.leaf());
            let _issued = bundle.leaf().issued(&certificate);
            let _expiry = certificate.expiry(Timestamp::MIN, Thresholds::default());
            let _expiry = certificate.expiry(Timestamp::MAX, Thresholds::default());
        }
    }

    #[test]
    fn a_key_with_a_changed_byte_is_refused_or_still_fits(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (chain, key) = &*WORLD;
        let mut bytes = key.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _outcome = KeyedBundle::parse(&[chain.as_bytes()], &bytes);
    }
}
