//! A server's own program that cannot be run, or does not answer, has said nothing.

use super::{Fault, says};
use crate::{stage::Stage, world::World};

#[test]
fn check_does_not_call_well_what_it_could_not_ask() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    stage.is_well("server_files");
    let postgres = stage.cluster.program("postgres");
    let root = stage.ca.root().display().to_string();
    for (errno, said) in [
        ("ENOMEM", "Cannot allocate memory"),
        ("EACCES", "Permission denied"),
        ("EIO", "Input/output error"),
    ] {
        let fault = Fault::in_call("execve", errno, said).at(postgres.to_str().unwrap());
        let launch = fault.launch(&world).env("SSL_CERT_FILE", &root);
        let told = launch.run(&stage.config, &["check", "--json"]);
        let findings = told.json()["instances"][0]["findings"].clone();
        println!("{errno}: {findings}");
        assert_eq!(told.code(), 1, "{errno}");
        for id in ["server_files", "restart"] {
            let all = findings.as_array().unwrap();
            let found = all.iter().find(|finding| finding["id"] == id).unwrap();
            assert_eq!(found["weight"], "problem", "{found}");
            says(found["seen"].as_str().unwrap(), &["not known", said]);
        }
    }
    stage.is_well("restart");
}
