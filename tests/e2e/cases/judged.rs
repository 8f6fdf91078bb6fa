//! What clients would say decides what is installed: purposes, chains and their dates, signatures,
//! names. OpenSSL and psql are asked in each case, and pgcertd has to know it before they do.

mod signed;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, SignatureAlgorithm,
};
use serde_json::Value;

use crate::{
    neighbours,
    stage::{HOST, NAME, Stage, problem, says},
    world::{
        SOON, World,
        ca::{Ca, DAY, Issued, Options, describe},
        command,
        daemon::{Launch, Outcome},
        process::{Done, run},
    },
};

type Change = fn(&mut CertificateParams);

/// Whether OpenSSL takes a chain for a server's, as libpq has it do.
fn openssl_takes(world: &World, issued: &Issued, root: &Path) -> Result<(), String> {
    let [leaf, sent] = ["leaf.pem", "sent.pem"].map(|name| world.path().join(name));
    fs::write(&leaf, &issued.leaf_pem).unwrap();
    fs::write(&sent, issued.chain_pem()).unwrap();
    let mut openssl = command("openssl");
    openssl.args([
        "verify",
        "-purpose",
        "sslserver",
        "-auth_level",
        "2",
        "-CAfile",
    ]);
    openssl.arg(root).arg("-untrusted").arg(&sent).arg(&leaf);
    run(&mut openssl, SOON).result().map(drop)
}

impl Stage<'_> {
    /// Runs pgcertd with these roots as the system's.
    fn trusting(&self, roots: &Path, arguments: &[&str]) -> Outcome {
        let launch = Launch::new(self.world).env("SSL_CERT_FILE", roots.to_str().unwrap());
        launch.run(&self.config, arguments)
    }

    /// What `probe` says to a client that has these roots and asks for this name.
    fn probed(&self, roots: &Path, host: &str) -> Done {
        let mut probe = command(env!("CARGO_BIN_EXE_pgcertd"));
        probe
            .args(["probe", "--hostaddr", "127.0.0.1", "--ca"])
            .arg(roots);
        run(probe.arg(format!("{host}:{}", self.cluster.port())), SOON)
    }

    /// A renewal that is refused with these words, while clients get what they got.
    #[track_caller]
    fn refuses(&mut self, what: &str, issued: &Issued, served: &Issued, words: &[&str]) {
        println!("{what}:");
        self.lineage.renew(issued);
        let done = self.synced(&[], "refused", 1);
        says(&problem(&done), words);
        assert_eq!(self.cluster.served(), served.fingerprint, "{what}");
    }

    /// The problems that `check` has with the instance, where these are the system's roots.
    fn problems(&self, roots: &Path) -> Vec<Value> {
        let seen = self.trusting(roots, &["check", "--json"]).json();
        let findings = seen["instances"][0]["findings"].as_array().unwrap();
        let problems = findings
            .iter()
            .filter(|finding| finding["weight"] == "problem");
        problems.cloned().collect()
    }
}

fn critical(oid: &[u64], content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(true);
    extension
}

fn only_below(name: &str) -> Option<NameConstraints> {
    Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(name.into())],
        excluded_subtrees: Vec::new(),
    })
}

