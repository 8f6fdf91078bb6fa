//! A target that the container has as a single file.

use std::path::Path;

use super::{CERTIFICATES, Ground, holds, is_well, says};
use crate::stage::{HOST, NAME};
use crate::world::{
    World,
    ca::Issued,
    config::{Config, Instance},
    container::ContainerBuilder,
    give,
    pgbouncer::PgBouncer,
};

impl Ground<'_> {
    /// A renewal is not written where the server has the target as a single file, and that is told.
    #[track_caller]
    fn is_refused(&mut self, config: &Config, target: &Path, remedy: &[&str]) -> Issued {
        let renewed = self.renew();
        let would = self.pgcertd(config, &["sync", "--dry-run", "--json"]);
        assert_eq!(would.instance(NAME)["outcome"], "failed", "{would:?}");
        says(self.synced(config, NAME), "failed", remedy);
        says(self.state(config, NAME), "out_of_date", remedy);
        holds(target, &self.first);
        renewed
    }
}

/// Somebody else puts this in the place of the target.
fn others_replace(world: &World, target: &Path, issued: &Issued) {
    let beside = target.with_extension("new");
    std::fs::write(&beside, issued.combined_pem()).unwrap();
    give(&beside, world.postgres(), 0o600);
    std::fs::rename(&beside, target).unwrap();
}

#[test]
fn a_target_that_the_container_mounts_by_itself_is_refused_until_its_directory_is_mounted() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let target = world.target(NAME);
    let config = ground.config_of(&cluster);
    let file = format!("{CERTIFICATES}/server.pem");
    let alone = |ground: &Ground<'_>| {
        ContainerBuilder::new(&ground.host)
            .volume(&target, &file)
            .postgres(&cluster)
    };
    let container = alone(&ground);
    // It is right as long as nothing is renewed.
    is_well(ground.state(&config, NAME), "in_sync");
    let remedy = [
        "as a single file",
        file.as_str(),
        "mount its directory there instead",
    ];
    says(ground.found(&config, "single_file"), "problem", &remedy);

    let second = ground.is_refused(&config, &target, &remedy);
    assert_eq!(container.reloads(), 0);

    // Somebody else replaces it, and the server reloads: what it has is the old one.
    others_replace(&world, &target, &second);
    says(ground.synced(&config, NAME), "unverified", &[]);
    assert_eq!(cluster.served(), ground.first.fingerprint);
    says(ground.state(&config, NAME), "not_served", &remedy);

    container.stop();
    let container = ground.started(&cluster);
    is_well(ground.state(&config, NAME), "in_sync");
    let (weight, _) = ground.found(&config, "single_file");
    assert_eq!(weight, "good");
    let third = ground.renew();
    is_well(ground.synced(&config, NAME), "deployed");
    assert_eq!(cluster.served(), third.fingerprint);
    container.stop();
}

#[test]
fn a_file_that_a_poolers_container_mounts_by_itself_is_refused_until_its_directory_is_mounted() {
    let world = or_skip!(World::new());
    let mut ground = Ground::new(&world);
    let cluster = ground.cluster(NAME);
    let target = world.target(NAME);
    let file = format!("{CERTIFICATES}/server.pem");
    let mut pooler = PgBouncer::before(&world, &cluster, NAME);
    pooler.tls(Path::new(&file));
    let config = ground.config([Instance::of_pgbouncer(NAME, HOST, &pooler.config_file())]);
    let alone = ContainerBuilder::new(&ground.host).volume(&target, &file);
    let container = alone.pgbouncer(&pooler);
    is_well(ground.state(&config, NAME), "in_sync");
    let remedy = [
        "as a single file",
        file.as_str(),
        "mount its directory there instead, set client_tls_cert_file and client_tls_key_file",
    ];
    says(ground.found(&config, "single_file"), "problem", &remedy);

    let second = ground.is_refused(&config, &target, &remedy);
    assert_eq!(pooler.reloads(), 0);

    // Somebody else replaces it: what the pooler has is the old one, whatever it loads.
    others_replace(&world, &target, &second);
    says(ground.synced(&config, NAME), "failed", &remedy);
    says(ground.state(&config, NAME), "not_served", &remedy);
    assert_eq!(pooler.served(), ground.first.fingerprint);

    container.stop();
    let certificates = ground.certificates(&cluster);
    let mounted = ContainerBuilder::new(&ground.host).volume(&certificates, CERTIFICATES);
    let container = mounted.pgbouncer(&pooler);
    is_well(ground.state(&config, NAME), "in_sync");
    // By its own name for it.
    for id in ["single_file", "server_files"] {
        let (weight, said) = ground.found(&config, id);
        assert_eq!(weight, "good", "{said}");
    }
    let third = ground.renew();
    is_well(ground.synced(&config, NAME), "deployed");
    assert_eq!(pooler.served(), third.fingerprint);
    container.stop();
    ground.host.was_left_alone();
}
