//! A second server, whose lineage is a directory of root's outside `/etc/letsencrypt`.

use crate::{
    machine::Machine,
    world::{
        World,
        ca::{Ca, Issued},
    },
};

const DIRECTORY: &str = "/srv/acme/reports.example.com";
const NAME: &str = "reports.example.com";
const PORT: u16 = 5433;

/// The server `15-reports`, its authority and its lineage.
pub struct Reports {
    _world: World,
    ca: Ca,
    issued: Issued,
}

impl Reports {
    /// Makes the cluster, which does not run yet, and the lineage's first files.
    #[track_caller]
    pub fn new(machine: &Machine) -> Self {
        let world = World::new().expect("a machine runs, so that this is root");
        let ca = Ca::new(&world, "Reports");
        machine.sh(&format!(
            "pg_createcluster --port {PORT} 15 reports >/dev/null
            install -d -m 0700 /srv/acme {DIRECTORY}"
        ));
        let issued = ca.issue(&[NAME]);
        let mut reports = Self {
            _world: world,
            ca,
            issued,
        };
        reports.renew(machine);
        let target = reports.target();
        machine.configure(
            "reports",
            &format!("ssl = on\nssl_cert_file = '{target}'\nssl_key_file = '{target}'\n"),
        );
        reports
    }

    /// Its table in the config.
    pub fn instance(&self) -> String {
        format!(
            r#"
[[instance]]
name = "15-reports"
lineage = "{DIRECTORY}"
data_directory = "/var/lib/postgresql/15/reports"
"#
        )
    }

    /// Starts the server once its file is there.
    #[track_caller]
    pub fn start(&self, machine: &Machine) {
        let target = self.target();
        crate::world::eventually(crate::world::SOON, "its certificate is installed", || {
            machine.exists(target)
        });
        machine.ok(["systemctl", "start", "postgresql@15-reports.service"]);
    }

    /// Places a new certificate as the ACME client of this lineage does; gives its fingerprint.
    #[track_caller]
    pub fn renew(&mut self, machine: &Machine) -> String {
        self.issued = self.ca.issue(&[NAME]);
        machine.write(&format!("{DIRECTORY}/privkey.pem"), &self.issued.key_pem);
        machine.ok(["chmod", "600", &format!("{DIRECTORY}/privkey.pem")]);
        machine.write(
            &format!("{DIRECTORY}/fullchain.pem"),
            self.issued.fullchain_pem(),
        );
        self.issued.fingerprint.clone()
    }

    /// The fingerprint of the newest leaf.
    pub fn leaf(&self) -> &str {
        &self.issued.fingerprint
    }

    /// Where the server listens.
    pub fn port(&self) -> u16 {
        PORT
    }

    fn target(&self) -> &'static str {
        "/var/lib/pgcertd/15-reports/server.pem"
    }
}