/// A case: the leaf's change, the intermediate's, how many intermediates are sent, and what is said.
type Fitness = (&'static str, Change, Change, usize, &'static [&'static str]);

#[test]
fn a_public_leaf_that_comes_without_its_intermediate_never_replaces_a_whole_chain() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let ca = Ca::new(&world, "Public");
    // Signed certificate timestamps, an empty list of them: what a public log gives.
    let logged: Change = |params| {
        let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
        let extension = CustomExtension::from_oid_content(&oid, vec![4, 2, 0, 0]);
        params.custom_extensions.push(extension);
    };
    let issue = |adjust: Change| {
        let options = Options {
            adjust,
            intermediates: 1,
            ..Options::default()
        };
        ca.issue_with(&[HOST], &options)
    };
    let mut alone = issue(logged);
    alone.intermediates.clear();
    assert!(openssl_takes(&world, &alone, ca.root()).is_err());
    let first = stage.first.clone();
    let words = ["its issuer does not come with it", "fullchain.pem"];
    stage.refuses("a leaf alone", &alone, &first, &words);
    // Whole, and of an authority whose root may issue leaves itself, they are taken.
    let mut private = issue(|_| {});
    private.intermediates.clear();
    for issued in [issue(logged), private] {
        stage.lineage.renew(&issued);
        stage.synced(&["--lineage", HOST], "deployed", 0);
        assert_eq!(stage.cluster.served(), issued.fingerprint);
    }
}

#[test]
fn what_no_client_accepts_never_replaces_what_clients_accept() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let none: Change = |_| {};
    let client: Change =
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let any: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let crl: Change = |params| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let stranger: Change = |params| {
        params
            .custom_extensions
            .push(critical(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0]));
    };
    // nsCertType: client.
    let netscape: Change = |params| {
        let oid = [2, 16, 840, 1, 113_730, 1, 1];
        let extension = CustomExtension::from_oid_content(&oid, vec![3, 2, 7, 0x80]);
        params.custom_extensions.push(extension);
    };
    let no_ca: Change = |params| params.is_ca = IsCa::ExplicitNoCa;
    let silent: Change = |params| params.is_ca = IsCa::NoCa;
    let length_0: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let expired: Change = |params| params.not_after = (SystemTime::now() - DAY).into();
    let elsewhere: Change = |params| params.name_constraints = only_below("example.org");
    let refused: [Fitness; 14] = [
        (
            "For clients",
            client,
            none,
            1,
            &["not for servers", "serverAuth"],
        ),
        ("For anything", any, none, 1, &["not for servers"]),
        (
            "A key for lists",
            crl,
            none,
            1,
            &["key usage", "digitalSignature"],
        ),
        (
            "A critical stranger",
            stranger,
            none,
            1,
            &["critical extension"],
        ),
        (
            "A type",
            netscape,
            none,
            1,
            &["not for servers", "Netscape"],
        ),
        ("Expired", none, expired, 1, &["Intermediate 1 expired on"]),
        (
            "CA for clients",
            none,
            client,
            1,
            &["Intermediate 1 is not for servers"],
        ),
        ("No CA", none, no_ca, 1, &["Intermediate 1 may not issue"]),
        ("Silent", none, silent, 1, &["Intermediate 1 may not issue"]),
        (
            "CA of lists",
            none,
            crl,
            1,
            &["Intermediate 1 may not issue"],
        ),
        (
            "Too deep",
            none,
            length_0,
            2,
            &["Intermediate 1 may not issue"],
        ),
        (
            "A stranger between",
            none,
            stranger,
            1,
            &["Intermediate 1 has a critical extension"],
        ),
        ("Other names", none, elsewhere, 1, &["name constraints"]),
        (
            "Expired above",
            none,
            expired,
            2,
            &["Intermediate 1 expired on"],
        ),
    ];
    let unsaid: Change = |params| {
        params.extended_key_usages.clear();
        params.key_usages.clear();
    };
    let authority: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let here: Change = |params| params.name_constraints = only_below("example.com");
    let taken: [Fitness; 4] = [
        ("Nothing said", unsaid, none, 1, &[]),
        ("An authority", authority, none, 1, &[]),
        ("These names", none, here, 1, &[]),
        ("Deep enough", none, length_0, 1, &[]),
    ];
    let mut served = stage.first.clone();
    for (what, leaf, between, intermediates, words) in refused.into_iter().chain(taken) {
        let ca = Ca::new_with(&world, what, move |depth, params| {
            if depth == 1 {
                between(params);
            }
        });
        let options = Options {
            adjust: leaf,
            intermediates,
            ..Options::default()
        };
        let issued = ca.issue_with(&[HOST], &options);
        let judged = openssl_takes(&world, &issued, ca.root());
        assert_eq!(judged.is_err(), !words.is_empty(), "{what}: {judged:?}");
        if words.is_empty() {
            stage.lineage.renew(&issued);
            stage.synced(&[], "deployed", 0);
            served = issued;
        } else {
            stage.refuses(what, &issued, &served, words);
        }
    }
    // What has its time later waits for it, as a leaf does.
    let early: Change = |params| params.not_before = (SystemTime::now() + DAY).into();
    let ca = Ca::new_with(&world, "Early", |depth, params| {
        if depth == 1 {
            early(params);
        }
    });
    stage.lineage.renew(&ca.issue(&[HOST]));
    let waits = stage.synced(&[], "waiting", 1);
    says(
        &problem(&waits),
        &["Early Intermediate 1 is not valid before"],
    );
    assert_eq!(stage.cluster.served(), served.fingerprint);

    let good = stage.renew();
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.problems(stage.ca.root()), Vec::<Value>::new());
    stage.cluster.restart().unwrap();
    assert_eq!(stage.cluster.served(), good.fingerprint);
}

#[test]
fn a_private_authority_that_issues_by_its_root_is_no_problem_to_check() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let options = Options {
        intermediates: 0,
        ..Options::default()
    };
    let issued = stage.ca.issue_with(&[HOST], &options);
    stage.lineage.renew(&issued);
    stage.synced(&[], "deployed", 0);
    let stranger = Ca::new(&world, "Stranger");
    assert_eq!(stage.problems(stranger.root()), Vec::<Value>::new());
    assert_eq!(stage.problems(stage.ca.root()), Vec::<Value>::new());
}

/// An authority of the test's own hand.
struct Signer {
    name: &'static str,
    key: KeyPair,
}

