//! pgcertd killed at each system call that touches what Postgres loads or pgcertd remembers.
//!
//! strace kills `sync` on the way into the call, one call after the other, until a run has no
//! such call left. So the state after a call is seen at the call that follows. The short form
//! takes the calls that change something; with `PGCERTD_LONG=1` it is every call that names or
//! holds one of the paths.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use pgcertd::bundle::Bundle;

use crate::world::{
    SOON, World,
    ca::{Ca, Issued, KeyType, Options},
    cluster::Cluster,
    command,
    config::{Config, Instance, path},
    daemon::{Launch, Outcome, eventually_state, pgcertd},
    eventually,
    faults::StrictOpenssl,
    lineage::Lineage,
    process::run,
};

const DOMAIN: &str = "pg.example.com";

/// The calls that change a file, a directory or the server.
const CHANGING: [&str; 11] = [
    "mkdir",
    "fchown",
    "fchmod",
    "write",
    "fsync",
    "linkat",
    "symlinkat",
    "renameat",
    "rename",
    "renameat2",
    "pidfd_send_signal",
];

/// Those between which the states of a roll-back lie; the rest happens beside the targets.
const DECISIVE: [&str; 2] = ["renameat", "pidfd_send_signal"];

/// Those that only look, or take away what is not there.
const LOOKING: [&str; 9] = [
    "open",
    "openat",
    "read",
    "fstat",
    "newfstatat",
    "statx",
    "fcntl",
    "close",
    "unlinkat",
];

