//! The process that serves an instance, whatever kind of server it is.
//!
//! A value only exists if the process was held by a pidfd and then proven to be that server: what is signalled through the
//! pidfd is what was proven.

use std::os::fd::AsFd;
use std::time::SystemTime;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::{Address, ServerKind};
use crate::host::namespaces::Network;
use crate::host::process::HeldProcess;
use crate::problem::Problem;
use crate::server::identity::elsewhere;
use crate::server::patroni::Patroni;
use crate::server::pgbouncer::PgBouncer;
use crate::server::postmaster::{Phase, Postmaster};

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

    /// What distinguishes this run of the server from others: for a postmaster, the start time in its pid file, in Unix
    /// seconds, which is the same in other pid namespaces; for others, the clock ticks from boot to the start of the process
    /// (proc_pid_stat(5), `starttime`).
    pub(crate) fn run(&self) -> i64 {
        match self {
            Process::Postmaster(postmaster) => postmaster.file.start_time,
            Process::PgBouncer(_) | Process::Patroni(_) => {
                i64::try_from(self.held().start_ticks()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Tells the server to reload its configuration and its TLS files.
    ///
    /// # Errors
    /// The process has ended (`ESRCH`), or this process may not signal it (`EPERM`).
    pub(crate) fn signal_reload(&self) -> Result<(), rustix::io::Errno> {
        self.held().signal(Signal::HUP)
    }

    /// When it started, and read its configuration, by the current wall clock.
    pub(crate) fn began(&self) -> SystemTime {
        self.held().began()
    }

    /// Whether it is still running, as far as the system tells.
    pub(crate) fn alive(&self) -> bool {
        self.held().has_ended() != Ok(true)
    }

    /// Whether it is stopped (`SIGSTOP`, a debugger), as far as the system tells: then its silence says nothing.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = self.held().stat();
        stat.is_ok_and(|stat| stat.is_some_and(|stat| matches!(stat.state, 'T' | 't')))
    }

    /// Waits until it ends; forever if that is not possible.
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

    /// The path of its mount table, which everyone may read (proc_pid_mountinfo(5)).
    pub(super) fn mounts(&self) -> std::path::PathBuf {
        self.held().entry().join("mountinfo")
    }

    fn held(&self) -> &HeldProcess {
        match self {
            Process::Postmaster(postmaster) => &postmaster.held,
            Process::PgBouncer(pgbouncer) => &pgbouncer.held,
            Process::Patroni(patroni) => &patroni.held,
        }
    }

    /// Where it listens, best first.
    ///
    /// # Errors
    /// It listens on Unix sockets alone, in another network, or does not yet say where.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        match self {
            Process::Postmaster(postmaster) => postmaster.addresses(),
            Process::PgBouncer(it) if it.network == Network::Own => Err(elsewhere()),
            Process::PgBouncer(pgbouncer) => pgbouncer.addresses(),
            Process::Patroni(it) if it.network == Network::Own => Err(elsewhere()),
            Process::Patroni(patroni) => match &patroni.api {
                Ok(api) => api.addresses(),
                Err(why) => Err(why.clone()),
            },
        }
    }

    /// Whether a connection to a configured address is sure to reach this process.
    ///
    /// # Errors
    /// The kernel lets other processes answer there as well.
    pub(crate) fn is_alone_at(&self, address: &Address) -> Result<(), Problem> {
        match self {
            Process::PgBouncer(pgbouncer) => pgbouncer.is_alone_at(address),
            Process::Postmaster(_) | Process::Patroni(_) => Ok(()),
        }
    }

    /// Whether it has started far enough that what it says about itself won't change.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Process::Postmaster(postmaster) => postmaster.file.is_whole(),
            Process::PgBouncer(_) | Process::Patroni(_) => true,
        }
    }

    /// Whether it says that it does not accept connections yet.
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
