//! Debian's PgBouncer under its own unit, before Debian's cluster, with the shipped unit of pgcertd: what
//! its sandbox leaves is enough for a pooler too.

use serde_json::Value;

use crate::{
    acme::{DOMAIN, ROOT},
    machine::Machine,
    postgres::CONFIG,
    world::{SOON, eventually},
};

const UNIT: &str = "pgbouncer";
const INI: &str = "/etc/pgbouncer/pgbouncer.ini";
/// Debian's own.
const PORT: u16 = 6432;

const NAME: &str = "pooler";
const TARGET: &str = "/var/lib/pgcertd/pooler/server.pem";

/// Lets everyone in as postgres, over the socket of Debian's cluster.
const LETS_IN: &str = "auth_type = any
[databases]
* = host=/var/run/postgresql user=postgres
";

#[test]
fn debians_pooler_gets_certbots_renewals_through_the_shipped_unit() {
    let machine = or_skip!(Machine::boot());
    machine.install_deb();
    machine.install_packed(UNIT);
    machine.start_pebble();
    machine.certbot_issues();
    machine.name(&[DOMAIN]);
    check_says_what_to_set(&machine);
    as_it_says_all_is_well(&machine);
    a_renewal_is_served_and_the_session_stays(&machine);
    a_renewal_while_it_waits_for_its_clients_to_go_is_served(&machine);
    a_renewal_while_it_is_down_is_served_from_its_start_on(&machine);
    processes_at_one_port_of_systemds_are_told_apart_by_another(&machine);
}

/// What `check` finds of an instance, without what is good.
#[track_caller]
fn ill(machine: &Machine, instance: &str) -> Vec<Value> {
    let done = machine.run(["pgcertd", "check", "--json"]);
    let document: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let mut instances = document["instances"].as_array().unwrap().iter();
    let one = instances.find(|seen| seen["name"] == instance);
    let findings = one.unwrap_or_else(|| panic!("no {instance} in {document}"))["findings"].clone();
    let ill = findings.as_array().unwrap().iter();
    ill.filter(|finding| finding["weight"] != "good")
        .cloned()
        .collect()
}

/// A table of the config for a pooler.
fn instance(name: &str, config_file: &str, more: &str) -> String {
    format!(
        "[[instance]]\nname = \"{name}\"\nlineage = \"{DOMAIN}\"\nkind = \"pgbouncer\"\n\
         config_file = \"{config_file}\"\nserver_names = [\"{DOMAIN}\"]\n{more}\n"
    )
}

fn check_says_what_to_set(machine: &Machine) {
    assert!(machine.is_active(UNIT));
    let ordered = machine.property(UNIT, "After");
    assert!(ordered.contains("pgcertd.service"), "{ordered}");
    machine.append(CONFIG, &instance(NAME, INI, ""));
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    eventually(SOON, "the certificate is installed", || {
        machine.exists(TARGET)
    });
    machine.wait_state(NAME, "not_used");
    let found = ill(machine, NAME);
    let told = format!("{found:#?}");
    println!("{told}");
    for words in [
        "set client_tls_sslmode = prefer",
        &format!("set client_tls_cert_file and client_tls_key_file in {INI} to {TARGET}"),
    ] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
}

fn as_it_says_all_is_well(machine: &Machine) {
    machine.append(
        INI,
        &format!(
            "client_tls_sslmode = prefer\nclient_tls_cert_file = {TARGET}\n\
             client_tls_key_file = {TARGET}\n{LETS_IN}"
        ),
    );
    assert_eq!(
        machine.sh(&format!("stat -c '%U %a' {INI} {TARGET}")),
        "postgres 640\npostgres 600"
    );
    machine.ok(["systemctl", "reload", UNIT]);
    machine.wait_served(PORT, &machine.live_leaf());
    machine.wait_well();
    // That the root is pebble's own is worth knowing.
    let found = ill(machine, NAME);
    let others = found
        .iter()
        .filter(|finding| finding["id"] != "served_trusted");
    assert_eq!(others.count(), 0, "{found:#?}");
    assert!(
        found.iter().all(|finding| finding["weight"] == "notice"),
        "{found:#?}"
    );
    let encrypted_behind_it = machine.psql_verify_full(PORT, DOMAIN, ROOT);
    assert_eq!(encrypted_behind_it, Ok("f".to_owned()));
}

fn a_renewal_is_served_and_the_session_stays(machine: &Machine) {
    let mut session = machine.session(PORT);
    let pid = machine.number(UNIT, "MainPID");
    let new = machine.certbot_renews();
    machine.wait_served(PORT, &new);
    machine.wait_well();
    let deployed = machine.wait_entry("pgcertd", "deployed and served");
    assert_eq!(deployed["PGCERTD_INSTANCE"], NAME, "{deployed}");
    assert_eq!(session.lives(), Ok(()));
    assert_eq!(machine.number(UNIT, "MainPID"), pid, "it was not restarted");
    drop(session);

    machine.ok(["systemctl", "restart", UNIT]);
    machine.wait_served(PORT, &new);
    assert_ne!(machine.number(UNIT, "MainPID"), pid);
    machine.wait_well();
}

