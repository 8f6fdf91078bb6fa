//! When two paths are one.
//!
//! Paths are compared twice: as written, without `.` and `..`, and as the file system has them, with links
//! followed as far as the path exists and may be seen. Either kind of equality counts.
//!
//! A file system that does not answer is not waited for: its paths count as they are written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::patience::Questions;

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
        let paths = directories.chain(parents);
        Self(Questions::default().ask(paths, |path: &PathBuf| real(path)))
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
