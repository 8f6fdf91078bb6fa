//! The drop-ins that the package ships as examples, placed as each of them says.

use crate::{
    machine::Machine,
    stand::{HOST, LIVE, NAME, PORT, Stand, TARGET},
    threads::{NONE, looks, threads},
    world::{SOON, eventually},
};

/// Where the package puts them.
const EXAMPLES: &str = "/usr/share/doc/pgcertd/examples";

impl Stand {
    /// Types the commands that the example's first lines tell.
    #[track_caller]
    pub fn follow_example(&self, name: &str) {
        let example = self.machine.read(&format!("{EXAMPLES}/{name}"));
        let commands: Vec<&str> = example
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .collect();
        assert!(commands.len() >= 2, "{example}");
        let script = commands.join("\n");
        assert!(script.contains("systemctl restart pgcertd"), "{script}");
        self.machine.sh(&format!("cd {EXAMPLES}\n{script}"));
        assert!(self.machine.is_active("pgcertd"));
    }
}

/// Owner and mode.
#[track_caller]
fn owned(machine: &Machine, path: &str) -> String {
    machine.ok(["stat", "-c", "%U %a", path])
}

/// A cluster of another user, on this port.
const OTHER: &str = "15-other";
const OTHER_PORT: u16 = 5433;
const OTHER_UNIT: &str = "postgresql@15-other.service";
const OTHER_TARGET: &str = "/var/lib/pgcertd/15-other/server.pem";

#[test]
fn as_root_it_serves_the_clusters_of_two_users() {
    let mut stand = or_skip!(Stand::boot());
    let other = format!(
        "[[instance]]\nname = \"{OTHER}\"\nlineage = \"{HOST}\"\n\
         data_directory = \"/var/lib/postgresql/15/other\"\n"
    );
    stand.machine.sh(&format!(
        "useradd --system --groups postgres other
        pg_createcluster --user other --port {OTHER_PORT} 15 other >/dev/null"
    ));
    stand.machine.configure(
        "other",
        &format!("ssl = on\nssl_cert_file = '{OTHER_TARGET}'\nssl_key_file = '{OTHER_TARGET}'\n"),
    );
    stand.config(&(stand.instance("") + &other));
    stand.follow_example("root.conf");
    let machine = &stand.machine;
    eventually(SOON, "the other one's certificate is installed", || {
        machine.exists(OTHER_TARGET)
    });
    machine.ok(["systemctl", "start", OTHER_UNIT]);

    let issued = stand.renewal_is_served();
    let machine = &stand.machine;
    machine.wait_served(OTHER_PORT, &issued.fingerprint);
    machine.wait_well();
    for (target, owner) in [(TARGET, "postgres"), (OTHER_TARGET, "other")] {
        let directory = target.strip_suffix("/server.pem").unwrap();
        for (path, mode) in [
            (directory.to_owned(), "750"),
            (target.to_owned(), "600"),
            (format!("{directory}/previous.pem"), "600"),
        ] {
            assert_eq!(owned(machine, &path), format!("{owner} {mode}"), "{path}");
        }
    }
    each_writer_is_the_owner(&stand);
}

/// For files, though not in name: the user of the process is root.
fn each_writer_is_the_owner(stand: &Stand) {
    let machine = &stand.machine;
    let all = threads(machine, stand.daemon());
    for (thread, owner) in [("w:15-main", "postgres"), ("w:15-other", "other")] {
        let status = all.iter().find(|(name, _)| name == thread);
        let (_, status) = status.unwrap_or_else(|| panic!("no {thread} in {all:#?}"));
        let file_system = |ids: &str| ids.split(' ').nth(3).unwrap().to_owned();
        let id = |which: &str| machine.ok(["id", which, owner]);
        assert_eq!(file_system(&status["Uid"]), id("-u"), "{status:#?}");
        assert_eq!(file_system(&status["Gid"]), id("-g"), "{status:#?}");
        assert_eq!((&*status["CapEff"], &*status["CapPrm"]), (NONE, NONE));
        assert_eq!(status["NoNewPrivs"], "1");
    }
}

#[test]
fn with_a_group_on_the_lineage_no_thread_has_a_capability() {
    let mut stand = or_skip!(Stand::boot());
    stand.follow_example("group.conf");
    let issued = stand.renewal_is_served();
    assert_eq!(stand.machine.leaf(TARGET), issued.fingerprint);
    let all = threads(&stand.machine, stand.daemon());
    assert!(all.iter().any(|(name, _)| looks(name)), "{all:#?}");
    for (name, status) in &all {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(status[set], NONE, "{set} of {name}");
        }
    }
    // The group alone opened it.
    let key = format!("{LIVE}/privkey.pem");
    stand.machine.ok(["chgrp", "root", &key]);
    stand.becomes(NAME, "source_invalid", &["no permission to read", "group"]);
    stand.machine.ok(["chgrp", "postgres", &key]);
    stand.machine.wait_well();
}

/// acme.sh's own place and names; it writes in place.
const ACME_SH: &str = "/root/.acme.sh/pg.example.com_ecc";

#[test]
fn a_lineage_in_the_home_of_root_is_read() {
    let mut stand = or_skip!(Stand::boot());
    let written = |stand: &mut Stand| {
        let issued = stand.ca.issue(&[HOST]);
        let machine = &stand.machine;
        machine.write(&format!("{ACME_SH}/{HOST}.key"), &issued.key_pem);
        machine.write(&format!("{ACME_SH}/fullchain.cer"), issued.fullchain_pem());
        machine.sh(&format!("chmod 700 {ACME_SH}; chmod 600 {ACME_SH}/*.key"));
        issued
    };
    let first = written(&mut stand);
    let instance = stand.instance(&format!(
        "files = {{ chain = \"fullchain.cer\", key = \"{HOST}.key\" }}"
    ));
    let lineage = format!("lineage = \"{ACME_SH}\"");
    stand.config(&instance.replace(&format!("lineage = \"{HOST}\""), &lineage));
    // Without the drop-in there is nothing in /root; the remedy is named.
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    stand.becomes(NAME, "source_invalid", &[ACME_SH, "ProtectHome=read-only"]);

    stand.follow_example("home.conf");
    stand.serves(&first);
    stand.machine.wait_well();
    let second = written(&mut stand);
    stand.machine.wait_served(PORT, &second.fingerprint);
    stand.machine.wait_well();
    let pid = stand.daemon().to_string();
    let enter = ["nsenter", "--mount", "--target", &pid];
    let touch = ["touch", "/root/new"];
    let done = stand.machine.run(enter.iter().chain(&touch).copied());
    assert!(done.stderr.contains("Read-only"), "{done:?}");
}