impl Signer {
    fn new(name: &'static str, algorithm: &'static SignatureAlgorithm) -> Signer {
        let key = KeyPair::generate_for(algorithm).unwrap();
        Signer { name, key }
    }

    fn params(&self, until: SystemTime) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = (SystemTime::now() - 400 * DAY).into();
        params.not_after = until.into();
        params
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::new(self.params(SystemTime::now() + 900 * DAY), &self.key)
    }

    fn root(&self) -> String {
        let params = self.params(SystemTime::now() + 900 * DAY);
        params.self_signed(&self.key).unwrap().pem()
    }

    /// The certificate that `above` gives it.
    fn signed_by(&self, above: &Signer, until: SystemTime) -> String {
        let params = self.params(until);
        params.signed_by(&self.key, &above.issuer()).unwrap().pem()
    }

    /// A leaf with this chain behind it.
    fn issue(&self, intermediates: &[&str], adjust: impl Fn(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + 60 * DAY).into();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf_pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        let (fingerprint, serial) = describe(&leaf_pem);
        Issued {
            leaf_pem,
            intermediates: intermediates
                .iter()
                .map(|&intermediate| intermediate.to_owned())
                .collect(),
            key_pem: key.serialize_pem(),
            fingerprint,
            serial,
        }
    }
}

fn file(world: &World, name: &str, text: &str) -> PathBuf {
    let file = world.directory("roots").join(name);
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_way_to_a_known_root_spares_what_lies_behind_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let [old, new, between] = ["Old Root", "New Root", "R"].map(|name| Signer::new(name, ecdsa));
    let in_days = |days: u32| SystemTime::now() + days * DAY;
    let known = file(&world, "new-root.pem", &new.root());
    let unknown = stage.ca.root().to_owned();
    let r = between.signed_by(&new, in_days(900));

    // Expired, as the cross-signature of a root did that clients knew by themselves.
    let crossed = new.signed_by(&old, SystemTime::now() - DAY);
    let issued = between.issue(&[&r, &crossed], |_| {});
    assert_eq!(openssl_takes(&world, &issued, &known), Ok(()));
    stage.lineage.renew(&issued);
    let done = stage.trusting(&unknown, &["sync", "--json"]).instance(NAME);
    assert_eq!(done["outcome"], "refused", "{done}");
    says(&problem(&done), &["intermediate CN=New Root expired on"]);
    let done = stage.trusting(&known, &["sync", "--json"]).instance(NAME);
    assert_eq!(done["outcome"], "deployed", "{done}");
    let seen = stage.trusting(&known, &["status", "--json"]).instance(NAME);
    assert_eq!(seen["state"], "in_sync", "{seen}");
    assert_eq!(seen["served"]["expiry"], "fine", "{seen}");
    let psql = stage
        .cluster
        .psql("verify-full", Some(&known), HOST, "select 1");
    assert_eq!(psql.as_deref(), Ok("1"));
    assert_eq!(stage.problems(&known), Vec::<Value>::new());

    // About to expire: it is the end of the chain where nobody knows a shorter one.
    let crossed = new.signed_by(&old, in_days(2));
    stage.lineage.renew(&between.issue(&[&r, &crossed], |_| {}));
    for (roots, expiry, end) in [
        (&known, "fine", Value::Null),
        (&unknown, "critical", "CN=New Root".into()),
    ] {
        stage.trusting(roots, &["sync"]);
        let seen = stage.trusting(roots, &["status", "--json"]).instance(NAME);
        for place in ["source", "installed", "served"] {
            assert_eq!(seen[place]["expiry"], expiry, "{seen}");
            assert_eq!(seen[place]["chain_end"]["name"], end, "{seen}");
        }
    }
    // A root that was sent along is one that some client trusts.
    stage
        .lineage
        .renew(&between.issue(&[&r, &new.root()], |_| {}));
    assert_eq!(stage.trusting(&unknown, &["sync"]).code(), 0);
}

