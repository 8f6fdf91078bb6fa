//! Certificates by what they are signed with, and for: what a client with a password and a pooler make of them.

use super::*;

#[test]
fn a_signature_without_a_digest_is_kept_from_clients_with_passwords() {
    let world = or_skip!(World::new());
    // The default only since 14.
    let mut stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("password_encryption", "scram-sha-256"))
        .start();
    let first = stage.first.clone();
    stage.cluster.sql("create role app login password 'secret'");
    let hba = stage.cluster.config_directory().join("pg_hba.conf");
    let text = fs::read_to_string(&hba).unwrap();
    let scram = "host all app 127.0.0.1/32 scram-sha-256\n";
    fs::write(&hba, format!("{scram}{text}")).unwrap();
    stage.cluster.reload_by_hand();
    let connects = |stage: &Stage<'_>, more: &str| {
        let conninfo = format!(
            "host={HOST} hostaddr=127.0.0.1 user=app password=secret sslmode=require {more}"
        );
        stage.cluster.try_by(&conninfo, "select 1")
    };
    assert_eq!(connects(&stage, ""), Ok("1".into()));

    let ed25519 = Signer::new("Ed25519 Root", &rcgen::PKCS_ED25519);
    let digestless = || ed25519.issue(&[], |_| {});
    let issued = digestless();
    let words = [
        "has no digest",
        "channel binding",
        "RSA or ECDSA",
        "sync --force",
    ];
    stage.refuses("signed by Ed25519", &issued, &first, &words);
    says(&problem(&stage.becomes("source_invalid")), &words);

    // A person insists: real clients then say what was said before.
    stage.synced(&["--force"], "deployed", 0);
    let error = connects(&stage, "").unwrap_err();
    says(&error, &["could not find digest for NID"]);
    assert_eq!(connects(&stage, "channel_binding=disable"), Ok("1".into()));
    let root = file(&world, "ed25519.pem", &ed25519.root());
    let problems = stage.problems(&root);
    let [found] = &problems[..] else {
        panic!("{problems:?}")
    };
    says(
        found["seen"].as_str().unwrap(),
        &["has no digest", "password"],
    );
    let probed = stage.probed(&root, HOST).stdout.replace("\n        ", " ");
    says(&probed, &["has no digest", "password"]);
    // Nobody gets in less than before.
    stage.lineage.renew(&digestless());
    stage.synced(&[], "deployed", 0);

    let good = stage.renew();
    stage.synced(&[], "deployed", 0);
    assert_eq!(connects(&stage, "channel_binding=require"), Ok("1".into()));
    stage.refuses("again", &digestless(), &good, &words);

    // RSA-PSS says its digest in its parameters, and clients find it there.
    let pss = signed_with_pss(&world);
    stage.lineage.renew(&pss);
    stage.synced(&[], "deployed", 0);
    assert_eq!(connects(&stage, "channel_binding=require"), Ok("1".into()));
}

/// A certificate that signs itself, with RSA-PSS.
fn signed_with_pss(world: &World) -> Issued {
    let [key, leaf] = ["pss.key", "pss.pem"].map(|name| world.path().join(name));
    let mut openssl = command("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60",
    ]);
    openssl.args([
        "-subj",
        "/CN=pg.example.com",
        "-addext",
        "subjectAltName=DNS:pg.example.com",
    ]);
    openssl.args([
        "-sigopt",
        "rsa_padding_mode:pss",
        "-sigopt",
        "rsa_pss_saltlen:digest",
    ]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&leaf);
    run(&mut openssl, SOON).result().unwrap();
    let leaf_pem = fs::read_to_string(leaf).unwrap();
    let (fingerprint, serial) = describe(&leaf_pem);
    Issued {
        leaf_pem,
        intermediates: Vec::new(),
        key_pem: fs::read_to_string(key).unwrap(),
        fingerprint,
        serial,
    }
}

#[test]
fn a_pooler_offers_no_channel_binding_and_takes_any_signature() {
    let world = or_skip!(World::new());
    let mut stage = neighbours::stage::Stage::new(&world);
    let ed25519 = Signer::new("Ed25519 Root", &rcgen::PKCS_ED25519);
    stage.lineage.renew(&ed25519.issue(&[], |_| {}));
    stage.synced(&[], "deployed", 0);
}

#[test]
fn a_certificate_that_a_pooler_shows_as_a_client_must_be_for_clients() {
    let world = or_skip!(World::new());
    let target = world.target(neighbours::stage::NAME);
    let file = target.to_str().unwrap();
    let mut stage = neighbours::stage::Stage::build(&world)
        .pooler(|pooler| {
            pooler.set("server_tls_sslmode", "prefer");
            pooler.set("server_tls_cert_file", file);
            pooler.set("server_tls_key_file", file);
        })
        .start();
    let words = [
        "clientAuth",
        "server_tls_cert_file",
        "public CAs no longer issue both uses",
    ];
    stage.renew();
    let refused = stage.synced(&[], "refused", 1);
    says(&problem(&refused), &words);
    let first = stage.first.fingerprint.clone();
    assert_eq!(stage.pooler.peer().unwrap().fingerprint, first);
    // A pooler that is down would start on it.
    stage.pooler.stop();
    says(&problem(&stage.synced(&[], "refused", 1)), &words);
    stage.pooler.start().unwrap();
    let both: Change = |params| {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        params.extended_key_usages.push(client);
    };
    let unsaid: Change = |params| params.extended_key_usages.clear();
    for adjust in [both, unsaid] {
        let options = Options {
            adjust,
            ..Options::default()
        };
        let issued = stage.ca.issue_with(&[HOST], &options);
        stage.lineage.renew(&issued);
        stage.synced(&[], "deployed", 0);
    }
    // Without TLS to its servers, the file is a server's alone.
    stage.renew();
    stage.synced(&[], "refused", 1);
    stage.pooler.set("server_tls_sslmode", "disable");
    stage.synced(&[], "deployed", 0);
}
