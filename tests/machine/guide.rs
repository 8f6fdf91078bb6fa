//! The host of somebody who followed a guide: two files that a hook of certbot's copies, and a line for cron. One command and
//! `systemctl enable --now pgcertd` have the service keep them, wherever they lie.

use crate::{
    acme::DOMAIN,
    machine::Machine,
    postgres::MAIN,
    world::{SOON, eventually},
};

/// Where a cluster's two files are, its port, and the instance's name.
struct Guided {
    name: &'static str,
    files: &'static str,
    port: u16,
}

const ALL: [Guided; 3] = [
    Guided {
        name: "main",
        files: "/etc/postgresql/15/main",
        port: 5432,
    },
    Guided {
        name: "data",
        files: "/var/lib/postgresql/15/data",
        port: 5433,
    },
    Guided {
        name: "home",
        files: "/home/pg/tls files",
        port: 5434,
    },
];

const DROP_INS: &str = "/etc/systemd/system/pgcertd.service.d";

impl Guided {
    /// What the guide has certbot run after each renewal.
    fn hook(&self) -> String {
        let (files, live) = (self.files, format!("/etc/letsencrypt/live/{DOMAIN}"));
        format!(
            "cp {live}/fullchain.pem '{files}/server.crt' && cp {live}/privkey.pem '{files}/server.key' && \
             chmod 600 '{files}/server.key' && chown postgres:postgres '{files}/server.crt' '{files}/server.key' && \
             systemctl restart postgresql"
        )
    }

    fn was_followed(&self, machine: &Machine) {
        let (name, files, port) = (self.name, self.files, self.port);
        if name != "main" {
            machine.sh(&format!(
                "pg_createcluster --port {port} --start 15 {name} >/dev/null"
            ));
        }
        machine.sh(&format!(
            "test -d '{files}' || install -d -o postgres -g postgres '{files}'"
        ));
        machine.configure(
            name,
            &format!(
                "ssl = on\nssl_cert_file = '{files}/server.crt'\nssl_key_file = '{files}/server.key'\n"
            ),
        );
        machine.sh(&self.hook());
        machine.wait_served(port, &machine.live_leaf());
    }

    fn set_up(&self, machine: &Machine) -> String {
        let data = format!("/var/lib/postgresql/15/{}", self.name);
        let done = machine.ok(["pgcertd", "setup", "--yes", "--data-directory", &data]);
        println!("{done}");
        let drop_in = format!("{DROP_INS}/setup-15-{}.conf", self.name);
        assert!(done.contains(&format!("wrote {drop_in}")), "{done}");
        assert!(
            done.contains(&format!("15-{} is set up.", self.name)),
            "{done}"
        );
        done
    }
}

/// All that a set-up may change of the host.
fn sight(machine: &Machine) -> String {
    machine.sh(&format!(
        "ls -d /etc/pgcertd/conf.d/* {DROP_INS} 2>/dev/null || true
        sha256sum /etc/postgresql/15/*/*.conf /var/lib/postgresql/15/*/postgresql.auto.conf"
    ))
}

#[test]
fn a_guides_files_are_kept_by_the_service_wherever_they_lie_until_the_undo() {
    let machine = or_skip!(Machine::with_a_certificate());
    for guided in &ALL {
        guided.was_followed(&machine);
    }
    let line = format!(
        "17 3 * * * certbot renew -q --post-hook \"{}\"\n",
        ALL[0].hook()
    );
    machine.write("/srv/crontab", line);
    machine.ok(["crontab", "/srv/crontab"]);
    let before = sight(&machine);

    let [main, data, home] = &ALL;
    main.set_up(&machine);
    data.set_up(&machine);
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    machine.wait_well();
    let told = home.set_up(&machine);
    assert!(told.contains("was restarted"), "{told}");
    machine.wait_well();
    let checked = machine.run(["pgcertd", "check"]).stdout;
    let sandbox = checked
        .lines()
        .find(|line| line.contains("lets pgcertd use every path"));
    assert!(sandbox.is_some(), "{checked}");

    let postmaster = machine.number(MAIN, "MainPID");
    a_renewal_is_served_by_all(&machine);
    assert_eq!(machine.number(MAIN, "MainPID"), postmaster, "no restart");
    // cron runs it once more.
    machine.sh(&main.hook());
    eventually(SOON, "the server is back", || {
        machine.served(main.port).map(drop)
    });
    a_renewal_is_served_by_all(&machine);

    for guided in &ALL {
        let name = format!("15-{}", guided.name);
        let undone = machine.ok(["pgcertd", "setup", "--yes", "--undo", &name]);
        println!("{undone}");
        assert!(undone.contains("was restarted"), "{undone}");
    }
    assert_eq!(sight(&machine), before);
    let opened = machine.property("pgcertd", "ReadWritePaths");
    assert_eq!(opened, "");
    assert_eq!(machine.served(main.port), Ok(machine.live_leaf()));
}

fn a_renewal_is_served_by_all(machine: &Machine) {
    let leaf = machine.certbot_renews();
    for guided in &ALL {
        machine.wait_served(guided.port, &leaf);
    }
    machine.wait_well();
}
