//! The main job on real input: certbot renews against an ACME server, and clients see it at once.

use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use pgcertd::testing::bundle::KeyedBundle;

use crate::world::{
    SOON, World,
    acme::{Certbot, Pebble},
    client::Session,
    cluster::Cluster,
    config::{Config, Instance},
    daemon::{Launch, pgcertd},
    eventually,
};

const DOMAIN: &str = "pg.example.com";

/// From certbot's last link to the first client that is served the new certificate.
const PROMISED: Duration = Duration::from_secs(2);

/// How often a renewal is made again before a delay counts: another program may have kept both
/// processors for a moment.
const TRIES: usize = 3;

/// Reads a file in a loop, and takes note of every content that is not a whole bundle.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    reads: u64,
    leaves: BTreeSet<String>,
    faults: Vec<String>,
}

impl Onlooker {
    fn at(target: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            let mut last = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                seen.reads += 1;
                match std::fs::read(&target) {
                    Err(error) => seen.faults.push(error.to_string()),
                    Ok(now) if now == last => {}
                    Ok(now) => {
                        match KeyedBundle::parse(&[now.as_slice()], &now) {
                            Ok(bundle) => {
                                seen.leaves.insert(bundle.fingerprint().to_string());
                            }
                            Err(error) => seen.faults.push(error.to_string()),
                        }
                        last = now;
                    }
                }
                // A loop without a pause would keep one of two processors to itself.
                thread::sleep(Duration::from_micros(20));
            }
            seen
        });
        Self { stop, thread }
    }

    fn report(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A cluster that serves what certbot got first; nothing watches yet.
struct Scene<'p> {
    certbot: Certbot<'p>,
    root: &'p Path,
    cluster: Cluster,
    target: PathBuf,
    config: Config,
}

impl<'p> Scene<'p> {
    fn new(world: &World, pebble: &'p Pebble) -> Self {
        let certbot = Certbot::new(world, pebble);
        certbot.issue(DOMAIN);
        let mode = std::fs::metadata(certbot.live())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700, "only root may look into live/");
        let target = world.target("16-main");
        let mut cluster = Cluster::build(world)
            .tls(&target)
            .setting("max_connections", "200")
            .create();
        let config = Config::new(world)
            .watch("directories", vec![certbot.live().to_str().unwrap()])
            .instance(Instance::for_cluster(&cluster, DOMAIN).set("server_names", vec![DOMAIN]))
            .write();
        let first = pgcertd(world, &config, &["sync", "--json"]);
        assert_eq!(
            first.instance("16-main")["outcome"],
            "installed",
            "{first:?}"
        );
        cluster.start().unwrap();
        assert_eq!(cluster.served(), certbot.leaf(DOMAIN).0);
        Self {
            root: pebble.root(),
            certbot,
            cluster,
            target,
            config,
        }
    }

    /// Renews until a client that verifies everything is served the new certificate within the
    /// time that is promised, under the load of a pgbench that loses no transaction.
    fn renewed_in_time(&self, what: &str, renew: fn(&Certbot<'p>)) {
        let mut delays = Vec::new();
        for _ in 0..TRIES {
            let mut load = self.cluster.pgbench(4, 10);
            let delay = self.renewed(renew);
            let under_load = load.is_running();
            let transactions = load.finish().unwrap();
            println!(
                "{what}: served {} ms after certbot's last link; {transactions} transactions went on",
                delay.as_millis()
            );
            delays.push(delay);
            if delay < PROMISED && under_load {
                return;
            }
        }
        panic!("{what}: served only after {delays:?}, or when the load had ended");
    }

    /// Renews once; gives the time from the last link to the first verified client.
    fn renewed(&self, renew: fn(&Certbot<'p>)) -> Duration {
        let (before, serial) = self.certbot.leaf(DOMAIN);
        let (served, at) = thread::scope(|scope| {
            let renewal = scope.spawn(|| renew(&self.certbot));
            let seen = eventually(SOON * 3, "a client is served the new certificate", || {
                let served = self.cluster.peer()?;
                if served.fingerprint == before {
                    return Err("the old one is served".to_owned());
                }
                self.cluster.verify_full(self.root, DOMAIN)?;
                Ok((served, SystemTime::now()))
            });
            renewal.join().unwrap();
            seen
        });
        let (fingerprint, new_serial) = self.certbot.leaf(DOMAIN);
        assert_eq!(
            (served.fingerprint, &served.serial),
            (fingerprint, &new_serial)
        );
        assert_ne!(new_serial, serial);
        let link = self.certbot.lineage(DOMAIN).join("fullchain.pem");
        at.duration_since(changed(&link)).unwrap_or_default()
    }
}

/// The change time of a link itself.
fn changed(link: &Path) -> SystemTime {
    let link = link.symlink_metadata().unwrap();
    let (seconds, nanos) = (link.ctime(), link.ctime_nsec());
    SystemTime::UNIX_EPOCH + Duration::new(seconds.try_into().unwrap(), nanos.try_into().unwrap())
}

#[test]
fn a_certbot_renewal_is_served_within_two_seconds_and_disturbs_nobody() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let mut scene = Scene::new(&world, &pebble);
    let mut daemon = Launch::new(&world).daemon(&scene.config);
    daemon.ready();
    let mut sessions: Vec<Session> = (0..100).map(|_| scene.cluster.session()).collect();
    let onlooker = Onlooker::at(scene.target.clone());

    scene.renewed_in_time("a new key", Certbot::renew);
    let key = std::fs::read(scene.certbot.lineage(DOMAIN).join("privkey.pem")).unwrap();
    scene.renewed_in_time("the same key", Certbot::renew_reusing_key);
    let same = std::fs::read(scene.certbot.lineage(DOMAIN).join("privkey.pem")).unwrap();
    assert_eq!(key, same);

    let seen = onlooker.report();
    println!("the target was read {} times", seen.reads);
    assert_eq!(seen.faults, Vec::<String>::new());
    assert!(seen.leaves.len() >= 3, "{:?}", seen.leaves);
    for session in &mut sessions {
        assert_eq!(session.lives(), Ok(()));
    }
    assert_eq!(daemon.stop().code(), Some(0));
    drop(sessions);
    let (newest, _) = scene.certbot.leaf(DOMAIN);
    scene.cluster.restart().unwrap();
    assert_eq!(scene.cluster.served(), newest);
}

#[test]
fn a_certbot_renewal_reaches_a_daemon_with_one_capability() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let mut scene = Scene::new(&world, &pebble);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&scene.config);
    daemon.ready();
    let onlooker = Onlooker::at(scene.target.clone());

    scene.renewed_in_time("as the unit runs", Certbot::renew);

    assert_eq!(onlooker.report().faults, Vec::<String>::new());
    let installed = std::fs::metadata(&scene.target).unwrap();
    assert_eq!(installed.uid(), world.postgres().uid);
    assert_eq!(installed.mode() & 0o7777, 0o600);
    assert_eq!(daemon.stop().code(), Some(0));
    let (newest, _) = scene.certbot.leaf(DOMAIN);
    scene.cluster.restart().unwrap();
    assert_eq!(scene.cluster.served(), newest);
}
