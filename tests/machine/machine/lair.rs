//! Where a machine's files lie: the root that all share, and what one machine changed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::Cgroup;
use crate::world::{command, eventually, process::run};

/// A first run fetches and unpacks some two hundred packages.
const FIRST_TIME: Duration = Duration::from_secs(15 * 60);

/// Both lie beside the build: `cargo clean` takes them away.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine")
}

/// The root with this version of Debian, made by whoever comes first.
pub fn debian_root(version: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/make-root");
    let root = run(command(script).arg(cache()).arg(version), FIRST_TIME)
        .result()
        .unwrap_or_else(|error| panic!("the machines' root cannot be made: {error}"));
    PathBuf::from(root)
}

/// The directory of one machine, locked as long as its test lives.
pub struct Lair {
    path: PathBuf,
    name: String,
    _lock: File,
}

impl Lair {
    /// Makes one, and removes those of runs that were killed.
    pub fn new() -> Self {
        let lairs = cache().join("running");
        fs::create_dir_all(&lairs).unwrap();
        // Between a directory's making and its locking nobody may take it for a leftover.
        let door = File::open(&lairs).unwrap();
        flock(&door, FlockOperation::LockExclusive).unwrap();
        remove_leftovers(&lairs);
        let path = tempfile::Builder::new()
            .prefix("pgcertd-machine-")
            .tempdir_in(&lairs)
            .unwrap()
            .keep();
        let lock = File::open(&path).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        for directory in ["changes", "work", "files"] {
            fs::create_dir(path.join(directory)).unwrap();
        }
        Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            path,
            _lock: lock,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other machine has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the machine's console is written to.
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// Removes it. The mounts on it have gone with the machine's namespaces.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// What nobody holds a lock on belongs to nobody.
fn remove_leftovers(lairs: &Path) {
    for entry in fs::read_dir(lairs).unwrap().flatten() {
        let Ok(directory) = File::open(entry.path()) else {
            continue;
        };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        Cgroup::left_behind(entry.file_name().to_str().unwrap()).remove();
        eventually(
            Duration::from_secs(5),
            "a leftover is removed",
            || match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        );
    }
}
