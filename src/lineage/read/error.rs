//! Why a lineage's files could not be read, and what that means for the lineage.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::sway::Unfit;
use crate::bundle::Piece;
use crate::host::file::NotRegular;
use crate::host::privilege::if_hidden;
use crate::problem::Problem;

/// The largest file that is read, in bytes. A chain of ten certificates has about 20 KiB.
pub(crate) const MAX_SIZE: u64 = 1_048_576;

/// Why a lineage's files could not be read. Never quotes a file's content.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.problem())]
pub(crate) enum ReadError {
    /// None of the directories exists.
    DirectoryMissing {
        /// Where it was looked for.
        candidates: Vec<PathBuf>,
    },
    /// A file, or what a link points to, does not exist.
    Missing {
        /// The name that is missing: at the end of a dangling link, what it points to.
        path: PathBuf,
    },
    /// A CA or CRL file that doesn't exist, or isn't one.
    TrustFile {
        piece: Piece,
        /// Where it was looked for.
        path: PathBuf,
        what: String,
        /// Whether it may be half of a renewal.
        class: ReadErrorClass,
    },
    /// Something that is not read, because it might block or never end.
    NotRegular {
        /// Where it lies, without links.
        path: PathBuf,
        kind: NotRegular,
    },
    /// More than [`MAX_SIZE`] bytes.
    TooLarge {
        /// Where it lies, without links.
        path: PathBuf,
        size: u64,
    },
    /// More than 40 links on the way.
    LinkLoop {
        /// The path that was followed.
        path: PathBuf,
    },
    /// No right to look at it.
    Denied {
        /// What was refused: a file, or a name in a directory that cannot be searched.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Somebody decides what is read who couldn't read it themselves.
    Swayed(Box<Unfit>),
    /// Anything else the kernel says.
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What a [`ReadError`] means for the lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadErrorClass {
    /// May be half a renewal: something is not there, yet.
    Incomplete,
    /// What is there cannot be used.
    Unfit,
}

impl ReadError {
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::DirectoryMissing { candidates } => Problem::new(
                format!(
                    "the lineage has no directory: looked for {}",
                    list(candidates)
                ),
                format!(
                    "issue the certificate, or correct `lineage` or `directories`{}",
                    hidden(candidates)
                ),
            ),
            Self::Missing { path } => Problem::new(
                format!("{} does not exist", path.display()),
                "if no renewal is under way, issue the certificate again, or name the lineage's files with `files`",
            ),
            Self::TrustFile {
                piece, path, what, ..
            } => {
                let setting = piece.source_key();
                Problem::new(
                    format!("{} ({setting}) {what}", path.display()),
                    format!("put the file there, or correct {setting} in the config"),
                )
            }
            Self::NotRegular { path, kind } => Problem::new(
                format!("{} is a {kind}, not a regular file", path.display()),
                "put the certificate's file in its place, or name another with `files`",
            ),
            Self::TooLarge { path, size } => Problem::new(
                format!(
                    "{} has {size} bytes; no certificate or key has more than {MAX_SIZE}",
                    path.display()
                ),
                "name the right file with `files`",
            ),
            Self::LinkLoop { path } => Problem::new(
                format!(
                    "{} leads through more than 40 symbolic links",
                    path.display()
                ),
                "fix the one that points back to itself",
            ),
            Self::Denied { path, .. } => Problem::new(
                format!("no permission to read {}", path.display()),
                "run pgcertd as root, give it the capability CAP_DAC_READ_SEARCH as the packaged unit does, or grant \
                 access to the lineage's directories and files with a group or an ACL (on NFS, root_squash locks out even root)",
            ),
            Self::Swayed(unfit) => unfit.problem(),
            Self::Io { path, source } => Problem::new(
                format!("cannot read {}: {source}", path.display()),
                "fix the file system or the path",
            ),
        }
    }

    /// Whether it may be half a renewal.
    pub(crate) fn class(&self) -> ReadErrorClass {
        match self {
            Self::Missing { .. } => ReadErrorClass::Incomplete,
            Self::TrustFile { class, .. } => *class,
            _ => ReadErrorClass::Unfit,
        }
    }

    /// The same for a CA or CRL file.
    pub(super) fn about_trust_file(self, piece: Piece) -> Self {
        let class = self.class();
        let (path, what) = match self {
            Self::Missing { path } => (path, "does not exist".to_owned()),
            Self::NotRegular { path, kind } => (path, format!("is a {kind}, not a regular file")),
            Self::TooLarge { path, size } => (
                path,
                format!("has {size} bytes; at most {MAX_SIZE} are read"),
            ),
            other => return other,
        };
        Self::TrustFile {
            piece,
            path,
            what,
            class,
        }
    }

    pub(super) fn from_path(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            _ if source.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                Self::LinkLoop { path }
            }
            _ => Self::Io { path, source },
        }
    }
}

/// What to do if the unit hides one of them.
fn hidden(candidates: &[PathBuf]) -> &'static str {
    let mut hints = candidates.iter().map(|path| if_hidden(path));
    hints.find(|hint| !hint.is_empty()).unwrap_or_default()
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}
