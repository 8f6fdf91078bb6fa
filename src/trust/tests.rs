//! Chains of all kinds, of which pgcertd says what `openssl verify` says.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose as Ku, NameConstraints, date_time_ymd,
};

use super::{FaultKind, Needed, Roots, judge};
use crate::bundle::Certificate;

const HOST: &str = "pg.example.com";

/// What a certificate says, each by its place in a list of choices.
#[derive(Debug, Clone, Copy)]
struct Says {
    authority: usize,
    key_usage: usize,
    purposes: usize,
    dates: usize,
    names: usize,
    critical: usize,
}

/// Mostly what is right at this place: no chain would be whole otherwise.
fn says(authority: usize) -> impl Strategy<Value = Says> {
    let mostly = |right: usize, choices: usize| prop_oneof![9 => Just(right), 1 => 0..choices];
    (
        mostly(authority, 5),
        mostly(0, 5),
        mostly(0, 6),
        mostly(0, 3),
        mostly(0, 3),
        mostly(0, 4),
    )
        .prop_map(
            |(authority, key_usage, purposes, dates, names, critical)| Says {
                authority,
                key_usage,
                purposes,
                dates,
                names,
                critical,
            },
        )
}

impl Says {
    fn params(self, name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = [
            IsCa::Ca(BasicConstraints::Unconstrained),
            IsCa::Ca(BasicConstraints::Constrained(0)),
            IsCa::Ca(BasicConstraints::Constrained(1)),
            IsCa::ExplicitNoCa,
            IsCa::NoCa,
        ][self.authority];
        params.key_usages = [
            vec![],
            vec![Ku::KeyCertSign],
            vec![Ku::CrlSign],
            vec![Ku::DigitalSignature],
            vec![Ku::KeyCertSign, Ku::DigitalSignature],
        ][self.key_usage]
            .clone();
        params.extended_key_usages = [
            vec![],
            vec![Eku::ServerAuth],
            vec![Eku::ClientAuth],
            vec![Eku::Any],
            vec![Eku::ServerAuth, Eku::ClientAuth],
            // Netscape's gated cryptography.
            vec![Eku::Other(vec![2, 16, 840, 1, 113_730, 4, 1])],
        ][self.purposes]
            .clone();
        let (begin, end) = [(2020, 2090), (2020, 2021), (2089, 2090)][self.dates];
        params.not_before = date_time_ymd(begin, 1, 1);
        params.not_after = date_time_ymd(end, 1, 1);
        let below = ["", "example.com", "example.org"][self.names];
        params.name_constraints = (!below.is_empty()).then(|| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(below.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let policies = vec![0x30, 8, 0x30, 6, 6, 4, 0x2a, 3, 4, 5];
        let critical: [Option<(&[u64], Vec<u8>)>; 4] = [
            None,
            Some((&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])),
            Some((&[2, 5, 29, 32], policies)),
            Some((&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], vec![5, 0])),
        ];
        params
            .custom_extensions
            .extend(critical[self.critical].clone().map(|(oid, content)| {
                let mut extension = CustomExtension::from_oid_content(oid, content);
                extension.set_criticality(true);
                extension
            }));
        params
    }
}

/// Keys of leaf, intermediates, root and an older root, the first signed by the second and so on.
struct Keys([KeyPair; 5]);

/// A chain as it is sent, and the root that OpenSSL knows.
struct Chain {
    sent: Vec<rcgen::Certificate>,
    root: rcgen::Certificate,
}

