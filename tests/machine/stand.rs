//! What these tests begin with: the package is installed, Debian's cluster serves what pgcertd installs
//! from a lineage of root's, and a renewal is a line away.

use crate::{
    machine::{LATER, Machine},
    postgres::{CONFIG, MAIN},
    world::{
        SOON, World,
        ca::{Ca, Issued, KeyType, Options},
        eventually,
        skipped::Skipped,
    },
};

/// The name that every leaf is for, and the lineage's.
pub const HOST: &str = "pg.example.com";

/// The one instance of most tests.
pub const NAME: &str = "15-main";

/// Its target.
pub const TARGET: &str = "/var/lib/pgcertd/15-main/server.pem";

/// The port of Debian's first cluster.
pub const PORT: u16 = 5432;

/// A machine with pgcertd at work.
pub struct Stand {
    pub machine: Machine,
    pub world: World,
    pub ca: Ca,
    /// The newest certificate of the lineage.
    pub issued: Issued,
}

impl Stand {
    /// All is in sync.
    #[track_caller]
    pub fn boot() -> Result<Self, Skipped> {
        let stand = Self::installed()?;
        stand
            .machine
            .ok(["systemctl", "enable", "--now", "pgcertd"]);
        stand.served_at_first();
        Ok(stand)
    }

    /// The package, the config and the lineage are there; the daemon has not been started.
    #[track_caller]
    pub fn installed() -> Result<Self, Skipped> {
        let machine = Machine::boot()?;
        let world = World::new()?;
        let ca = Ca::new(&world, "Test Root");
        machine.install_deb();
        let issued = ca.issue(&[HOST]);
        let stand = Self {
            machine,
            world,
            ca,
            issued,
        };
        stand.place(LIVE, &stand.issued);
        stand.config(&stand.instance(""));
        Ok(stand)
    }

    /// Has the server use what the daemon installs, and waits until all is in sync.
    #[track_caller]
    pub fn served_at_first(&self) {
        let machine = &self.machine;
        eventually(SOON, "the certificate is installed", || {
            machine.exists(TARGET)
        });
        machine.configure(
            "main",
            &format!("ssl = on\nssl_cert_file = '{TARGET}'\nssl_key_file = '{TARGET}'\n"),
        );
        machine.reload_server(PORT);
        self.serves(&self.issued);
        machine.wait_well();
    }

    /// The table of the one instance, with more lines.
    pub fn instance(&self, more: &str) -> String {
        format!(
            "[[instance]]\nname = \"{NAME}\"\nlineage = \"{HOST}\"\n\
             data_directory = \"/var/lib/postgresql/15/main\"\n{more}\n"
        )
    }

    /// Writes the config: nothing in it may be mended by the timer.
    #[track_caller]
    pub fn config(&self, instances: &str) {
        let text = format!("[watch]\nresync = \"1h\"\n\n{instances}");
        self.machine.write(CONFIG, text);
    }

    /// A renewal that Postgres takes.
    #[track_caller]
    pub fn renew(&mut self) -> Issued {
        self.issued = self.ca.issue(&[HOST]);
        self.place(LIVE, &self.issued);
        self.issued.clone()
    }

    /// A renewal with an RSA key of 2048 bits.
    #[track_caller]
    pub fn renew_weak(&mut self) -> Issued {
        let options = Options {
            key: KeyType::Rsa2048,
            ..Options::default()
        };
        self.issued = self.ca.issue_with(&[HOST], &options);
        self.place(LIVE, &self.issued);
        self.issued.clone()
    }

    /// Renews, and waits until that is served and all is in sync.
    #[track_caller]
    pub fn renewal_is_served(&mut self) -> Issued {
        let issued = self.renew();
        self.serves(&issued);
        self.machine.wait_well();
        issued
    }

    /// Waits until clients get this certificate.
    #[track_caller]
    pub fn serves(&self, issued: &Issued) {
        self.machine.wait_served(PORT, &issued.fingerprint);
    }

