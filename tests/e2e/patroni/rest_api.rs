//! The REST APIs of a leader and a replica: what Patroni loads, and what it would lose its API to.

use std::fs;

use rustix::process::Signal;

use super::{API, issued};
use crate::{
    stage::{HOST, says},
    world::{
        SOON, World,
        ca::{Ca, Issued, KeyType, Options},
        config::{Config, Instance},
        daemon::{Launch, eventually_state, pgcertd},
        eventually,
        lineage::Lineage,
        patroni::{Bed, Node, Settings},
        postgres::PATRONI,
    },
};

/// That of the other, which speaks plain HTTP at first.
const REPLICA: &str = "replica";

/// Takes in the REST API of a node that speaks plain HTTP as the program says it, then has it demand
/// certificates of its clients.
fn takes_in(world: &World, config: &Config, node: &Node, ca: &Ca, lineage: &mut Lineage) -> Issued {
    let target = world.target(REPLICA);
    let synced = |outcome: &str| {
        let done = pgcertd(world, config, &["sync", "--json", "--force", REPLICA]);
        let row = done.instance(REPLICA);
        assert_eq!(row["outcome"], outcome, "{row}");
        row
    };
    let row = synced("installed");
    let seen = eventually_state(world, config, REPLICA, "not_used");
    for told in [&row, &seen] {
        let problem = told["problem"].as_str().unwrap();
        says(problem, &["restapi.certfile is not set", "patroni.yml"]);
    }
    assert!(node.rest_peer(None).is_err());

    let named = format!("restapi:\n  certfile: {}\n", target.display());
    node.edit("restapi:\n", &named);
    // The file names it, and it is not served until the reload.
    eventually_state(world, config, REPLICA, "not_used");
    synced("deployed");
    let checked = pgcertd(world, config, &["check", "--json"]);
    let version = format!("Patroni {}.", node.major());
    says(checked.stdout(), &[&version, "TLS is on"]);

    let root = ca.root().display();
    let demanding = format!("restapi:\n  verify_client: required\n  cafile: {root}\n");
    node.edit("restapi:\n", &demanding);
    let [_, last] = [(); 2].map(|()| {
        let issued = ca.issue(&[HOST]);
        lineage.renew(&issued);
        synced("deployed");
        assert_eq!(node.rest_peer(None), Ok(issued.fingerprint.clone()));
        issued
    });
    last
}

#[test]
fn the_rest_api_gets_a_renewal_in_patronis_next_loop_and_what_it_would_not_load_never() {
    let world = or_skip!(World::with_debians(PATRONI));
    let (ca, first, mut lineage) = issued(&world);
    let target = world.target(API);
    world.place(&first, &target);
    let mut bed = Bed::start(&world, |name| Settings {
        restapi: match name {
            // At this level OpenSSL takes no RSA key of 2048 bits.
            "n1" => vec![
                ("certfile", target.display().to_string()),
                ("ciphers", "DEFAULT@SECLEVEL=3".into()),
            ],
            _ => Vec::new(),
        },
        ..Settings::default()
    });
    let config = Config::new(&world)
        .watch("resync", "1h")
        .instance(
            Instance::of_patroni(API, HOST, bed.nodes[0].config_file()).set("verify_timeout", "8s"),
        )
        .instance(
            Instance::of_patroni(REPLICA, HOST, bed.nodes[1].config_file())
                .set("verify_timeout", "8s"),
        )
        .write();
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
    daemon.ready();
    eventually_state(&world, &config, API, "in_sync");
    let members = bed.nodes[0].members();

    let second = ca.issue(&[HOST]);
    lineage.renew(&second);
    bed.nodes[0].rest_serves(&second.fingerprint);
    eventually_state(&world, &config, API, "in_sync");

    // Patroni would lose its REST API to this, and is not asked.
    let weak = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    lineage.renew(&ca.issue_with(&[HOST], &weak));
    let seen = eventually_state(&world, &config, API, "rejected");
    says(
        seen["problem"].as_str().unwrap(),
        &["was not asked", "KEY_TOO_SMALL"],
    );
    assert_eq!(bed.nodes[0].rest_peer(None), Ok(second.fingerprint.clone()));
    assert_eq!(fs::read_to_string(&target).unwrap(), second.combined_pem());
    let third = ca.issue(&[HOST]);
    lineage.renew(&third);
    bed.nodes[0].rest_serves(&third.fingerprint);
    eventually_state(&world, &config, API, "in_sync");
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(bed.nodes[0].members(), members);
    let log = bed.nodes[0].log();
    for fault in ["Traceback", "Exception", "Failed to reload"] {
        assert!(!log.contains(fault), "{fault}");
    }

    let last = takes_in(&world, &config, &bed.nodes[1], &ca, &mut lineage);
    assert_eq!(bed.nodes[0].members(), members);

    // Somebody else has it load what it cannot: a second signal would hold Patroni up for ever.
    let other = ca.issue(&[HOST]);
    fs::write(&target, other.fullchain_pem() + &third.key_pem).unwrap();
    assert!(bed.nodes[0].signal(Signal::HUP));
    eventually(SOON, "the REST API is lost", || {
        bed.nodes[0].log().contains("Failed to reload")
    });
    let done = pgcertd(&world, &config, &["sync", "--json", "--force"]);
    says(
        done.stdout(),
        &["was not asked to reload", "patronictl pause"],
    );
    let seen = bed.nodes[0].log().len();
    eventually(SOON, "Patroni goes on leading", || {
        bed.nodes[0].log()[seen..].contains("the leader with the lock")
    });
    assert_eq!(bed.nodes[0].log().matches("Failed to reload").count(), 1);

    // The sync has put the newest in place, so that a Patroni which starts now has its REST API.
    bed.nodes[0].kill9();
    let seen = eventually_state(&world, &config, API, "not_running");
    says(
        seen["problem"].as_str().unwrap(),
        &["no Patroni runs", "systemctl start patroni"],
    );
    bed.nodes[0].start();
    bed.nodes[0].rest_serves(&last.fingerprint);
    eventually_state(&world, &config, API, "in_sync");
}
