//! The files of a host, below a root.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::host::file;

/// The largest text that is read; a crontab or a hook is far smaller.
const LARGEST: u64 = 1 << 20;

/// A host's files. Paths are the host's own, whatever the root.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    pub(crate) path: PathBuf,
    /// Whether the right to read it is missing.
    pub(crate) denied: bool,
    pub(crate) why: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl Tree {
    /// The files of this host.
    pub fn of_this_host() -> Tree {
        Tree::below("/")
    }

    /// The files below `root`.
    pub(crate) fn below(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// The real location of a path of the host.
    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a regular file; none if it doesn't exist.
    ///
    /// # Errors
    /// It exists, but cannot be read.
    pub(crate) fn text(&self, path: &Path) -> Result<Option<String>, Unread> {
        match file::read(&self.at(path), LARGEST) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(unread(path, &error)),
        }
    }

    /// The contents of a directory, by name, except hidden files; empty if it doesn't exist.
    ///
    /// # Errors
    /// It exists, but cannot be read.
    pub(crate) fn list(&self, directory: &Path) -> Result<BTreeSet<PathBuf>, Unread> {
        let entries = match fs::read_dir(self.at(directory)) {
            Err(error) if absent(&error) => return Ok(BTreeSet::new()),
            other => other.map_err(|error| unread(directory, &error))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names
            .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
            .map(|name| directory.join(name))
            .collect())
    }

    /// Whether a path leads to an executable file.
    pub(crate) fn executable(&self, path: &Path) -> bool {
        fs::metadata(self.at(path))
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    /// Whether there is a directory at this path, as far as we can see.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.at(path).is_dir()
    }

    /// The target of a link; none if it is not a link.
    pub(crate) fn link(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(self.at(path)).ok()
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn unread(path: &Path, error: &io::Error) -> Unread {
    Unread {
        path: path.to_owned(),
        denied: error.kind() == io::ErrorKind::PermissionDenied,
        why: error.to_string(),
    }
}
