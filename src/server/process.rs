//! The process that serves an instance, whatever kind of server it is.
//!
//! A value exists only where the process was proven to be that server, and was held by a pidfd
//! before that: what is signalled through it is what was proven.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::{Address, ServerKind};
use crate::host::look::CannotLook;
use crate::host::process::HeldProcess;
use crate::problem::Problem;
use crate::server::namespaces::{Network, elsewhere};
use crate::server::patroni::Patroni;
use crate::server::pgbouncer::PgBouncer;
use crate::server::postmaster::{Phase, Postmaster};

/// When a process began whose start is `ticks` clock ticks after the boot (proc_pid_stat(5),
/// `starttime`), by the wall clock of now. The boot's own time is to be had in whole seconds only,
/// which would make a file look edited that was written just before the start.
pub(super) fn began(ticks: u64) -> SystemTime {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = Duration::try_from(up).unwrap_or_default();
    let per_second = procfs::ticks_per_second();
    moment(ticks, per_second, up, SystemTime::now())
}

/// The end of the clock tick that is `ticks` after the boot, which was `up` before `now`: what a
/// process reads at its start it reads after that.
fn moment(ticks: u64, per_second: u64, up: Duration, now: SystemTime) -> SystemTime {
    let since_boot =
        Duration::from_millis(ticks.saturating_add(1).saturating_mul(1000) / per_second.max(1));
    let ago = up.saturating_sub(since_boot);
    now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A running server whose identity was proven.
#[derive(Debug)]
pub(crate) enum Process {
    Postmaster(Postmaster),
    PgBouncer(Box<PgBouncer>),
    Patroni(Box<Patroni>),
}

impl Process {
    /// What kind of server it is.
    pub(crate) fn kind(&self) -> ServerKind {
        match self {
            Process::Postmaster(_) => ServerKind::Postgres,
            Process::PgBouncer(_) => ServerKind::PgBouncer,
            Process::Patroni(_) => ServerKind::Patroni,
        }
    }

    /// Its process number as this host counts.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Process::Postmaster(postmaster) => postmaster.pid,
            Process::PgBouncer(pgbouncer) => pgbouncer.pid,
            Process::Patroni(patroni) => patroni.pid,
        }
    }

    /// What tells this run of the server from another: of a postmaster the start time in its pid
    /// file, in Unix seconds, which another pid namespace shows alike; of others the clock ticks
    /// between the boot and the start of the process (proc_pid_stat(5), `starttime`).
    pub(crate) fn run(&self) -> i64 {
        match self {
            Process::Postmaster(postmaster) => postmaster.file.start_time,
            Process::PgBouncer(pgbouncer) => i64::try_from(pgbouncer.ticks).unwrap_or(i64::MAX),
            Process::Patroni(patroni) => i64::try_from(patroni.start_ticks).unwrap_or(i64::MAX),
        }
    }

    /// Asks the server to load its configuration and its TLS files anew.
    ///
    /// # Errors
    /// The process has gone (`ESRCH`), or this process may not signal it (`EPERM`).
    pub(crate) fn signal_reload(&self) -> Result<(), rustix::io::Errno> {
        match self {
            Process::Postmaster(postmaster) => postmaster.signal_reload(),
            Process::PgBouncer(pgbouncer) => pgbouncer.signal_reload(),
            Process::Patroni(patroni) => patroni.signal_reload(),
        }
    }

    /// Whether it still runs, as far as the system tells.
    pub(crate) fn alive(&self) -> bool {
        self.held().has_ended() != Ok(true)
    }

    /// Whether it is stopped (`SIGSTOP`, a debugger), as far as the system tells: then its silence says nothing.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = self.held().stat();
        stat.is_ok_and(|stat| stat.is_some_and(|stat| matches!(stat.state, 'T' | 't')))
    }

    /// Waits for its end; for ever where that cannot be waited for.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let held = self.held().as_fd().try_clone_to_owned();
        async move {
            let waited = async {
                // A pidfd becomes readable when its process ends.
                #[expect(
                    deprecated,
                    reason = "unsound only of what may change its descriptor, which an OwnedFd does not"
                )]
                let held = AsyncFd::with_interest(held?, Interest::READABLE)?;
                held.readable().await.map(drop)
            };
            if waited.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where its mount table is to be read, which everyone may (proc_pid_mountinfo(5)).
    pub(super) fn mounts(&self) -> std::path::PathBuf {
        self.held().entry().join("mountinfo")
    }

    fn held(&self) -> &HeldProcess {
        match self {
            Process::Postmaster(postmaster) => postmaster.held(),
            Process::PgBouncer(pgbouncer) => pgbouncer.held(),
            Process::Patroni(patroni) => patroni.held(),
        }
    }

    /// Where it listens, best first.
    ///
    /// # Errors
    /// It listens on Unix sockets alone, in another network, or does not yet say where.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        match self {
            Process::Postmaster(postmaster) => super::listened(postmaster),
            Process::PgBouncer(it) if it.network == Network::Own => Err(elsewhere()),
            Process::PgBouncer(pgbouncer) => pgbouncer.addresses(),
            Process::Patroni(it) if it.network == Network::Own => Err(elsewhere()),
            Process::Patroni(patroni) => match &patroni.api {
                Ok(api) => api.addresses(),
                Err(why) => Err(why.clone()),
            },
        }
    }

    /// Whether a connection to an address that the config names says anything of this process.
    ///
    /// # Errors
    /// The kernel lets other processes answer there as well.
    pub(crate) fn is_alone_at(&self, address: &Address) -> Result<(), Problem> {
        match self {
            Process::PgBouncer(pgbouncer) => pgbouncer.is_alone_at(address),
            Process::Postmaster(_) | Process::Patroni(_) => Ok(()),
        }
    }

    /// Whether it has come so far that what it says of itself is its last word.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Process::Postmaster(postmaster) => postmaster.file.is_whole(),
            Process::PgBouncer(_) | Process::Patroni(_) => true,
        }
    }

    /// Whether it says that it does not yet take connections.
    pub(crate) fn is_starting(&self) -> bool {
        match self {
            Process::Postmaster(it) => matches!(it.file.phase, None | Some(Phase::Starting)),
            Process::PgBouncer(_) | Process::Patroni(_) => false,
        }
    }

    /// The postmaster, where it is one.
    pub(crate) fn postmaster(&self) -> Option<&Postmaster> {
        match self {
            Process::Postmaster(postmaster) => Some(postmaster),
            Process::PgBouncer(_) | Process::Patroni(_) => None,
        }
    }
}

/// Why a process is not the server that it was looked at as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Against {
    Gone,
    /// It is another one: which piece of evidence is against it.
    Evidence(String),
    /// A look at it failed.
    NotKnown(CannotLook),
}

impl From<CannotLook> for Against {
    fn from(cannot: CannotLook) -> Against {
        Against::NotKnown(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_begun_when_the_hundredth_of_a_second_is_over_in_which_it_began() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_700);
        let up = Duration::from_millis(10_700);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_270);
        assert_eq!(moment(1026, 100, up, now), expected);
        // A start that is yet to come by clocks that were read one after the other is now.
        assert_eq!(moment(1100, 100, up, now), now);
    }
}
