//! What a deployment of a CA or a CRL alone is called.

use serde_json::json;

use super::gate::{Gate, bring};
use crate::{
    stage::says,
    world::{World, ca::Ca},
};

#[test]
fn a_deployment_of_a_ca_or_a_crl_alone_says_what_is_new() {
    let world = or_skip!(World::new());
    let gate = Gate::new(&world);
    let leaf = gate.stage.first.fingerprint[..6].to_owned();
    bring(&world, "crl.pem", &gate.clients.crl(&[&gate.other.issued]));
    let would = gate.stage.pgcertd(&["sync", "--dry-run"]);
    let line = format!("16-main: new CRL beside pg.example.com {leaf} would be deployed");
    says(would.stdout(), &[&line]);
    let done = gate.stage.pgcertd(&["sync"]);
    let line = format!("16-main: new CRL beside pg.example.com {leaf} deployed, ");
    says(done.stdout(), &[&line]);

    let next = Ca::new(&world, "Next clients");
    gate.admits(&next);
    let row = gate.stage.synced(&[], "deployed", 0);
    assert_eq!(row["changed"], json!(["ca", "crl"]), "{row}");
    assert_eq!(row["fingerprint"], gate.stage.first.fingerprint, "{row}");

    let back = gate.stage.pgcertd(&["rollback", "16-main"]);
    let line = format!("16-main: new CA and CRL beside pg.example.com {leaf} deployed, ");
    says(back.stdout(), &[&line]);
    let held = gate.stage.becomes("held");
    let words = format!("the CA and CRL files beside {leaf} are held");
    says(held["problem"].as_str().unwrap(), &[&words]);

    let row = gate.stage.synced(&["--force"], "deployed", 0);
    assert_eq!(row["changed"], json!(["ca", "crl"]), "{row}");
    // What is there already is not new.
    let row = gate.stage.synced(&["--force"], "deployed", 0);
    assert_eq!(row["changed"], json!([]), "{row}");
    gate.ends();
}
