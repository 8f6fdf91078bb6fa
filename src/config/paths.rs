//! When two paths are one.
//!
//! Paths are compared twice: as written, without `.` and `..`, and as the file system has them, with links
//! followed as far as the path exists and may be seen. Either kind of equality counts.
//!
//! A file system that does not answer is not waited for: its paths count as they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long all paths together are waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many paths are followed at once; as many may hang without keeping the others waiting.
const AT_ONCE: usize = 16;

/// An absolute path without `.`, `..` and doubled slashes, by its text alone.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Where directories really are, as far as their file systems said so in time.
pub(super) struct Real(BTreeMap<PathBuf, PathBuf>);

impl Real {
    /// Follows the links of all these directories, and of those that these files lie in.
    pub(super) fn of<'a>(
        directories: impl IntoIterator<Item = &'a Path>,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Self {
        let parents = files.into_iter().map(normal);
        let parents = parents.filter_map(|file| file.parent().map(Path::to_owned));
        let directories = directories.into_iter().map(Path::to_owned);
        Self(followed(directories.chain(parents).collect(), real))
    }

    /// A directory, which is opened through links.
    pub(super) fn directory(&self, path: &Path) -> Twin {
        Twin {
            written: normal(path),
            real: self.place(path),
        }
    }

    /// A file that is replaced by a rename: a link in its place is replaced as well, not followed.
    pub(super) fn target(&self, path: &Path) -> Twin {
        let written = normal(path);
        let real = match (written.parent(), written.file_name()) {
            (Some(parent), Some(name)) => self.place(parent).join(name),
            _ => written.clone(),
        };
        Twin { written, real }
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.0.get(path).cloned().unwrap_or_else(|| normal(path))
    }
}

/// What `follow` says of each path, without those on which it has not come back in time.
fn followed(paths: BTreeSet<PathBuf>, follow: fn(&Path) -> PathBuf) -> BTreeMap<PathBuf, PathBuf> {
    let (tell, told) = mpsc::channel();
    let wanted = paths.len();
    let queue = Arc::new(Mutex::new(paths));
    for _ in 0..wanted.min(AT_ONCE) {
        let (queue, tell) = (Arc::clone(&queue), tell.clone());
        let next = move || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first()
        };
        let worker = thread::Builder::new().name("paths".into()).spawn(move || {
            while let Some(path) = next() {
                let place = follow(&path);
                // Nobody waits any longer.
                if tell.send((path, place)).is_err() {
                    return;
                }
            }
        });
        // Without a thread its paths count as they are written.
        drop(worker);
    }
    let until = Instant::now() + PATIENCE;
    let mut places = BTreeMap::new();
    while places.len() < wanted {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((path, place)) => places.insert(path, place),
            Err(_) => break,
        };
    }
    places
}

/// A path in both its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Twin {
    written: PathBuf,
    real: PathBuf,
}

impl Twin {
    pub(super) fn same(&self, other: &Self) -> bool {
        self.written == other.written || self.real == other.real
    }

    pub(super) fn inside(&self, directory: &Self) -> bool {
        self.written.starts_with(&directory.written) || self.real.starts_with(&directory.real)
    }
}

/// The path with links followed in the longest part of it that can be seen.
fn real(path: &Path) -> PathBuf {
    let mut seen = path.to_owned();
    let mut rest: Vec<OsString> = Vec::new();
    loop {
        if let Ok(canonical) = fs::canonicalize(&seen) {
            return rest
                .iter()
                .rev()
                .fold(canonical, |path, name| path.join(name));
        }
        let Some(name) = seen.file_name().map(OsString::from) else {
            return normal(path);
        };
        rest.push(name);
        seen.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_hangs_keeps_no_other_waiting() {
        let paths = ["/hangs", "/answers", "/later"].map(PathBuf::from);
        let began = Instant::now();
        let places = followed(paths.into(), |path| {
            if path == Path::new("/hangs") {
                thread::park();
            }
            Path::new("/real").join(path.file_name().unwrap_or_default())
        });
        let seen: Vec<_> = places
            .values()
            .map(|place| place.display().to_string())
            .collect();
        assert_eq!(seen, ["/real/answers", "/real/later"]);
        assert!(began.elapsed() >= PATIENCE, "it was waited for");
    }
}
