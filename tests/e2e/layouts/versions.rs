//! The whole of what a deployment promises, on each major version that PostgreSQL's authors keep up,
//! and on the last one that they gave up.

use std::{fs, path::Path};

use pgcertd::testing::server::{postmaster::PidFile, sql::Role};

use crate::{
    sql::{asked, login},
    stage::{HOST, NAME, Stage, mode, problem, says},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        client::Session,
        command,
        config::Instance,
        daemon::Daemon,
        eventually,
        inventory::Inventory,
        postgres::BY_NAME,
        process::run,
    },
};

/// The first that takes a TLS handshake without an SSLRequest before it.
const DIRECT_TLS: u32 = 17;

#[test]
fn postgresql_13_is_deployed_to() {
    is_deployed_to(13);
}

#[test]
fn postgresql_14_is_deployed_to() {
    is_deployed_to(14);
}

#[test]
fn postgresql_15_is_deployed_to() {
    is_deployed_to(15);
}

#[test]
fn postgresql_16_is_deployed_to() {
    is_deployed_to(16);
}

#[test]
fn postgresql_17_is_deployed_to() {
    is_deployed_to(17);
}

#[test]
fn postgresql_18_is_deployed_to() {
    is_deployed_to(18);
}

#[test]
fn postgresql_19_is_deployed_to() {
    let _fetched = or_skip!(World::with_postgres(BY_NAME));
    is_deployed_to(BY_NAME);
}

/// From the first week, in which pgcertd looks on, to a rollback by the operator.
fn is_deployed_to(major: u32) {
    let world = or_skip!(World::new());
    let clients_ca = world.path().join("clients-ca.pem");
    fs::write(&clients_ca, Ca::new(&world, "Clients").root_pem()).unwrap();
    let mut stage = Stage::build(&world)
        .cluster(|cluster| {
            let cluster = cluster.version(major);
            cluster.setting("ssl_ca_file", clients_ca.to_str().unwrap())
        })
        .instance(|instance| instance.set("mode", "observe"))
        .start();
    let version = fs::read_to_string(stage.cluster.data_directory().join("PG_VERSION")).unwrap();
    assert_eq!(version.trim(), major.to_string());
    let mut daemon = stage.unit();
    observes(&mut stage, &daemon);
    reloads_what_others_place(&mut stage, &mut daemon);
    let first = installs_first(&mut stage, &mut daemon);
    let second = renews(&mut stage, &daemon, &first);
    is_probed(&stage, major);
    is_asked_by_sql(&stage, major);
    let third = refuses(&mut stage, &daemon, &clients_ca, &second);
    rolls_back(&stage, &second, &third);
    stage.ends(daemon, &third);
}

/// Others place and reload; pgcertd touches nothing, and tells all.
fn observes(stage: &mut Stage<'_>, daemon: &Daemon) {
    daemon.wait_for_log(": in_sync");
    let before = Inventory::under([stage.config.state_directory()]);
    let next = stage.renew();
    stage.becomes("out_of_date");
    daemon.wait_for_log(": out_of_date");
    before.is_untouched();
    stage.world.place(&next, &stage.cert);
    let placed = Inventory::under([stage.config.state_directory()]);
    stage.becomes("not_served");
    assert_eq!(stage.reloads(), 0);
    stage.cluster.reload_by_hand();
    stage.serves(&next);
    stage.becomes("in_sync");
    placed.is_untouched();
}

/// Others place; pgcertd reloads and looks.
fn reloads_what_others_place(stage: &mut Stage<'_>, daemon: &mut Daemon) {
    configured(stage, daemon, |instance| instance.set("mode", "reload"));
    let next = stage.renew();
    stage.becomes("out_of_date");
    stage.world.place(&next, &stage.cert);
    stage.serves(&next);
    stage.becomes("in_sync");
}

fn configured(stage: &mut Stage<'_>, daemon: &mut Daemon, more: impl FnOnce(Instance) -> Instance) {
    let instance = more(Instance::for_cluster(&stage.cluster, HOST));
    stage.config = super::config(stage.world, [instance]);
    let before = daemon.log().len();
    daemon.hangup();
    eventually(SOON, "the new configuration counts", || {
        daemon.log()[before..].contains("reloaded; pgcertd now keeps")
    });
}

/// The server has TLS off and no file, until pgcertd has made it.
fn installs_first(stage: &mut Stage<'_>, daemon: &mut Daemon) -> Issued {
    stage.cluster.set("ssl", "off");
    stage.cluster.reload_by_hand();
    stage.becomes("not_used");
    fs::remove_file(&stage.cert).unwrap();
    configured(stage, daemon, |instance| {
        instance.set("server_names", vec![HOST])
    });
    let first = stage.renew();
    eventually(SOON, "the file is there", || stage.cert.exists());
    let seen = stage.becomes("not_used");
    says(&problem(&seen), &["ssl = off"]);
    stage.cluster.set("ssl", "on");
    stage.cluster.reload_by_hand();
    stage.serves(&first);
    stage.becomes("in_sync");
    assert_eq!(mode(&stage.cert), 0o600);
    first
}

