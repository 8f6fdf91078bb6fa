//! Why clients could not be made to use TLS, or a change could not be undone, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::host::privilege::PrivilegeError;
use crate::host::slot::SlotError;
use crate::problem::Problem;
use crate::server::sql::SqlError;

/// The step that fails where there is no directory.
pub(super) const OPEN_DIRECTORY: &str = "open its directory";

/// The server's `pg_hba.conf` stays, or could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum TighteningError {
    /// The server could not be asked.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A thread could not be had.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The file cannot be read with the rights of the server's user.
    #[error("{}: cannot be read as the server's user: {source}", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The server refuses a line that was there before.
    #[error("{}: the server refuses line {line} ({why}), so that a reload would change nothing and a restart would fail", file.display())]
    Broken {
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        why: String,
    },
    /// The server does not read what is read here.
    #[error("{}: the server reads other lines than are in that file here, as it does in a container or while somebody edits it; nothing was changed", file.display())]
    Elsewhere { file: PathBuf },
    /// `hostssl` lines need `ssl`.
    #[error("ssl is off in this server, and its pg_hba.conf may have no hostssl line then")]
    TlsOff,
    /// The file is not what was looked at.
    #[error("{}: it was changed since it was looked at; nothing was written over that", file.display())]
    Changed { file: PathBuf },
    /// The file is not what was written: somebody has edited it since.
    #[error("{}: it was edited since pgcertd wrote it, and stays as it is", file.display())]
    Edited { file: PathBuf, backup: PathBuf },
    /// The file is a link.
    #[error("{}: it is a link to {}, which something else keeps", file.display(), target.display())]
    Link { file: PathBuf, target: PathBuf },
    /// The file is nothing that a rename could replace.
    #[error("{}: it is {what}, which pgcertd does not replace", file.display())]
    Odd { file: PathBuf, what: &'static str },
    /// The directory for the saved file is another user's.
    #[error("{}: it belongs to user {uid}, who is neither root nor the server's user", directory.display())]
    Stranger { directory: PathBuf, uid: u32 },
    /// A step on a file failed.
    #[error("{}: cannot {action}: {source}", file.display())]
    Files {
        file: PathBuf,
        action: &'static str,
        #[source]
        source: Errno,
    },
    /// The server does not accept what was written; the previous files are back.
    #[error("with the change, the server rejects {} ({why}); the change was undone, and nothing was reloaded", file.display())]
    Refused { file: PathBuf, why: String },
    /// The saved file is gone, or is another one.
    #[error("{}: it is not the file that pgcertd saved, so that {} stays as it is; what was changed there is marked by hostssl and by lines that name pgcertd", backup.display(), file.display())]
    Unsaved {
        /// The file that was changed.
        file: PathBuf,
        backup: PathBuf,
    },
    /// A step failed, and then the previous files could not be restored.
    #[error("{cause}; and the previous files could not be restored: {fault}")]
    Stuck {
        cause: Box<TighteningError>,
        fault: Box<TighteningError>,
    },
}

impl From<SlotError> for TighteningError {
    fn from(error: SlotError) -> TighteningError {
        let SlotError {
            path,
            action,
            source,
        } = error;
        TighteningError::Files {
            file: path,
            action,
            source,
        }
    }
}

impl TighteningError {
    pub(super) fn files(file: &Path, action: &'static str) -> impl FnOnce(Errno) -> Self {
        let file = file.to_owned();
        move |source| TighteningError::Files {
            file,
            action,
            source,
        }
    }

    /// What it says, and what to do.
    pub(in crate::setup) fn problem(&self) -> Problem {
        Problem::new(self.to_string(), self.fix())
    }

    fn fix(&self) -> String {
        const BY_HAND: &str = "as the diff shows it, and reload: select pg_reload_conf()";
        match self {
            TighteningError::Unreadable { .. } => {
                "let that user or its group read it".into()
            }
            TighteningError::Broken { .. } => {
                "fix the line first; all such lines: select * from pg_hba_file_rules where error is not null".into()
            }
            TighteningError::Elsewhere { .. } => {
                "run pgcertd where the server's files are, or again when the edit is done".into()
            }
            TighteningError::TlsOff => {
                "turn it on first: alter system set ssl = on; select pg_reload_conf()".into()
            }
            TighteningError::Changed { .. } => "look again".into(),
            TighteningError::Edited { file, backup } => {
                let (file, backup) = (file.display(), backup.display());
                format!(
                    "see what has changed: diff -u {backup} {file}; to lose the edits: cp {backup} {file}; then: \
                     select pg_reload_conf()"
                )
            }
            TighteningError::Link { .. } => format!("make the change there, {BY_HAND}"),
            TighteningError::Odd { .. } => format!("make the change by hand, {BY_HAND}"),
            TighteningError::Stranger { .. } => "name another directory for the backup".into(),
            TighteningError::Files {
                file,
                action,
                source,
            } => remedy(*source, action, file),
            TighteningError::Refused { .. } => "fix that and try again".into(),
            TighteningError::Stuck { fault, .. } => fault.fix(),
            TighteningError::Sql(_)
            | TighteningError::Privilege(_)
            | TighteningError::Unsaved { .. } => String::new(),
        }
    }

    /// Whether a file, or its directory, is not there.
    pub(in crate::setup) fn is_absence(&self) -> bool {
        matches!(self, TighteningError::Files { source, .. } if *source == Errno::NOENT)
    }
}

fn remedy(error: Errno, action: &str, file: &Path) -> String {
    let directory = file.parent().unwrap_or(file).display();
    match error {
        Errno::ACCESS => {
            format!(
                "run pgcertd as root; if it is, let the owner write there: chmod u+wx {directory}"
            )
        }
        Errno::PERM => format!(
            "run pgcertd as root; if it is, the file or {directory} may be immutable: lsattr -d {directory} {}",
            file.display()
        ),
        Errno::ROFS => format!("{directory} is read-only: make the change where it is kept"),
        Errno::BUSY => "it is a mount of its own: make the change where it is kept".to_owned(),
        Errno::NOSPC | Errno::DQUOT => format!("free some room on the file system of {directory}"),
        Errno::NOENT if action == OPEN_DIRECTORY => {
            format!("make the directory: install -d -m 0700 {directory}")
        }
        Errno::NOTDIR => format!("{directory} must be a directory, and no link to one"),
        _ => String::new(),
    }
}
