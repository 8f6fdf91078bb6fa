//! When two paths are one.
//!
//! Paths are compared twice: as written, without `.` and `..`, and as the file system has them, with links
//! followed as far as the path exists and may be seen. Either kind of equality counts.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

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

/// A path in both its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Twin {
    written: PathBuf,
    real: PathBuf,
}

impl Twin {
    /// A directory, which is opened through links.
    pub(super) fn directory(path: &Path) -> Self {
        Self {
            written: normal(path),
            real: real(path),
        }
    }

    /// A file that is replaced by a rename: a link in its place is replaced as well, not followed.
    pub(super) fn target(path: &Path) -> Self {
        let written = normal(path);
        let real = match (written.parent(), written.file_name()) {
            (Some(parent), Some(name)) => real(parent).join(name),
            _ => written.clone(),
        };
        Self { written, real }
    }

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
