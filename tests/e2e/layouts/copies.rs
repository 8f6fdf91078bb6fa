//! Targets in a data directory, and pg_basebackup, which copies what lies there.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{config, instance};
use crate::{
    stage::{NAME, Stage, leftovers, mode, says},
    world::{
        SOON, World,
        ca::Issued,
        cluster::Cluster,
        command,
        config::Config,
        daemon::Launch,
        eventually,
        process::{Process, run},
    },
};

const COPY: &str = "16-copy";

/// A cluster with its configuration elsewhere and its TLS files in the data directory.
pub fn in_data<'w>(world: &'w World, cert: &str, key: &str) -> Stage<'w> {
    let cluster = Cluster::build(world)
        .name(NAME)
        .config_apart()
        .setting("ssl", "on")
        .setting("ssl_cert_file", cert)
        .setting("ssl_key_file", key)
        // Without these pg_rewind cannot tell since when, and in which pages, two servers differ.
        .setting("wal_log_hints", "on")
        .setting("full_page_writes", "on")
        .setting("wal_keep_size", "64MB");
    let data = cluster.data_directory();
    Stage::build_at(world, &data.join(cert), &data.join(key))
        .cluster(|_| cluster)
        .start()
}

/// Every file in a data directory that holds a certificate or a key, with its owner.
pub fn tls_files(data: &Path) -> Vec<(String, u32)> {
    let mut found: Vec<(String, u32)> = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let holds =
                fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("-----BEGIN"));
            let name = entry.file_name().into_string().unwrap();
            holds.then(|| (name, entry.metadata().unwrap().uid()))
        })
        .collect();
    found.sort();
    found
}

/// Renews as long as the program runs, which must end well; gives what was deployed meanwhile.
#[track_caller]
pub fn renewed_during(stage: &mut Stage<'_>, mut program: Process, report: &Path) -> Vec<Issued> {
    let mut deployed = Vec::new();
    while program.ended().is_none() {
        let next = stage.renewal_is_served();
        deployed.push(next);
    }
    let status = program.wait(SOON).unwrap();
    let said = fs::read_to_string(report).unwrap();
    assert!(status.success(), "{status}: {said}");
    println!("{} deployments: {said}", deployed.len());
    deployed
}

/// Starts a program whose output goes to a file of the world.
pub fn spawned(world: &World, mut program: std::process::Command) -> (Process, PathBuf) {
    let path = world.path().join("report");
    let file = fs::File::create(&path).unwrap();
    program.stdout(file.try_clone().unwrap()).stderr(file);
    (Process::spawn(&mut program), path)
}

fn is_backed_up_across_deployments(cert: &str, key: &str) {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, cert, key);
    let daemon = stage.daemon();
    // From here on there is a previous bundle.
    let _before = stage.renewal_is_served();
    stage.becomes("in_sync");
    let home = world.postgres_directory(&format!("clusters/{COPY}"), 0o755);
    let data = home.join("data");
    let mut backup = stage.cluster.base_backup(&data);
    // Slowly enough for several deployments.
    backup.arg("--max-rate=8M");
    let (backup, report) = spawned(&world, backup);
    let deployed = renewed_during(&mut stage, backup, &report);
    assert!(deployed.len() > 1, "{} deployments", deployed.len());

    // The server's user owns all that was copied; nothing of what was before is in it.
    let copied = tls_files(&data);
    let owner = world.postgres().uid;
    assert!(copied.iter().all(|(_, uid)| *uid == owner), "{copied:?}");
    let names: Vec<&str> = copied.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        [cert, key].iter().all(|file| names.contains(file)),
        "{names:?}"
    );
    let known = |name: &str| name == cert || name == key || name.ends_with(".pgcertd-new");
    assert!(names.iter().all(|name| known(name)), "{names:?}");
    assert_eq!(mode(&data.join(key)), 0o600);
    let latest = deployed.last().unwrap().clone();
    starts_as_its_own(&stage, &home, &latest);
    stage.ends(daemon, &latest);
}

/// Whatever moment the copy has caught: pgcertd makes it whole before the server starts on it.
#[track_caller]
fn starts_as_its_own(stage: &Stage<'_>, home: &Path, latest: &Issued) {
    let mut copy = stage.cluster.at(COPY, home);
    let data = copy.data_directory().to_owned();
    let of = |file: &Path| data.join(file.file_name().unwrap());
    let own = instance(&copy, &of(&stage.cert), &of(&stage.key));
    let elsewhere = stage.world.directory("copy");
    let beside = Config::new(stage.world).instance(own).text();
    let file = elsewhere.join("pgcertd.toml");
    fs::write(&file, beside).unwrap();
    let mut synced = command(env!("CARGO_BIN_EXE_pgcertd"));
    synced.arg("sync").arg("--config").arg(&file);
    let synced = run(&mut synced, SOON);
    assert_eq!(synced.code(), 0, "{synced:?}");
    assert!(leftovers(&data).is_empty());
    copy.start().unwrap();
    assert_eq!(copy.served(), latest.fingerprint);
}

#[test]
fn pg_basebackup_runs_across_deployments_of_one_file() {
    is_backed_up_across_deployments("server.pem", "server.pem");
}

#[test]
fn pg_basebackup_runs_across_deployments_of_two_files() {
    is_backed_up_across_deployments("server.crt", "server.key");
}

/// A file that is being written is seen by the backup, belongs to the server's user, and is gone a moment
/// later in the original, and at pgcertd's next start in the copy.
#[test]
fn a_backup_in_the_midst_of_an_install_succeeds_and_its_half_is_removed() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, "server.pem", "server.pem");
    let held_up = Launch::new(&world).env("FAILPOINTS", "commit=sleep(4000)");
    let mut daemon = held_up.daemon(&stage.config);
    daemon.ready();
    daemon.wait_for_log(": in_sync");
    let second = stage.renew();
    let data = stage.cluster.data_directory().to_owned();
    eventually(SOON, "the new file lies beside the old one", || {
        !leftovers(&data).is_empty()
    });
    let home = world.postgres_directory(&format!("clusters/{COPY}"), 0o755);
    run(&mut stage.cluster.base_backup(&home.join("data")), SOON)
        .result()
        .unwrap();
    let copied = leftovers(&home.join("data"));
    assert_eq!(copied.len(), 1, "the backup came too late");
    stage.serves(&second);
    assert!(leftovers(&data).is_empty());
    starts_as_its_own(&stage, &home, &second);
    stage.ends(daemon, &second);
}

/// A file of root's there would end pg_rewind, which overwrites it as the server's user, and one of mode 0600
/// pg_basebackup as well.
#[test]
fn nothing_of_roots_comes_into_a_data_directory() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, "server.pem", "server.pem");
    let of_roots = instance(&stage.cluster, &stage.cert, &stage.key).set("owner", "root");
    stage.config = config(&world, [of_roots]);
    let check = stage.pgcertd(&["check"]);
    assert_eq!(check.code(), 1, "{}", check.stdout());
    says(
        check.stdout(),
        &["user root cannot write in", "Permission denied"],
    );
    let data = stage.cluster.data_directory().to_owned();
    let before = tls_files(&data);
    stage.renew();
    for arguments in [["sync"].as_slice(), &["sync", "--force"]] {
        let synced = stage.pgcertd(arguments);
        assert_eq!(synced.code(), 1, "{synced:?}");
        assert_eq!(tls_files(&data), before);
    }
    assert_eq!(before, [("server.pem".to_owned(), world.postgres().uid)]);
}
