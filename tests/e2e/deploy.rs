//! The main job: a renewal reaches the server, and a client sees it.

use crate::world::{
    SOON, World,
    ca::{Ca, Issued},
    cluster::Cluster,
    config::{Config, Instance},
    daemon::{Daemon, eventually_state, pgcertd, status},
    eventually,
    lineage::Lineage,
};

/// A cluster that serves `first`, whose lineage holds it too.
pub struct Scene {
    pub cluster: Cluster,
    pub lineage: Lineage,
    pub ca: Ca,
    pub first: Issued,
    pub config: Config,
}

impl Scene {
    pub fn new(world: &World) -> Scene {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&["pg.example.com"]);
        let mut lineage = Lineage::new(world, "pg.example.com");
        lineage.renew(&first);
        let target = world.target("16-main");
        world.place(&first, &target);
        let cluster = Cluster::build(world).name("16-main").tls(&target).start();
        let config = Config::new(world)
            .instance(Instance::of(&cluster, "pg.example.com"))
            .write();
        Scene {
            cluster,
            lineage,
            ca,
            first,
            config,
        }
    }
}

#[test]
fn a_renewal_is_served_while_sessions_live_on() {
    let world = or_skip!(World::new());
    let mut scene = Scene::new(&world);
    let daemon = Daemon::start(&world, &scene.config);
    eventually_state(&world, &scene.config, "16-main", "in_sync");
    let mut session = scene.cluster.session();

    let second = scene.ca.issue(&["pg.example.com"]);
    scene.lineage.renew(&second);
    eventually(SOON, "the new certificate is served", || {
        scene.cluster.served() == second.fingerprint
    });

    assert_eq!(session.lives(), Ok(()));
    let seen = eventually_state(&world, &scene.config, "16-main", "in_sync");
    assert_eq!(seen["served"]["fingerprint"], second.fingerprint.as_str());
    daemon.wait_for_log("deployed and served");
    assert_eq!(daemon.stop().code(), Some(0));
    scene.cluster.restart().unwrap();
    assert_eq!(scene.cluster.served(), second.fingerprint);
}

#[test]
fn sync_does_once_what_the_daemon_does() {
    let world = or_skip!(World::new());
    let mut scene = Scene::new(&world);
    let before = pgcertd(&world, &scene.config, &["sync", "--json"]);
    assert_eq!(before.code(), 0, "{}", before.stderr());
    assert_eq!(before.instance("16-main")["outcome"], "unchanged");

    let second = scene.ca.issue(&["pg.example.com"]);
    scene.lineage.renew(&second);
    let dry = pgcertd(&world, &scene.config, &["sync", "--dry-run", "--json"]);
    assert_eq!(dry.instance("16-main")["outcome"], "would_deploy");
    assert_eq!(scene.cluster.served(), scene.first.fingerprint);

    let done = pgcertd(&world, &scene.config, &["sync", "--json"]);
    assert_eq!(done.code(), 0, "{}", done.stderr());
    assert_eq!(done.instance("16-main")["outcome"], "deployed");
    assert_eq!(scene.cluster.served(), second.fingerprint);
    let seen = status(&world, &scene.config);
    println!("{seen}");
    let text = pgcertd(&world, &scene.config, &["status"]);
    println!("{}", text.stdout());
    println!("{}", pgcertd(&world, &scene.config, &["check"]).stdout());
    assert_eq!(text.code(), 0);
}

#[test]
fn another_server_of_the_row_at_the_configured_address_is_no_refusal() {
    let world = or_skip!(World::new());
    let mut scene = Scene::new(&world);
    let neighbours = world.target("neighbour");
    world.place(&scene.first, &neighbours);
    let neighbour = Cluster::build(&world).name("neighbour").tls(&neighbours);
    let neighbour = neighbour.start();
    let address = format!("127.0.0.1:{}", neighbour.port());
    let instance = Instance::of(&scene.cluster, "pg.example.com").set("address", address);
    let config = Config::new(&world).instance(instance).write();
    let second = scene.ca.issue(&["pg.example.com"]);
    scene.lineage.renew(&second);

    let done = pgcertd(&world, &config, &["sync", "--json"]);
    assert_eq!(done.instance("16-main")["outcome"], "unverified");
    let problem = done.instance("16-main")["problem"].to_string();
    assert!(problem.contains("leads to another server"), "{problem}");
    assert_eq!(scene.cluster.served(), second.fingerprint);
    assert_eq!(neighbour.served(), scene.first.fingerprint);
    scene.cluster.restart().unwrap();
    assert_eq!(scene.cluster.served(), second.fingerprint);
}
