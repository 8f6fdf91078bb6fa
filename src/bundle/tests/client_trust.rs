//! Which CA and CRL files are taken, and what is said of the others. What Postgres makes of each
//! is in the table of the module; the end-to-end tests show it.
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use crate::bundle::client_trust::is_beyond;
use crate::bundle::*;

const NOW: &str = "2024-02-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A CA of clients, from 2024-01-01 to 2025-01-01 unless told otherwise.
struct Clients {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2025, 1, 1);
    params
}

impl Clients {
    fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (params(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A list of January and February.
    fn list(&self) -> String {
        self.list_of((2024, 1), (2024, 3), None)
    }

    fn list_of(
        &self,
        (from, from_month): (i32, u8),
        (until, until_month): (i32, u8),
        point: Option<()>,
    ) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(from, from_month, 1),
            next_update: date_time_ymd(until, until_month, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: point.map(|()| rcgen::CrlIssuingDistributionPoint {
                distribution_point: rcgen::CrlDistributionPoint {
                    uris: vec!["http://c/".into()],
                },
                scope: None,
            }),
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn parse(ca: &str, crl: &str) -> Result<ClientTrust, BundleError> {
    ClientTrust::parse(&TrustFiles {
        ca: Some(ca.as_bytes()),
        crl: (!crl.is_empty()).then_some(crl.as_bytes()),
    })
}

fn refusal(ca: &str, crl: &str) -> Refusal {
    parse(ca, crl).unwrap().check(now()).unwrap_err()
}

#[test]
fn what_is_written_is_what_was_read_without_its_remarks() {
    let (one, other) = (Clients::new("One"), Clients::new("Other"));
    let ca = format!("# One\r\n{}\n# Other\n{}", one.pem, other.pem);
    let crl = one.list() + "\n\n" + &other.list();
    let read = parse(&ca, &crl).unwrap();
    assert_eq!(read.check(now()), Ok(()));
    let text = |pem: Option<Vec<u8>>| String::from_utf8(pem.unwrap()).unwrap();
    let (ca, crl) = (text(read.pem(Piece::Ca)), text(read.pem(Piece::Crl)));
    assert_eq!(ca, (one.pem + &other.pem).replace("\r\n", "\n"));
    assert!(!crl.contains('#') && crl.matches("BEGIN X509 CRL").count() == 2);
    let again = parse(&ca, &crl).unwrap();
    assert_eq!(again, read);
    assert_eq!(again.digest(), read.digest());
    assert_eq!(read.names().unwrap().len(), 2);
}

#[test]
fn an_instance_without_such_files_has_nothing_to_check() {
    let none = ClientTrust::parse(&TrustFiles::<Option<&[u8]>>::default()).unwrap();
    assert_eq!(none, ClientTrust::default());
    assert_eq!(none.check(now()), Ok(()));
    assert_eq!((none.digest(), none.names()), (None, None));
    assert_eq!((none.pem(Piece::Ca), none.pem(Piece::Crl)), (None, None));
}

#[test]
fn another_list_of_the_same_cas_is_another_content() {
    let one = Clients::new("One");
    let before = parse(&one.pem, &one.list()).unwrap();
    let after = parse(&one.pem, &one.list_of((2024, 2), (2024, 4), None)).unwrap();
    assert_ne!(before, after);
    assert_ne!(before.digest(), after.digest());
    assert_eq!(before.names(), after.names());
}

#[test]
fn what_is_no_whole_file_may_be_half_of_a_renewal() {
    let one = Clients::new("One");
    let cut = &one.pem[..one.pem.len() - 40];
    for ca in ["", "no certificate\n", cut, &format!("{}{cut}", one.pem)] {
        let error = parse(ca, "").unwrap_err();
        assert_eq!(
            (error.piece(), error.may_pass()),
            (Piece::Ca, true),
            "{error}"
        );
    }
    let list = one.list();
    for crl in ["\n", "no list\n", &list[..list.len() - 30]] {
        let error = parse(&one.pem, crl).unwrap_err();
        assert_eq!(
            (error.piece(), error.may_pass()),
            (Piece::Crl, true),
            "{error}"
        );
    }
}

#[test]
fn a_certificate_in_the_crl_file_is_refused_since_it_would_be_trusted() {
    let (one, other) = (Clients::new("One"), Clients::new("Other"));
    let error = parse(&one.pem, &(one.list() + &other.pem)).unwrap_err();
    assert_eq!(error, BundleError::WouldBeTrusted);
    assert_eq!(parse(&one.pem, &one.pem).unwrap_err(), error);
    assert!(!error.may_pass());
}

#[test]
fn what_belongs_elsewhere_is_refused() {
    let one = Clients::new("One");
    let key = KeyPair::generate().unwrap().serialize_pem();
    let stray = |piece, what| BundleError::Stray { piece, what };
    let ca = [one.pem.clone(), key.clone()].concat();
    let (a, r) = (Piece::Ca, Piece::Crl);
    assert_eq!(parse(&ca, "").unwrap_err(), stray(a, "a private key"));
    assert_eq!(parse(&one.list(), "").unwrap_err(), stray(a, "a CRL"));
    assert_eq!(
        parse(&one.pem, &key).unwrap_err(),
        stray(r, "a private key")
    );
}

#[test]
fn a_certificate_that_is_no_ca_is_refused_unless_it_stands_for_one_client() {
    let one = Clients::new("One");
    let mut leaf = params("a client");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let issued = leaf.signed_by(&key, &one.issuer).unwrap().pem();
    let error = parse(&(one.pem + &issued), "").unwrap_err();
    assert!(
        matches!(error, BundleError::NotAuthority { position: 2, .. }),
        "{error}"
    );
    let pinned = leaf.self_signed(&key).unwrap().pem();
    assert_eq!(parse(&pinned, "").unwrap().check(now()), Ok(()));
}

#[test]
fn a_ca_that_may_not_sign_is_refused() {
    let no_certificates = Clients::with("One", |certificate_params| {
        certificate_params.key_usages = vec![KeyUsagePurpose::CrlSign]
    });
    let error = parse(&no_certificates.pem, "").unwrap_err();
    assert!(error.to_string().contains("keyCertSign"), "{error}");
    // rcgen signs no list by a CA that may not, so the list is by the same key before it lost the right.
    let (able, key) = (params("One"), KeyPair::generate().unwrap());
    let mut unable = able.clone();
    unable.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let unable = unable.self_signed(&key).unwrap().pem();
    let able = Clients {
        pem: String::new(),
        issuer: Issuer::new(able, key),
    };
    assert_eq!(parse(&unable, "").unwrap().check(now()), Ok(()));
    let error = parse(&unable, &able.list()).unwrap_err();
    assert!(error.to_string().contains("cRLSign"), "{error}");
}

#[test]
fn an_intermediate_without_its_root_keeps_every_client_out() {
    let root = Clients::new("Root");
    let intermediate = root.intermediate("Intermediate");
    assert_eq!(refusal(&intermediate.pem, ""), Refusal::NoAuthority);
    let both = intermediate.pem + &root.pem;
    assert_eq!(parse(&both, "").unwrap().check(now()), Ok(()));
}

#[test]
fn one_expired_ca_is_odd_and_nothing_but_expired_ones_is_refused() {
    let old = Clients::with("Old", |params| {
        params.not_after = date_time_ymd(2024, 1, 15)
    });
    let next = Clients::with("Next", |certificate_params| {
        certificate_params.not_before = date_time_ymd(2024, 6, 1)
    });
    assert_eq!(refusal(&old.pem, ""), Refusal::NoAuthority);
    assert_eq!(refusal(&next.pem, ""), Refusal::NoAuthority);
    let one = Clients::new("One");
    // No list is needed of a CA that nobody is accepted by.
    let read = parse(&(old.pem + &one.pem + &next.pem), &one.list()).unwrap();
    assert_eq!(read.check(now()), Ok(()));
    let expired: Vec<_> = read
        .expired_authorities(now())
        .map(Certificate::subject)
        .collect();
    assert_eq!(expired, ["CN=Old"]);
}

#[test]
fn each_ca_needs_a_list_that_is_not_out_of_date() {
    let (one, other) = (Clients::new("One"), Clients::new("Other"));
    let both = one.pem.clone() + &other.pem;
    let missing = refusal(&both, &one.list());
    let issuer = "CN=Other".to_owned();
    assert_eq!(missing, Refusal::NoList { issuer });

    let old = one.list_of((2023, 11), (2024, 1), None);
    let expired = refusal(&one.pem, &old);
    assert!(
        expired.to_string().contains("2024-01-01T00:00:00Z"),
        "{expired}"
    );
    assert_eq!(expired.until(), None);
    let next = one.list_of((2024, 3), (2024, 5), None);
    let begins = refusal(&one.pem, &(old.clone() + &next));
    assert_eq!(
        begins.until(),
        Some("2024-03-01T00:00:00Z".parse().unwrap())
    );
    // One that counts is enough.
    let all = old + &next + &one.list();
    assert_eq!(parse(&one.pem, &all).unwrap().check(now()), Ok(()));
}

#[test]
fn a_list_of_another_ca_or_of_another_key_is_refused() {
    let (one, other) = (Clients::new("One"), Clients::new("Other"));
    let error = parse(&one.pem, &(one.list() + &other.list())).unwrap_err();
    assert!(
        matches!(error, BundleError::Stranger { position: 2, .. }),
        "{error}"
    );
    let impostor = Clients::new("One");
    let error = parse(&one.pem, &impostor.list()).unwrap_err();
    let reason = LinkError::BadSignature;
    let issuer = "CN=One".to_owned();
    assert_eq!(
        error,
        BundleError::NotSigned {
            position: 1,
            issuer,
            reason
        }
    );
    // A CA under an old and a new key: either may have made it.
    let keys = one.pem + &impostor.pem;
    assert_eq!(parse(&keys, &impostor.list()).unwrap().check(now()), Ok(()));
}

#[test]
fn a_list_that_is_not_the_whole_of_it_is_refused_by_its_critical_extensions() {
    assert!(is_beyond("2.5.29.27"), "a delta");
    assert!(is_beyond("1.2.3.4"), "what nobody knows");
    assert!(
        !is_beyond("2.5.29.28"),
        "OpenSSL knows the issuing distribution point"
    );
    let one = Clients::new("One");
    let of_a_point = one.list_of((2024, 1), (2024, 3), Some(()));
    assert_eq!(parse(&one.pem, &of_a_point).unwrap().check(now()), Ok(()));
}

/// A number of hours after the first of 2024.
fn hour(count: i64) -> Timestamp {
    let first: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    first + jiff::SignedDuration::from_hours(count)
}

#[test]
fn a_list_that_is_made_every_day_is_never_near_its_end() {
    for lasts in [24, 25, 26, 30, 36, 48, 7 * 24, 30 * 24] {
        for age in 0..=24 {
            let expiry = Expiry::from_list(hour(0), hour(lasts), hour(age));
            assert_eq!(expiry, Expiry::Fine, "{age} of {lasts} hours");
        }
    }
}

#[test]
fn a_list_nears_its_end_by_its_own_lifetime_and_by_days_that_fit_it() {
    // Hours that it lasts, and of which less is left where it is near its end, and very near.
    for (lasts, near, critical) in [
        (12, 3, 1),
        (48, 12, 4),
        (8 * 24, 48, 19),
        (30 * 24, 72, 24),
        (365 * 24, 72, 24),
    ] {
        let left = |hours: i64| Expiry::from_list(hour(0), hour(lasts), hour(lasts - hours));
        assert_eq!(left(near), Expiry::Fine, "{lasts} hours");
        assert_eq!(left(near - 1), Expiry::Warning, "{lasts} hours");
        assert_eq!(left(critical + 1), Expiry::Warning, "{lasts} hours");
        assert_eq!(left(critical - 1), Expiry::Critical, "{lasts} hours");
        assert_eq!(left(-1), Expiry::Expired, "{lasts} hours");
    }
}

#[test]
fn what_ends_first_is_the_nearest_to_its_end_by_the_rule_of_its_kind() {
    let (one, other) = (
        Clients::new("One"),
        Clients::with("Other", |params| {
            params.not_after = date_time_ymd(2024, 6, 1)
        }),
    );
    let crl = one.list() + &other.list_of((2024, 1), (2024, 6), None);
    let read = parse(&(one.pem + &other.pem), &crl).unwrap();
    let first = |piece| read.first_end(piece, now()).unwrap();
    let ca = first(Piece::Ca);
    assert_eq!((ca.name, ca.expiry), ("CN=Other", Expiry::Fine));
    assert_eq!(ca.end, "2024-06-01T00:00:00Z".parse().unwrap());
    assert_eq!(ca.fingerprint, read.authorities[1].fingerprint());
    let list = first(Piece::Crl);
    assert_eq!((list.name, list.begin), ("CN=One", hour(0)));
    assert_eq!(read.first_end(Piece::Certificate, now()), None);
    // One that lasts some days, half of which are left, and one of years that ends later.
    let brief = Clients::with("Brief", |certificate_params| {
        certificate_params.not_before = date_time_ymd(2024, 1, 31);
        certificate_params.not_after = date_time_ymd(2024, 2, 3);
    });
    let long = Clients::with("Long", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2024, 2, 5);
    });
    let read = parse(&(brief.pem + &long.pem), "").unwrap();
    let ca = read.first_end(Piece::Ca, now()).unwrap();
    assert_eq!((ca.name, ca.expiry), ("CN=Long", Expiry::Critical));
}

#[test]
fn of_several_lists_of_a_ca_the_one_that_lasts_longest_counts() {
    let one = Clients::new("One");
    let lists = one.list() + &one.list_of((2024, 1), (2024, 4), None);
    let not_begun = one.list_of((2024, 3), (2024, 12), None);
    let read = parse(&one.pem, &(lists + &not_begun)).unwrap();
    let list = read.first_end(Piece::Crl, now()).unwrap();
    assert_eq!(list.end, "2024-04-01T00:00:00Z".parse().unwrap());
}

/// Two certificates of a CA by the name of One, the second with a later end, and by another key
/// where `new_key` is there.
fn issued_anew(new_key: Option<KeyPair>) -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let old = params("One").self_signed(&key).unwrap().pem();
    let mut anew = params("One");
    anew.not_after = date_time_ymd(2030, 1, 1);
    let anew = anew.self_signed(&new_key.unwrap_or(key)).unwrap();
    [old, anew.pem()]
}

#[test]
fn a_ca_that_was_issued_anew_by_the_same_key_does_not_end() {
    let end = |[old, anew]: [String; 2]| {
        let read = parse(&(old + &anew), "").unwrap();
        read.first_end(Piece::Ca, now()).unwrap().end
    };
    assert_eq!(
        end(issued_anew(None)),
        "2030-01-01T00:00:00Z".parse().unwrap()
    );
    // Clients of the old key are not those of the new one.
    let new_key = KeyPair::generate().unwrap();
    assert_eq!(
        end(issued_anew(Some(new_key))),
        "2025-01-01T00:00:00Z".parse().unwrap()
    );
}

#[test]
fn a_ca_that_ended_long_ago_beside_others_is_taken_for_left_behind() {
    let old = Clients::with("Old", |params| {
        params.not_after = date_time_ymd(2024, 1, 15)
    });
    let one = Clients::new("One");
    let (alone, both) = (
        parse(&old.pem, "").unwrap(),
        parse(&(old.pem.clone() + &one.pem), "").unwrap(),
    );
    let first = |read: &ClientTrust, at: &str| {
        let end = read.first_end(Piece::Ca, at.parse().unwrap()).unwrap();
        (end.name.to_owned(), end.expiry)
    };
    let expired = ("CN=Old".to_owned(), Expiry::Expired);
    assert_eq!(first(&both, "2024-01-20T00:00:00Z"), expired);
    assert_eq!(first(&both, NOW), ("CN=One".to_owned(), Expiry::Fine));
    assert_eq!(first(&alone, NOW), expired);
}
