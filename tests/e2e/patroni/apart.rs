//! A Patroni with mounts or a network of its own, as in a container.

use std::{fs, net::TcpStream};

use super::{Stage, weighs};
use crate::{
    stage::{problem, says},
    world::{
        SOON, World, command, daemon::Launch, eventually, network::started_in_own_network,
        patroni::Settings, postgres::PATRONI, process::Process,
    },
};

#[test]
fn a_file_that_patroni_sees_by_itself_is_refused_until_it_names_the_one_in_its_directory() {
    let world = or_skip!(World::with_debians(PATRONI));
    let place = world.directory("mounted").join("api.pem");
    fs::write(&place, "").unwrap();
    let mut stage = Stage::new(&world, |target| Settings {
        restapi: vec![("certfile", place.display().to_string())],
        alone: Some((target.to_owned(), place.clone())),
        ..Settings::default()
    });
    stage.becomes("in_sync");
    let remedy = [
        "as a single file",
        place.to_str().unwrap(),
        "mount its directory there instead, set restapi.certfile and restapi.keyfile",
    ];
    weighs(stage.checked("single_file"), "problem", &remedy);

    let second = stage.renew();
    says(&problem(&stage.done(&["sync"], "failed", 1)), &remedy);
    says(&problem(&stage.becomes("out_of_date")), &remedy);
    let installed = fs::read_to_string(&stage.target).unwrap();
    assert_eq!(installed, stage.first.combined_pem());
    stage.keeps(&stage.first);
    assert_eq!(stage.solo.node.reloads(), 0);

    stage.solo.node.kill9();
    stage.solo.node.share_mounts();
    let target = stage.target.to_str().unwrap();
    stage.solo.node.edit(place.to_str().unwrap(), target);
    stage.solo.node.start();
    stage.solo.node.rest_serves(&stage.first.fingerprint);
    weighs(stage.checked("single_file"), "good", &[]);
    stage.done(&["sync"], "deployed", 0);
    stage.serves(&second);
}

#[test]
fn a_patroni_in_a_network_of_its_own_needs_an_address_and_nobody_is_looked_at_in_its_place() {
    let world = or_skip!(World::with_debians(PATRONI));
    let mut stage = started_in_own_network(|| Stage::new(&world, Settings::with_tls));
    let second = stage.renew();
    // What listens at the same port here serves the very certificate that is due.
    let file = world.target("namesake");
    world.place(&second, &file);
    let address = stage.solo.node.rest_address();
    let mut namesake = command("openssl");
    namesake.args(["s_server", "-quiet", "-www", "-accept", &address]);
    namesake.arg("-cert").arg(&file).arg("-key").arg(&file);
    let _namesake = Process::spawn(namesake.stdin(std::process::Stdio::null()));
    eventually(SOON, "the namesake listens", || {
        TcpStream::connect(&address).is_ok()
    });
    stage.keeps(&second);

    let remedy = ["a network namespace of its own", "set address"];
    let told = problem(&stage.done(&["sync"], "failed", 1));
    says(&told, &remedy);
    // That would help nothing.
    assert!(!told.contains("restart"), "{told}");
    says(&problem(&stage.becomes("unverified")), &remedy);
    weighs(stage.checked("served"), "problem", &remedy);
    // Nor by who may not look at the namespace itself.
    let blind = Launch::new(&world).without_ptrace();
    weighs(stage.checked_by(&blind, "served"), "problem", &remedy);
    assert_eq!(stage.solo.node.reloads(), 0);
}
