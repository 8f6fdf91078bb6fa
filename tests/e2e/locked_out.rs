//! A renewal that Postgres loads, and with which no TLS client can connect: it goes back, if it is to
//! blame.

use std::{fs, time::Duration};

use crate::{
    stage::{HOST, Stage, problem, says},
    world::{
        SOON, World, ca::KeyType, cluster::ClusterBuilder, daemon::Daemon, eventually,
        postgres::STRICT, throughout,
    },
};

const ROLLED_BACK: &str = "rejected by Postgres and rolled back";

/// One that RSA keys alone can use, as many a guide for hardening has it.
const RSA_ALONE: &str = "ECDHE-RSA-AES256-GCM-SHA384";

/// TLS 1.2 with ciphers for RSA keys alone.
fn for_rsa_alone(cluster: ClusterBuilder<'_>) -> ClusterBuilder<'_> {
    cluster
        .setting("ssl_max_protocol_version", "TLSv1.2")
        .setting("ssl_ciphers", RSA_ALONE)
}

impl Stage<'_> {
    /// The daemon takes back what it has just been given; gives what it says of that in one line.
    #[track_caller]
    fn goes_back(&self, daemon: &Daemon) -> String {
        let line = daemon.wait_for_log(ROLLED_BACK);
        let seen = self.becomes("rejected");
        says(&problem(&seen), &["sync --force", "has restarted"]);
        assert_eq!(seen["served"]["fingerprint"], *self.first.fingerprint);
        assert_eq!(self.installed(), self.first.combined_pem());
        assert_eq!(self.reloads(), 2);
        line
    }

    fn installed(&self) -> String {
        fs::read_to_string(&self.cert).unwrap()
    }

    /// A client that verifies everything gets in.
    #[track_caller]
    fn lets_clients_in(&self) {
        let version = self.cluster.verify_full(self.ca.root(), HOST);
        assert!(version.is_ok(), "{version:?}");
    }

    /// Not even one that verifies nothing does.
    #[track_caller]
    fn lets_nobody_in(&self) {
        let refused = self.cluster.psql("require", None, HOST, "select 1");
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn a_renewal_to_a_key_that_no_cipher_fits_goes_back_and_clients_get_in_again() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa2048)
        .cluster(for_rsa_alone)
        .start();
    let daemon = stage.daemon();
    let mut session = stage.cluster.session();
    stage.lets_clients_in();
    let ecdsa = stage.renew_to(KeyType::P256);
    let line = stage.goes_back(&daemon);
    says(
        &line,
        &[
            &ecdsa.fingerprint[..6],
            "ssl_ciphers",
            RSA_ALONE,
            "ssl_max_protocol_version = 'TLSv1.2'",
            "has no cipher for an ECDSA key",
            "renew with an RSA key",
            "the previous files are back",
            "TLS clients can connect again",
        ],
    );
    stage.lets_clients_in();
    assert_eq!(session.lives(), Ok(()));
    throughout(Duration::from_millis(500), "it was tried once", || {
        stage.reloads() == 2
    });

    // Another pgcertd leaves it alone, and so does `sync`.
    assert_eq!(daemon.stop().code(), Some(0));
    let daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": rejected");
    stage.synced(&[], "refused", 1);
    assert_eq!(stage.reloads(), 2);

    // As it says: a cipher is added, which the next reload loads too.
    let both = format!("ECDHE-ECDSA-AES256-GCM-SHA384:{RSA_ALONE}");
    stage.cluster.set("ssl_ciphers", &both);
    stage.synced(&["--force"], "deployed", 0);
    stage.becomes("in_sync");
    stage.lets_clients_in();
    assert_eq!(session.lives(), Ok(()));
    stage.ends(daemon, &ecdsa);
}

#[test]
fn postgresql_18_gets_back_the_key_that_its_ciphers_fit() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa2048)
        .cluster(|cluster| for_rsa_alone(cluster).version(18))
        .start();
    let daemon = stage.daemon();
    let mut session = stage.cluster.session();
    stage.renew_to(KeyType::P256);
    let line = stage.goes_back(&daemon);
    says(&line, &["ssl_ciphers", "has no cipher for an ECDSA key"]);
    stage.lets_clients_in();
    assert_eq!(session.lives(), Ok(()));
    stage.ends_as_it_began(daemon);
}

#[test]
fn a_key_that_is_too_weak_for_the_ciphers_level_goes_back() {
    let world = or_skip!(World::with_debians(STRICT));
    // The level comes with the ciphers, which Postgres sets after it has loaded the key.
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa3072)
        .cluster(|cluster| cluster.setting("ssl_ciphers", "HIGH:!aNULL@SECLEVEL=3"))
        .start();
    let daemon = stage.daemon();
    let mut session = stage.cluster.session();
    stage.renew_weak();
    let line = stage.goes_back(&daemon);
    says(&line, &["SECLEVEL=3", "a stronger key than RSA 2048"]);
    assert_eq!(session.lives(), Ok(()));
    let strong = stage.renew_to(KeyType::Rsa3072);
    stage.serves(&strong);
    stage.becomes("in_sync");
    stage.ends(daemon, &strong);
}

