//! What nobody has tried goes back as a whole, and also where a crash has left half of it.

use super::*;

/// Runs `sync`, killed on its way into the `nth` of these calls.
fn killed(gate: &Gate<'_>, call: &str, nth: u32) {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let done = Launch::new(gate.world())
        .strace(&["-e", &trace, "-e", &inject])
        .run(&gate.stage.config, &["sync"]);
    assert_eq!(done.code(), -9, "{done:?}");
}

fn goes_back_whole(call: &str, nth: u32) {
    let world = or_skip!(World::new());
    let mut gate = Gate::new(&world);
    let before = gate.installed();
    let next = Ca::new(&world, "Next clients");
    bring(&world, "crl.pem", &(gate.clients.crl(&[]) + &next.crl(&[])));
    let ca = gate.clients.root_pem() + &next.root_pem();
    bring(&world, "ca.pem", &ca);
    let second = gate.stage.renew();
    killed(&gate, call, nth);
    // The CA file is in place, whether or not the certificate is.
    assert_eq!(gate.installed()[2], ca);
    gate.stage.cluster.stop();

    let row = gate.stage.synced(&[], "taken_back", 0);
    says(&problem(&row), &[&second.fingerprint[..6]]);
    assert_eq!(gate.installed(), before);
    gate.stage.cluster.start().unwrap();
    gate.lets_in(&gate.one);
    gate.stage.synced(&[], "deployed", 0);
    let newcomer = Client::new(&world, &next, "newcomer");
    gate.lets_in(&newcomer);
    gate.stage.ends_serving(&second);
}

#[test]
fn a_certificate_that_nobody_has_tried_goes_back_with_its_ca_and_crl() {
    goes_back_whole("pidfd_send_signal", 1);
}

#[test]
fn a_ca_that_a_crash_left_without_its_certificate_goes_back() {
    // On trial, three files of the previous bundle, the reload that is due, CRL, CA.
    goes_back_whole("renameat", 8);
}
