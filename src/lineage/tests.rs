//! The three parts together on a real directory, driven as the daemon drives them. What "fits" means is kept simple: chain
//! and key hold the same word.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be made"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::bundle::TrustFiles;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    root: TempDir,
    hints: Receiver<Hint>,
    watcher: Watcher,
    settler: Settler,
    trail: Trail,
    settled: Option<Layout>,
}

/// One round of certbot's: four new files, then four links, key before chain.
fn certbot(root: &Path, generation: u32, word: &str) {
    let (live, archive) = (root.join("live/a"), root.join("archive/a"));
    fs::create_dir_all(&live).unwrap();
    fs::create_dir_all(&archive).unwrap();
    for name in ["privkey", "cert", "chain", "fullchain"] {
        fs::write(archive.join(format!("{name}{generation}.pem")), word).unwrap();
    }
    for name in ["cert", "privkey", "chain", "fullchain"] {
        let link = live.join(format!("{name}.pem"));
        let _ = fs::remove_file(&link);
        symlink(format!("../../archive/a/{name}{generation}.pem"), link).unwrap();
    }
}

impl World {
    fn new(debounce: Duration) -> Self {
        let (sender, hints) = channel();
        let watcher = Watcher::start(move |hint| drop(sender.send(hint))).unwrap();
        let settler = Settler::new(debounce, Duration::from_secs(600));
        let root = TempDir::new().unwrap();
        Self {
            root,
            hints,
            watcher,
            settler,
            trail: Trail::default(),
            settled: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn certbot(&self, generation: u32, word: &str) {
        certbot(&self.path(""), generation, word);
    }

    fn hear(&mut self, hint: Hint) {
        let now = Instant::now();
        match hint {
            Hint::Change { path, change } => self.settler.event(&path, change, now),
            Hint::Disarmed { directory } if !self.trail.directories.contains(&directory) => {}
            Hint::Disarmed { .. } | Hint::Rescan | Hint::Failed { .. } => self.settler.unknown(now),
        }
    }

    fn read(&mut self) -> (Settled, Option<String>) {
        let (at, wall) = (Instant::now(), Timestamp::now());
        let spec = Spec {
            name: "a".to_owned(),
            candidates: vec![self.path("live/a")],
            files: None,
            trust_files: TrustFiles::default(),
        };
        let reading = read::read(&spec, self.settled.clone(), &read::Users::default());
        let word = reading.parts.as_ref().ok().and_then(|parts| {
            let same = parts.chain.first().is_some_and(|chain| *chain == parts.key);
            same.then(|| String::from_utf8_lossy(&parts.key).into_owned())
        });
        let fit = match (&reading.parts, &word) {
            (Ok(_), Some(_)) => Fit::Fits,
            (Ok(_), None) => Fit::Incomplete,
            (Err(error), _) if error.class() == ReadErrorClass::Incomplete => Fit::Incomplete,
            (Err(_), _) => Fit::Unfit,
        };
        let verdict = self.settler.read(&reading, fit, at, wall);
        if verdict == Settled::Taken {
            self.settled = reading.layout;
        }
        self.trail = reading.trail;
        let watched = self.watcher.watch(&self.trail.directories);
        if !watched.armed.is_empty() || !watched.errors.is_empty() {
            self.settler.unknown(Instant::now());
        }
        (verdict, word)
    }

    /// Follows hints and due times until a bundle with this word is taken, and says which were taken on the way.
    fn until_taken(&mut self, wanted: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "not taken; taken were {taken:?}");
            let due = self.settler.due().unwrap_or(deadline).min(deadline);
            match self
                .hints
                .recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                Ok(hint) => self.hear(hint),
                Err(RecvTimeoutError::Timeout) => {
                    if let (Settled::Taken, Some(word)) = self.read() {
                        taken.push(word);
                        if taken.last().is_some_and(|word| word == wanted) {
                            return taken;
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the watcher ended"),
            }
        }
    }

    /// Until nothing is due any more.
    fn until_quiet(&mut self) {
        while let Some(due) = self.settler.due() {
            match self
                .hints
                .recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                Ok(hint) => self.hear(hint),
                Err(_) => drop(self.read()),
            }
        }
    }

    fn started(&mut self) {
        self.settler.unknown(Instant::now());
        self.until_taken("one");
        self.until_quiet();
    }
}

#[test]
fn a_certbot_renewal_is_taken_without_waiting_for_the_debounce() {
    let debounce = Duration::from_secs(2);
    let mut world = World::new(debounce);
    world.certbot(1, "one");
    world.started();
    let begun = Instant::now();
    world.certbot(2, "two");
    assert_eq!(world.until_taken("two"), ["two"]);
    assert!(begun.elapsed() < debounce, "{:?}", begun.elapsed());
}

#[test]
fn certbot_renewing_on_and_on_is_never_taken_half() {
    let mut world = World::new(Duration::from_millis(30));
    world.certbot(1, "one");
    world.started();
    let root = world.path("");
    let renewals = std::thread::spawn(move || {
        (2..40).for_each(|generation: u32| certbot(&root, generation, &generation.to_string()));
    });
    let taken = world.until_taken("39");
    renewals.join().unwrap();
    assert!(
        taken
            .iter()
            .all(|word| word.parse::<u32>().is_ok_and(|number| number >= 2)),
        "{taken:?}"
    );
}

#[test]
fn a_chain_that_is_appended_to_is_taken_whole() {
    let mut world = World::new(Duration::from_millis(300));
    world.write("live/a/fullchain.pem", "one");
    world.write("live/a/privkey.pem", "one");
    world.started();
    world.write("live/a/privkey.pem", "two");
    world.write("live/a/fullchain.pem", "tw");
    let path = world.path("live/a/fullchain.pem");
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(b"o")
        .unwrap();
    assert_eq!(world.until_taken("two"), ["two"]);
}

#[test]
fn a_lineage_that_is_deleted_and_issued_again_is_taken_again() {
    let mut world = World::new(Duration::from_millis(30));
    world.certbot(1, "one");
    world.started();
    fs::remove_dir_all(world.path("live")).unwrap();
    fs::remove_dir_all(world.path("archive")).unwrap();
    world.certbot(1, "two");
    assert_eq!(world.until_taken("two"), ["two"]);
}

#[test]
fn a_lineage_that_does_not_exist_yet_is_taken_when_it_is_issued() {
    let mut world = World::new(Duration::from_millis(30));
    world.settler.unknown(Instant::now());
    let (verdict, word) = world.read();
    assert_eq!(verdict, Settled::Problem);
    assert_eq!(word, None);
    world.certbot(1, "one");
    assert_eq!(world.until_taken("one"), ["one"]);
}
