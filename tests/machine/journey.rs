//! The way of a new user, from `apt install` to the first renewals, as README.md tells it.

use pgcertd::testing::report::EventKind;

use crate::{
    acme::{DOMAIN, ROOT},
    machine::{Machine, message},
    postgres::{CONFIG, MAIN},
    server::Server,
    world::{SOON, eventually},
};

const TARGET: &str = "/var/lib/pgcertd/15-main/server.pem";

#[test]
fn a_new_user_comes_to_renewals_that_are_served() {
    let machine = or_skip!(Machine::boot());
    apt_installs_and_starts_nothing(&machine);
    certbot_gets_a_certificate_that_only_root_can_read(&machine);
    the_config_names_the_server(&machine);
    the_daemon_is_enabled_and_installs_at_once(&machine);
    the_server_is_told_to_use_the_file(&machine);
    let (old, new) = a_renewal_is_served_to_who_verifies_everything(&machine);
    systemctl_status_tells_how_it_is(&machine);
    the_journal_has_the_fields(&machine, &old, &new);
    the_journal_explains_itself(&machine);
    let reports = a_reload_takes_in_a_server_whose_lineage_lies_elsewhere(&machine);
    a_wrong_config_is_refused_and_the_old_one_stays_in_force(&machine, &reports);
    a_renewal_while_the_daemon_is_stopped_is_caught_at_its_start(&machine);
}

fn apt_installs_and_starts_nothing(machine: &Machine) {
    machine.install_deb();
    assert_eq!(machine.property("pgcertd", "UnitFileState"), "disabled");
    assert_eq!(machine.property("pgcertd", "ActiveState"), "inactive");
    assert!(
        machine.read(CONFIG).contains("[[instance]]"),
        "a model is there"
    );
    assert!(machine.is_active(MAIN));
}

fn certbot_gets_a_certificate_that_only_root_can_read(machine: &Machine) {
    machine.start_pebble();
    machine.certbot_issues();
    assert_eq!(
        machine.sh("stat -c '%U %a' /etc/letsencrypt/live"),
        "root 700"
    );
}

fn the_config_names_the_server(machine: &Machine) {
    let model = machine.read(CONFIG);
    let instance = format!(
        r#"[[instance]]
name = "15-main"
lineage = "{DOMAIN}"
data_directory = "/var/lib/postgresql/15/main"
server_names = ["{DOMAIN}"]
"#
    );
    machine.write(CONFIG, format!("{model}\n{instance}"));
}

fn the_daemon_is_enabled_and_installs_at_once(machine: &Machine) {
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    eventually(SOON, "the certificate is installed", || {
        machine.exists(TARGET)
    });
    let mode = machine.ok(["stat", "-c", "%U %a", TARGET]);
    assert_eq!(mode, "postgres 600");
    assert_eq!(machine.leaf(TARGET), machine.live_leaf());
}

fn the_server_is_told_to_use_the_file(machine: &Machine) {
    machine.configure(
        "main",
        &format!("ssl = on\nssl_cert_file = '{TARGET}'\nssl_key_file = '{TARGET}'\n"),
    );
    machine.reload_server(5432);
    machine.wait_served(5432, &machine.live_leaf());
    machine.wait_well();
}

fn a_renewal_is_served_to_who_verifies_everything(machine: &Machine) -> (String, String) {
    machine.name(&[DOMAIN]);
    machine.set_password(5432);
    let old = machine.live_leaf();
    let postmaster = machine.number(MAIN, "MainPID");
    let new = machine.certbot_renews();
    machine.wait_served(5432, &new);
    let client = |host, root| machine.psql_verify_full(5432, host, root);
    assert_eq!(client(DOMAIN, ROOT), Ok("t".to_owned()));
    client("localhost", ROOT).expect_err("the certificate has another name");
    client(DOMAIN, "/srv/pebble/cert.pem").expect_err("another root has signed it");
    assert_eq!(
        machine.number(MAIN, "MainPID"),
        postmaster,
        "it was not restarted"
    );
    (old, new)
}

