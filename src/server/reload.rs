//! Asks a running server to load its TLS files anew, in the way that the config chose.
//!
//! Whatever the way, the identity of its process was proven just before: `pg_ctl` by itself
//! signals whatever process has the number that it finds in `postmaster.pid`.

use std::time::Duration;

use crate::config::{Reload, ServerHome};
use crate::host::command::{CommandError, Launch};
use crate::host::privilege::Ids;
use crate::problem::Problem;
use crate::server::process::Process;

/// How long `pg_ctl` or a `reload_command` may run.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server could not be asked to reload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("cannot signal process {pid}: {source}; run pgcertd as root or as its user")]
    Signal {
        pid: u32,
        #[source]
        source: rustix::io::Errno,
    },
    /// There is no `pg_ctl` beside the postmaster's executable.
    #[error(
        "reload = \"pg_ctl\", but the executable of postmaster {pid} cannot be looked at; use reload = \"signal\""
    )]
    NoPgCtl { pid: u32 },
    /// Patroni's REST API does not answer.
    #[error(
        "Patroni was not asked to reload: its REST API does not answer, and a reload would then hold it up for ever and have \
         the node failed over ({0}); restart it: patronictl pause --wait, systemctl restart patroni, patronictl resume"
    )]
    Deaf(Problem),
    /// Nobody knows where to look whether Patroni's REST API answers.
    #[error(
        "Patroni was not asked to reload: whether its REST API answers cannot be seen, and where it does not, a reload holds Patroni up \
         for ever and has the node failed over ({0})"
    )]
    Unseen(Problem),
    /// `pg_ctl` would signal whatever has the server's own number here.
    #[error(
        "reload = \"pg_ctl\", but postmaster {pid} counts by the numbers of a pid namespace of its own, and pg_ctl would signal process {inner} here; use reload = \"signal\""
    )]
    OtherNumbers {
        pid: u32,
        /// What it is by its own pid file.
        inner: u32,
    },
    /// A command did not do it.
    #[error("{command} did not reload the server: {reason}")]
    Command {
        command: String,
        /// Exit status or the system's words, with the last line of its standard error.
        reason: String,
    },
}

/// Reloads the server of `process`, which is the one at `place`.
///
/// # Errors
/// Each way has its own; after an error the server may or may not have been asked.
pub(crate) async fn reload(
    way: &Reload,
    process: &Process,
    instance: &str,
    place: &ServerHome,
    owner: Ids,
) -> Result<(), ReloadError> {
    let pid = process.pid();
    match way {
        Reload::Signal => process
            .signal_reload()
            .map_err(|source| ReloadError::Signal { pid, source }),
        Reload::PgCtl => {
            let postmaster = process.postmaster();
            if let Some(inner) = postmaster
                .map(|postmaster| postmaster.file.pid)
                .filter(|number| *number != pid)
            {
                return Err(ReloadError::OtherNumbers { pid, inner });
            }
            let executable = postmaster.and_then(|postmaster| postmaster.executable.as_deref());
            let pg_ctl = executable.map(|postgres| postgres.with_file_name("pg_ctl"));
            let (Some(pg_ctl), Some(data_directory)) = (pg_ctl, place.data_directory()) else {
                return Err(ReloadError::NoPgCtl { pid });
            };
            let name = pg_ctl.display().to_string();
            let mut launch =
                Launch::of_server(&pg_ctl, owner).map_err(|error| ReloadError::Command {
                    command: name.clone(),
                    reason: error.to_string(),
                })?;
            launch
                .env("PGDATA", data_directory)
                .arg("reload")
                .arg("-D")
                .arg(data_directory);
            run(&name, launch).await
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
            let mut launch = Launch::of_operator(program);
            launch.args(arguments).env("PGCERTD_INSTANCE", instance);
            if let Some(data_directory) = place.data_directory() {
                launch.env("PGDATA", data_directory);
            }
            run(program, launch).await
        }
    }
}

async fn run(name: &str, launch: Launch) -> Result<(), ReloadError> {
    let failed = |reason: String| ReloadError::Command {
        command: name.to_owned(),
        reason,
    };
    let ran = launch.ran(PATIENCE).await.map_err(|error| match error {
        CommandError::Late { after } => {
            failed(format!("it ran for more than {} s", after.as_secs()))
        }
        error => failed(error.to_string()),
    })?;
    if ran.status.success() {
        return Ok(());
    }
    Err(failed(format!("{}: {}", ran.status, ran.last_line())))
}
