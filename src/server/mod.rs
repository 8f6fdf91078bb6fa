//! One server: its process, its files, how it is reloaded and what it serves.
//!
//! [`Instance`] is the handle that the rest of the program uses. It owns the instance's writer
//! thread, and hides which step runs where: files are touched on the writer thread with the
//! owner's rights, processes and sockets are looked at from the main thread.
//!
//! Nothing here decides what should be; that is for `reconcile` and `deploy`.

pub(crate) mod ciphers;
pub(crate) mod configuration;
mod deployment;
pub(crate) mod dry_start;
pub(crate) mod files;
pub(crate) mod hba;
pub(crate) mod hosts;
mod kinds;
mod lockout;
pub(crate) mod mounts;
mod namespaces;
pub(crate) mod patroni;
pub(crate) mod pgbouncer;
mod placement;
mod plain;
pub(crate) mod postmaster;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod reload;
pub(crate) mod running;
pub(crate) mod settings;
pub(crate) mod sql;
mod unseen;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bundle::Bundle;
use crate::config::{self, Address, Config, ServerKind};
use crate::host::directory::ReachError;
use crate::host::look::{self, CannotLook};
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker, if_hidden};
use crate::problem::Problem;
use crate::server::files::{FilesError, FilesSnapshot, Lock, Targets};
use crate::server::postmaster::{Absence, Network, Postmaster};
use crate::server::probe::{AskedName, Opening, ProbeError, Prober, Served};
use crate::server::process::Process;
use crate::server::settings::TlsSettings;

pub(crate) use deployment::FileTime;
pub(crate) use lockout::Lockout;
pub(crate) use unseen::Unseen;

/// How often a lock that another process holds, or the file of a starting server, is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// An instance cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.problem())]
pub(crate) enum InstanceError {
    /// The data directory, or the server's own configuration, cannot be looked at.
    Home {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Somebody else than root and its owner may have bent the path to it.
    Bent {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
        /// Where, and what to do.
        #[source]
        source: ReachError,
    },
    /// The server would be root's.
    OfRoot {
        /// `data_directory` or `config_file`.
        key: &'static str,
        path: PathBuf,
    },
    /// There is no configuration of a Patroni at that path, and one runs without.
    NoFile {
        path: PathBuf,
        /// What runs, as a clause.
        runs: String,
    },
    /// Root owns the server's configuration, so that it does not tell the server's user.
    Unowned {
        path: PathBuf,
    },
    /// A user or group of the config does not exist.
    Account {
        /// `owner` or `group`.
        key: &'static str,
        name: String,
        /// `user` or `group`.
        kind: &'static str,
    },
    /// The state directory cannot be made.
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another pgcertd holds the lock.
    Locked {
        /// The data directory, or the server's own configuration.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    Files(#[from] FilesError),
    /// A thread could not get its rights.
    Privilege(#[from] PrivilegeError),
}

impl InstanceError {
    pub(crate) fn problem(&self) -> Problem {
        match self {
            InstanceError::Home { key, path, source } => {
                let subject = format!("{key} {}", path.display());
                match CannotLook::at_stat(path, source) {
                    Some(cannot) if !cannot.is_denied() => cannot.problem().about(subject),
                    _ => Problem::new(
                        format!("{subject}: {source}"),
                        format!(
                            "mount it, or correct the path in the config{}",
                            if_hidden(path)
                        ),
                    ),
                }
            }
            InstanceError::Bent { key, path, source } => {
                Problem::from(format!("{key} {}: {source}", path.display()))
            }
            InstanceError::OfRoot { key, path } => Problem::new(
                format!(
                    "{key} {}: it belongs to root, as whom no server runs",
                    path.display()
                ),
                "chown it to the server's user, or correct the path or owner in the config",
            ),
            InstanceError::NoFile { path, runs } => Problem::new(
                format!("config_file {} does not exist, and {runs}", path.display()),
                patroni::BY_FILE,
            ),
            InstanceError::Unowned { path } => Problem::new(
                format!(
                    "config_file {} belongs to root, which does not say as whom the server runs",
                    path.display()
                ),
                "set owner in the config to the server's user",
            ),
            InstanceError::Account { key, name, kind } => Problem::new(
                format!("{key} = \"{name}\": there is no such {kind} on this host"),
                "",
            ),
            InstanceError::State { path, source } => Problem::new(
                format!("{}: cannot make the directory: {source}", path.display()),
                "create it for the server's user, or set state_directory",
            ),
            InstanceError::Locked { path, lock, waited } => Problem::new(
                format!(
                    "another pgcertd has been at work on {} for more than {} s",
                    path.display(),
                    waited.as_secs()
                ),
                format!(
                    "wait for it, or find out what is holding {} (fuser -v)",
                    lock.display()
                ),
            ),
            InstanceError::Files(error) => error.problem(),
            InstanceError::Privilege(error) => Problem::from(error.to_string()),
        }
    }

    /// Whether the caller lacks a right, rather than something being wrong with the instance.
    pub(crate) fn is_denied(&self) -> bool {
        match self {
            InstanceError::Home { source, .. } | InstanceError::State { source, .. } => {
                source.kind() == std::io::ErrorKind::PermissionDenied
            }
            InstanceError::Files(error) => error.is_denied(),
            _ => false,
        }
    }
}

/// Whether the server of an instance runs.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    /// It does not, or is about to stop; why it is thought so.
    Down(Absence),
    /// It runs, and its identity was proven.
    Up(Arc<Process>),
}

impl Server {
    /// The process, where it runs.
    pub(crate) fn process(&self) -> Option<&Process> {
        match self {
            Server::Up(process) => Some(process),
            Server::Down(_) => None,
        }
    }

    /// The postmaster, where it runs and is one.
    pub(crate) fn postmaster(&self) -> Option<&Postmaster> {
        self.process()?.postmaster()
    }

    /// Whether it is not known to run, nor to be down.
    pub(crate) fn may_run(&self) -> bool {
        matches!(self, Server::Down(absence) if absence.may_run())
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Server::Up(_))
    }
}

/// What was seen of an instance on its host, the network aside.
#[derive(Clone)]
pub(crate) struct InstanceSnapshot {
    pub(crate) look: Arc<FilesSnapshot>,
    pub(crate) server: Server,
    /// Where and whose its files are.
    pub(crate) targets: Arc<Targets>,
}

/// What an instance is visited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To look; nothing is made.
    Look,
    /// To change something where that is needed: the state directory is made.
    Work,
}

