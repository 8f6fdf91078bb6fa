//! Why SQL could not be had of a server, with the remedy.
//!
//! What the server said is quoted, in its own language; what it meant is taken from the SQLSTATE
//! and, where one state stands for several causes, from the place in its source that it names,
//! neither of which is translated.

use std::io;
use std::path::{Path, PathBuf};

use tokio_postgres::error::SqlState;

use super::bounded::Refusal;
use crate::host::privilege::PrivilegeError;

/// A login or a question failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The server has no Unix socket.
    #[error(
        "the server has no Unix socket to log in over: unix_socket_directories is empty; name a directory there, and restart the server when it suits"
    )]
    NoSocket,
    /// The pid file does not say yet where the socket is.
    #[error(
        "the server is still starting and has not said where its socket is; ask again in a moment"
    )]
    Unsaid,
    /// The socket cannot be connected to.
    #[error("{}: {source}{remedy}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
        remedy: &'static str,
    },
    /// Another process listens on the socket that the pid file names.
    #[error("{}: process {other} listens there, and not the postmaster {pid}, so that nothing was asked of it; give the two servers socket directories or ports of their own", socket.display())]
    Foreign {
        socket: PathBuf,
        pid: u32,
        /// Who listens; 0 where it cannot be seen.
        other: u32,
    },
    /// The server did not let the role in.
    #[error("the server does not let user {user} in as role {role}: {said}; {remedy}")]
    Refused {
        role: String,
        user: String,
        said: String,
        remedy: String,
        cause: SqlCause,
    },
    #[error(
        "the server has neither a database postgres nor a template1 to log in to; create one: CREATE DATABASE postgres"
    )]
    NoDatabase,
    #[error(
        "asked for {what}, the server gave no answer within {seconds} s; it may be stopped or overloaded: see its log"
    )]
    Silent {
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    #[error("asked for {what}, the server says: {said}{remedy}")]
    Asking {
        what: &'static str,
        said: String,
        remedy: String,
    },
    /// The role may not know what was asked.
    #[error("role {role} may not see {what}; {remedy}")]
    Hidden {
        role: String,
        what: &'static str,
        remedy: String,
    },
    /// A setting cannot be changed by ALTER SYSTEM.
    #[error(
        "allow_alter_system is off: another program keeps this server's configuration; make the change there"
    )]
    AlterSystemForbidden,
    /// The file that ALTER SYSTEM writes cannot be written.
    #[error("{} cannot be written: {said}; {remedy}", file.display())]
    Unwritten {
        /// `postgresql.auto.conf`, with its path.
        file: PathBuf,
        said: String,
        remedy: String,
    },
    /// The thread that connects could not be had.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
}

/// What a refused login comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlCause {
    /// The role does not exist.
    NoRole,
    /// `pg_hba.conf` does not let this user be this role.
    Authentication,
    /// The database does not exist.
    NoDatabase,
    Full,
    /// The server starts, stops or recovers.
    NotNow,
    Other,
}

