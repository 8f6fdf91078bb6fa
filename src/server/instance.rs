//! The handle of one instance, and the threads that read and write its files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::configuration::Configuration;
use super::error::InstanceError;
use super::files::{FilesError, FilesSnapshot, Lock, Targets};
use super::mounts::{self, Pinned};
use super::placement;
use super::probe::Prober;
use super::process::Process;
use super::snapshot::InstanceSnapshot;
use crate::bundle::Bundle;
use crate::config::{self, Config, ServerKind};
use crate::host::look::CannotLook;
use crate::host::privilege::{PrivilegeError, Rights, Worker, apart};

/// How long to wait before retrying a lock that another process holds, or checking a starting server again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long what was prepared counts as just looked at.
const MOMENT: Duration = Duration::from_secs(1);

/// What an instance is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Only to look.
    Look,
    /// To change something if needed: the state directory is created.
    Work,
}

/// What was done and seen in advance of a likely deployment.
#[derive(Debug)]
struct Prepared {
    at: Instant,
    /// Whether that run of the server sees a target as a single file.
    pinned: Option<(i64, Result<Option<Pinned>, CannotLook>)>,
}

/// An instance of the config, and the thread that may write its files.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) config: config::InstanceConfig,
    state: PathBuf,
    lock_directory: PathBuf,
    pub(super) prober: Prober,
    writer: Option<(Arc<Targets>, Worker)>,
    /// What was done for work that is about to come.
    prepared: Option<Prepared>,
    /// The server that was seen last.
    pub(super) last: Option<Arc<Process>>,
    /// Reads what is the server's own: in the data directory, where the files belong to another user
    /// than the server; everywhere, where its configuration may include other files.
    pub(super) lodger: Option<Worker>,
    /// The server's pid file, if its own configuration names one.
    pub(super) pid_file: Option<PathBuf>,
    /// Whether clients that ask for no name get something else, by its configuration when it was last asked.
    pub(super) nameless_get_another: bool,
    /// What the files held at the last look: for as long as they do, nothing is parsed again.
    pub(super) bundles: [Option<Arc<Bundle>>; 2],
    /// The run of the server, by its start time, of which `has_one_context` was found out.
    pub(super) noticed_run: Option<i64>,
    /// Whether the server gives all clients the same certificate, whatever name they ask for.
    pub(super) has_one_context: bool,
    /// What is known of a Postgres server's configuration.
    pub(crate) configuration: Configuration,
}

impl Instance {
    /// Creates the handle without accessing anything.
    pub(crate) fn new(
        config: &Config,
        instance: &config::InstanceConfig,
        prober: Prober,
    ) -> Instance {
        Instance {
            config: instance.clone(),
            state: config.state_of(instance),
            lock_directory: config.lock_directory_of(instance),
            prober,
            writer: None,
            prepared: None,
            last: None,
            lodger: None,
            pid_file: None,
            nameless_get_another: false,
            bundles: [None, None],
            noticed_run: None,
            has_one_context: false,
            configuration: Configuration::default(),
        }
    }

    /// Takes in where the files are and whose, as things are now, and makes the writer thread
    /// anew where owner or directories are other ones than before.
    ///
    /// # Errors
    /// The data directory, an account or the thread is not to be had.
    pub(crate) async fn refresh(&mut self, purpose: Purpose) -> Result<(), InstanceError> {
        let (config, state) = (self.config.clone(), self.state.clone());
        let lock_directory = self.lock_directory.clone();
        let writer = self.writer.take();
        let (targets, current) = apart(move || {
            let targets = placement::targets(&config, state, lock_directory)?;
            if purpose == Purpose::Work {
                // Before the writer's rules are made, which cover only what is there.
                placement::make_state_directory(&targets)?;
            }
            let current = writer.filter(|(old, worker)| {
                **old == targets
                    && if targets.by_others {
                        worker.covers([&targets.state])
                    } else {
                        worker.covers(&targets.directories()) && worker.covers([&targets.data])
                    }
            });
            Ok::<_, InstanceError>((targets, current))
        })
        .await??;
        self.writer = Some(match current {
            Some(current) => current,
            None => {
                self.lodger = self.lodger(&targets).await?;
                // What others place may be links to anywhere; only what is remembered is written then.
                let (write, read) = if targets.by_others {
                    (BTreeSet::from([targets.state.clone()]), PathBuf::from("/"))
                } else {
                    (targets.directories(), targets.data.clone())
                };
                let rights = Rights::Writer {
                    owner: targets.owner,
                    write,
                    read: [read].into_iter().collect(),
                };
                let name = format!("w:{}", self.config.name);
                (
                    Arc::new(targets),
                    Worker::start(name, move || rights).await?,
                )
            }
        });
        Ok(())
    }

    /// Does the first steps of a deployment in advance, because one is likely.
    pub(crate) async fn prepare(&mut self) {
        // The deployment reports what is wrong.
        if self.refresh(Purpose::Work).await.is_err() {
            return;
        }
        let mut pinned = None;
        if let (Some(process), Some((targets, _))) = (&self.last, &self.writer) {
            pinned = Some((process.run(), mounts::look(process, targets).await));
        }
        let at = Instant::now();
        self.prepared = Some(Prepared { at, pinned });
    }

