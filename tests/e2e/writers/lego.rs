//! lego: all lineages in one directory, written over where they lie.

use std::process::Command;

use super::{Scene, Source};
use crate::{
    stage::HOST,
    world::{
        SOON, World,
        acme::Pebble,
        command,
        process::run,
        slow_motion::{SlowMotion, Steps},
    },
};

const OTHER: &str = "www.example.com";

/// Runs lego for one name: `run` to issue, `renew` to renew.
#[track_caller]
fn lego(world: &World, pebble: &Pebble, mut lego: Command, name: &str, args: &[&str]) {
    lego.arg("--path")
        .arg(world.path().join("lego"))
        .args(["--server", &pebble.url()])
        .args(["--email", "hostmaster@example.com", "--accept-tos"])
        .args(["--http", "--http.port"])
        .arg(format!("127.0.0.1:{}", pebble.challenge_port()))
        .args(["--domains", name])
        .args(args)
        .env("LEGO_CA_CERTIFICATES", pebble.endpoint_root());
    run(&mut lego, SOON * 2).result().unwrap();
}

const RENEW: [&str; 4] = ["renew", "--days", "100000", "--no-random-sleep"];

#[test]
fn lineages_that_lego_keeps_in_one_directory_reach_each_the_servers_that_use_it() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start_trusting(&world);
    for name in [HOST, OTHER] {
        lego(&world, &pebble, command("lego"), name, &["run"]);
    }
    let directory = world.path().join("lego/certificates");
    let source =
        |name: &str| Source::named(&directory, &format!("{name}.crt"), &format!("{name}.key"));
    let sources = vec![source(HOST), source(HOST), source(OTHER)];
    let files = [sources[0].paths(), sources[2].paths()].concat();
    let slow = SlowMotion::at(&world, Steps::Contents, &files);
    let mut scene = Scene::with(&world, sources, |config| config);

    lego(&world, &pebble, slow.command("lego"), HOST, &RENEW);
    scene.serves(0, "the first lineage was renewed");
    scene.serves(1, "and another server uses it");
    assert!(slow.pauses() >= 6, "{}", slow.pauses());
    scene.has_awaited(2);
    assert_eq!(scene.still(), Ok(()));

    lego(&world, &pebble, command("lego"), OTHER, &RENEW);
    scene.serves(2, "the other lineage was renewed");
    assert_eq!(scene.still(), Ok(()));
    scene.ends();
}
