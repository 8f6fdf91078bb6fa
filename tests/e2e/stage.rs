//! What most tests begin and end with: given a server, a lineage and an instance that binds them, and at the end a
//! server that still starts on what was left to it.

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
    config::{Config, Instance, path},
    daemon::{Daemon, Launch, Outcome, eventually_state, pgcertd},
    eventually,
    lineage::Lineage,
};

/// The name that every leaf here is for.
pub const HOST: &str = "pg.example.com";

/// The one instance of most tests.
pub const NAME: &str = "16-main";

/// A cluster that serves `first` out of `cert` and `key`, whose lineage holds it too.
pub struct Stage<'w> {
    pub world: &'w World,
    /// The instance's.
    pub name: &'static str,
    pub cluster: Cluster,
    pub lineage: Lineage,
    pub ca: Ca,
    pub first: Issued,
    pub config: Config,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A scene that is not made yet: a server, a lineage and the instance that binds them.
#[must_use]
pub struct StageBuilder<'w> {
    world: &'w World,
    cluster: ClusterBuilder<'w>,
    instance: Instance,
    config: Config,
    ca: Ca,
    first: Options,
    cert: PathBuf,
    key: PathBuf,
    placed: bool,
}

impl<'w> StageBuilder<'w> {
    /// With other settings of the server.
    pub fn cluster(
        mut self,
        change: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
    ) -> Self {
        self.cluster = change(self.cluster);
        self
    }

    /// With other keys of the instance.
    pub fn instance(mut self, change: impl FnOnce(Instance) -> Instance) -> Self {
        self.instance = change(self.instance);
        self
    }

    /// With the name that clients verify in the configuration, so that `check` has nothing to ask for.
    pub fn server_names(self) -> Self {
        self.instance(|instance| instance.set("server_names", vec![HOST]))
    }

    /// With other keys of the configuration.
    pub fn config(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }

    /// With the lineage in this directory, which the test fills.
    pub fn files(self, lineage: &Path) -> Self {
        self.instance(|instance| instance.set("lineage", path(lineage)))
    }

    /// With a first certificate that is issued so.
    pub fn first(mut self, options: Options) -> Self {
        self.first = options;
        self
    }

    /// With a first certificate of this kind of key.
    pub fn key(self, kind: KeyType) -> Self {
        self.first(of_kind(kind))
    }

    /// With nothing at the targets yet, or what the test has there.
    pub fn nothing_placed(mut self) -> Self {
        self.placed = false;
        self
    }

    /// With an authority of the test's own.
    pub fn authority(mut self, ca: Ca) -> Self {
        self.ca = ca;
        self
    }

    /// Makes it all, and starts the server.
    #[track_caller]
    pub fn start(self) -> Stage<'w> {
        let mut stage = self.create();
        stage.cluster.start_at_first();
        stage
    }

    /// Makes it all, and starts nothing.
    pub fn create(self) -> Stage<'w> {
        let Self {
            world,
            ca,
            cert,
            key,
            ..
        } = self;
        let first = ca.issue_with(&[HOST], &self.first);
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        let cluster = self.cluster.create();
        if self.placed {
            place(world, &first, &cert, &key);
        }
        let config = self.config.instance(self.instance).write();
        Stage {
            world,
            name: NAME,
            cluster,
            lineage,
            ca,
            first,
            config,
            cert,
            key,
        }
    }
}

impl<'w> Stage<'w> {
    /// The usual scene: chain and key in one file, the default target.
    #[track_caller]
    pub fn new(world: &'w World) -> Self {
        Self::build(world).start()
    }

    /// With a server that refuses RSA-2048, which pgcertd lets pass.
    #[track_caller]
    pub fn strict(world: &'w World) -> Self {
        Self::build(world).cluster(ClusterBuilder::strict).start()
    }