/// One instance of the config, and the thread that may write its files.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) config: config::InstanceConfig,
    state: PathBuf,
    lock_directory: PathBuf,
    prober: Prober,
    writer: Option<(Arc<Targets>, Worker)>,
    /// Reads what is the server's own: in the data directory, where the files belong to another user
    /// than the server; everywhere, where its configuration may include other files.
    lodger: Option<Worker>,
    /// Where the server leaves its number, where its own configuration says so.
    pid_file: Option<PathBuf>,
    /// Whether its configuration gives those who ask for no name something else, as it was last asked.
    nameless_get_another: bool,
}

impl Instance {
    /// Makes the handle; nothing is looked at yet.
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
            lodger: None,
            pid_file: None,
            nameless_get_another: false,
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

    /// The thread that reads what is the server's own, where the writer may not: a data directory
    /// that none but the server's user may enter, a configuration that may include any file.
    async fn lodger(&self, targets: &Targets) -> Result<Option<Worker>, PrivilegeError> {
        let read = match targets.kind {
            ServerKind::Postgres if targets.owner.uid == targets.server.uid => return Ok(None),
            ServerKind::Postgres => targets.data.clone(),
            ServerKind::PgBouncer | ServerKind::Patroni => PathBuf::from("/"),
        };
        let rights = Rights::Writer {
            owner: targets.server,
            write: BTreeSet::new(),
            read: [read].into_iter().collect(),
        };
        let name = format!("d:{}", self.config.name);
        Worker::start(name, move || rights).await.map(Some)
    }

