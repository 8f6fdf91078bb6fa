//! A server that lets clients in by their certificates.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    stage::{NAME, Stage, problem, says},
    world::{
        World,
        ca::{Ca, Issued},
        config::Instance,
        daemon::{Daemon, Launch, pgcertd},
    },
};

/// A server that asks for client certificates, by files that pgcertd keeps.
pub struct Gate<'w> {
    pub stage: Stage<'w>,
    /// The CA of its clients.
    pub clients: Ca,
    pub one: Client,
    pub other: Client,
}

/// A client with a certificate.
pub struct Client {
    pub issued: Issued,
    pub conninfo: String,
}

impl Client {
    pub fn new(world: &World, ca: &Ca, name: &str) -> Self {
        let issued = ca.issue_client(name);
        let directory = world.directory("clients");
        let (cert, key) = (
            directory.join(format!("{name}.crt")),
            directory.join(format!("{name}.key")),
        );
        fs::write(&cert, &issued.leaf_pem).unwrap();
        fs::write(&key, &issued.key_pem).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let conninfo = format!(
            "host=127.0.0.1 sslmode=require sslcert={} sslkey={}",
            cert.display(),
            key.display()
        );
        Self { issued, conninfo }
    }
}

/// Where the sources lie: a directory that only root may enter, outside the lineage.
pub fn source(world: &World, name: &str) -> PathBuf {
    let directory = world.directory("client-ca");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    directory.join(name)
}

/// Brings a whole file in one step.
pub fn bring(world: &World, name: &str, content: &str) {
    let file = source(world, name);
    let beside = file.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, file).unwrap();
}

pub fn keyed(world: &World, instance: Instance) -> Instance {
    let text = |name: &str| source(world, name).to_str().unwrap().to_owned();
    instance
        .set("ca_source", text("ca.pem"))
        .set("crl_source", text("crl.pem"))
}

impl<'w> Gate<'w> {
    pub fn new(world: &'w World) -> Self {
        let target = world.target(NAME);
        Self::at(world, &target, &target)
    }

    /// With these targets of chain and key, and files that a first `sync` has installed.
    pub fn at(world: &'w World, cert: &Path, key: &Path) -> Self {
        Self::with(world, cert, key, |instance| instance)
    }

    pub fn with(
        world: &'w World,
        cert: &Path,
        key: &Path,
        change: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let clients = Ca::new(world, "Clients");
        let (one, other) = (
            Client::new(world, &clients, "one"),
            Client::new(world, &clients, "other"),
        );
        bring(world, "ca.pem", &clients.root_pem());
        bring(world, "crl.pem", &clients.crl(&[]));
        let state = world.target(NAME);
        let state = state.parent().unwrap().to_owned();
        for (file, text) in [
            ("ca.pem", clients.root_pem()),
            ("crl.pem", clients.crl(&[])),
        ] {
            fs::create_dir_all(&state).unwrap();
            crate::world::give(&state, world.postgres(), 0o700);
            fs::write(state.join(file), text).unwrap();
            crate::world::give(&state.join(file), world.postgres(), 0o644);
        }
        let named = |name: &str| state.join(name).to_str().unwrap().to_owned();
        let (ca, crl) = (named("ca.pem"), named("crl.pem"));
        let stage = Stage::build_at(world, cert, key)
            .cluster(|cluster| {
                cluster
                    .setting("ssl_ca_file", &ca)
                    .setting("ssl_crl_file", &crl)
            })
            .instance(|instance| change(keyed(world, instance)))
            .start();
        let gate = Self {
            stage,
            clients,
            one,
            other,
        };
        // The CRL file is another one of the same CA.
        gate.stage.synced(&[], "deployed", 0);
        gate
    }

    pub fn world(&self) -> &'w World {
        self.stage.world
    }

    pub fn enters(&self, client: &Client) -> Result<String, String> {
        self.stage.cluster.try_by(&client.conninfo, "select 'in'")
    }

    #[track_caller]
    pub fn lets_in(&self, client: &Client) {
        assert_eq!(self.enters(client), Ok("in".to_owned()));
    }

    #[track_caller]
    pub fn keeps_out(&self, client: &Client, word: &str) {
        let error = self.enters(client).unwrap_err();
        assert!(error.contains(word), "{error}");
    }

    pub fn installed(&self) -> [String; 4] {
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let kept = |name: &str| read(&self.stage.kept(name));
        let stage = &self.stage;
        [
            read(&stage.cert),
            read(&stage.key),
            kept("ca.pem"),
            kept("crl.pem"),
        ]
    }

    /// Runs `sync`, which must leave everything as it is, for this reason.
    #[track_caller]
    pub fn leaves_all(&self, outcome: &str, words: &[&str]) {
        let before = (self.installed(), self.stage.reloads());
        let row = self.stage.synced(&[], outcome, 1);
        says(&problem(&row), words);
        let seen = pgcertd(self.world(), &self.stage.config, &["status", "--json"]).instance(NAME);
        let state = if outcome == "waiting" {
            "waiting"
        } else {
            "source_invalid"
        };
        assert_eq!(seen["state"], state, "{seen}");
        assert_eq!((self.installed(), self.stage.reloads()), before);
    }

    /// Makes every reload fail that Postgres is asked for, by what only a throw-away start could blame, and keeps that from
    /// being tried: nothing is known to be at fault but what is new.
    pub fn breaks_reloads(&self) {
        self.stage.cluster.set("ssl_ecdh_curve", "none");
        let [control, aside] = self.control_file();
        fs::rename(control, aside).unwrap();
    }

    /// Makes them succeed again.
    pub fn mends_reloads(&self) {
        let [control, aside] = self.control_file();
        fs::rename(aside, control).unwrap();
        self.stage.cluster.set("ssl_ecdh_curve", "prime256v1");
    }

    /// What a throw-away start copies and a server reads when it starts, and where that is out of the way.
    fn control_file(&self) -> [PathBuf; 2] {
        let directory = self.stage.cluster.data_directory().join("global");
        ["pg_control", "pg_control.aside"].map(|name| directory.join(name))
    }

    /// Brings `ca` as a further CA of clients, with its CRL; lists come first, or its clients would
    /// have none.
    pub fn admits(&self, ca: &Ca) {
        let crl = self.clients.crl(&[]) + &ca.crl(&[]);
        bring(self.world(), "crl.pem", &crl);
        bring(
            self.world(),
            "ca.pem",
            &(self.clients.root_pem() + &ca.root_pem()),
        );
    }

    /// Starts the daemon with the rights of the packaged unit, for which root's directory is closed
    /// but by its capability.
    pub fn daemon(&self) -> Daemon {
        let mut daemon = Launch::new(self.world())
            .like_the_unit()
            .daemon(&self.stage.config);
        daemon.ready();
        daemon
    }

    /// Ends the test: the server starts on what was left, with the first certificate.
    #[track_caller]
    pub fn ends(self) {
        let first = self.stage.first.clone();
        self.stage.ends_serving(&first);
    }
}