/// Debian's unit stops it by SIGINT, upon which it waits for whoever has a server's session.
fn a_renewal_while_it_waits_for_its_clients_to_go_is_served(machine: &Machine) {
    let session = machine.session(PORT);
    let pid = machine.number(UNIT, "MainPID");
    machine.ok(["systemctl", "restart", "--no-block", UNIT]);
    eventually(SOON, "it is asked to end", || {
        machine.property(UNIT, "ActiveState") == "deactivating"
    });
    let new = machine.certbot_renews();
    machine.wait_served(PORT, &new);
    assert_eq!(machine.number(UNIT, "MainPID"), pid, "it still waits");
    drop(session);
    eventually(SOON, "it is started anew", || {
        machine.is_active(UNIT) && machine.number(UNIT, "MainPID") != pid
    });
    machine.wait_served(PORT, &new);
    machine.wait_state(NAME, "in_sync");
}

fn a_renewal_while_it_is_down_is_served_from_its_start_on(machine: &Machine) {
    machine.ok(["systemctl", "stop", UNIT]);
    machine.wait_state(NAME, "not_running");
    let new = machine.certbot_renews();
    machine.ok(["systemctl", "start", UNIT]);
    machine.wait_served(PORT, &new);
    machine.wait_state(NAME, "in_sync");
    machine.wait_well();
}

/// The port at which all of them answer, and the one of each.
const SHARED: u16 = 6500;
const OWN: [u16; 2] = [6501, 6502];

const TEMPLATE_SOCKET: &str = "[Socket]
ListenStream=127.0.0.1:6500
ListenStream=127.0.0.1:%i
ReusePort=true
";

const TEMPLATE: &str = "[Unit]
Requires=pooler@%i.socket
[Service]
Type=notify
User=postgres
ExecStart=/usr/sbin/pgbouncer /etc/pgbouncer/%i.ini
KillSignal=SIGINT
";

/// With the sockets of systemd PgBouncer listens where these do, whatever its configuration says.
fn processes_at_one_port_of_systemds_are_told_apart_by_another(machine: &Machine) {
    machine.write("/etc/systemd/system/pooler@.socket", TEMPLATE_SOCKET);
    machine.write("/etc/systemd/system/pooler@.service", TEMPLATE);
    let before = machine.read(CONFIG);
    let poolers = OWN.map(|own| {
        let (name, ini) = (format!("pooler-{own}"), format!("/etc/pgbouncer/{own}.ini"));
        let target = format!("/var/lib/pgcertd/{name}/server.pem");
        machine.write(
            &ini,
            format!(
                "[pgbouncer]\npidfile = /var/run/postgresql/{own}.pid\nlisten_addr = 127.0.0.1\n\
                 listen_port = {SHARED}\nclient_tls_sslmode = prefer\nclient_tls_cert_file = {target}\n\
                 client_tls_key_file = {target}\n{LETS_IN}"
            ),
        );
        machine.ok(["chown", "postgres:", &ini]);
        (name, ini)
    });
    let asked = |more: &dyn Fn(u16) -> String| {
        let tables = poolers.iter().zip(OWN);
        let tables = tables.map(|((name, ini), own)| instance(name, ini, &more(own)));
        tables.collect::<String>()
    };
    machine.append(CONFIG, &asked(&|_| String::new()));
    machine.ok(["systemctl", "reload", "pgcertd"]);
    for ((name, _), own) in poolers.iter().zip(OWN) {
        let target = format!("/var/lib/pgcertd/{name}/server.pem");
        eventually(SOON, &format!("{target} is installed"), || {
            machine.exists(&target)
        });
        machine.ok(["systemctl", "start", &format!("pooler@{own}.service")]);
        machine.wait_served(own, &machine.live_leaf());
    }
    for (name, _) in &poolers {
        machine.wait_state(name, "unverified");
        let told = format!("{:#?}", ill(machine, name));
        assert!(told.contains("127.0.0.1:6500 (SO_REUSEPORT)"), "{told}");
    }

    let alone = asked(&|own| format!("address = \"127.0.0.1:{own}\""));
    machine.write(CONFIG, format!("{before}\n{alone}"));
    machine.ok(["systemctl", "reload", "pgcertd"]);
    machine.wait_well();
    let new = machine.certbot_renews();
    for own in OWN {
        machine.wait_served(own, &new);
    }
    machine.wait_well();
}
