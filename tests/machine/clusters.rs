//! Several clusters of Debian's, each a `postgresql@V-NAME` with its configuration under `/etc/postgresql`,
//! and what pg_upgradecluster leaves.

use crate::{
    machine::LATER,
    postgres::CONFIG,
    stand::{HOST, PORT, Stand},
    world::{SOON, ca::Issued, eventually},
};

/// The further cluster.
const REPORTS: u16 = 5433;

const DATA: &str = "/var/lib/postgresql/15";

/// The table of one instance.
fn table(name: &str, cluster: &str) -> String {
    format!(
        "[[instance]]\nname = \"{name}\"\nlineage = \"{HOST}\"\n\
         data_directory = \"{DATA}/{cluster}\"\n\n"
    )
}

/// The servers that no instance covers, by the daemon and by a look of `status` itself.
fn uncovered(stand: &Stand) -> Result<Vec<String>, String> {
    let look = stand.machine.run(["pgcertd", "status", "--json"]).stdout;
    let view = stand.machine.run(["cat", "/run/pgcertd/status.json"]);
    let of = |text: &str| {
        let read: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let all = read["uncovered"].as_array().ok_or("not told")?;
        let all = all
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned));
        Ok::<Vec<String>, String>(all.collect())
    };
    let (look, view) = (of(&look)?, of(&view.stdout)?);
    if look == view {
        Ok(look)
    } else {
        Err(format!("{look:?} is not {view:?}"))
    }
}

