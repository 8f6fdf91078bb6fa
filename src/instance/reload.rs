//! Asks a running Postgres to load its TLS files anew, in the way that the config chose.
//!
//! Whatever the way, the postmaster's identity was proven just before: `pg_ctl` by itself
//! signals whatever process has the number that it finds in `postmaster.pid`.

use std::path::Path;
use std::time::Duration;

use crate::config::Reload;
use crate::instance::postmaster::Postmaster;
use crate::instance::settings::command_as;
use crate::privilege::Ids;

/// How long `pg_ctl` or a `reload_command` may run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Postgres could not be asked to reload.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The signal was refused.
    #[error("cannot signal postmaster {pid}: {source}; run pgcertd as root or as its user")]
    Signal {
        /// The postmaster's number.
        pid: u32,
        /// What the system said.
        #[source]
        source: rustix::io::Errno,
    },
    /// There is no `pg_ctl` beside the postmaster's executable.
    #[error(
        "reload = \"pg_ctl\", but the executable of postmaster {pid} cannot be looked at; use reload = \"signal\""
    )]
    NoPgCtl {
        /// The postmaster's number.
        pid: u32,
    },
    /// `pg_ctl` would signal whatever has the server's own number here.
    #[error(
        "reload = \"pg_ctl\", but postmaster {pid} counts by the numbers of a pid namespace of its own, and pg_ctl would signal process {inner} here; use reload = \"signal\""
    )]
    OtherNumbers {
        /// The postmaster's number.
        pid: u32,
        /// What it is by its own pid file.
        inner: u32,
    },
    /// A command did not do it.
    #[error("{command} did not reload the server: {reason}")]
    Command {
        /// The program's name.
        command: String,
        /// Exit status or the system's words, with the last line of its standard error.
        reason: String,
    },
}

/// Reloads the server of `postmaster`.
///
/// # Errors
/// Each way has its own; after an error the server may or may not have been asked.
pub async fn reload(
    way: &Reload,
    postmaster: &Postmaster,
    instance: &str,
    data_directory: &Path,
    owner: Ids,
) -> Result<(), ReloadError> {
    let pid = postmaster.pid;
    match way {
        Reload::Signal => postmaster
            .signal_reload()
            .map_err(|source| ReloadError::Signal { pid, source }),
        Reload::PgCtl if postmaster.file.pid != pid => Err(ReloadError::OtherNumbers {
            pid,
            inner: postmaster.file.pid,
        }),
        Reload::PgCtl => {
            let pg_ctl = postmaster
                .executable
                .as_deref()
                .map(|postgres| postgres.with_file_name("pg_ctl"))
                .ok_or(ReloadError::NoPgCtl { pid })?;
            let mut command = command_as(&pg_ctl, owner, data_directory);
            command.arg("reload").arg("-D").arg(data_directory);
            run(&pg_ctl.display().to_string(), command).await
        }
        Reload::Command(words) => {
            let Some((program, arguments)) = words.split_first() else {
                return Err(ReloadError::Command {
                    command: "reload_command".into(),
                    reason: "it is empty".into(),
                });
            };
            // The command runs as pgcertd does: it may be a `patronictl` or a `systemctl` that
            // the data directory's owner may not call.
            let mut command = tokio::process::Command::new(program);
            command
                .args(arguments)
                .env("PGCERTD_INSTANCE", instance)
                .env("PGDATA", data_directory)
                .stdin(std::process::Stdio::null())
                .current_dir("/")
                .kill_on_drop(true);
            run(program, command).await
        }
    }
}

async fn run(name: &str, mut command: tokio::process::Command) -> Result<(), ReloadError> {
    let failed = |reason: String| ReloadError::Command {
        command: name.to_owned(),
        reason,
    };
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| failed(format!("it ran for more than {} s", PATIENCE.as_secs())))?
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it said nothing").trim();
    Err(failed(format!("{}: {last}", output.status)))
}