    /// The writer thread; what [`Instance::refresh`] found is not looked up again.
    async fn writer(&mut self) -> Result<(Arc<Targets>, &Worker), InstanceError> {
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
    async fn on_data<R: Send + 'static>(
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
    /// crashed one left, and looks.
    ///
    /// A server that is only just starting gets time to say where it listens: until then it may
    /// still be loading its TLS files, and no verdict on them could be had.
    ///
    /// # Errors
    /// [`InstanceError::Locked`], or the state directory cannot be used.
    pub(crate) async fn enter(
        &mut self,
        patience: Duration,
    ) -> Result<(Lock, InstanceSnapshot), InstanceError> {
        let began = tokio::time::Instant::now();
        let (lock, look) = loop {
            if let Some(entered) = self.try_enter().await? {
                break entered;
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
        };
        let mut sight = self.with_server(look).await?;
        let began = tokio::time::Instant::now();
        while sight
            .server
            .process()
            .is_some_and(|process| !process.is_whole())
            && began.elapsed() < self.config.verify_timeout
        {
            tokio::time::sleep(PAUSE).await;
            sight = self.look().await?;
        }
        Ok((lock, sight))
    }

    /// One visit to the writer thread; nothing if another holds the lock.
    async fn try_enter(&mut self) -> Result<Option<(Lock, FilesSnapshot)>, InstanceError> {
        self.on_files(|targets| {
            let Some(lock) = targets.try_lock()? else {
                return Ok(None);
            };
            targets.clean()?;
            Ok(Some((lock, targets.look()?)))
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

    /// Where to look at what `process` serves, best first; a sentence where nowhere.
    ///
    /// # Errors
    /// The server listens on Unix sockets alone, does not yet say where, or others answer for it.
    pub(crate) fn addresses(&self, process: &Process) -> Result<Vec<Address>, Problem> {
        if let Some(address) = &self.config.address {
            process.is_alone_at(address)?;
        }
        self.address_or(|| process.addresses())
    }

    /// The configured address, or else those at which the server says that it listens.
    ///
    /// # Errors
    /// As `listened` has it.
    pub(crate) fn address_or(
        &self,
        listened: impl FnOnce() -> Result<Vec<Address>, Problem>,
    ) -> Result<Vec<Address>, Problem> {
        match &self.config.address {
            Some(address) => Ok(vec![address.clone()]),
            None => listened(),
        }
    }

    /// How its clients ask for TLS.
    pub(crate) fn opening(&self) -> Opening {
        match self.config.kind() {
            ServerKind::Postgres | ServerKind::PgBouncer => Opening::Request,
            ServerKind::Patroni => Opening::Https,
        }
    }

    /// Whether another server than `process` showed `served`: where the config names an
    /// address, `process` itself is looked at where it says that it listens, and shows another leaf,
    /// or hangs.
    pub(crate) async fn another(
        &self,
        process: &Process,
        served: &Served,
        limit: Duration,
    ) -> Option<Unseen> {
        self.config.address.as_ref()?;
        let own = process.addresses().ok()?;
        if own.contains(&served.address) {
            return None;
        }
        let names = [served.asked.clone()];
        let looked = first_served(&self.prober, &own, &names, None, self.opening(), limit);
        let own = match looked.await {
            Ok(own) => own,
            // It may show anything once it goes on, or can be asked.
            Err(unseen) if unseen.is_silence() || unseen.is_no_answer() => return Some(unseen),
            Err(_) => return None,
        };
        (own.leaf.fingerprint() != served.leaf.fingerprint()).then(|| Unseen::Another {
            address: served.address.clone(),
            leaf: served.leaf.fingerprint(),
            own: own.address,
            own_leaf: own.leaf.fingerprint(),
        })
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

    /// Looks once at what the first reachable of `addresses` serves, to a client that asks for the first of the names.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served(
        &self,
        addresses: &[Address],
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let mut names = self.asked_names(None);
        names.truncate(1);
        first_served(&self.prober, addresses, &names, None, self.opening(), limit).await
    }

    /// The same for each of the names that count with `wanted`: what one of them gets in its place, if there is such a
    /// one.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served_by_name(
        &self,
        addresses: &[Address],
        wanted: &Bundle,
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let names = self.asked_names(Some(wanted));
        let (prober, opening) = (&self.prober, self.opening());
        first_served(prober, addresses, &names, Some(wanted), opening, limit).await
    }

    /// The same while the server is on its way to `wanted`: the other names are asked for once the first of them gets it,
    /// so that what the first gets in its place says nothing of theirs.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served_in_turn(
        &self,
        addresses: &[Address],
        wanted: &Bundle,
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let began = tokio::time::Instant::now();
        let (prober, opening) = (&self.prober, self.opening());
        let names = self.asked_names(Some(wanted));
        let (first, others) = names.split_at(names.len().min(1));
        let served = first_served(prober, addresses, first, None, opening, limit).await?;
        if others.is_empty() || !served.shown().is_of(wanted) {
            return Ok(served);
        }
        let address = [served.address];
        let left = limit.saturating_sub(began.elapsed());
        let other = first_served(prober, &address, others, Some(wanted), opening, left).await?;
        let is_divided = !other.shown().is_of(wanted);
        Ok(Served {
            is_divided,
            ..other
        })
    }

    /// What the first of the names that count with `bundle` gets, as a value that does not borrow the instance.
    pub(crate) fn glance(
        &self,
        addresses: Vec<Address>,
        bundle: Option<Arc<Bundle>>,
        limit: Duration,
    ) -> impl Future<Output = Option<Served>> + use<> {
        let (prober, opening) = (self.prober.clone(), self.opening());
        let mut names = self.asked_names(bundle.as_deref());
        names.truncate(1);
        async move {
            let served = first_served(&prober, &addresses, &names, None, opening, limit);
            served.await.ok()
        }
    }

    /// The names for which the server is to serve `bundle`: those that clients verify; where the config does not say,
    /// the first of the leaf itself, and none, unless the server's configuration gives those who ask for none
    /// something else. PostgreSQL 19 answers by name.
    pub(crate) fn asked_names(&self, bundle: Option<&Bundle>) -> Vec<AskedName> {
        let mut names = settings::asked_names(&self.config, bundle);
        if self.nameless_get_another {
            names.retain(|name| *name != AskedName::Absent);
        }
        names
    }

    /// What the configuration says, for the names that count with `bundle`.
    pub(crate) fn with_names(
        &mut self,
        settings: TlsSettings,
        bundle: Option<&Bundle>,
    ) -> TlsSettings {
        let settings = settings.for_instance(&self.config, bundle);
        let all = settings::asked_names(&self.config, bundle);
        self.nameless_get_another = settings.asked_names.len() < all.len();
        settings
    }
}

/// Where a postmaster listens, by its pid file.
pub(crate) fn listened(postmaster: &Postmaster) -> Result<Vec<Address>, Problem> {
    if postmaster.network == Network::Own {
        // Here the same address is another server's, if anybody's.
        return Err(namespaces::elsewhere());
    }
    let file = &postmaster.file;
    let (Some(port), Some(listen), true) = (file.port, file.listen.as_deref(), file.is_whole())
    else {
        return Err(Problem::new(
            "the server is still starting and has not said where it listens",
            "",
        ));
    };
    let hosts: &[&str] = match listen {
        "" => {
            return Err(Problem::new(
                "the server listens on Unix sockets alone, over which PostgreSQL speaks no TLS",
                "set listen_addresses, or verify = \"none\"",
            ));
        }
        "*" => &["127.0.0.1", "::1"],
        "0.0.0.0" => &["127.0.0.1"],
        "::" => &["::1"],
        other => &[other],
    };
    Ok(hosts
        .iter()
        .map(|host| Address {
            host: (*host).to_owned(),
            port,
        })
        .collect())
}

/// Looks at the first of `addresses` that takes connections, for each of `names` at once. Of several answers it is one
/// that is not `wanted`.
async fn first_served(
    prober: &Prober,
    addresses: &[Address],
    names: &[AskedName],
    wanted: Option<&Bundle>,
    opening: Opening,
    limit: Duration,
) -> Result<Served, Unseen> {
    let mut last = Unseen::Nowhere(Problem::new("there is no address to look at", ""));
    let patience = match opening {
        Opening::Https => limit.min(plain::SILENCE),
        Opening::Request | Opening::Direct => limit,
    };
    for address in addresses {
        let looking = prober.look_for_all(address, names, opening, patience);
        let looks = Box::pin(looking).await;
        match probe::least_wanted(looks, |served| {
            wanted.is_none_or(|bundle| served.shown().is_of(bundle))
        }) {
            Some(Ok(served)) => return Ok(served),
            None => {}
            Some(Err(error @ (ProbeError::Connect { .. } | ProbeError::Closed { .. }))) => {
                last = Unseen::Probe(error);
            }
            Some(Err(error))
                if opening == Opening::Https
                    && plain::is_likely(&error)
                    && plain::speaks_http(address).await =>
            {
                return Err(Unseen::Plain(address.clone()));
            }
            Some(Err(error)) => return Err(Unseen::Probe(error)),
        }
    }
    Err(last)
}

/// Runs `look` with the file rights of the server's user, on a thread that writes nothing.
///
/// # Errors
/// The thread cannot be had.
pub(crate) async fn as_server<R: Send + 'static>(
    server: Ids,
    look: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PrivilegeError> {
    let rights = Rights::Writer {
        owner: server,
        write: BTreeSet::new(),
        read: [PathBuf::from("/")].into_iter().collect(),
    };
    Worker::start("as-server", move || rights)
        .await?
        .call(look)
        .await
}

/// Runs what may wait for a file system or `/proc` with the main thread's rights, and not on
/// the main thread: one data directory that does not answer must not stop the rest.
async fn apart<R: Send + 'static>(
    look: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PrivilegeError> {
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|e| PrivilegeError::Gone(e.to_string()))
}

/// Whether two paths lead to one file, now or, where it does not exist, by their directories, as far as that can be
/// told: to recognize what a person names. A verdict on a server asks [`look::same_file`].
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    look::same_file(one, other) == Ok(true)
}
