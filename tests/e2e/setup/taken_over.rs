//! A server that has a private pair of its own goes on with it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::bench::{Bench, HOST, NAME};
use crate::{
    stage::leaf_of,
    world::{World, ca::Issued, daemon::eventually_state, give},
};

/// Puts a pair into these files, which the server's user owns.
fn place(world: &World, issued: &Issued, cert: &Path, key: &Path) {
    let chain = issued.fullchain_pem();
    if cert == key {
        fs::write(cert, issued.combined_pem()).unwrap()
    } else {
        fs::write(cert, chain).unwrap();
        fs::write(key, &issued.key_pem).unwrap();
        give(cert, world.postgres(), 0o644);
    }
    give(key, world.postgres(), 0o600);
}

/// The server uses this pair, for the name of the lineage, instead of the shared one.
fn own_pair<'w>(world: &'w World, cert: &Path, key: &Path) -> (Bench<'w>, Issued) {
    let mut bench = Bench::new(world);
    let old = bench.ca.issue(&[HOST]);
    place(world, &old, cert, key);
    bench.cluster.set("ssl_cert_file", cert.to_str().unwrap());
    bench.cluster.set("ssl_key_file", key.to_str().unwrap());
    bench.cluster.reload_by_hand();
    crate::world::eventually(crate::world::SOON, "its own pair is served", || {
        bench.cluster.served() == old.fingerprint
    });
    (bench, old)
}

#[track_caller]
fn is_taken_over(bench: &mut Bench<'_>, cert: &Path, key: &Path) {
    let before = bench.sight();
    let dry = bench.setup(&["--dry-run", "--json"]).json();
    assert_eq!(dry["taken_over"], true, "{dry}");
    assert_eq!(dry["settings"].as_array().map(Vec::len), Some(0), "{dry}");
    bench.sight().is(&before, "a dry run");

    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    bench.verified();
    assert_eq!(leaf_of(cert), Ok(bench.issued.leaf_pem.clone()));
    assert_eq!(bench.sight().settings, before.settings);
    let fragment = fs::read_to_string(bench.fragment()).unwrap();
    assert!(fragment.contains(cert.to_str().unwrap()), "{fragment}");
    assert_eq!(fragment.contains("key_file"), cert != key, "{fragment}");
    eventually_state(bench.world, &bench.config, NAME, "in_sync");

    assert_eq!(bench.undo(&["--yes"]).code(), 0);
    assert!(!bench.fragment().exists());
    // What is served stays, since the server needs it.
    assert_eq!(bench.cluster.served(), bench.issued.fingerprint);
    bench.cluster.restart().unwrap();
}

fn directory(world: &World) -> PathBuf {
    world.postgres_directory("tls", 0o700)
}

#[test]
fn two_files_of_the_servers_own_are_taken_over() {
    let world = or_skip!(World::new());
    let [cert, key] = ["server.crt", "server.key"].map(|file| directory(&world).join(file));
    let (mut bench, _) = own_pair(&world, &cert, &key);
    is_taken_over(&mut bench, &cert, &key);
}

#[test]
fn one_file_of_the_servers_own_is_taken_over() {
    let world = or_skip!(World::new());
    let file = directory(&world).join("both.pem");
    let (mut bench, _) = own_pair(&world, &file, &file);
    is_taken_over(&mut bench, &file, &file);
}

#[test]
fn a_pair_in_the_data_directory_is_taken_over_with_a_warning() {
    let world = or_skip!(World::new());
    let data = world.path().join("clusters/main/data");
    let (cert, key) = (data.join("server.crt"), data.join("server.key"));
    let mut bench = Bench::new(&world);
    let old = bench.ca.issue(&[HOST]);
    place(&world, &old, &cert, &key);
    // As PostgreSQL has it where nothing is set: relative to the data directory.
    bench.cluster.set("ssl_cert_file", "server.crt");
    bench.cluster.set("ssl_key_file", "server.key");
    bench.cluster.reload_by_hand();
    crate::world::eventually(crate::world::SOON, "its own pair is served", || {
        bench.cluster.served() == old.fingerprint
    });
    let told = bench.setup(&["--dry-run"]);
    assert!(told.stdout().contains("pg_basebackup"), "{}", told.stdout());
    is_taken_over(&mut bench, &cert, &key);
}

#[test]
fn links_and_the_lineages_own_files_are_left_alone() {
    let world = or_skip!(World::new());
    let home = directory(&world);
    let real = home.join("real.pem");
    let link = home.join("link.pem");
    symlink(&real, &link).unwrap();
    let mut bench = Bench::new(&world);
    let old = bench.ca.issue(&[HOST]);
    place(&world, &old, &real, &real);
    bench.cluster.set("ssl_cert_file", link.to_str().unwrap());
    bench.cluster.set("ssl_key_file", link.to_str().unwrap());
    bench.cluster.reload_by_hand();
    crate::world::eventually(crate::world::SOON, "its own pair is served", || {
        bench.cluster.served() == old.fingerprint
    });
    let done = bench.setup(&["--yes"]);
    assert_eq!(done.code(), 0);
    assert!(done.stdout().contains("symbolic link"), "{}", done.stdout());
    bench.verified();
    assert_eq!(leaf_of(&real), Ok(old.leaf_pem.clone()));
    assert_eq!(
        leaf_of(&world.target(NAME)),
        Ok(bench.issued.leaf_pem.clone())
    );
}

#[cfg(feature = "failpoints")]
#[test]
fn a_fault_puts_the_servers_own_pair_back() {
    use crate::world::daemon::Launch;
    let world = or_skip!(World::new());
    let [cert, key] = ["server.crt", "server.key"].map(|file| directory(&world).join(file));
    let (bench, old) = own_pair(&world, &cert, &key);
    let before = bench.sight();
    for point in ["setup_written", "setup_installed", "setup_verified"] {
        let launch = Launch::new(&world).env("FAILPOINTS", format!("{point}=return"));
        assert_eq!(bench.setup_by(&launch, &["--yes"]).code(), 1, "{point}");
        // The previous bundle is what is served again, and is kept as any other is.
        let state = world.path().join("state");
        bench.sight().without(&[&state]).is(&before, point);
        assert_eq!(fs::read_to_string(&cert).unwrap(), old.fullchain_pem());
    }
}