#[track_caller]
fn is_uncovered(stand: &Stand, expected: &[&str]) {
    eventually(SOON, &format!("{expected:?} is uncovered"), || {
        let now = uncovered(stand)?;
        if now == expected {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
}

#[test]
fn debians_clusters_are_deployed_to_and_the_one_that_an_upgrade_leaves_is_named() {
    let mut stand = or_skip!(Stand::boot());
    a_further_cluster_is_named_until_the_config_has_it(&mut stand);
    a_cluster_is_observed_beside_one_that_is_kept(&mut stand);
    debians_own_commands_and_pgcertd_get_along(&mut stand);
    an_upgraded_cluster_is_named_until_the_config_follows(&mut stand);
}

#[track_caller]
fn both_serve(stand: &Stand, issued: &Issued) {
    stand.serves(issued);
    stand.machine.wait_served(REPORTS, &issued.fingerprint);
    stand.machine.wait_well();
}

fn a_further_cluster_is_named_until_the_config_has_it(stand: &mut Stand) {
    let machine = &stand.machine;
    is_uncovered(stand, &[]);
    let port = REPORTS.to_string();
    machine.ok(["pg_createcluster", "--port", &port, "15", "reports"]);
    let file = "/var/lib/pgcertd/15-reports/server.pem";
    machine.configure(
        "reports",
        &format!("ssl = off\nssl_cert_file = '{file}'\nssl_key_file = '{file}'\n"),
    );
    machine.ok(["pg_ctlcluster", "15", "reports", "start"]);
    // The daemon looks when it begins, and at every comparison.
    machine.ok(["systemctl", "reload", "pgcertd"]);
    is_uncovered(stand, &["/var/lib/postgresql/15/reports"]);
    let shown = machine.run(["pgcertd", "status"]);
    println!("{}", shown.stdout);
    assert!(shown.stdout.contains("/var/lib/postgresql/15/reports"));
    machine.wait_entry("pgcertd", "15/reports");

    stand.config(&(table("15-main", "main") + &table("15-reports", "reports")));
    machine.ok(["systemctl", "reload", "pgcertd"]);
    is_uncovered(stand, &[]);
    eventually(SOON, "its file is installed", || machine.exists(file));
    machine.configure("reports", "ssl = on\n");
    machine.ok(["pg_ctlcluster", "15", "reports", "reload"]);
    both_serve(stand, &stand.issued);
    assert!(machine.is_active("postgresql@15-reports"));
}

/// A first week for the one: a renewal reaches the other, and of this nothing is touched.
fn a_cluster_is_observed_beside_one_that_is_kept(stand: &mut Stand) {
    let (main, reports) = (table("15-main", "main"), table("15-reports", "reports"));
    let observed = format!("{}\nmode = \"observe\"\n", reports.trim_end());
    stand.config(&(main.clone() + &observed));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    // What is there, and since when; how often the server was asked to reload.
    let looked = |stand: &Stand| {
        let files = ["/var/lib/pgcertd/15-reports", "/etc/postgresql/15/reports"].join(" ");
        let log = "/var/log/postgresql/postgresql-15-reports.log";
        stand.machine.sh(&format!(
            "find {files} -printf '%p %i %C@ %T@ %m %u %s\\n'; grep -c 'received SIGHUP' {log}"
        ))
    };
    let before = looked(stand);
    assert!(before.contains("server.pem"), "{before}");
    let renewed = stand.renew();
    stand.serves(&renewed);
    stand.becomes(
        "15-reports",
        "out_of_date",
        &["something else writes the file"],
    );
    let forced = stand
        .machine
        .run(["pgcertd", "sync", "--force", "15-reports"]);
    assert_eq!(forced.code(), 1, "{forced:?}");
    assert_eq!(looked(stand), before);

    stand.config(&(main + &reports));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    both_serve(stand, &renewed);
}

fn debians_own_commands_and_pgcertd_get_along(stand: &mut Stand) {
    stand.machine.set_password(REPORTS);
    let mut session = stand.machine.session(REPORTS);
    let second = stand.renew();
    both_serve(stand, &second);
    assert_eq!(session.lives(), Ok(()));
    drop(session);
    let machine = &stand.machine;
    machine.ok(["pg_ctlcluster", "15", "reports", "restart"]);
    both_serve(stand, &second);
    machine.ok(["pg_ctlcluster", "15", "reports", "stop"]);
    machine.wait_state("15-reports", "not_running");
    let third = stand.renew();
    stand.serves(&third);
    stand
        .machine
        .ok(["pg_ctlcluster", "15", "reports", "start"]);
    both_serve(stand, &third);
    let listed = stand.machine.ok(["pg_lsclusters", "-h"]);
    assert_eq!(listed.matches("online").count(), 2, "{listed}");
}

/// Debian 12 has one major version, so that the upgrade is to a new name within it; the command, and what it
/// leaves, are the same: the old cluster stopped, the new one on its port with the old one's settings.
fn an_upgraded_cluster_is_named_until_the_config_follows(stand: &mut Stand) {
    let machine = &stand.machine;
    let upgrade = [
        "pg_upgradecluster",
        "-v",
        "15",
        "--rename",
        "next",
        "15",
        "main",
    ];
    let upgraded = machine.run_within(LATER, upgrade);
    assert_eq!(upgraded.code(), 0, "{upgraded:?}");
    assert!(machine.is_active("postgresql@15-next"));
    machine.wait_state("15-main", "not_running");
    machine.ok(["systemctl", "reload", "pgcertd"]);
    is_uncovered(stand, &["/var/lib/postgresql/15/next"]);
    let shown = machine.run(["pgcertd", "status"]);
    println!("{}", shown.stdout);
    assert!(shown.stdout.contains("/var/lib/postgresql/15/next"));
    machine.wait_entry("pgcertd", "15/next");

    // The new server serves the old one's file, and what covers it was said where the upgrade was watched.
    stand.serves(&stand.issued);
    let said = upgraded.stdout.split_whitespace().collect::<Vec<_>>();
    let said = said.join(" ");
    assert!(
        said.contains("serves the certificate of 15-main, which is not renewed"),
        "{said}"
    );
    assert!(
        said.contains(&format!("remove the instance 15-main from {CONFIG}")),
        "{said}"
    );
    let mut lines = upgraded.stdout.lines();
    let command = lines.find_map(|line| line.strip_prefix("  next  "));
    let command = command.unwrap_or_else(|| panic!("no command: {said}"));
    println!("{}", stand.machine.sh(&format!("{command} --yes")));
    is_uncovered(stand, &[]);
    let renewed = stand.renew();
    both_serve(stand, &renewed);
    let machine = &stand.machine;
    machine.ok(["pg_dropcluster", "15", "main"]);
    let text = machine.read(CONFIG);
    let followed = text.replace(&table("15-main", "main"), "");
    assert_ne!(followed, text);
    machine.write(CONFIG, followed);
    machine.ok(["systemctl", "reload", "pgcertd"]);
    let issued = stand.renew();
    both_serve(stand, &issued);
    let port = PORT.to_string();
    let listed = stand.machine.ok(["pg_lsclusters", "-h"]);
    assert!(
        listed
            .lines()
            .any(|line| line.contains("next") && line.contains(&port)),
        "{listed}"
    );
}
