//! The package's later life: an upgrade, and its end.

use crate::{
    machine::Machine,
    postgres::{CONFIG, MAIN},
    server::{Layout, Server},
};

/// What a dpkg does that may not ask: as it does where the user wants to keep a changed file.
const KEEP: [&str; 2] = [
    "-oDpkg::Options::=--force-confdef",
    "-oDpkg::Options::=--force-confold",
];

const LOG: &str = "/var/log/postgresql/postgresql-15-main.log";

/// What of a server a reload or a restart would change.
#[derive(Debug, PartialEq, Eq)]
struct Undisturbed {
    postmaster: u64,
    loaded: String,
    hangups: usize,
}

impl Undisturbed {
    fn on(machine: &Machine) -> Self {
        Self {
            postmaster: machine.number(MAIN, "MainPID"),
            loaded: machine.sql(5432, "SELECT pg_conf_load_time()"),
            hangups: machine.read(LOG).matches("received SIGHUP").count(),
        }
    }
}

#[test]
fn an_upgrade_disturbs_no_server_and_a_purge_leaves_what_it_needs() {
    let (machine, mut server) = or_skip!(Server::at_work(Layout::OneFile));
    let leaf = server.renew(&machine);
    machine.wait_served(server.port(), &leaf);
    machine.wait_well();
    apt_upgrades_under_a_server_that_notices_nothing(&machine);
    let leaf = server.renew(&machine);
    machine.wait_served(server.port(), &leaf);
    let unnamed = a_server_that_uses_other_files(&machine);
    apt_purges_and_leaves_the_file_that_is_named(&machine, &server, &unnamed);
    machine.ok(["systemctl", "restart", MAIN]);
    assert_eq!(machine.served(server.port()), Ok(leaf));
}

fn apt_upgrades_under_a_server_that_notices_nothing(machine: &Machine) {
    let config = machine.read(CONFIG);
    let before = Undisturbed::on(machine);
    assert!(before.hangups > 0, "the renewal reloaded it: {before:?}");
    let daemon = machine.number("pgcertd", "MainPID");
    let version = machine.offer_upgrade();
    machine.apt(&[KEEP.as_slice(), &["upgrade"]].concat());
    let installed = ["dpkg-query", "--show", "--showformat=${Version}", "pgcertd"];
    assert_eq!(machine.ok(installed), version);
    assert_eq!(machine.read(CONFIG), config);
    assert!(machine.is_active("pgcertd"));
    let new = machine.number("pgcertd", "MainPID");
    assert_ne!(new, daemon);
    assert_eq!(
        machine.ok(["readlink", &format!("/proc/{new}/exe")]),
        "/usr/bin/pgcertd"
    );
    machine.wait_state("15-main", "in_sync");
    machine.wait_well();
    assert_eq!(Undisturbed::on(machine), before);
}

/// A second server, for which a file was installed that its configuration names no more.
fn a_server_that_uses_other_files(machine: &Machine) -> Server {
    let reports = Server::reports(machine);
    machine.append(CONFIG, &reports.instance());
    machine.ok(["systemctl", "reload", "pgcertd"]);
    reports.start(machine);
    machine.wait_well();
    let (file, _) = reports.targets();
    machine.sh(&format!(
        "sed -i 's#{file}#/etc/ssl/other.pem#' /etc/postgresql/15/reports/postgresql.conf"
    ));
    reports
}

fn apt_purges_and_leaves_the_file_that_is_named(
    machine: &Machine,
    server: &Server,
    unnamed: &Server,
) {
    let (named, _) = server.targets();
    let (unnamed, _) = unnamed.targets();
    assert!(machine.exists(&unnamed));
    let dates = [
        "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &named,
    ];
    let end = machine.ok(["openssl"].into_iter().chain(dates));
    let day = end
        .trim_start_matches("notAfter=")
        .split(' ')
        .next()
        .unwrap();

    let said = machine.apt(&["purge", "pgcertd"]);

    let told: Vec<&str> = said.lines().filter(|line| line.contains(&named)).collect();
    assert!(
        told.iter()
            .any(|line| line.contains(&format!("until {day}"))),
        "{day}:\n{said}"
    );
    assert!(machine.exists(&named), "{said}");
    for gone in [
        &unnamed,
        "/usr/bin/pgcertd",
        "/etc/pgcertd",
        "/run/pgcertd",
        "/etc/systemd/system/multi-user.target.wants/pgcertd.service",
        "/lib/systemd/system/pgcertd.service",
        "/lib/systemd/system/postgresql@.service.d",
    ] {
        assert!(!machine.exists(gone), "{gone} is left:\n{said}");
    }
    assert_eq!(machine.property("pgcertd", "LoadState"), "not-found");
}
