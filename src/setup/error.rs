//! Why a server cannot be set up, or was not, and what to do.

use std::fmt;
use std::path::Path;

use super::require_tls::TighteningError;
use crate::config::ConfigError;
use crate::host::look::CannotLook;
use crate::host::privilege::PrivilegeError;
use crate::problem::Problem;
use crate::server::sql::SqlError;
use crate::server::{InstanceError, Unseen};
use crate::text::{CommandLine, UNPASTEABLE, shown};

/// A set-up cannot be begun, or has failed.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// The config is wrong, or would be.
    Config(ConfigError),
    /// The server, the host or the lineage is not fit for it.
    Problem(Problem),
    /// The command line is wrong.
    Usage(Problem),
    /// There are several to choose from, a command for each.
    Unchosen {
        problem: Problem,
        choices: Vec<String>,
    },
}

impl SetupError {
    pub(crate) fn new(what: impl Into<String>, fix: impl Into<String>) -> SetupError {
        SetupError::Problem(Problem::new(what, fix))
    }

    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> SetupError {
        SetupError::Usage(Problem::new(what, fix))
    }

    pub(crate) fn no_record(name: &str) -> SetupError {
        let what = format!("no set-up of {name} is remembered: there is nothing to undo");
        SetupError::usage(what, "")
    }

    /// A reload would change nothing.
    pub(super) fn faulty(faults: &str) -> SetupError {
        let what = format!(
            "the server's configuration has an error, and a reload would change nothing: {faults}"
        );
        SetupError::new(what, "fix that first")
    }

    /// A line of `pg_hosts.conf` gives clients other files, which no setting changes.
    pub(super) fn by_name(problem: Problem) -> SetupError {
        let fix = format!("{}, and set it up then", problem.fix);
        SetupError::Problem(Problem { fix, ..problem })
    }

    pub(crate) fn not_utf8(path: &Path) -> SetupError {
        let what = format!(
            "{} is not UTF-8, and a config cannot name it",
            path.display()
        );
        SetupError::new(what, "")
    }

    /// A line for one of several choices: its command, where that can be pasted.
    pub(crate) fn choice(command: impl AsRef<str>) -> String {
        let command = command.as_ref();
        match CommandLine::checked(command) {
            Some(command) => format!("  {command}"),
            None => format!("  {UNPASTEABLE}: {}", shown(command)),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Config(error) => error.fmt(f),
            SetupError::Problem(problem)
            | SetupError::Usage(problem)
            | SetupError::Unchosen { problem, .. } => problem.fmt(f),
        }
    }
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> SetupError {
        SetupError::Config(error)
    }
}

impl From<Problem> for SetupError {
    fn from(problem: Problem) -> SetupError {
        SetupError::Problem(problem)
    }
}

/// A look at the host failed, so that nobody knows which servers run.
impl From<CannotLook> for SetupError {
    fn from(error: CannotLook) -> SetupError {
        let unknown = "which PostgreSQL servers run on this host is not known";
        error.problem().about(unknown).into()
    }
}

/// What the errors of other rooms say is passed on.
macro_rules! passed_on {
    ($($error:ty: $problem:expr),*) => {$(
        impl From<$error> for SetupError {
            fn from(error: $error) -> SetupError {
                SetupError::Problem($problem(&error))
            }
        }
    )*};
}

passed_on!(
    TighteningError: TighteningError::problem,
    InstanceError: InstanceError::problem,
    Unseen: Unseen::problem,
    SqlError: |error: &SqlError| error.to_string().into(),
    PrivilegeError: |error: &PrivilegeError| error.to_string().into()
);