    /// As [`Instance::refresh`] for work, unless that was done a moment ago.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn ready_to_work(&mut self) -> Result<(), InstanceError> {
        let fresh = |prepared: &Prepared| prepared.at.elapsed() < MOMENT;
        if self.writer.is_some() && self.prepared.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        self.prepared = None;
        self.refresh(Purpose::Work).await
    }

    /// As [`InstanceSnapshot::pinned`], unless that was looked at a moment ago.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn pinned(
        &mut self,
        sight: &InstanceSnapshot,
    ) -> Result<Option<Pinned>, CannotLook> {
        let run = sight.server.process().map(Process::run);
        match self.prepared.take().and_then(|prepared| prepared.pinned) {
            Some((of, looked)) if run == Some(of) => looked,
            _ => sight.pinned().await,
        }
    }

    /// Ends its threads until they are needed again.
    pub(crate) fn rest(&mut self) {
        self.writer = None;
        self.lodger = None;
    }

    /// The thread that reads what is the server's own, where the writer may not: a data directory
    /// that none but the server's user may enter, a configuration that may include any file.
    async fn lodger(&self, targets: &Targets) -> Result<Option<Worker>, PrivilegeError> {
        let read = match targets.kind {
            ServerKind::Postgres if targets.owner.uid == targets.server.uid => return Ok(None),
            ServerKind::Postgres => targets.data.clone(),
            ServerKind::PgBouncer | ServerKind::Patroni => PathBuf::from("/"),
        };
        let name = format!("d:{}", self.config.name);
        Worker::reading(name, targets.server, read).await.map(Some)
    }

    /// The writer thread; what [`Instance::refresh`] found is not looked up again.
    pub(super) async fn writer(&mut self) -> Result<(Arc<Targets>, &Worker), InstanceError> {
        if self.writer.is_none() {
            self.refresh(Purpose::Look).await?;
        }
        match &self.writer {
            Some((targets, worker)) => Ok((Arc::clone(targets), worker)),
            None => Err(PrivilegeError::Gone(self.config.name.clone()).into()),
        }
    }

    /// Runs a file operation on the writer thread.
    ///
    /// # Errors
    /// What the operation says, or that the thread could not be had.
    pub(crate) async fn on_files<R: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&Targets) -> Result<R, FilesError> + Send + 'static,
    ) -> Result<R, InstanceError> {
        let (targets, worker) = self.writer().await?;
        Ok(worker.call(move || operation(&targets)).await??)
    }

    /// Runs an operation in the data directory, with the rights of the server's user.
    pub(super) async fn on_data<R: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&Targets) -> Result<R, FilesError> + Send + 'static,
    ) -> Result<R, InstanceError> {
        let (targets, _) = self.writer().await?;
        match &self.lodger {
            Some(lodger) => Ok(lodger.call(move || operation(&targets)).await??),
            None => self.on_files(operation).await,
        }
    }

    /// The major version whose data directory this is, as PG_VERSION has it; `None` where there is
    /// no such file.
    ///
    /// # Errors
    /// The file, or the data directory, cannot be opened.
    pub(crate) async fn server_version(&mut self) -> Result<Option<String>, InstanceError> {
        self.on_data(Targets::server_version).await
    }

    /// Waits up to `patience` until no other pgcertd works on this instance, removes what a
    /// crashed one left, and looks at the files.
    ///
    /// # Errors
    /// [`InstanceError::Locked`], or the state directory cannot be used.
    pub(crate) async fn enter(
        &mut self,
        patience: Duration,
    ) -> Result<(Lock, FilesSnapshot), InstanceError> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(entered) = self.try_enter().await? {
                return Ok(entered);
            }
            if began.elapsed() >= patience {
                let (targets, _) = self.writer().await?;
                return Err(InstanceError::Locked {
                    path: self.config.home().to_owned(),
                    lock: targets.lock_file(),
                    waited: patience,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is seen once the server says where it listens. One that is only just starting gets time for that: until then it
    /// may still be loading its TLS files, and no verdict on them could be had.
    ///
    /// # Errors
    /// As [`Instance::look`].
    pub(crate) async fn once_started(
        &mut self,
        mut sight: InstanceSnapshot,
    ) -> Result<InstanceSnapshot, InstanceError> {
        let began = tokio::time::Instant::now();
        while sight.server.is_starting() && began.elapsed() < self.config.verify_timeout {
            tokio::time::sleep(PAUSE).await;
            sight = self.look().await?;
        }
        Ok(sight)
    }

    /// One visit to the writer thread; nothing if another holds the lock.
    async fn try_enter(&mut self) -> Result<Option<(Lock, FilesSnapshot)>, InstanceError> {
        self.on_files(|targets| {
            let Some(lock) = targets.try_lock()? else {
                return Ok(None);
            };
            targets.clean()?;
            let real_paths = targets.real_paths();
            let look = targets.look()?;
            Ok(Some((lock, FilesSnapshot { real_paths, ..look })))
        })
        .await
    }

    /// Looks at the files and at the server's process.
    ///
    /// # Errors
    /// They cannot be looked at at all.
    pub(crate) async fn look(&mut self) -> Result<InstanceSnapshot, InstanceError> {
        let look = self.on_files(|targets| targets.look()).await?;
        self.with_server(look).await
    }

    /// When the Postgres that began in the Unix second `start_time` had read its configuration.
    /// It writes `postmaster.opts` at once after that; the second alone would make edits of the
    /// moment before look newer.
    pub(crate) fn started(&self, start_time: i64) -> SystemTime {
        const AT_MOST_LATER: Duration = Duration::from_secs(5);
        let second = SystemTime::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(start_time).unwrap_or_default());
        std::fs::metadata(self.config.home().join("postmaster.opts"))
            .and_then(|meta| meta.modified())
            .ok()
            .filter(|written| (second..second + AT_MOST_LATER).contains(written))
            .unwrap_or(second)
    }
}