impl Keys {
    /// With `crossed`, the root was signed by an older one, and that certificate is sent too.
    fn chain(&self, leaf: Says, between: [Says; 2], crossed: Option<Says>) -> Chain {
        let [own, first, second, above, older] = &self.0;
        let mut params = [
            leaf.params("leaf"),
            between[0].params("first"),
            between[1].params("second"),
        ];
        params[0].subject_alt_names = vec![rcgen::SanType::DnsName(HOST.try_into().unwrap())];
        // One that is no authority limits nobody.
        params[0].name_constraints = None;
        let good = Says {
            authority: 0,
            key_usage: 0,
            purposes: 0,
            dates: 0,
            names: 0,
            critical: 0,
        };
        let root = good.params("root");
        let issuer = |params: &CertificateParams, key| Issuer::new(params.clone(), key);
        let [leaf, lower, upper] = &params;
        let mut sent = vec![
            leaf.signed_by(own, &issuer(lower, first)).unwrap(),
            lower.signed_by(first, &issuer(upper, second)).unwrap(),
            upper.signed_by(second, &issuer(&root, above)).unwrap(),
        ];
        sent.extend(crossed.map(|says| {
            let old = issuer(&good.params("older"), older);
            says.params("root").signed_by(above, &old).unwrap()
        }));
        Chain {
            sent,
            root: root.self_signed(above).unwrap(),
        }
    }
}

/// Whether `openssl verify` takes it, as libpq has OpenSSL do.
fn openssl_takes(directory: &Path, chain: &Chain) -> Result<bool, String> {
    let rest: String = chain.sent[1..]
        .iter()
        .map(rcgen::Certificate::pem)
        .collect();
    for (name, text) in [
        ("leaf", chain.sent[0].pem()),
        ("rest", rest),
        ("root", chain.root.pem()),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let words = "verify -purpose sslserver -auth_level 2 -CAfile root -untrusted rest leaf";
    let mut openssl = Command::new("openssl");
    let openssl = openssl.current_dir(directory).args(words.split(' '));
    let said = openssl.output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    if said.status.success() {
        Ok(true)
    } else if words.contains("verification failed") {
        Ok(false)
    } else {
        Err(words)
    }
}

#[test]
fn chains_are_judged_as_openssl_does() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys(std::array::from_fn(|_| KeyPair::generate().unwrap()));
    let chains = (says(3), [says(0), says(0)], proptest::option::of(says(0)));
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(Config::with_cases(200));
    let judged = runner.run(&chains, |(leaf, between, crossed)| {
        let chain = keys.chain(leaf, between, crossed);
        let parsed = |certificate: &rcgen::Certificate| {
            Certificate::from_der(certificate.der().to_vec()).unwrap()
        };
        let (own, rest): (_, Vec<_>) = (
            parsed(&chain.sent[0]),
            chain.sent[1..].iter().map(parsed).collect(),
        );
        let roots = Roots::from_pem(chain.root.pem().as_bytes()).unwrap();
        let now = Timestamp::now();
        let takes = openssl_takes(directory.path(), &chain).map_err(TestCaseError::fail)?;

        let judged = judge(&own, &rest, &roots, HOST, now);
        let is_definite = |fault: &&super::Fault| fault.kind != FaultKind::NotJudged;
        let refused = judged.chain.iter().filter(is_definite).count() > 0;
        let unknown = !judged.chain.is_empty() && !refused;
        prop_assert!(
            unknown || refused != takes,
            "{:?}, OpenSSL: {takes}",
            judged
        );

        // Before an install the same, whatever else is sent, and without the root where nothing is.
        let known = Needed::new(&own, &rest, &roots, now);
        prop_assert!(
            unknown || known.faults.is_empty() == takes,
            "{known:?}, OpenSSL: {takes}"
        );
        let nobody = Needed::new(&own, &rest, &Roots::none(), now);
        match crossed {
            // What stands above may keep webpki from judging the names at all.
            _ if unknown => {}
            None => prop_assert_eq!(&nobody.faults, &known.faults),
            Some(_) => prop_assert!(nobody.faults.len() >= known.faults.len()),
        }
        let depends = Needed::depends_on_roots(&own, &rest, now);
        let differ = nobody.faults != known.faults || nobody.first_end() != known.first_end();
        prop_assert!(depends || !differ);
        taken.set(taken.get() + usize::from(takes));
        Ok(())
    });
    assert!(judged.is_ok(), "{}", judged.unwrap_err());
    let taken = taken.get();
    assert!((40..190).contains(&taken), "{taken} were taken");
}
