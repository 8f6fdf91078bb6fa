//! What a certificate says of itself.

use jiff::SignedDuration;

use crate::bundle::fingerprint::FingerprintError;

use super::*;

#[test]
fn a_certificate_tells_its_names_dates_and_serial() {
    let mut params = leaf_params(&[
        "db.example.com",
        "*.example.org",
        "192.0.2.1",
        "2001:db8::1",
    ]);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xbc]));
    params.distinguished_name.push(DnType::CommonName, "unused");
    let issued = Authority::root("Some CA").issue(params, &KeyPair::generate().unwrap());
    let certificate = Certificate::from_der(issued.der.as_slice()).unwrap();
    assert_eq!(
        certificate.names(),
        [
            "db.example.com",
            "*.example.org",
            "192.0.2.1",
            "2001:db8::1"
        ]
    );
    assert_eq!(certificate.subject(), "CN=unused");
    assert_eq!(certificate.issuer(), "CN=Some CA");
    assert_eq!(certificate.serial(), "0abc");
    assert_eq!(certificate.not_before(), at("2024-01-01T00:00:00Z"));
    assert_eq!(certificate.not_after(), at("2024-04-01T00:00:00Z"));
    assert_eq!(certificate.der(), issued.der);
    assert_eq!(
        certificate.fingerprint(),
        Fingerprint::from_der(&issued.der)
    );
}

#[test]
fn a_serial_number_with_its_highest_bit_set_has_no_leading_zero_byte() {
    let mut params = leaf_params(&["db.example.com"]);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xff, 0x01]));
    let certificate = Certificate::from_der(self_signed(&params).der).unwrap();
    assert_eq!(certificate.serial(), "ff01");
}

#[test]
fn a_certificate_of_version_1_has_its_common_name_alone() {
    let v1 = parse(fixture!("v1.chain.pem"), fixture!("rsa.pkcs8.key")).unwrap();
    let covers = |host| v1.leaf().facts().covers(host);
    assert_eq!(covers("V1.example.com"), Some(Ground::CommonName));
    assert_eq!(covers("other.example.com"), None);
    assert_eq!(covers("192.0.2.1"), None);
}

#[test]
fn control_characters_in_names_are_escaped() {
    let mut params = leaf_params(&[]);
    params
        .distinguished_name
        .push(DnType::CommonName, "evil\u{1b}[2Jname");
    let certificate = Certificate::from_der(self_signed(&params).der).unwrap();
    assert_eq!(certificate.names(), ["evil\\u{1b}[2Jname"]);
    assert!(!certificate.subject().contains('\u{1b}'));
}

#[test]
fn the_year_9999_is_an_end_that_a_timestamp_cannot_hold() {
    let mut params = leaf_params(&["db.example.com"]);
    params.not_after = date_time_ymd(9999, 12, 31);
    let certificate = Certificate::from_der(self_signed(&params).der).unwrap();
    assert_eq!(certificate.not_after(), at("9999-12-30T22:00:00Z"));
    assert_eq!(
        certificate.expiry(at("2024-02-01T00:00:00Z"), Thresholds::default()),
        Expiry::Fine
    );
}

#[test]
fn expiry_follows_the_lifetime_of_short_certificates_and_days_of_long_ones() {
    // 91 days: a quarter is more than 21 days, a tenth more than 7.
    let long = self_signed(&leaf_params(&["db.example.com"]));
    let long = Certificate::from_der(long.der).unwrap();
    // 6 days: a quarter is 36 hours, a tenth 14.4.
    let mut params = leaf_params(&["db.example.com"]);
    params.not_after = date_time_ymd(2024, 1, 7);
    let short = Certificate::from_der(self_signed(&params).der).unwrap();
    for (certificate, now, expiry) in [
        (&long, "2023-01-01T00:00:00Z", Expiry::Fine),
        (&long, "2024-03-11T00:00:00Z", Expiry::Fine),
        (&long, "2024-03-11T00:00:01Z", Expiry::Warning),
        (&long, "2024-03-25T00:00:00Z", Expiry::Warning),
        (&long, "2024-03-25T00:00:01Z", Expiry::Critical),
        (&long, "2024-04-01T00:00:00Z", Expiry::Critical),
        (&long, "2024-04-01T00:00:01Z", Expiry::Expired),
        (&short, "2024-01-05T12:00:00Z", Expiry::Fine),
        (&short, "2024-01-05T12:00:01Z", Expiry::Warning),
        (&short, "2024-01-06T09:36:01Z", Expiry::Critical),
    ] {
        assert_eq!(
            certificate.expiry(at(now), Thresholds::default()),
            expiry,
            "{now}"
        );
    }
}