impl SqlError {
    pub(super) fn unreachable(socket: &Path, source: io::Error) -> SqlError {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => {
                "; something has removed the server's socket (a cleaner of temporary files?): a restart of the server makes it again"
            }
            io::ErrorKind::PermissionDenied => {
                "; unix_socket_permissions, or the directory, keeps this user out: run pgcertd as root or as the server's user"
            }
            io::ErrorKind::ConnectionRefused => {
                "; nothing listens there any more: ask again in a moment"
            }
            _ => "",
        };
        SqlError::Unreachable {
            socket: socket.to_owned(),
            source,
            remedy,
        }
    }

    pub(super) fn refused(
        role: &str,
        user: &str,
        error: &tokio_postgres::Error,
        refusal: &Refusal,
    ) -> SqlError {
        let cause = cause(error);
        let said = if wants_password(error) {
            "it asks for a password".to_owned()
        } else {
            refusal.get().cloned().unwrap_or_else(|| said(error))
        };
        SqlError::Refused {
            role: role.to_owned(),
            user: user.to_owned(),
            said,
            remedy: remedy(cause, role, user),
            cause,
        }
    }

    pub(super) fn asking(
        what: &'static str,
        role: &str,
        error: &tokio_postgres::Error,
        refusal: &Refusal,
    ) -> SqlError {
        let remedy = match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
                "; role {role} lacks the right: run pgcertd as the server's user or as root, or name a superuser with --user"
            ),
            Some(code) if *code == SqlState::QUERY_CANCELED => {
                "; it is overloaded, or something holds a lock: see pg_stat_activity".to_owned()
            }
            _ if error.is_closed() => "; the server ended the session: see its log".to_owned(),
            _ => String::new(),
        };
        SqlError::Asking {
            what,
            said: refusal.get().cloned().unwrap_or_else(|| said(error)),
            remedy,
        }
    }

    /// Why a refused login was refused.
    pub fn cause(&self) -> Option<SqlCause> {
        match self {
            SqlError::Refused { cause, .. } => Some(*cause),
            _ => None,
        }
    }

    pub(super) fn lacks_role(&self) -> bool {
        self.cause() == Some(SqlCause::NoRole)
    }

    pub(super) fn lacks_database(&self) -> bool {
        self.cause() == Some(SqlCause::NoDatabase)
    }

    /// Whether it is the role that is not let in, rather than nobody.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.cause(),
            Some(SqlCause::NoRole | SqlCause::Authentication)
        )
    }
}

/// Whether a superuser's command failed at a file, by what PostgreSQL makes of the error of a system call
/// (`errcode_for_file_access`). A superuser lacks no right: the state of that stands for EACCES, EPERM and EROFS.
pub(super) fn is_of_file(state: &SqlState) -> bool {
    const OF_FILES: [SqlState; 8] = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_FILE,
        SqlState::DUPLICATE_FILE,
        SqlState::WRONG_OBJECT_TYPE,
        SqlState::DISK_FULL,
        SqlState::INSUFFICIENT_RESOURCES,
        SqlState::IO_ERROR,
        SqlState::INTERNAL_ERROR,
    ];
    OF_FILES.contains(state)
}

/// The server's words, or the library's where the server said nothing.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(told), _) => told.message().to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Whether it is the library that gave up, since the server wants a password and it has none.
fn wants_password(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none() && said(error).contains("password missing")
}

fn cause(error: &tokio_postgres::Error) -> SqlCause {
    let Some(told) = error.as_db_error() else {
        return if wants_password(error) {
            SqlCause::Authentication
        } else {
            SqlCause::Other
        };
    };
    let code = told.code();
    // One state stands for a role that is not there and for one that this user may not be
    // (`InitializeSessionUserId`, `auth_failed`, `ClientAuthentication` of PostgreSQL's source).
    let of_role = told.routine() == Some("InitializeSessionUserId");
    if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        if of_role {
            SqlCause::NoRole
        } else {
            SqlCause::Authentication
        }
    } else if *code == SqlState::INVALID_PASSWORD {
        SqlCause::Authentication
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        SqlCause::NoDatabase
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        SqlCause::Full
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        SqlCause::NotNow
    } else {
        SqlCause::Other
    }
}

fn remedy(cause: SqlCause, role: &str, user: &str) -> String {
    match cause {
        SqlCause::NoRole => "name the cluster's superuser with --user".to_owned(),
        SqlCause::Authentication => format!(
            "put `local all {role} peer` before the other local lines of pg_hba.conf (with a map in pg_ident.conf where user {user} has another name than the role) and reload, or name another role with --user"
        ),
        SqlCause::NoDatabase => "create it: CREATE DATABASE postgres".to_owned(),
        SqlCause::Full => "all connections are taken, those that superuser_reserved_connections keeps as well: end some, or raise max_connections and restart".to_owned(),
        SqlCause::NotNow => "ask again when it is up".to_owned(),
        SqlCause::Other => "see the server's log".to_owned(),
    }
}