fn renews(stage: &mut Stage<'_>, daemon: &Daemon, first: &Issued) -> Issued {
    let mut session = stage.cluster.session();
    let second = stage.renewal_is_served();
    stage.becomes("in_sync");
    daemon.wait_for_log(&format!("{} deployed and served", &second.fingerprint[..6]));
    assert_eq!(session.lives(), Ok(()));
    assert_eq!(stage.previous(), first.combined_pem());
    is_told_from_later_ones(stage, &session);
    second
}

/// `pgcertd sessions` knows which one began under the certificate of before.
fn is_told_from_later_ones(stage: &Stage<'_>, before: &Session) {
    let after = stage.cluster.session();
    let asked = stage.pgcertd(&["sessions", "--json"]);
    assert_eq!(asked.code(), 0, "{asked:?}");
    let told = asked.instance(NAME);
    let row = |session: &Session| {
        let rows = told["sessions"].as_array().unwrap();
        let mut found = rows
            .iter()
            .filter(|row| row["pid"] == session.backend_pid());
        found.next().cloned().unwrap_or_default()
    };
    assert_eq!(row(before)["protocol"], "TLSv1.3", "{told}");
    assert_eq!(row(before)["before_deployment"], true, "{told}");
    assert_eq!(row(&after)["before_deployment"], false, "{told}");
}

/// psql and `pgcertd probe` verify it, the latter also without an SSLRequest where there is that.
fn is_probed(stage: &Stage<'_>, major: u32) {
    let root = stage.ca.root();
    let psql = stage.cluster.verify_full(root, HOST);
    assert_eq!(psql.as_deref(), Ok("TLSv1.3"));
    let address = format!("{HOST}:{}", stage.cluster.port());
    let probe = |more: &[&str]| {
        let mut probe = command(env!("CARGO_BIN_EXE_pgcertd"));
        probe
            .args(["probe", &address, "--hostaddr", "127.0.0.1", "--ca"])
            .arg(root)
            .args(more);
        run(&mut probe, SOON)
    };
    let usual = probe(&[]);
    assert_eq!(usual.code(), 0, "{usual:?}");
    let direct = probe(&["--direct"]);
    assert_eq!(direct.code() == 0, major >= DIRECT_TLS, "{direct:?}");
    let log = stage.cluster.log();
    assert!(!log.contains("could not accept SSL connection"), "{log}");
}

/// What pgcertd's commands ask of a running server is to be had there.
fn is_asked_by_sql(stage: &Stage<'_>, major: u32) {
    let pid_file = stage.cluster.data_directory().join("postmaster.pid");
    assert!(PidFile::parse(&fs::read_to_string(pid_file).unwrap()).is_ok());
    let (version, settings, rules) = asked(async {
        let sql = login(&stage.cluster, &Role::OfUser).await.unwrap();
        let settings = sql.server_settings().await.unwrap();
        (sql.version, settings, sql.hba_rules().await.unwrap())
    });
    assert_eq!(version / 10_000, i32::try_from(major).unwrap());
    assert!(settings.ssl && settings.allow_alter_system, "{settings:?}");
    assert_eq!(settings.cert_file, stage.cert.to_str().unwrap());
    let file = stage.cluster.config_directory().join("pg_hba.conf");
    assert!(!rules.is_empty() && rules.iter().all(|rule| rule.fault.is_none()));
    assert_eq!(settings.hba_file, file);
    let check = stage.pgcertd(&["check"]);
    assert_eq!(check.code(), 0, "{}", check.stdout());
}

/// While another of its TLS files is broken, Postgres takes nothing new: that one is named, and the new one is
/// loaded once it is mended.
fn refuses(stage: &mut Stage<'_>, daemon: &Daemon, other: &Path, good: &Issued) -> Issued {
    let mut session = stage.cluster.session();
    let whole = fs::read(other).unwrap();
    fs::write(other, "no certificate\n").unwrap();
    let third = stage.renew();
    daemon.wait_for_log("ssl_ca_file");
    stage.becomes_and_says("not_served", &["ssl_ca_file", "restart"]);
    assert_eq!(stage.cluster.served(), good.fingerprint);
    let installed = fs::read_to_string(&stage.cert).unwrap();
    assert_eq!(installed, third.combined_pem());
    assert_eq!(session.lives(), Ok(()));

    fs::write(other, whole).unwrap();
    stage.serves(&third);
    stage.becomes("in_sync");
    assert_eq!(session.lives(), Ok(()));
    third
}

fn rolls_back(stage: &Stage<'_>, before: &Issued, now: &Issued) {
    let mut session = stage.cluster.session();
    let done = stage.pgcertd(&["rollback", NAME]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(stage.cluster.served(), before.fingerprint);
    stage.becomes("held");
    stage.synced(&["--force"], "deployed", 0);
    assert_eq!(stage.cluster.served(), now.fingerprint);
    stage.becomes("in_sync");
    assert_eq!(session.lives(), Ok(()));
}