    /// Begins the usual scene.
    pub fn build(world: &'w World) -> StageBuilder<'w> {
        let target = world.target(NAME);
        Self::build_at(world, &target, &target)
    }

    /// The same with the targets at these paths, whose directories are made for the user postgres.
    pub fn build_at(world: &'w World, cert: &Path, key: &Path) -> StageBuilder<'w> {
        let cluster = Cluster::build(world).name(NAME).tls_files(cert, key);
        let mut instance = Instance::new(NAME, HOST, &cluster.data_directory());
        if cert != world.target(NAME) {
            instance = instance.set("cert_file", path(cert));
        }
        if key != cert {
            instance = instance.set("key_file", path(key));
        }
        StageBuilder {
            world,
            cluster,
            instance,
            // Nothing here may wait for the timer, or be mended by it.
            config: Config::new(world).watch("resync", "1h"),
            ca: Ca::new(world, "Test Root"),
            first: Options::default(),
            cert: cert.to_owned(),
            key: key.to_owned(),
            placed: true,
        }
    }

    /// An instance of this server, for another configuration; its lineage is a name or an absolute directory.
    pub fn instance(&self, lineage: impl AsRef<Path>) -> Instance {
        Instance::for_cluster(&self.cluster, lineage)
    }

    /// Runs a command of pgcertd as root.
    #[track_caller]
    pub fn pgcertd(&self, arguments: &[&str]) -> Outcome {
        pgcertd(self.world, &self.config, arguments)
    }

    /// Starts the daemon, and waits until it has found all in order.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(self.world, &self.config);
        daemon.wait_for_log(": in_sync");
        daemon
    }

    /// Starts the daemon as the unit does, until it is ready.
    #[track_caller]
    pub fn unit(&self) -> Daemon {
        let mut daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.ready();
        daemon
    }

    /// A renewal that Postgres takes.
    pub fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    /// A renewal that clients get soon.
    #[track_caller]
    pub fn renewal_is_served(&mut self) -> Issued {
        let issued = self.renew();
        self.serves(&issued);
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
        let seen = eventually_state(self.world, &self.config, self.name, state);
        println!("{state}: {}", seen["problem"]);
        seen
    }

    /// Waits until `status` shows this state, and a problem with every one of the words; the
    /// daemon's own view, which may know more, follows its log by a moment.
    #[track_caller]
    pub fn becomes_and_says(&self, state: &str, words: &[&str]) -> Value {
        let seen = eventually(SOON, &format!("{state}, with {words:?}"), || {
            let seen = self.pgcertd(&["status", "--json"]).instance(self.name);
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
        eventually(SOON, "the certificate is served", || self.still(issued));
    }

    /// New clients still get this certificate, for [`throughout`](crate::world::throughout).
    pub fn still(&self, issued: &Issued) -> Result<(), String> {
        match self.cluster.peer()?.fingerprint {
            served if served == issued.fingerprint => Ok(()),
            other => Err(format!("{other} is served")),
        }
    }

    /// New clients get this certificate, and the file that Postgres would load holds it.
    #[track_caller]
    pub fn keeps(&self, issued: &Issued) {
        assert_eq!(self.cluster.served(), issued.fingerprint);
        assert_eq!(leaf_of(&self.cert), Ok(issued.leaf_pem.clone()));
    }

    /// Waits until the daemon says this state, for a problem with these words; gives the problem's sentence.
    #[track_caller]
    pub fn daemon_says(&self, state: &str, words: &str) -> String {
        eventually(SOON, &format!("the daemon says {state}: {words}"), || {
            let view = daemon_view_of(&self.config, self.name)?;
            let problem = view["problem"].as_str().unwrap_or_default();
            if view["state"] == state && problem.contains(words) {
                Ok(problem.to_owned())
            } else {
                Err(view.to_string())
            }
        })
    }

    /// Waits until the daemon and a live `status` both say this state; gives the problem's sentence,
    /// which must be the same from both.
    #[track_caller]
    pub fn both_say(&self, state: &str) -> String {
        let of_daemon = self.daemon_says(state, "");
        let live = self.becomes(state);
        let live = live["problem"].as_str().unwrap_or_default();
        assert_eq!(live, of_daemon);
        of_daemon
    }

    /// Runs `sync --json` with these arguments.
    #[track_caller]
    pub fn sync(&self, arguments: &[&str]) -> Outcome {
        let all: Vec<&str> = ["sync", "--json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        self.pgcertd(&all)
    }

    /// Runs `sync`, which must come to this outcome and exit status; gives the instance's object.
    #[track_caller]
    pub fn synced(&self, arguments: &[&str], outcome: &str, code: i32) -> Value {
        let done = self.sync(arguments);
        let row = done.instance(self.name);
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
        self.config.state_directory().join(self.name).join(name)
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

    /// As [`Stage::ends`], with the first certificate.
    #[track_caller]
    pub fn ends_as_it_began(self, daemon: Daemon) {
        let first = self.first.clone();
        self.ends(daemon, &first);
    }

    /// As [`Stage::ends_serving`], with the first certificate.
    #[track_caller]
    pub fn ends_serving_the_first(self) {
        let first = self.first.clone();
        self.ends_serving(&first);
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

/// The daemon's own view of the instance, from `status.json`.
pub fn daemon_view(config: &Config) -> Result<Value, String> {
    daemon_view_of(config, NAME)
}

/// The same of any instance.
pub fn daemon_view_of(config: &Config, name: &str) -> Result<Value, String> {
    let file = config.runtime_directory().join("status.json");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let view: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let instances = view["instances"].as_array().ok_or("no instances")?;
    instances
        .iter()
        .find(|instance| instance["name"] == name)
        .cloned()
        .ok_or_else(|| format!("{name} is not in {view}"))
}

/// The first certificate in a file, as the authority wrote it.
pub fn leaf_of(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let end = "-----END CERTIFICATE-----\n";
    let length = text.find(end).ok_or("no certificate")? + end.len();
    // The authority ends its lines as RFC 7468 allows, and pgcertd as it recommends.
    Ok(text[..length].to_owned())
}
