//! The world of a kill: a cluster, a lineage, and what lies in the directories that are written.

use std::{
    collections::BTreeSet,
    fs,
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use pgcertd::testing::bundle::KeyedBundle;

use crate::stage::{HOST, NAME};
use crate::world::{
    SOON, World,
    ca::{Issued, KeyType, Options},
    cluster::ClusterBuilder,
    command,
    config::Config,
    daemon::{Launch, Outcome, pgcertd},
    postgres::{DEBIAN, usual},
    process::run,
};

/// Whether chain and key share a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Files {
    One,
    Two,
}

/// What lies in the place of the targets.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// No file, or not all.
    Missing,
    /// Two files that do not belong together.
    Mixed,
    /// A bundle, by its leaf.
    Whole(String),
}

impl Left {
    pub fn holding(issued: &Issued) -> Self {
        Left::Whole(issued.fingerprint.clone())
    }
}

/// The usual scene, where the server serves `now`, which a deployment of pgcertd has brought.
pub struct Stage<'w> {
    scene: crate::stage::Stage<'w>,
    pub state: PathBuf,
    pub now: Issued,
    pub kills: u32,
}

impl<'w> Deref for Stage<'w> {
    type Target = crate::stage::Stage<'w>;

    fn deref(&self) -> &Self::Target {
        &self.scene
    }
}

impl DerefMut for Stage<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.scene
    }
}

