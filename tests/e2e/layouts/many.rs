//! Twenty servers with one certificate: what is common stands once, and a bad one is told from the rest.

use std::thread;

use serde_json::Value;

use crate::{
    stage::{HOST, problem, says},
    world::{
        SOON, World,
        ca::{Ca, Issued, KeyType, Options},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Launch, pgcertd, status},
        eventually,
        inventory::Inventory,
        lineage::Lineage,
    },
};

const SERVERS: usize = 20;

/// The one whose OpenSSL takes no RSA key of 2048 bits.
const BAD: &str = "server-13";

fn name(number: usize) -> String {
    format!("server-{number:02}")
}

/// Starts them, some at a time; all serve `issued`.
fn started(world: &World, issued: &Issued) -> Vec<Cluster> {
    let start = |number| {
        let name = name(number);
        let target = world.target(&name);
        world.place(issued, &target);
        let cluster = Cluster::build(world)
            .name(&name)
            .tls(&target)
            .setting("shared_buffers", "1MB")
            .setting("max_connections", "10")
            .setting("max_wal_senders", "0");
        if name == BAD {
            cluster.strict().start()
        } else {
            cluster.start()
        }
    };
    let numbers: Vec<usize> = (1..=SERVERS).collect();
    thread::scope(|scope| {
        let parts: Vec<_> = numbers
            .chunks(SERVERS / 4)
            .map(|part| scope.spawn(move || part.iter().copied().map(start).collect::<Vec<_>>()))
            .collect();
        let mut clusters = Vec::new();
        for part in parts {
            clusters.extend(part.join().unwrap());
        }
        clusters
    })
}

/// What is common in `[defaults]`, and three lines for each.
fn config(world: &World, clusters: &[Cluster], mode: &str) -> Config {
    let config = Config::new(world)
        .watch("resync", "1h")
        .defaults("server_names", vec![HOST])
        .defaults("verify_timeout", "20s")
        .defaults("mode", mode);
    let instances = clusters
        .iter()
        .map(|cluster| Instance::for_cluster(cluster, HOST));
    instances.fold(config, Config::instance).write()
}

/// The names of the instances in each state that is not `expected`.
fn others(seen: &Value, expected: &str) -> Vec<String> {
    let instances = seen["instances"].as_array().unwrap();
    assert_eq!(instances.len(), SERVERS);
    let odd = instances
        .iter()
        .filter(|instance| instance["state"] != expected);
    odd.map(|instance| format!("{} {}", instance["name"], instance["state"]).replace('"', ""))
        .collect()
}

#[track_caller]
fn eventually_others(world: &World, config: &Config, expected: &[&str]) -> Value {
    eventually(SOON * 2, &format!("all in_sync but {expected:?}"), || {
        let seen = status(world, config);
        let odd = others(&seen, "in_sync");
        if odd == expected {
            Ok(seen)
        } else {
            Err(odd.join(", "))
        }
    })
}

#[test]
fn twenty_servers_are_observed_then_kept_and_the_bad_one_among_them_is_shown() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut lineage = Lineage::new(&world, HOST);
    let first = ca.issue(&[HOST]);
    lineage.renew(&first);
    let mut clusters = started(&world, &first);
    let observing = config(&world, &clusters, "observe");
    let checked = pgcertd(&world, &observing, &["check"]);
    assert_eq!(checked.code(), 0, "{}", checked.stdout());
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&observing);
    daemon.ready();
    eventually_others(&world, &observing, &[]);
    let first = are_observed(&world, &observing, &clusters, &ca, &mut lineage);
    // One changed line, and all are kept.
    let config = config(&world, &clusters, "manage");
    daemon.hangup();
    eventually_others(&world, &config, &[]);

    let rsa = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    let begun = daemon.log().len();
    let second = ca.issue_with(&[HOST], &rsa);
    lineage.renew(&second);
    let seen = eventually_others(&world, &config, &[&format!("{BAD} rejected")]);
    for cluster in &clusters {
        let is = if cluster.name() == BAD {
            &first
        } else {
            &second
        };
        assert_eq!(cluster.served(), is.fingerprint, "{}", cluster.name());
    }
    let rows = seen["instances"].as_array().unwrap();
    let bad = rows
        .iter()
        .find(|instance| instance["name"] == BAD)
        .unwrap();
    says(&problem(bad), &[&format!("sync --force {BAD}"), "log"]);
    is_marked(&world, &config, &daemon.log()[begun..]);

    // One that does not answer at all keeps no other waiting.
    let frozen = clusters
        .iter_mut()
        .find(|cluster| cluster.name() == name(7))
        .unwrap();
    frozen.freeze();
    let third = ca.issue(&[HOST]);
    lineage.renew(&third);
    for cluster in clusters.iter().filter(|cluster| cluster.name() != name(7)) {
        eventually(SOON, cluster.name(), || {
            cluster
                .peer()
                .is_ok_and(|peer| peer.fingerprint == third.fingerprint)
        });
    }
    let frozen = clusters
        .iter_mut()
        .find(|cluster| cluster.name() == name(7))
        .unwrap();
    frozen.thaw();
    eventually_others(&world, &config, &[]);
    assert_eq!(daemon.stop().code(), Some(0));
    let bad = clusters
        .iter_mut()
        .find(|cluster| cluster.name() == BAD)
        .unwrap();
    bad.restart().unwrap();
    assert_eq!(bad.served(), third.fingerprint);
}

/// A renewal is reported and nothing else: files and servers are as they were. Gives what was renewed.
fn are_observed(
    world: &World,
    config: &Config,
    clusters: &[Cluster],
    ca: &Ca,
    lineage: &mut Lineage,
) -> Issued {
    let before: Vec<String> = clusters.iter().map(Cluster::served).collect();
    let inventory = Inventory::under([config.state_directory()]);
    let renewed = ca.issue(&[HOST]);
    lineage.renew(&renewed);
    eventually(SOON * 2, "all are out of date", || {
        let odd = others(&status(world, config), "out_of_date");
        if odd.is_empty() {
            Ok(())
        } else {
            Err(odd.join(", "))
        }
    });
    let after: Vec<String> = clusters.iter().map(Cluster::served).collect();
    assert_eq!(after, before);
    inventory.is_untouched();
    let mut logs = clusters.iter().map(Cluster::log);
    assert!(!logs.any(|log| log.contains("received SIGHUP")));
    renewed
}

/// A person finds the one: it is marked, it is counted, and it alone is explained.
#[track_caller]
fn is_marked(world: &World, config: &Config, log: &str) {
    let shown = pgcertd(world, config, &["status"]);
    println!("{}", shown.stdout());
    assert_eq!(shown.code(), 1);
    let marked: Vec<&str> = shown
        .stdout()
        .lines()
        .filter(|line| line.starts_with('!'))
        .collect();
    assert!(marked.iter().all(|line| line.contains(BAD)), "{marked:?}");
    let row = marked.iter().filter(|line| line.contains("rejected"));
    assert_eq!(row.count(), 1, "{marked:?}");
    says(shown.stdout(), &["1 problem"]);
    let good = shown.stdout().matches("in_sync").count();
    assert_eq!(good, SERVERS - 1);
    let failed: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert!(failed.iter().all(|line| line.contains(BAD)), "{failed:?}");
}