/// The calls to kill at: `short`, or all of them where time does not matter.
fn calls(short: &[&'static str]) -> Vec<&'static str> {
    if std::env::var_os("PGCERTD_LONG").is_some() {
        CHANGING.into_iter().chain(LOOKING).collect()
    } else {
        short.to_vec()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    One,
    Two,
}

/// What lies in the place of the targets.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// No file, or not all.
    Missing,
    /// Two files that do not belong together.
    Mixed,
    /// A bundle, by its leaf.
    Whole(String),
}

impl Left {
    fn of(issued: &Issued) -> Self {
        Left::Whole(issued.fingerprint.clone())
    }
}

/// A cluster that serves `now`, which a deployment of pgcertd has brought.
struct Stage<'w> {
    world: &'w World,
    cluster: Cluster,
    lineage: Lineage,
    ca: Ca,
    config: Config,
    cert: PathBuf,
    key: PathBuf,
    state: PathBuf,
    now: Issued,
    kills: u32,
}

impl<'w> Stage<'w> {
    fn new(world: &'w World, files: Files) -> Self {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&[DOMAIN]);
        let mut lineage = Lineage::new(world, DOMAIN);
        lineage.renew(&first);
        let (cert, key) = match files {
            Files::One => (world.target("16-main"), world.target("16-main")),
            Files::Two => {
                let private = world.postgres_directory("private", 0o700);
                let public = world.postgres_directory("public", 0o755);
                (public.join("server.crt"), private.join("server.key"))
            }
        };
        let strict = StrictOpenssl::new(world);
        let mut cluster = Cluster::build(world)
            .tls_files(&cert, &key)
            .setting("ssl_dh_params_file", strict.dh_params.to_str().unwrap())
            .with_env("OPENSSL_CONF", strict.conf.to_str().unwrap())
            .create();
        // The files of a lineage are young here, and nothing else writes them.
        let mut instance = Instance::of(&cluster, DOMAIN);
        if files == Files::Two {
            instance = instance
                .set("cert_file", path(&cert))
                .set("key_file", path(&key));
        }
        let config = Config::new(world)
            .watch("debounce", "1ms")
            .instance(instance)
            .write();
        let installed = pgcertd(world, &config, &["sync"]);
        assert_eq!(installed.code(), 0, "{installed:?}");
        cluster.start().unwrap();
        let mut stage = Self {
            world,
            cluster,
            lineage,
            ca,
            config,
            cert,
            key,
            state: world.path().join("state/16-main"),
            now: first,
            kills: 0,
        };
        // From here on there is a previous bundle.
        let second = stage.renewed();
        stage.synced(&second);
        stage
    }

    fn renewed(&mut self) -> Issued {
        let next = self.ca.issue(&[DOMAIN]);
        self.lineage.renew(&next);
        next
    }

    fn directories(&self) -> BTreeSet<&Path> {
        [self.cert.parent(), self.key.parent(), Some(&*self.state)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Every path that a deployment touches, and the handle by which Postgres is signalled.
    fn touched(&self) -> Vec<String> {
        let names = [
            self.cert.clone(),
            self.key.clone(),
            self.state.join("previous.pem"),
            self.state.join("held.json"),
            self.state.clone(),
        ];
        let mut all = BTreeSet::from(["anon_inode:[pidfd]".to_owned()]);
        all.extend(self.directories().iter().map(|d| d.display().to_string()));
        for file in names {
            let name = file.file_name().unwrap().to_str().unwrap();
            let staging = file.with_file_name(format!(".{name}.pgcertd-new"));
            all.extend([file, staging].map(|p| p.display().to_string()));
        }
        all.into_iter().collect()
    }

    /// Runs `sync` and has it killed on its way into the call; its outcome where it ended before.
    fn kill(&mut self, call: &str, nth: u32) -> Option<Outcome> {
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let trace = format!("trace={call}");
        let paths = self.touched();
        let mut args = vec!["-e", &*trace, "-e", &*inject];
        for path in &paths {
            args.extend(["-P", path]);
        }
        let outcome = Launch::new(self.world)
            .strace(&args)
            .run(&self.config, &["sync", "--json"]);
        if outcome.code() != -9 {
            return Some(outcome);
        }
        self.kills += 1;
        None
    }

    fn left(&self) -> Left {
        let (Ok(cert), Ok(key)) = (fs::read(&self.cert), fs::read(&self.key)) else {
            return Left::Missing;
        };
        match Bundle::parse(&[cert.as_slice()], &key) {
            Ok(bundle) => Left::Whole(bundle.fingerprint().to_string()),
            Err(_) => Left::Mixed,
        }
    }

    /// Panics where a file shows a private key to others than its owner.
    fn no_key_is_shown(&self, point: &str) {
        for directory in self.directories() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let holds_key = meta.is_file()
                    && String::from_utf8_lossy(&fs::read(entry.path()).unwrap())
                        .contains("PRIVATE KEY");
                assert!(
                    !holds_key || meta.mode() & 0o077 == 0,
                    "{point}: {} has mode {:o}",
                    entry.path().display(),
                    meta.mode()
                );
            }
        }
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let mut directories = self.directories();
        directories.insert(self.state.parent().unwrap());
        directories
            .into_iter()
            .flat_map(|directory| fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().contains("pgcertd-new"))
            .collect()
    }

    /// Runs `sync`, after which clients get `next`.
    #[track_caller]
    fn synced(&mut self, next: &Issued) {
        let done = pgcertd(self.world, &self.config, &["sync", "--json"]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(self.cluster.served(), next.fingerprint);
        assert_eq!(self.left(), Left::of(next));
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
        self.now = next.clone();
    }

    /// Runs `sync`, after which `bad` is rejected and clients get what they got before.
    #[track_caller]
    fn rejected(&self, bad: &Issued) {
        let done = pgcertd(self.world, &self.config, &["sync", "--json"]);
        assert_eq!(done.code(), 1, "{done:?}");
        self.is_rejected(bad);
    }

    #[track_caller]
    fn is_rejected(&self, bad: &Issued) {
        assert_eq!(self.cluster.served(), self.now.fingerprint);
        assert_eq!(self.left(), Left::of(&self.now));
        let held = fs::read_to_string(self.state.join("held.json")).unwrap();
        assert!(held.contains(&bad.fingerprint), "{held}");
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }

    /// Starts Postgres, which was stopped, on what is there.
    #[track_caller]
    fn starts(&mut self, point: &str) {
        if let Err(log) = self.cluster.start() {
            panic!(
                "{point}: Postgres does not start on {:?}:\n{log}",
                self.left()
            );
        }
    }

    /// Starts the daemon while Postgres is down, until it is ready, as the unit's order has it.
    fn mended_by_daemon<R>(&mut self, then: impl FnOnce(&mut Self) -> R) -> R {
        let mut daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.ready();
        let result = then(self);
        assert_eq!(daemon.stop().code(), Some(0));
        result
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = Snapshot {
            copies: self
                .directories()
                .into_iter()
                .enumerate()
                .map(|(number, directory)| {
                    let copy = self.world.path().join(format!("snapshot-{number}"));
                    (directory.to_owned(), copy)
                })
                .collect(),
        };
        for (directory, copy) in &snapshot.copies {
            // Hard links between the files stay such.
            run(command("cp").arg("-aT").arg(directory).arg(copy), SOON)
                .result()
                .unwrap();
        }
        snapshot
    }
}

/// The directories as a kill has left them.
struct Snapshot {
    copies: Vec<(PathBuf, PathBuf)>,
}

impl Snapshot {
    fn put_back(&self) {
        for (directory, copy) in &self.copies {
            for entry in fs::read_dir(directory).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            run(command("cp").arg("-aT").arg(copy).arg(directory), SOON)
                .result()
                .unwrap();
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        for (_, copy) in &self.copies {
            if let Err(error) = fs::remove_dir_all(copy) {
                eprintln!("{}: {error}", copy.display());
            }
        }
    }
}

fn install_is_survived(files: Files) {
    let Some(world) = World::new() else { return };
    let mut stage = Stage::new(&world, files);
    for call in calls(&CHANGING) {
        for nth in 1.. {
            let old = stage.now.clone();
            let new = stage.renewed();
            if let Some(done) = stage.kill(call, nth) {
                assert_eq!(done.instance("16-main")["outcome"], "deployed");
                stage.synced(&new);
                break;
            }
            let point = format!("killed at {call} {nth}");
            let either = [Left::of(&old), Left::of(&new)];
            stage.no_key_is_shown(&point);
            assert!(
                either.contains(&Left::Whole(stage.cluster.served())),
                "{point}"
            );
            let left = stage.left();
            let allowed = either.contains(&left) || files == Files::Two && left == Left::Mixed;
            assert!(allowed, "{point}: {left:?}");
            let snapshot = stage.snapshot();

            // Postgres runs on, and pgcertd comes again.
            stage.synced(&new);

            // Or Postgres has gone down as well.
            snapshot.put_back();
            stage.cluster.stop();
            match files {
                Files::One => stage.starts(&point),
                Files::Two if nth % 2 == 0 => stage.mended_by_daemon(|stage| stage.starts(&point)),
                Files::Two => {
                    let mended = pgcertd(&world, &stage.config, &["sync", "--json"]);
                    assert_eq!(mended.code(), 0, "{point}: {mended:?}");
                    stage.starts(&point);
                }
            }
            assert!(
                either.contains(&Left::Whole(stage.cluster.served())),
                "{point}"
            );
            stage.synced(&new);
        }
    }
    println!("killed {} times", stage.kills);
    assert!(stage.kills >= 8, "only {} kills", stage.kills);
}

#[test]
fn an_install_of_one_file_is_killed_at_every_step() {
    install_is_survived(Files::One);
}

#[test]
fn an_install_of_two_files_is_killed_at_every_step() {
    install_is_survived(Files::Two);
}

/// One window no order of steps can close: between the install of a bundle that only Postgres
/// itself finds unfit and its roll-back, a kill leaves that bundle in place. Postgres runs on
/// with the old one then, and pgcertd, started again, rolls back; but a Postgres that was
/// restarted before that would not start. So there Postgres is restarted afterwards.
fn roll_back_is_survived(files: Files) {
    let Some(world) = World::new() else { return };
    let mut stage = Stage::new(&world, files);
    let weak = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    let weak = Options {
        reuse_key: Some(stage.ca.issue_with(&[DOMAIN], &weak).key_pem),
        ..weak
    };
    let mut in_window = 0;
    for call in calls(&DECISIVE) {
        for nth in 1.. {
            let bad = stage.ca.issue_with(&[DOMAIN], &weak);
            stage.lineage.renew(&bad);
            let ended = stage.kill(call, nth);
            let point = format!("killed at {call} {nth}");
            stage.no_key_is_shown(&point);
            assert_eq!(stage.cluster.served(), stage.now.fingerprint, "{point}");
            if let Some(done) = ended {
                assert_eq!(done.instance("16-main")["outcome"], "rolled_back");
                stage.is_rejected(&bad);
                let new = stage.renewed();
                stage.synced(&new);
                break;
            }
            let left = stage.left();
            let snapshot = stage.snapshot();

            // Postgres runs on, and pgcertd comes again.
            stage.rejected(&bad);

            // Or Postgres has gone down as well.
            if left == Left::of(&bad) {
                in_window += 1;
                stage.cluster.stop();
                stage.starts(&point);
                stage.rejected(&bad);
            } else if left == Left::Mixed && files == Files::Two {
                snapshot.put_back();
                stage.cluster.stop();
                stage.mended_by_daemon(|stage| {
                    stage.starts(&point);
                    eventually_state(&world, &stage.config, "16-main", "rejected");
                });
                stage.is_rejected(&bad);
            } else {
                assert_eq!(left, Left::of(&stage.now), "{point}");
                snapshot.put_back();
                stage.cluster.stop();
                stage.starts(&point);
                stage.rejected(&bad);
            }
            let new = stage.renewed();
            stage.synced(&new);
        }
    }
    println!(
        "killed {} times, {in_window} of them in the window",
        stage.kills
    );
    assert!(stage.kills >= 6, "only {} kills", stage.kills);
    assert!(in_window >= 1, "the refused bundle was never left in place");
}

#[test]
fn a_roll_back_of_one_file_is_killed_at_every_step() {
    roll_back_is_survived(Files::One);
}

#[test]
fn a_roll_back_of_two_files_is_killed_at_every_step() {
    roll_back_is_survived(Files::Two);
}

#[test]
fn a_first_install_is_killed_at_every_step() {
    let Some(world) = World::new() else { return };
    let mut stage = Stage::new(&world, Files::One);
    for call in calls(&CHANGING) {
        for nth in 1.. {
            let new = stage.renewed();
            // Postgres still has what it has loaded.
            fs::remove_dir_all(&stage.state).unwrap();
            let ended = stage.kill(call, nth);
            let point = format!("killed at {call} {nth}");
            stage.no_key_is_shown(&point);
            let left = stage.left();
            assert!(
                [Left::Missing, Left::of(&new)].contains(&left),
                "{point}: {left:?}"
            );
            // A daemon has the rights of the server's user alone, and must get on as well.
            if nth % 2 == 0 {
                stage.mended_by_daemon(|stage| {
                    eventually(SOON, &format!("{point}: the daemon gets on"), || {
                        stage.cluster.served() == new.fingerprint
                    });
                });
            }
            stage.synced(&new);
            let state = fs::metadata(&stage.state).unwrap();
            assert_eq!(state.uid(), world.postgres().uid, "{point}");
            stage.cluster.restart().unwrap();
            if ended.is_some() {
                break;
            }
        }
    }
    println!("killed {} times", stage.kills);
    assert!(stage.kills >= 8, "only {} kills", stage.kills);
}
