//! A server that asks for a curve which pgcertd's TLS library does not have, and psql's has.

use std::fs;

use crate::{
    stage::{HOST, Stage, problem, says},
    world::{World, ca::KeyType, postgres::STRICT},
};

#[test]
fn nothing_is_concluded_from_a_client_that_cannot_speak_what_the_server_asks_for() {
    let world = or_skip!(World::new());
    // TLS 1.3 alone, and up to TLS 1.3.
    for oldest in ["TLSv1.3", "TLSv1.2"] {
        let world = match oldest {
            "TLSv1.3" => &world,
            _ => &or_skip!(World::new()),
        };
        let mut stage = Stage::build(world)
            .cluster(|cluster| {
                cluster
                    .setting("ssl_ecdh_curve", "secp521r1")
                    .setting("ssl_min_protocol_version", oldest)
            })
            .start();
        let gets_in = |stage: &Stage<'_>| stage.cluster.verify_full(stage.ca.root(), HOST);
        assert_eq!(gets_in(&stage).as_deref(), Ok("TLSv1.3"));
        let second = stage.renew();
        let told = problem(&stage.synced(&[], "unverified", 1));
        says(&told, &["psql"]);
        assert!(!told.contains("no TLS client"), "{told}");
        let installed = fs::read_to_string(&stage.cert).unwrap();
        assert_eq!(installed, second.combined_pem());
        assert_eq!(stage.cluster.served(), second.fingerprint);
        assert_eq!(gets_in(&stage).as_deref(), Ok("TLSv1.3"));
    }
}

/// Where the server asks for what pgcertd can, what becomes of pgcertd becomes of every client.
#[test]
fn with_tls_1_3_alone_a_key_that_is_too_weak_for_the_server_goes_back_all_the_same() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa3072)
        .cluster(|cluster| {
            cluster
                .setting("ssl_ciphers", "HIGH:!aNULL@SECLEVEL=3")
                .setting("ssl_min_protocol_version", "TLSv1.3")
        })
        .start();
    let first = stage.first.clone();
    stage.renew_weak();
    let told = problem(&stage.synced(&[], "rolled_back", 1));
    says(&told, &["no TLS client can connect"]);
    assert_eq!(stage.cluster.served(), first.fingerprint);
    stage.ends_serving(&first);
}
