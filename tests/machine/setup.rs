//! `pgcertd setup` as a new user has it: the package, Debian's own cluster on the snakeoil pair, certbot's lineage.

use crate::{
    acme::{DOMAIN, ROOT},
    machine::Machine,
    postgres::MAIN,
};

const TARGET: &str = "/var/lib/pgcertd/15-main/server.pem";

/// All that a set-up may change of the server and of the config, in one text.
fn sight(machine: &Machine) -> String {
    machine.sh(
        "cd / && for file in /etc/pgcertd/pgcertd.toml /etc/pgcertd/conf.d/* /etc/postgresql/15/main/*.conf \
             /var/lib/postgresql/15/main/postgresql.auto.conf /etc/ssl/certs/ssl-cert-snakeoil.pem \
             /etc/ssl/private/ssl-cert-snakeoil.key; do \
             stat -c '%n %U %a %Y %Z' $file; sha256sum $file; done",
    )
}

#[test]
fn from_apt_install_one_command_leads_to_a_daemon_that_keeps_it_so() {
    let machine = or_skip!(Machine::with_a_certificate());
    machine.set_password(5432);
    let postmaster = machine.number(MAIN, "MainPID");
    let before = sight(&machine);

    let dry = machine.ok(["pgcertd", "setup", "--dry-run", "--require-tls"]);
    println!("{dry}");
    assert_eq!(sight(&machine), before);

    // The unit's daemon is not asked to take a config that it would not run with.
    let done = machine.ok(["pgcertd", "setup", "--yes"]);
    println!("{done}");
    assert!(done.contains("systemctl enable --now pgcertd"), "{done}");
    assert_eq!(machine.served(5432), Ok(machine.live_leaf()));
    let verified = machine.psql_verify_full(5432, DOMAIN, ROOT);
    assert_eq!(verified, Ok("t".to_owned()));
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    machine.wait_well();
    machine.wait_state("15-main", "in_sync");

    let renewed = machine.certbot_renews();
    machine.wait_served(5432, &renewed);
    machine.wait_well();

    // With the daemon at work: back, and forth again.
    let undone = machine.ok(["pgcertd", "setup", "--yes", "--undo", "15-main"]);
    println!("{undone}");
    assert!(
        undone.contains("the daemon has taken the config"),
        "{undone}"
    );
    let shown = machine.sql(5432, "show ssl_cert_file");
    assert_eq!(shown, "/etc/ssl/certs/ssl-cert-snakeoil.pem");
    let again = machine.ok(["pgcertd", "setup", "--yes", "--require-tls"]);
    println!("{again}");
    assert!(again.contains("the daemon has taken the config"), "{again}");
    machine.wait_served(5432, &renewed);
    machine.wait_state("15-main", "in_sync");
    assert_eq!(machine.leaf(TARGET), renewed);
    let renewed = machine.certbot_renews();
    machine.wait_served(5432, &renewed);
    assert_eq!(machine.number(MAIN, "MainPID"), postmaster, "no restart");

    // What setup said is what it did: all but pgcertd's own file is as it was.
    machine.ok(["pgcertd", "setup", "--yes", "--undo", "15-main"]);
    let words = |text: &str| -> Vec<String> {
        let mut lines = text.lines().map(str::to_owned);
        let mut kept = Vec::new();
        while let (Some(_), Some(digest)) = (lines.next(), lines.next()) {
            kept.push(digest);
        }
        kept
    };
    assert_eq!(words(&sight(&machine)), words(&before));
}

/// Another host's client, to pg_hba.conf: an address of this machine that is none of loopback's.
const REMOTE: &str = "192.0.2.7";

#[test]
fn one_command_on_a_fresh_cluster_leaves_no_way_in_without_tls_and_nothing_to_find() {
    let machine = or_skip!(Machine::with_a_certificate());
    machine.set_password(5432);
    machine.add_address(REMOTE);
    machine.sh(&format!(
        "cp {ROOT} /usr/local/share/ca-certificates/pebble.crt
        update-ca-certificates >/dev/null 2>&1
        echo 'host all all 0.0.0.0/0 scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf"
    ));
    machine.configure("main", "listen_addresses = '*'\n");
    machine.ok(["systemctl", "restart", MAIN]);
    let plain = || machine.psql(&format!("host={REMOTE} sslmode=disable"));
    assert_eq!(plain(), Ok("f".to_owned()), "it is let in before");

    let done = machine.ok(["pgcertd", "setup", "--yes", "--require-tls"]);
    println!("{done}");
    let refused = plain().unwrap_err();
    assert!(refused.contains("no encryption"), "{refused}");
    let verified = machine.psql_verify_full(5432, DOMAIN, ROOT);
    assert_eq!(verified, Ok("t".to_owned()));

    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    machine.wait_well();
    let checked = machine.run(["pgcertd", "check"]);
    println!("{}", checked.stdout);
    assert_eq!(checked.code(), 0, "{}", checked.stdout);
    assert!(checked.stdout.contains("all is well"), "{}", checked.stdout);
}
