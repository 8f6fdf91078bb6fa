//! A server with a lineage of its own outside `/etc/letsencrypt`, in a directory of root's alone.

use crate::{
    machine::Machine,
    postgres::CONFIG,
    world::{
        SOON, World,
        ca::{Ca, Issued},
        eventually,
        skipped::Skipped,
    },
};

/// The files that a server's configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Chain and key in the file that is the default.
    OneFile,
    /// Chain and key each in its own.
    TwoFiles,
}

/// A cluster, its authority, its lineage.
pub struct Server {
    _world: World,
    cluster: &'static str,
    port: u16,
    layout: Layout,
    ca: Ca,
    issued: Issued,
}

impl Server {
    /// Debian's first cluster, which runs; it does not use the files yet.
    #[track_caller]
    pub fn main(machine: &Machine, layout: Layout) -> Self {
        Self::in_cluster("main", 5432, machine, layout)
    }

    /// A further cluster, which does not run yet.
    #[track_caller]
    pub fn reports(machine: &Machine) -> Self {
        machine.ok(["pg_createcluster", "--port", "5433", "15", "reports"]);
        Self::in_cluster("reports", 5433, machine, Layout::OneFile)
    }

    /// A machine with the package, whose one server serves what its lineage holds.
    #[track_caller]
    pub fn at_work(layout: Layout) -> Result<(Machine, Self), Skipped> {
        let machine = Machine::boot()?;
        machine.install_deb();
        let server = Self::main(&machine, layout);
        machine.append(CONFIG, &server.instance());
        machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
        server.start(&machine);
        machine.wait_served(server.port(), server.leaf());
        machine.wait_well();
        Ok((machine, server))
    }

    #[track_caller]
    fn in_cluster(cluster: &'static str, port: u16, machine: &Machine, layout: Layout) -> Self {
        let world = World::new().expect("a machine runs, so that this is root");
        let ca = Ca::new(&world, cluster);
        let issued = ca.issue(&[&domain(cluster)]);
        let server = Self {
            _world: world,
            cluster,
            port,
            layout,
            ca,
            issued,
        };
        machine.ok([
            "install",
            "-d",
            "-m",
            "0700",
            "/srv/acme",
            &server.lineage(),
        ]);
        server.place(machine);
        let (chain, key) = server.targets();
        machine.configure(
            cluster,
            &format!("ssl = on\nssl_cert_file = '{chain}'\nssl_key_file = '{key}'\n"),
        );
        server
    }

    /// Its table in the config.
    pub fn instance(&self) -> String {
        let (cluster, lineage) = (self.cluster, self.lineage());
        let mut table = format!(
            r#"[[instance]]
name = "15-{cluster}"
lineage = "{lineage}"
data_directory = "/var/lib/postgresql/15/{cluster}"
"#
        );
        if self.layout == Layout::TwoFiles {
            let (chain, key) = self.targets();
            table += &format!("cert_file = \"{chain}\"\nkey_file = \"{key}\"\n");
        }
        table
    }

    /// Starts the server with its new configuration, once its files are there.
    #[track_caller]
    pub fn start(&self, machine: &Machine) {
        let (chain, _) = self.targets();
        let what = format!("{chain} is installed");
        eventually(SOON, &what, || machine.exists(&chain));
        machine.ok(["systemctl", "restart", &self.unit()]);
    }

    /// Places a new certificate as an ACME client without links does; gives its fingerprint.
    #[track_caller]
    pub fn renew(&mut self, machine: &Machine) -> String {
        self.issued = self.ca.issue(&[&domain(self.cluster)]);
        self.place(machine);
        self.issued.fingerprint.clone()
    }

    fn place(&self, machine: &Machine) {
        let (key, chain) = ("privkey.pem", "fullchain.pem");
        let lineage = self.lineage();
        machine.write(&format!("{lineage}/{key}"), &self.issued.key_pem);
        machine.ok(["chmod", "600", &format!("{lineage}/{key}")]);
        machine.write(&format!("{lineage}/{chain}"), self.issued.fullchain_pem());
    }

    /// The fingerprint of the newest leaf.
    pub fn leaf(&self) -> &str {
        &self.issued.fingerprint
    }

    /// What the lineage holds.
    pub fn issued(&self) -> &Issued {
        &self.issued
    }

    /// Where the server listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its unit.
    pub fn unit(&self) -> String {
        format!("postgresql@15-{}.service", self.cluster)
    }

    /// The files for chain and for key.
    pub fn targets(&self) -> (String, String) {
        let directory = format!("/var/lib/pgcertd/15-{}", self.cluster);
        match self.layout {
            Layout::OneFile => {
                let file = format!("{directory}/server.pem");
                (file.clone(), file)
            }
            Layout::TwoFiles => (
                format!("{directory}/server.crt"),
                format!("{directory}/server.key"),
            ),
        }
    }

    fn lineage(&self) -> String {
        format!("/srv/acme/{}", domain(self.cluster))
    }
}

fn domain(cluster: &str) -> String {
    format!("{cluster}.example.com")
}
