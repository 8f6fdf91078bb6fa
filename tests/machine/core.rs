//! The core once more, as the unit runs: not as root, in its sandbox, under systemd.

use crate::{
    postgres::MAIN,
    stand::{NAME, PORT, Stand, TARGET},
    world::{SOON, eventually, faults::StrictOpenssl},
};

/// Nothing in the rules of systemd hinders a signal of the same user to this one; it dies of SIGHUP.
const BYSTANDER: &str = "bystander";

const PID_FILE: &str = "/var/lib/postgresql/15/main/postmaster.pid";

#[test]
fn what_postgres_refuses_is_rolled_back_and_a_stale_number_is_left_alone() {
    let mut stand = or_skip!(Stand::boot());
    postgres_becomes_strict(&stand);
    stand.machine.set_password(PORT);
    let mut session = stand.machine.session(PORT);
    a_refusal_is_rolled_back(&mut stand);
    let issued = stand.renewal_is_served();
    assert_eq!(stand.machine.leaf(TARGET), issued.fingerprint);
    assert!(!stand.machine.exists("/var/lib/pgcertd/15-main/held.json"));
    assert_eq!(session.lives(), Ok(()));
    drop(session);
    the_number_of_another_process_is_left_alone(&mut stand);
}

/// Its OpenSSL takes no RSA of 2048 bits, which pgcertd's own checks let pass.
fn postgres_becomes_strict(stand: &Stand) {
    let (machine, strict) = (&stand.machine, StrictOpenssl::new(&stand.world));
    let (conf, group) = ("/etc/postgresql/strict.cnf", "/etc/postgresql/dh.pem");
    machine.copy_in(&strict.conf, conf, 0o644);
    machine.copy_in(&strict.dh_params, group, 0o644);
    machine.append(
        "/etc/postgresql/15/main/environment",
        &format!("OPENSSL_CONF = '{conf}'\n"),
    );
    machine.configure("main", &format!("ssl_dh_params_file = '{group}'\n"));
    stand.restart_postgres();
    stand.serves(&stand.issued);
    machine.wait_well();
}

fn a_refusal_is_rolled_back(stand: &mut Stand) {
    let good = stand.issued.clone();
    let end = stand.machine.journal_end();
    let weak = stand.renew_weak();
    let told = stand
        .machine
        .wait_entry_after(&end, "pgcertd", "rolled back");
    assert_eq!(told["PGCERTD_OUTCOME"], "rolled_back", "{told}");
    assert_eq!(told["PGCERTD_FINGERPRINT"], *weak.fingerprint, "{told}");
    assert_eq!(told["PGCERTD_INSTANCE"], NAME, "{told}");
    stand.becomes(NAME, "rejected", &["sync --force", "log"]);
    stand.serves(&good);
    let machine = &stand.machine;
    assert_eq!(machine.leaf(TARGET), good.fingerprint);
    assert_eq!(
        machine.sh(&format!("stat -c '%U %a' {TARGET}")),
        "postgres 600"
    );
    let status = machine.run(["pgcertd", "status"]);
    assert_eq!(status.code(), 1, "{}", status.stdout);
}

fn the_number_of_another_process_is_left_alone(stand: &mut Stand) {
    let machine = &stand.machine;
    machine.ok(["systemctl", "stop", MAIN]);
    machine.sh(&format!(
        "systemd-run --quiet --unit={BYSTANDER} --property=User=postgres sleep infinity
        printf '%s\\n' $(systemctl show --value --property=MainPID {BYSTANDER}) \
            /var/lib/postgresql/15/main 1790000000 {PORT} /var/run/postgresql localhost \
            '  5432001         3' 'ready   ' >{PID_FILE}
        chown postgres: {PID_FILE}
        chmod 600 {PID_FILE}"
    ));
    let number = machine.number(BYSTANDER, "MainPID");
    let issued = stand.renew();
    let words = ["left over", "not touched", &number.to_string()];
    stand.becomes(NAME, "not_running", &words);
    let machine = &stand.machine;
    let synced = machine.run(["pgcertd", "sync", "--force"]);
    assert_eq!(synced.code(), 0, "{}{}", synced.stdout, synced.stderr);
    assert_eq!(machine.leaf(TARGET), issued.fingerprint);
    assert_eq!(machine.number(BYSTANDER, "MainPID"), number);
    assert!(machine.is_active(BYSTANDER), "the bystander was signalled");

    machine.ok(["rm", PID_FILE]);
    machine.ok(["systemctl", "start", MAIN]);
    stand.serves(&issued);
    machine.wait_well();
    eventually(SOON, "the daemon sees the server", || {
        stand
            .view(NAME)
            .is_ok_and(|seen| seen["state"] == "in_sync")
    });
    stand.renewal_is_served();
    assert!(stand.machine.is_active(BYSTANDER));
}
