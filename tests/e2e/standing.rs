//! What most tests begin and end with: an instance that is in sync, and a server that still
//! starts on what was left to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::world::{
    SOON, World,
    ca::{Ca, Issued, KeyType, Options},
    cluster::{Cluster, ClusterBuilder},
    config::{Config, Instance},
    daemon::{Daemon, Outcome, eventually_state, pgcertd},
    eventually,
    faults::StrictOpenssl,
    lineage::Lineage,
};

/// The name that every leaf here is for.
pub const HOST: &str = "pg.example.com";

/// The one instance of most tests.
pub const NAME: &str = "16-main";

/// A cluster that serves `first` out of `cert` and `key`, whose lineage holds it too.
pub struct Stage<'w> {
    pub world: &'w World,
    pub cluster: Cluster,
    pub lineage: Lineage,
    pub ca: Ca,
    pub first: Issued,
    pub config: Config,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl<'w> Stage<'w> {
    /// One file, the default target.
    pub fn new(world: &'w World) -> Self {
        Self::with(world, |cluster| cluster, |instance| instance)
    }

    /// A server that refuses RSA-2048, which pgcertd lets pass.
    pub fn strict(world: &'w World) -> Self {
        Self::with(world, |cluster| strict(world, cluster), |instance| instance)
    }

    /// With other settings of the cluster and of the instance.
    pub fn with(
        world: &'w World,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let target = world.target(NAME);
        Self::at(world, &target, &target, cluster, instance)
    }

    /// With the targets at these paths, whose directories are made for the user postgres.
    pub fn at(
        world: &'w World,
        cert: &Path,
        key: &Path,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        Self::on(world, KeyType::default(), cert, key, cluster, instance)
    }

    /// As [`Stage::with`], with a first certificate of this kind of key.
    pub fn of_key(
        world: &'w World,
        kind: KeyType,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let target = world.target(NAME);
        Self::on(world, kind, &target, &target, cluster, instance)
    }

    fn on(
        world: &'w World,
        kind: KeyType,
        cert: &Path,
        key: &Path,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
        instance: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue_with(&[HOST], &of_kind(kind));
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        place(world, &first, cert, key);
        let cluster = cluster(Cluster::build(world).name(NAME).tls_files(cert, key)).start();
        let mut entry = Instance::of(&cluster, HOST);
        if cert != world.target(NAME) {
            entry = entry.set("cert_file", cert.to_str().unwrap());
        }
        if key != cert {
            entry = entry.set("key_file", key.to_str().unwrap());
        }
        let config = Config::new(world)
            // Nothing here may wait for the timer, or be mended by it.
            .watch("resync", "1h")
            .instance(instance(entry))
            .write();
        Self {
            world,
            cluster,
            lineage,
            ca,
            first,
            config,
            cert: cert.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Starts the daemon, and waits until it has found all in order.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(self.world, &self.config);
        daemon.wait_for_log(": in_sync");
        daemon
    }

    /// A renewal that Postgres takes.
    pub fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    /// A renewal with an RSA key of 2048 bits.
    pub fn renew_weak(&mut self) -> Issued {
        self.renew_to(KeyType::Rsa2048)
    }

    /// A renewal with this kind of key.
    pub fn renew_to(&mut self, kind: KeyType) -> Issued {
        let issued = self.ca.issue_with(&[HOST], &of_kind(kind));
        self.lineage.renew(&issued);
        issued
    }

    /// Waits until `status` shows this state; gives the instance's object.
    #[track_caller]
    pub fn becomes(&self, state: &str) -> Value {
        let seen = eventually_state(self.world, &self.config, NAME, state);
        println!("{state}: {}", seen["problem"]);
        seen
    }

    /// Waits until `status` shows this state, and a problem with every one of the words; the
    /// daemon's own view, which may know more, follows its log by a moment.
    #[track_caller]
    pub fn becomes_and_says(&self, state: &str, words: &[&str]) -> Value {
        let seen = eventually(SOON, &format!("{state}, with {words:?}"), || {
            let seen = pgcertd(self.world, &self.config, &["status", "--json"]).instance(NAME);
            let told = seen["problem"].as_str().unwrap_or_default();
            let all = seen["state"] == state && words.iter().all(|word| told.contains(word));
            if all {
                Ok(seen)
            } else {
                Err(format!("{seen}"))
            }
        });
        println!("{state}: {}", seen["problem"]);
        seen
    }

    /// Waits until clients get this certificate.
    #[track_caller]
    pub fn serves(&self, issued: &Issued) {
        eventually(SOON, "the certificate is served", || {
            self.cluster
                .peer()
                .map(|peer| peer.fingerprint == issued.fingerprint)
                .unwrap_or(false)
        });
    }

    /// Runs `sync --json` with these arguments.
    #[track_caller]
    pub fn sync(&self, arguments: &[&str]) -> Outcome {
        let all: Vec<&str> = ["sync", "--json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        pgcertd(self.world, &self.config, &all)
    }

    /// Runs `sync`, which must come to this outcome and exit status; gives the instance's object.
    #[track_caller]
    pub fn synced(&self, arguments: &[&str], outcome: &str, code: i32) -> Value {
        let done = self.sync(arguments);
        let row = done.instance(NAME);
        println!("sync {arguments:?}: {row}");
        assert_eq!(row["outcome"], outcome, "{row}");
        assert_eq!(done.code(), code, "{row}");
        row
    }

    /// How often the postmaster was asked to reload so far.
    pub fn reloads(&self) -> usize {
        self.cluster.log().matches("received SIGHUP").count()
    }

    /// A file of the instance's state directory.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.config.state_directory().join(NAME).join(name)
    }

    /// The certificate that `previous.pem` holds; the file must be private.
    #[track_caller]
    pub fn previous(&self) -> String {
        let file = self.kept("previous.pem");
        assert_eq!(mode(&file), 0o600);
        fs::read_to_string(file).unwrap()
    }

    /// Starts Postgres anew, later by at least a second: it tells its start to the second.
    #[track_caller]
    pub fn restart_postgres(&mut self) {
        if self.cluster.is_running() {
            self.cluster.stop();
        }
        next_second();
        self.cluster.start().unwrap();
    }

    /// Stops the daemon, which must go in peace, and then as [`Stage::ends_serving`].
    #[track_caller]
    pub fn ends(self, daemon: Daemon, expected: &Issued) {
        assert_eq!(daemon.stop().code(), Some(0));
        self.ends_serving(expected);
    }

    /// Postgres starts on what was left, and serves this; nothing half-written was left.
    #[track_caller]
    pub fn ends_serving(mut self, expected: &Issued) {
        self.cluster.restart().unwrap();
        assert_eq!(self.cluster.served(), expected.fingerprint);
        let homes = [
            self.cert.parent().unwrap(),
            self.key.parent().unwrap(),
            &self.kept(""),
        ]
        .map(Path::to_owned);
        for home in homes {
            assert_eq!(leftovers(&home), Vec::<String>::new(), "{}", home.display());
        }
    }
}

/// The usual leaf with this kind of key.
pub fn of_kind(key: KeyType) -> Options {
    Options {
        key,
        ..Options::default()
    }
}

/// Makes this cluster's OpenSSL refuse RSA-2048.
pub fn strict<'w>(world: &World, cluster: ClusterBuilder<'w>) -> ClusterBuilder<'w> {
    let strict = StrictOpenssl::new(world);
    cluster
        .with_env("OPENSSL_CONF", strict.conf.to_str().unwrap())
        .setting("ssl_dh_params_file", strict.dh_params.to_str().unwrap())
}

