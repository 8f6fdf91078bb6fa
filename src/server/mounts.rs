//! Targets that a server sees as single files, which stay the old ones there when they are replaced by a rename.

use std::fmt;
use std::path::{Path, PathBuf};

use super::files::Targets;
use super::process::Process;
use crate::config::ServerKind;
use crate::host::look::CannotLook;
use crate::host::mounts;
use crate::problem::Problem;
use crate::server::profile::Profile;

/// A target that the server sees as a file mounted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// The target, as it is called here.
    pub(crate) target: PathBuf,
    /// Where the server sees it.
    pub(crate) at: PathBuf,
    /// What kind of server it is.
    pub(crate) kind: ServerKind,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is mounted into the server's container as a single file, {}, which stays the old one there when it is replaced",
            self.target.display(),
            self.at.display()
        )
    }
}

impl Pinned {
    pub(crate) fn problem(&self) -> Problem {
        let Profile {
            cert_setting,
            key_setting,
            ..
        } = self.kind.profile();
        let name = self.kind.name();
        let fix = format!(
            "mount its directory there instead, set {cert_setting} and {key_setting} to the file in it, and restart {name}"
        );
        Problem::new(self.to_string(), fix)
    }
}

/// Whether the server `process` sees one of the targets as a single file. Everyone may look,
/// unless `/proc` is mounted so that others' processes are hidden.
///
/// # Errors
/// A mount table cannot be read.
pub(crate) async fn look(
    process: &Process,
    targets: &Targets,
) -> Result<Option<Pinned>, CannotLook> {
    let (kind, theirs) = (process.kind(), process.mounts());
    let files: Vec<PathBuf> = targets.paths().map(Path::to_owned).collect();
    let looked = tokio::task::spawn_blocking(move || {
        let found = mounts::first_alone(&theirs, files)?;
        Ok(found.map(|(target, at)| Pinned { target, at, kind }))
    });
    looked
        .await
        .unwrap_or_else(|_| Err(CannotLook::odd(Path::new(mounts::OURS))))
}