/// Lifetime in days, then the seconds left at which it is still fine, and still no more than a warning.
#[test]
fn the_borders_are_a_quarter_and_a_tenth_or_21_and_7_days_where_that_is_less() {
    let begin = at("2024-01-01T00:00:00Z");
    for (days, warning, critical) in [
        (6, 36 * 3600, 51_840),
        (47, 1_015_200, 406_080),
        (90, 21 * 86_400, 7 * 86_400),
        (365, 21 * 86_400, 7 * 86_400),
    ] {
        let end = begin + SignedDuration::from_hours(24 * days);
        for (left, expiry) in [
            (days * 86_400 / 3, Expiry::Fine),
            (warning, Expiry::Fine),
            (warning - 1, Expiry::Warning),
            (critical, Expiry::Warning),
            (critical - 1, Expiry::Critical),
            (0, Expiry::Critical),
            (-1, Expiry::Expired),
        ] {
            let now = end - SignedDuration::from_secs(left);
            let found = Expiry::from_validity(begin, end, now, Thresholds::default());
            assert_eq!(found, expiry, "{days} days, {left} s left");
        }
    }
}

/// What is written, and then with how many hours left of 240 it warns, and with how many it is critical.
#[test]
fn thresholds_replace_the_usual_ones_and_a_warning_comes_first() {
    let begin = at("2024-01-01T00:00:00Z");
    let end = begin + SignedDuration::from_hours(240);
    let hours = |count: Option<i64>| count.map(SignedDuration::from_hours);
    for (warn, critical, warns_at, critical_at) in [
        (None, None, 60, 24),
        (Some(8), None, 8, 8),
        (Some(100), None, 100, 24),
        (None, Some(2), 60, 2),
        (None, Some(70), 70, 70),
        (Some(8), Some(2), 8, 2),
        (Some(900), Some(500), 900, 500),
        (Some(8), Some(8), 8, 8),
    ] {
        let thresholds = Thresholds {
            warn: hours(warn),
            critical: hours(critical),
        };
        for left in 0..=240 {
            let expected = if left < critical_at {
                Expiry::Critical
            } else if left < warns_at {
                Expiry::Warning
            } else {
                Expiry::Fine
            };
            let now = end - SignedDuration::from_hours(left);
            let found = Expiry::from_validity(begin, end, now, thresholds);
            assert_eq!(found, expected, "{thresholds:?}, {left} h left");
        }
        let after = end + SignedDuration::from_secs(1);
        let found = Expiry::from_validity(begin, end, after, thresholds);
        assert_eq!(found, Expiry::Expired, "{thresholds:?}");
    }
}

#[test]
fn a_fingerprint_is_the_sha256_of_the_der_in_lower_case_hex() {
    let fingerprint = Fingerprint::from_der(b"abc");
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(fingerprint.to_string(), text);
    assert_eq!(fingerprint.short(), "ba7816");
    assert_eq!(text.parse(), Ok(fingerprint));
    assert_eq!(text.to_uppercase().parse(), Ok(fingerprint));
    for wrong in ["", "ba7816", &text.replace('b', "g"), &"\u{e9}".repeat(32)] {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError));
    }
}

#[test]
fn a_fingerprint_is_a_string_in_json() {
    let fingerprint = Fingerprint::from_der(b"abc");
    let json = serde_json::to_string(&fingerprint).unwrap();
    assert_eq!(json, format!("\"{fingerprint}\""));
    assert_eq!(
        serde_json::from_str::<Fingerprint>(&json).unwrap(),
        fingerprint
    );
    assert!(serde_json::from_str::<Fingerprint>("\"ab\"").is_err());
}