#[test]
fn what_pgcertd_alone_cannot_shake_hands_with_stays() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa2048)
        .cluster(|cluster| cluster.setting("ssl_max_protocol_version", "TLSv1.2"))
        .start();
    // psql offers this curve under TLS 1.2, and pgcertd's own library does not.
    let p521 = stage.renew_to(KeyType::P521);
    let row = stage.synced(&[], "unverified", 1);
    says(&problem(&row), &["as psql's does", "see that psql gets in"]);
    stage.becomes("unverified");
    assert_eq!(stage.cluster.served(), p521.fingerprint);
    stage.lets_clients_in();
    assert_eq!(stage.reloads(), 1);
    stage.ends_serving(&p521);
}

#[test]
fn an_edit_that_shuts_clients_out_is_not_blamed_on_the_renewal_that_loads_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    stage.cluster.set("ssl_max_protocol_version", "TLSv1.2");
    stage.cluster.set("ssl_ciphers", RSA_ALONE);
    let second = stage.renew();
    let line = daemon.wait_for_log("serving not verified");
    says(
        &line,
        &["with the previous files", "not the certificate", "ciphers"],
    );
    assert_eq!(stage.installed(), second.combined_pem());
    let held = stage.kept("held.json");
    assert!(!held.exists());
    let seen = stage.becomes("unverified");
    says(&problem(&seen), &["ciphers", "its log says why"]);
    stage.lets_nobody_in();

    stage.cluster.set("ssl_max_protocol_version", "");
    stage.cluster.reload_by_hand();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.lets_clients_in();
    stage.ends(daemon, &second);
}

#[test]
fn where_nobody_got_in_before_nothing_goes_back() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).cluster(for_rsa_alone).start();
    stage.becomes("unverified");
    stage.lets_nobody_in();
    let second = stage.renew();
    let row = stage.synced(&[], "unverified", 1);
    let told = problem(&row);
    says(
        &told,
        &["no other bundle has been seen served", "ssl_ciphers"],
    );
    assert_eq!(stage.installed(), second.combined_pem());
    assert!(!stage.kept("held.json").exists());
    // What helps is installed like any other.
    let rsa = stage.renew_to(KeyType::Rsa2048);
    stage.synced(&[], "deployed", 0);
    stage.lets_clients_in();
    stage.ends_serving(&rsa);
}

#[test]
fn what_a_run_that_was_killed_has_left_loaded_goes_back_to_what_was_served() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa2048)
        .cluster(for_rsa_alone)
        .start();
    stage.renew_to(KeyType::Rsa2048);
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.previous(), stage.first.combined_pem());
    // The run came as far as the signal.
    let ecdsa = stage.renew_to(KeyType::P256);
    world.place(&ecdsa, &stage.cert);
    stage.cluster.reload_by_hand();
    eventually(SOON, "nobody gets in", || {
        stage.cluster.peer().is_err().then_some(())
    });
    let row = stage.synced(&[], "rolled_back", 1);
    says(
        &problem(&row),
        &[
            "renew with an RSA key",
            "the previous bundle is back",
            "TLS clients can connect again",
        ],
    );
    stage.lets_clients_in();
    stage.becomes("rejected");
    stage.ends_serving_the_first();
}

#[test]
fn what_others_have_placed_stays_and_it_is_said_why_nobody_gets_in() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .key(KeyType::Rsa2048)
        .cluster(for_rsa_alone)
        .start();
    // There is a bundle to which pgcertd could go back.
    stage.renew_to(KeyType::Rsa2048);
    stage.synced(&[], "deployed", 0);
    assert_eq!(stage.previous(), stage.first.combined_pem());
    let reload = "[[instance]]\nmode = \"reload\"";
    let text = stage.config.text().replace("[[instance]]", reload);
    stage.config.replace(&text);
    let daemon = stage.daemon();
    let ecdsa = stage.renew_to(KeyType::P256);
    world.place(&ecdsa, &stage.cert);
    let line = daemon.wait_for_log("no TLS client can connect");
    says(&line, &["ssl_ciphers", "has no cipher for an ECDSA key"]);
    let seen = stage.becomes("unverified");
    says(&problem(&seen), &["ciphers", "its log says why"]);
    assert_eq!(stage.installed(), ecdsa.combined_pem());
    assert!(!stage.kept("held.json").exists());
    assert_eq!(daemon.stop().code(), Some(0));
}