/// Places a pair in one file or in two, as an earlier deployment would have left it.
pub fn place(world: &World, issued: &Issued, cert: &Path, key: &Path) {
    if cert == key {
        world.place(issued, cert);
        return;
    }
    for (file, content, mode) in [
        (cert, issued.fullchain_pem(), 0o644),
        (key, issued.key_pem.clone(), 0o600),
    ] {
        let parent = file.parent().unwrap();
        if !parent.exists() {
            fs::create_dir_all(parent).unwrap();
            crate::world::give(parent, world.postgres(), 0o700);
        }
        fs::write(file, content).unwrap();
        crate::world::give(file, world.postgres(), mode);
    }
}

/// The permission bits of a file.
#[track_caller]
pub fn mode(file: &Path) -> u32 {
    fs::symlink_metadata(file).unwrap().permissions().mode() & 0o7777
}

/// What pgcertd wrote beside a target and left there.
pub fn leftovers(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("pgcertd-new"))
        .collect()
}

/// Waits until the clock shows another second.
pub fn next_second() {
    let second = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let now = second();
    eventually(SOON, "the next second begins", || second() > now);
}

/// The problem in a status or sync object, which must be there.
#[track_caller]
pub fn problem(seen: &Value) -> String {
    match seen["problem"].as_str() {
        Some(problem) => problem.to_owned(),
        None => panic!("there is no problem in {seen}"),
    }
}

/// Fails unless the text holds every one of the words.
#[track_caller]
pub fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}
