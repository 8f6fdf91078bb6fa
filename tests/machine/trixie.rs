//! Debian 13 as it comes, with its PostgreSQL 17, and Miniflux, whose connections verify everything.
//!
//! `make trixie` runs it: its root takes as long to make as all other machines together.

use crate::{
    acme::{DOMAIN, ROOT},
    machine::{LATER, Machine},
    world::{SOON, eventually},
};

const PASSWORD: &str = "for-tests-alone";

/// The backends of Miniflux that are encrypted, by their numbers, and how many are not.
fn sessions(machine: &Machine) -> (Vec<String>, String) {
    let of = |encrypted: &str| {
        machine.sql(
            5432,
            &format!(
                "SELECT pid FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                 WHERE usename = 'miniflux' AND {encrypted} ORDER BY backend_start, pid"
            ),
        )
    };
    (
        of("ssl").lines().map(str::to_owned).collect(),
        of("NOT ssl"),
    )
}

/// Miniflux asks its database.
#[track_caller]
fn answers(machine: &Machine) {
    let ask = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "http://127.0.0.1:8080/healthcheck",
    ];
    eventually(SOON, "Miniflux answers", || machine.run(ask).result());
}

#[test]
#[ignore = "make trixie: it fetches another Debian"]
fn on_debian_13_miniflux_verifies_everything_and_keeps_its_session_through_three_renewals() {
    let machine = or_skip!(Machine::boot_debian("13"));
    machine.install_deb();
    machine.start_pebble();
    machine.certbot_issues();
    machine.name(&[DOMAIN]);
    println!("{}", machine.ok(["pgcertd", "setup", "--yes"]));
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    machine.wait_well();
    machine.wait_state("17-main", "in_sync");

    machine.sql(
        5432,
        &format!("CREATE ROLE miniflux LOGIN PASSWORD '{PASSWORD}'"),
    );
    machine.sql(5432, "CREATE DATABASE miniflux OWNER miniflux");
    machine.write(
        "/etc/miniflux/miniflux.conf",
        format!(
            "DATABASE_URL=postgres://miniflux:{PASSWORD}@{DOMAIN}/miniflux?sslmode=verify-full&sslrootcert=/etc/ssl/root.pem
DATABASE_CONNECTION_LIFETIME=60
LISTEN_ADDR=127.0.0.1:8080
"
        ),
    );
    machine.sh(&format!("install -m 0644 {ROOT} /etc/ssl/root.pem"));
    let migrated = machine.run_within(
        LATER,
        ["miniflux", "-c", "/etc/miniflux/miniflux.conf", "-migrate"],
    );
    assert_eq!(migrated.code(), 0, "{migrated:?}");
    machine.ok(["systemctl", "restart", "miniflux"]);
    answers(&machine);
    let (begun, plain) = sessions(&machine);
    assert!(!begun.is_empty() && plain.is_empty(), "{begun:?} {plain}");

    for _ in 0..3 {
        let renewed = machine.certbot_renews();
        machine.wait_served(5432, &renewed);
        answers(&machine);
        let (now, _) = sessions(&machine);
        assert!(now.contains(&begun[0]), "{now:?} instead of {begun:?}");
    }
    machine.wait_well();
    // What connects from now on verifies the newest.
    machine.ok(["systemctl", "restart", "miniflux"]);
    answers(&machine);
    let (again, plain) = sessions(&machine);
    assert!(
        !again.contains(&begun[0]) && plain.is_empty(),
        "{again:?} {plain}"
    );
    // Another name is refused.
    machine.name(&[DOMAIN, "other.example.com"]);
    machine.sh(&format!(
        "sed -i 's/@{DOMAIN}/@other.example.com/' /etc/miniflux/miniflux.conf"
    ));
    let refused = machine.run(["miniflux", "-c", "/etc/miniflux/miniflux.conf", "-migrate"]);
    assert_ne!(refused.code(), 0);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("certificate is valid for"), "{said}");
}