impl<'w> Stage<'w> {
    pub fn new(world: &'w World, files: Files) -> Self {
        let target = world.target(NAME);
        let (cert, key) = match files {
            Files::One => (target.clone(), target),
            Files::Two => {
                let private = world.postgres_directory("private", 0o700);
                let public = world.postgres_directory("public", 0o755);
                (public.join("server.crt"), private.join("server.key"))
            }
        };
        // The tests of a refusal are skipped with other builds, see `STRICT`.
        let strict = |cluster: ClusterBuilder<'w>| {
            if usual() == *DEBIAN {
                cluster.strict()
            } else {
                cluster
            }
        };
        // The files of a lineage are young here, and nothing else writes them.
        let quick = |config: Config| {
            let config = config.watch("debounce", "1ms");
            config.defaults("verify_timeout", "5s")
        };
        let mut scene = crate::stage::Stage::build_at(world, &cert, &key)
            .cluster(strict)
            .config(quick)
            .nothing_placed()
            .create();
        let installed = scene.sync(&[]);
        assert_eq!(installed.code(), 0, "{installed:?}");
        scene.cluster.start_at_first();
        let mut stage = Self {
            state: world.path().join("state").join(NAME),
            now: scene.first.clone(),
            kills: 0,
            scene,
        };
        // From here on there is a previous bundle.
        let second = stage.renew();
        stage.synced(&second);
        stage
    }

    /// How a bundle is issued that this Postgres, and nobody before it, refuses.
    pub fn weak(&self) -> Options {
        let weak = Options {
            key: KeyType::Rsa2048,
            ..Options::default()
        };
        let key = self.ca.issue_with(&[HOST], &weak).key_pem;
        Options {
            reuse_key: Some(key),
            ..weak
        }
    }

    pub fn directories(&self) -> BTreeSet<&Path> {
        [self.cert.parent(), self.key.parent(), Some(&*self.state)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Every path that a deployment touches, and the handle by which Postgres is signalled.
    pub fn touched(&self) -> Vec<String> {
        let names = [
            self.cert.clone(),
            self.key.clone(),
            self.state.join("previous.pem"),
            self.state.join("held.json"),
            self.state.join("trial"),
            self.state.join("proven"),
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

    /// Runs `sync` under strace, which looks at what a deployment touches alone.
    pub fn traced(&self, args: &[&str]) -> Outcome {
        let paths = self.touched();
        let mut args = args.to_vec();
        for path in &paths {
            args.extend(["-P", path]);
        }
        Launch::new(self.world)
            .strace(&args)
            .run(&self.config, &["sync", "--json"])
    }

    /// Runs `sync` and has it killed on its way into the call; its outcome where it ended before.
    pub fn kill(&mut self, call: &str, nth: u32) -> Option<Outcome> {
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let trace = format!("trace={call}");
        let outcome = self.traced(&["-e", &trace, "-e", &inject]);
        if outcome.code() != -9 {
            return Some(outcome);
        }
        self.kills += 1;
        None
    }

    pub fn left(&self) -> Left {
        let (Ok(cert), Ok(key)) = (fs::read(&self.cert), fs::read(&self.key)) else {
            return Left::Missing;
        };
        match KeyedBundle::parse(&[cert.as_slice()], &key) {
            Ok(bundle) => Left::Whole(bundle.fingerprint().to_string()),
            Err(_) => Left::Mixed,
        }
    }

    /// Panics where a file shows a private key to others than its owner.
    pub fn no_key_is_shown(&self, point: &str) {
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

    pub fn leftovers(&self) -> Vec<PathBuf> {
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
    pub fn synced(&mut self, next: &Issued) {
        let done = pgcertd(self.world, &self.config, &["sync", "--json"]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(self.cluster.served(), next.fingerprint);
        assert_eq!(self.left(), Left::holding(next));
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
        self.now = next.clone();
    }

    /// Runs `sync`, after which `bad` is rejected and clients get what they got before.
    #[track_caller]
    pub fn rejected(&self, bad: &Issued) {
        let done = pgcertd(self.world, &self.config, &["sync", "--json"]);
        assert_eq!(done.code(), 1, "{done:?}");
        self.is_rejected(bad);
    }

    #[track_caller]
    pub fn is_rejected(&self, bad: &Issued) {
        assert_eq!(self.cluster.served(), self.now.fingerprint);
        assert_eq!(self.left(), Left::holding(&self.now));
        let held = self.held();
        assert!(held.contains(&bad.fingerprint), "{held}");
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }

    /// What is remembered as refused, as text.
    pub fn held(&self) -> String {
        fs::read_to_string(self.state.join("held.json")).unwrap_or_default()
    }

    /// How many files the targets are.
    pub fn targets(&self) -> u32 {
        if self.cert == self.key { 1 } else { 2 }
    }

    /// Which bundle is remembered as on trial, as text.
    pub fn trial(&self) -> String {
        let link = fs::read_link(self.state.join("trial"));
        link.map_or(String::new(), |link| link.to_str().unwrap().to_owned())
    }

    #[track_caller]
    pub fn has_no_trial(&self) {
        assert_eq!(self.trial(), "");
    }

    /// Postgres, which was stopped, refuses to start on what is there.
    #[track_caller]
    pub fn does_not_start(&mut self) {
        let Err(log) = self.cluster.start() else {
            panic!("Postgres starts on {:?}", self.left());
        };
        assert!(log.contains("could not load server certificate"), "{log}");
    }

    /// Starts Postgres, which was stopped, on what is there.
    #[track_caller]
    pub fn starts(&mut self, point: &str) {
        if let Err(log) = self.cluster.start() {
            panic!(
                "{point}: Postgres does not start on {:?}:\n{log}",
                self.left()
            );
        }
    }

    /// Starts the daemon while Postgres is down, until it is ready, as the unit's order has it.
    pub fn mended_by_daemon<R>(&mut self, then: impl FnOnce(&mut Self) -> R) -> R {
        let mut daemon = Launch::new(self.world).like_the_unit().daemon(&self.config);
        daemon.ready();
        let result = then(self);
        assert_eq!(daemon.stop().code(), Some(0));
        result
    }

    pub fn snapshot(&self) -> Snapshot {
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
pub struct Snapshot {
    copies: Vec<(PathBuf, PathBuf)>,
}

impl Snapshot {
    pub fn put_back(&self) {
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
