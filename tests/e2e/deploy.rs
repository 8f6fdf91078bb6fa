//! The main job: a renewal reaches the server, and a client sees it.

use crate::stage::Stage;
use crate::world::{
    World,
    cluster::Cluster,
    config::{Config, Instance},
    daemon::{Daemon, eventually_state, pgcertd, status},
};

#[test]
fn a_renewal_is_served_while_sessions_live_on() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = Daemon::start(&world, &stage.config);
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    let mut session = stage.cluster.session();

    let second = stage.renew();
    stage.serves(&second);

    assert_eq!(session.lives(), Ok(()));
    let seen = eventually_state(&world, &stage.config, "16-main", "in_sync");
    assert_eq!(seen["served"]["fingerprint"], second.fingerprint.as_str());
    daemon.wait_for_log("deployed and served");
    assert_eq!(daemon.stop().code(), Some(0));
    stage.cluster.restart().unwrap();
    assert_eq!(stage.cluster.served(), second.fingerprint);
}

#[test]
fn renewals_cost_fifty_clients_no_session_and_no_connection() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let _daemon = stage.daemon();
    for start in [Cluster::pgbench, Cluster::pgbench_reconnecting] {
        let mut load = start(&stage.cluster, 50, 5);
        let mut renewals = 0;
        while load.is_running() {
            stage.renewal_is_served();
            renewals += 1;
        }
        let transactions = load.finish().unwrap();
        println!("{renewals} renewals, {transactions} transactions");
        // The last one may have met no load any more.
        assert!(renewals > 1, "one renewal took longer than the load");
    }
}

#[test]
fn sync_does_once_what_the_daemon_does() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let before = stage.pgcertd(&["sync", "--json"]);
    assert_eq!(before.code(), 0, "{}", before.stderr());
    assert_eq!(before.instance("16-main")["outcome"], "unchanged");

    let second = stage.renew();
    let dry = stage.pgcertd(&["sync", "--dry-run", "--json"]);
    assert_eq!(dry.instance("16-main")["outcome"], "would_deploy");
    assert_eq!(stage.cluster.served(), stage.first.fingerprint);

    let done = stage.pgcertd(&["sync", "--json"]);
    assert_eq!(done.code(), 0, "{}", done.stderr());
    assert_eq!(done.instance("16-main")["outcome"], "deployed");
    assert_eq!(stage.cluster.served(), second.fingerprint);
    let seen = status(&world, &stage.config);
    println!("{seen}");
    let text = stage.pgcertd(&["status"]);
    println!("{}", text.stdout());
    println!("{}", stage.pgcertd(&["check"]).stdout());
    assert_eq!(text.code(), 0);
}

#[test]
fn another_server_of_the_row_at_the_configured_address_is_no_refusal() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let neighbours = world.target("neighbour");
    world.place(&stage.first, &neighbours);
    let neighbour = Cluster::build(&world).name("neighbour").tls(&neighbours);
    let neighbour = neighbour.start();
    let address = format!("127.0.0.1:{}", neighbour.port());
    let instance = Instance::for_cluster(&stage.cluster, "pg.example.com").set("address", address);
    let config = Config::new(&world).instance(instance).write();
    let second = stage.renew();

    let done = pgcertd(&world, &config, &["sync", "--json"]);
    assert_eq!(done.instance("16-main")["outcome"], "unverified");
    let problem = done.instance("16-main")["problem"].to_string();
    assert!(problem.contains("leads to another server"), "{problem}");
    assert_eq!(stage.cluster.served(), second.fingerprint);
    assert_eq!(neighbour.served(), stage.first.fingerprint);
    stage.cluster.restart().unwrap();
    assert_eq!(stage.cluster.served(), second.fingerprint);
}