fn systemctl_status_tells_how_it_is(machine: &Machine) {
    eventually(SOON, "systemctl status tells how it is", || {
        let shown = machine.ok(["systemctl", "status", "--no-pager", "pgcertd"]);
        let status = shown.lines().find(|line| line.contains("Status: "));
        let told = status.is_some_and(|line| {
            line.contains("\"1 instance in sync; next expiry in ") && line.contains(DOMAIN)
        });
        if told { Ok(()) } else { Err(shown) }
    });
}

fn the_journal_has_the_fields(machine: &Machine, old: &str, new: &str) {
    let deployed = eventually(SOON, "the journal has the renewal", || {
        let mut entries = machine.journal("pgcertd").into_iter();
        entries.find(|entry| entry["PGCERTD_FINGERPRINT"] == new)
    });
    assert_eq!(
        deployed["MESSAGE_ID"],
        EventKind::Deployed.id(),
        "{deployed}"
    );
    let field = |name: &str| deployed[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field("PGCERTD_INSTANCE"), "15-main", "{deployed}");
    assert_eq!(field("PGCERTD_LINEAGE"), DOMAIN, "{deployed}");
    assert_eq!(field("PGCERTD_OUTCOME"), "deployed", "{deployed}");
    assert_eq!(field("PGCERTD_OLD_FINGERPRINT"), old, "{deployed}");
    let end: jiff::Timestamp = field("PGCERTD_NOT_AFTER").parse().unwrap();
    let live = format!("/etc/letsencrypt/live/{DOMAIN}/cert.pem");
    let dates = [
        "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &live,
    ];
    let dates = machine.ok(["openssl"].into_iter().chain(dates));
    assert_eq!(
        dates,
        format!("notAfter={}", end.strftime("%Y-%m-%d %H:%M:%SZ"))
    );
    assert_eq!(field("_SYSTEMD_UNIT"), "pgcertd.service", "{deployed}");
}

fn the_journal_explains_itself(machine: &Machine) {
    let id = format!("MESSAGE_ID={}", EventKind::Deployed.id());
    let shown = machine.ok(["journalctl", "-x", "--no-pager", "-u", "pgcertd", &id]);
    let subject = format!("15-main serves the new certificate of {DOMAIN}");
    assert!(shown.contains(&subject), "{shown}");
    assert!(shown.contains("No action needed."), "{shown}");
}

/// The path lies outside what the threads could reach before, in a directory of root's alone.
fn a_reload_takes_in_a_server_whose_lineage_lies_elsewhere(machine: &Machine) -> Server {
    let mut reports = Server::reports(machine);
    let daemon = machine.number("pgcertd", "MainPID");
    machine.append(CONFIG, &reports.instance());
    machine.ok(["systemctl", "reload", "pgcertd"]);
    reports.start(machine);
    machine.wait_served(reports.port(), reports.leaf());
    machine.wait_well();
    let leaf = reports.renew(machine);
    machine.wait_served(reports.port(), &leaf);
    assert_eq!(
        machine.number("pgcertd", "MainPID"),
        daemon,
        "the process stays"
    );
    reports
}

fn a_wrong_config_is_refused_and_the_old_one_stays_in_force(machine: &Machine, reports: &Server) {
    let right = machine.read(CONFIG);
    machine.append(CONFIG, "lineagee = \"a slip\"\n");
    let end = machine.journal_end();
    let reload = machine.run(["systemctl", "reload", "pgcertd"]);
    assert_ne!(reload.code(), 0, "a wrong config reloads");
    let why = machine.wait_entry_after(&end, "pgcertd", "lineagee");
    assert!(message(&why).contains(CONFIG), "{why}");
    assert!(machine.is_active("pgcertd"));
    let leaf = machine.certbot_renews();
    machine.wait_served(5432, &leaf);
    assert_eq!(
        machine.served(reports.port()).as_deref(),
        Ok(reports.leaf())
    );
    machine.write(CONFIG, right);
    machine.ok(["systemctl", "reload", "pgcertd"]);
    machine.wait_well();
}

fn a_renewal_while_the_daemon_is_stopped_is_caught_at_its_start(machine: &Machine) {
    machine.ok(["systemctl", "stop", "pgcertd"]);
    let old = machine.served(5432).unwrap();
    let new = machine.certbot_renews();
    assert_eq!(machine.served(5432), Ok(old));
    machine.ok(["systemctl", "start", "pgcertd"]);
    machine.wait_served(5432, &new);
    machine.wait_well();
}
