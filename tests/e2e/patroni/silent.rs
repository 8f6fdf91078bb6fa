//! A Patroni whose REST API answers no more where it did, for another reason than the certificate.

use std::fs;

use toml::Value;

use super::issued;
use crate::{
    stage::{HOST, problem, says},
    world::{
        World,
        config::{Config, Instance},
        daemon::{eventually_state, pgcertd},
        patroni::{Bed, Settings},
        port::Port,
        postgres::PATRONI,
    },
};

#[test]
fn a_patroni_that_ends_or_listens_elsewhere_has_refused_nothing() {
    let world = or_skip!(World::with_debians(PATRONI));
    let (ca, first, mut lineage) = issued(&world);
    let targets = ["n1", "n2"].map(|name| world.target(name));
    for target in &targets {
        world.place(&first, target);
    }
    let mut bed = Bed::start(&world, |name| Settings {
        restapi: vec![("certfile", world.target(name).display().to_string())],
        ..Settings::default()
    });
    // What is run in the place of the signal: one Patroni is gone after it, the other has moved.
    let elsewhere = Port::claim();
    let [leader, replica] = &bed.nodes;
    let ended = format!("kill -9 {}", leader.pid());
    let file = replica.config_file().display();
    let moved = format!(
        "sed -i 's/{}/{}/' {file} && kill -HUP {}",
        replica.rest_address(),
        elsewhere.address(),
        replica.pid()
    );
    let instance = |index: usize, command: &str| {
        let node = &bed.nodes[index];
        Instance::of_patroni(node.name(), HOST, node.config_file())
            .set("verify_timeout", "8s")
            .set("reload", "command")
            .set(
                "reload_command",
                ["sh", "-c", command].map(Value::from).to_vec(),
            )
    };
    let config = Config::new(&world)
        .watch("resync", "1h")
        .instance(instance(0, &ended))
        .instance(instance(1, &moved))
        .write();
    eventually_state(&world, &config, "n1", "in_sync");
    eventually_state(&world, &config, "n2", "in_sync");

    let second = ca.issue(&[HOST]);
    lineage.renew(&second);
    let done = pgcertd(&world, &config, &["sync", "--json"]);
    let row = done.instance("n1");
    assert_eq!(row["outcome"], "installed", "{row}");
    says(&problem(&row), &["not running", "when it starts"]);
    let row = done.instance("n2");
    assert_eq!(row["outcome"], "deployed", "{row}");
    for target in &targets {
        assert_eq!(fs::read_to_string(target).unwrap(), second.combined_pem());
    }
    eventually_state(&world, &config, "n1", "not_running");
    eventually_state(&world, &config, "n2", "in_sync");

    bed.nodes[0].kill9();
    bed.nodes[0].start();
    bed.nodes[0].rest_serves(&second.fingerprint);
    eventually_state(&world, &config, "n1", "in_sync");
}