#[test]
fn the_first_certificate_of_a_chain_to_end_is_its_end_everywhere() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let ca = Ca::new_with(&world, "Short", |depth, params| {
        if depth == 1 {
            params.not_after = (SystemTime::now() + 2 * DAY + DAY / 24).into();
        }
    });
    stage.lineage.renew(&ca.issue(&[HOST]));
    let roots = ca.root().to_owned();
    let done = stage.trusting(&roots, &["sync"]);
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(49);
    let day = ends.strftime("%Y-%m-%d").to_string();
    says(done.stdout(), &["expires", &day]);

    let status = stage.trusting(&roots, &["status"]);
    assert_eq!(status.code(), 1, "{}", status.stdout());
    let words = [
        "! 16-main",
        "2 d",
        &day,
        "Short Intermediate 1",
        "expires first",
    ];
    says(&status.stdout().replace("\n        ", " "), &words);
    let seen = stage.trusting(&roots, &["status", "--json"]).instance(NAME);
    for place in ["source", "installed", "served"] {
        let view = &seen[place];
        assert_eq!(view["expiry"], "critical", "{view}");
        assert_eq!(
            view["chain_end"]["name"], "CN=Short Intermediate 1",
            "{view}"
        );
        assert_ne!(view["not_after"], view["chain_end"]["not_after"]);
    }
    let checked = stage.trusting(&roots, &["check", "--json"]).json();
    let findings = checked["instances"][0]["findings"].as_array().unwrap();
    let source = findings
        .iter()
        .find(|finding| finding["id"] == "source")
        .unwrap();
    assert_eq!(source["weight"], "notice", "{source}");
    says(
        source["seen"].as_str().unwrap(),
        &[&day, "Short Intermediate 1"],
    );
    let probed = stage.probed(&roots, HOST);
    says(&probed.stdout, &["2 d", &day, "Short Intermediate 1"]);
    let launch = Launch::new(&world).env("SSL_CERT_FILE", roots.to_str().unwrap());
    let daemon = launch.daemon(&stage.config);
    let line = daemon.wait_for_log("expires in 2 days");
    says(&line, &["error: 16-main", "Short Intermediate 1"]);
    assert_eq!(daemon.stop().code(), Some(0));

    let good = stage.renew();
    stage.synced(&[], "deployed", 0);
    let seen = stage.becomes("in_sync");
    assert_eq!(seen["served"]["fingerprint"], good.fingerprint.as_str());
    assert_eq!(seen["served"]["chain_end"], Value::Null);
}

#[test]
fn names_are_libpqs_matter_before_an_install_too() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let plain = stage.config.text();
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = || SanType::IpAddress("192.0.2.1".parse().unwrap());
    let policies = critical(&[2, 5, 29, 32], &[0x30, 8, 0x30, 6, 6, 4, 0x2a, 3, 4, 5]);
    let nul = "pg.example.com\0.evil.example";
    // The alternative names, the common name, what else, the host, and whether psql takes it.
    type Names<'a> = (
        Vec<SanType>,
        &'a str,
        Option<&'a CustomExtension>,
        &'a str,
        bool,
    );
    let rows: Vec<Names<'_>> = vec![
        (vec![dns("*.internal")], "x", None, "db.internal", true),
        (vec![dns("*.internal")], "x", None, "DB.Internal", true),
        (vec![dns("*.internal")], "x", None, "a.b.internal", false),
        (vec![dns("*.internal")], "x", None, "internal", false),
        (vec![address()], HOST, None, HOST, true),
        (vec![address()], "*.example.com", None, HOST, true),
        (
            vec![address(), dns("db.example.com")],
            HOST,
            None,
            HOST,
            false,
        ),
        (vec![dns(HOST)], "127.0.0.1", None, "127.0.0.1", true),
        (vec![dns(HOST)], "x", Some(&policies), HOST, true),
        (
            vec![dns(HOST)],
            "x",
            Some(&policies),
            "db.example.com",
            false,
        ),
        (
            vec![dns("xn--bcher-kva.example")],
            "x",
            None,
            "xn--bcher-kva.example",
            true,
        ),
        (
            vec![dns(nul), dns("db.example.com")],
            "x",
            None,
            "db.example.com",
            false,
        ),
        (
            vec![dns("db.example.com"), dns(nul)],
            "x",
            None,
            "db.example.com",
            true,
        ),
    ];
    for (alternative, common, more, host, taken) in rows {
        let what = format!("{alternative:?} {common} for {host}");
        let signer = Signer::new("Names", &rcgen::PKCS_ECDSA_P256_SHA256);
        let issued = signer.issue(&[], |params| {
            params.subject_alt_names.clone_from(&alternative);
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common);
            params.custom_extensions.extend(more.cloned());
        });
        let root = file(&world, "names.pem", &signer.root());
        let named = format!("[[instance]]\nserver_names = [\"{host}\"]\n");
        stage
            .config
            .replace(&plain.replacen("[[instance]]\n", &named, 1));
        stage.lineage.renew(&issued);
        let done = stage.trusting(&root, &["sync", "--json"]).instance(NAME);
        let outcome = if taken { "deployed" } else { "refused" };
        assert_eq!(done["outcome"], outcome, "{what}: {done}");
        // Put there by hand, psql and probe say the same.
        world.place(&issued, &stage.cert);
        stage.cluster.reload_by_hand();
        let psql = stage
            .cluster
            .psql("verify-full", Some(&root), host, "select 1");
        assert_eq!(psql.is_ok(), taken, "{what}: {psql:?}");
        let probed = stage.probed(&root, host);
        assert_eq!(
            probed.code(),
            i32::from(!taken),
            "{what}: {}",
            probed.stdout
        );
    }
}
