//! The layout of RHEL and of the PostgreSQL project's packages for it: everything in the data directory,
//! and the settings of the TLS files at their defaults, which are relative.

use std::{fs, path::Path, time::Duration};

use super::{config, instance};
use crate::{
    stage::{HOST, NAME, Stage, leftovers, mode, place, problem, says},
    world::{
        World,
        cluster::{Cluster, ClusterBuilder},
        daemon::Launch,
        inventory::Inventory,
        on_one_line, throughout,
    },
};

/// A cluster whose TLS files have these names in its data directory, and does not run yet.
fn in_data<'w>(
    world: &'w World,
    files: (&str, &str),
    built: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
) -> Stage<'w> {
    let cluster = Cluster::build(world).name(NAME).setting("ssl", "on");
    let data = cluster.data_directory();
    let (cert, key) = (data.join(files.0), data.join(files.1));
    Stage::build_at(world, &cert, &key)
        .cluster(|_| built(cluster.strict()))
        .create()
}

fn owner(file: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(file).unwrap().uid()
}

/// A first week: a renewal is told, and neither the server's files nor a directory of pgcertd's own is touched.
fn is_observed(stage: &mut Stage<'_>) {
    let managed = |stage: &Stage<'_>| instance(&stage.cluster, &stage.cert, &stage.key);
    stage.config = config(stage.world, [managed(stage).set("mode", "observe")]);
    let owned = [&stage.cert, &stage.key].map(|file| file.to_path_buf());
    let own = stage.config.state_directory().to_owned();
    let inventory = Inventory::under(owned.into_iter().chain([own]));
    let daemon = Launch::new(stage.world)
        .like_the_unit()
        .daemon(&stage.config);
    daemon.wait_for_log(": in_sync");
    stage.renew();
    says(
        &problem(&stage.becomes("out_of_date")),
        &["something else writes the file"],
    );
    daemon.wait_for_log(": out_of_date");
    stage.synced(&["--force"], "failed", 1);
    assert_eq!(daemon.stop().code(), Some(0));
    inventory.is_untouched();
    assert_eq!(stage.reloads(), 0);
    assert_eq!(leftovers(stage.cluster.data_directory()), [""; 0]);
    stage.config = config(stage.world, [managed(stage)]);
}

#[test]
fn files_with_their_default_names_in_the_data_directory_are_deployed_to() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, ("server.crt", "server.key"), |cluster| cluster);
    stage.cluster.start().unwrap();
    assert_eq!(stage.cluster.sql("show ssl_cert_file"), "server.crt");
    is_observed(&mut stage);
    let daemon = stage.unit();
    let mut session = stage.cluster.session();
    let second = stage.renewal_is_served();
    stage.becomes("in_sync");
    stage.renew_weak();
    daemon.wait_for_log("rejected by Postgres and rolled back");
    stage.becomes("rejected");
    assert_eq!(stage.cluster.served(), second.fingerprint);
    assert_eq!(session.lives(), Ok(()));
    drop(session);

    let third = stage.renewal_is_served();
    stage.becomes("in_sync");
    assert_eq!((mode(&stage.cert), mode(&stage.key)), (0o644, 0o600));
    for file in [&stage.cert, &stage.key] {
        assert_eq!(owner(file), world.postgres().uid);
    }
    // What the deployment replaced lies where no backup of the server takes it along.
    assert_eq!(stage.previous(), second.combined_pem());
    assert!(!stage.kept("").starts_with(stage.cluster.data_directory()));
    let check = stage.pgcertd(&["check"]);
    assert_eq!(check.code(), 0, "{}", check.stdout());
    says(
        &on_one_line(check.stdout()),
        &["lies in the data directory"],
    );
    stage.ends(daemon, &third);
}

#[test]
fn a_relative_path_in_the_configuration_is_one_in_the_data_directory() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, ("tls/server.pem", "tls/server.pem"), |cluster| {
        cluster
            .setting("ssl_cert_file", "tls/server.pem")
            .setting("ssl_key_file", "./tls/../tls/server.pem")
    });
    stage.cluster.start().unwrap();
    let daemon = stage.daemon();
    let second = stage.renewal_is_served();
    stage.becomes("in_sync");

    stage.cluster.set("ssl_cert_file", "server.crt");
    stage.cluster.set("ssl_key_file", "server.key");
    let data = stage.cluster.data_directory().to_owned();
    place(
        &world,
        &second,
        &data.join("server.crt"),
        &data.join("server.key"),
    );
    stage.cluster.reload_by_hand();
    stage.renew();
    let told = problem(&stage.becomes("not_used"));
    says(&told, &[data.join("server.crt").to_str().unwrap()]);
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        stage.cluster.set(setting, "tls/server.pem");
    }
    stage.cluster.reload_by_hand();
    let third = stage.renewal_is_served();
    stage.becomes("in_sync");
    stage.ends(daemon, &third);
}

#[test]
fn a_torn_pair_in_the_data_directory_is_mended_before_postgres_starts() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, ("server.crt", "server.key"), |cluster| cluster);
    let first = stage.first.clone();
    fs::write(&stage.key, stage.ca.issue(&[HOST]).key_pem).unwrap();
    let log = stage.cluster.start().unwrap_err();
    says(&log, &["key values mismatch"]);
    let daemon = stage.unit();
    stage.cluster.start().unwrap();
    assert_eq!(stage.cluster.served(), first.fingerprint);
    assert!(leftovers(stage.cluster.data_directory()).is_empty());
    stage.ends(daemon, &first);
}

#[test]
fn two_files_that_others_place_in_the_data_directory_are_loaded_once_they_fit() {
    let world = or_skip!(World::new());
    let mut stage = in_data(&world, ("server.crt", "server.key"), |cluster| cluster);
    stage.cluster.start().unwrap();
    let reload = instance(&stage.cluster, &stage.cert, &stage.key).set("mode", "reload");
    stage.config = config(&world, [reload]);
    let daemon = stage.unit();
    daemon.wait_for_log(": in_sync");
    let second = stage.renew();
    stage.becomes("out_of_date");
    fs::write(&stage.key, &second.key_pem).unwrap();
    throughout(Duration::from_secs(1), "nothing is loaded", || {
        stage.reloads() == 0 && stage.cluster.served() == stage.first.fingerprint
    });
    fs::write(&stage.cert, second.fullchain_pem()).unwrap();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}