    /// Brings a certificate into a lineage's directory and its archive as certbot does, which belong to
    /// root alone at first; a renewed key keeps its group and mode.
    #[track_caller]
    pub fn place(&self, live: &str, issued: &Issued) {
        let fresh = format!("{live}.new");
        for (kind, content) in [
            ("privkey", issued.key_pem.clone()),
            ("cert", issued.leaf_pem.clone()),
            ("chain", issued.chain_pem()),
            ("fullchain", issued.fullchain_pem()),
        ] {
            self.machine.write(&format!("{fresh}/{kind}.pem"), content);
        }
        self.machine.sh(&format!(
            "live={live}
            archive=$(dirname $(dirname $live))/archive/$(basename $live)
            serial={}
            if test -e $live/privkey.pem; then
                chown --reference=$(realpath $live/privkey.pem) $live.new/privkey.pem
                chmod --reference=$(realpath $live/privkey.pem) $live.new/privkey.pem
            else
                chmod 0600 $live.new/privkey.pem
                chmod 0700 $(dirname $live)
                install -d -m 0700 $(dirname $archive)
                install -d $live $archive
            fi
            for kind in privkey cert chain fullchain; do
                mv $live.new/$kind.pem $archive/$kind-$serial.pem
            done
            rmdir $live.new
            for kind in cert privkey chain fullchain; do
                rm -f $live/$kind.pem
                ln -s $archive/$kind-$serial.pem $live/$kind.pem
            done",
            issued.serial
        ));
    }

    /// Writes a drop-in for a unit, which is in force from its next start on.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, name: &str, text: &str) {
        let path = format!("/etc/systemd/system/{unit}.service.d/{name}.conf");
        self.machine.write(&path, text);
        self.machine.ok(["systemctl", "daemon-reload"]);
    }

    /// Removes it.
    #[track_caller]
    pub fn no_drop_in(&self, unit: &str, name: &str) {
        let path = format!("/etc/systemd/system/{unit}.service.d/{name}.conf");
        self.machine.ok(["rm", "--", &path]);
        self.machine.ok(["systemctl", "daemon-reload"]);
    }

    /// Starts the daemon anew, as the administrator does after `systemctl edit`.
    #[track_caller]
    pub fn restart_daemon(&self) {
        self.machine.ok(["systemctl", "restart", "pgcertd"]);
    }

    /// The daemon's number in the machine.
    #[track_caller]
    pub fn daemon(&self) -> u64 {
        self.machine.number("pgcertd", "MainPID")
    }

    /// What the daemon itself says of an instance, by its view for everybody, if it knows it yet.
    pub fn view(&self, name: &str) -> Result<serde_json::Value, String> {
        let shown = self.machine.run(["cat", "/run/pgcertd/status.json"]);
        let shown = shown.result()?;
        let view: serde_json::Value = serde_json::from_str(&shown).map_err(|e| e.to_string())?;
        let mut instances = view["instances"].as_array().into_iter().flatten();
        let one = instances.find(|instance| instance["name"] == name);
        one.cloned().ok_or(shown)
    }

    /// Waits until the daemon's view has this state, and a problem with every one of the words; gives
    /// the problem.
    #[track_caller]
    pub fn becomes(&self, name: &str, state: &str, words: &[&str]) -> String {
        let told = eventually(SOON, &format!("{name} is {state}, with {words:?}"), || {
            let seen = self.view(name)?;
            let told = seen["problem"].as_str().unwrap_or_default();
            if seen["state"] == state && words.iter().all(|word| told.contains(word)) {
                Ok(told.to_owned())
            } else {
                Err(seen.to_string())
            }
        });
        println!("{name} is {state}: {told}");
        told
    }

    /// Starts the server anew.
    #[track_caller]
    pub fn restart_postgres(&self) {
        let restart = ["systemctl", "restart", MAIN];
        let done = self.machine.run_within(LATER, restart);
        assert_eq!(done.code(), 0, "{}", done.stderr);
    }
}

/// The lineage, in certbot's own place.
pub const LIVE: &str = "/etc/letsencrypt/live/pg.example.com";
