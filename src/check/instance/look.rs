//! One instance, and what its server says: what is asked of a server is asked once.

use std::path::PathBuf;

use super::edits::{Edits, edits};
use super::listeners::{Listeners, listeners};
use super::owners::OwnersView;
use crate::check::context::CheckContext;
use crate::config::{InstanceConfig, ServerKind};
use crate::deploy::Keeper;
use crate::deploy::state::Observation;
use crate::host::look::CannotLook;
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker, is_root};
use crate::lineage::Source;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::mounts::{self, Pinned};
use crate::server::postmaster::Absence;
use crate::server::process::Process;
use crate::server::program::{Program, Surroundings};
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{Instance, InstanceSnapshot, Server};

/// An instance, and what more than one check needs to know about it.
pub(in crate::check) struct InstanceLook {
    pub(super) context: CheckContext,
    pub(super) index: usize,
    pub(super) keeper: Keeper,
    pub(super) seen: Observation,
    /// What the owner of the files may do with them.
    pub(super) owners: OwnersView,
    /// A target that the server sees as a single file; of a server that runs.
    pub(super) pinned: Option<Result<Option<Pinned>, CannotLook>>,
    /// Reads what a PostgreSQL reads: a thread with the file rights of its user, which writes nothing.
    pub(super) reader: Option<Result<Worker, PrivilegeError>>,
    /// What the server's configuration says of TLS, where it could be asked.
    pub(super) tls: Option<Result<TlsSettings, SettingsError>>,
    /// Whether a PostgreSQL could start again, likewise.
    pub(super) start: Option<NextStart>,
    pub(in crate::check) edits: Edits,
    pub(super) listeners: Listeners,
}

/// What the program of a PostgreSQL says of a start.
pub(super) struct NextStart {
    pub(super) around: Result<Surroundings, SettingsError>,
    pub(super) tried: DryStart,
}

impl InstanceLook {
    pub(in crate::check) async fn new(
        context: CheckContext,
        index: usize,
        source: Source,
    ) -> InstanceLook {
        let (config, prober) = (&context.config, context.prober.clone());
        let instance = Instance::new(config, &config.instances[index], prober);
        let mut keeper = Keeper::new(instance);
        let settle = config.watch.settle_timeout;
        let seen = keeper.observe(&source, settle).await;
        let config = &config.instances[index];
        let owners = OwnersView::new(config, &mut keeper, &seen).await;
        let mut look = InstanceLook {
            context,
            index,
            keeper,
            seen,
            owners,
            pinned: None,
            reader: None,
            tls: None,
            start: None,
            edits: Edits::default(),
            listeners: Listeners::default(),
        };
        look.ask_server().await;
        look
    }

    pub(super) fn instance(&self) -> &InstanceConfig {
        &self.context.config.instances[self.index]
    }

    /// The instance as it was seen, if it could be looked at.
    pub(super) fn sight(&self) -> Option<&InstanceSnapshot> {
        self.seen.sight.as_ref().ok()
    }

    /// Asks the server what its configuration says; if a PostgreSQL is down, its program.
    async fn ask_server(&mut self) {
        let Ok(sight) = &self.seen.sight else {
            return;
        };
        let config = &self.context.config.instances[self.index];
        let process = sight.server.process();
        if let Some(process) = process {
            self.pinned = Some(mounts::look(process, &sight.targets).await);
            if config.kind() != ServerKind::Postgres {
                self.tls = Some(self.keeper.instance.tls_settings(process, sight).await);
            }
        }
        if config.kind() != ServerKind::Postgres {
            return;
        }
        let (server, postmaster) = (sight.targets.server, sight.server.postmaster());
        if let Some(postmaster) = postmaster {
            self.listeners = listeners(postmaster, server.uid).await;
        }
        let rights = Rights::Writer {
            owner: server,
            write: Default::default(),
            read: [PathBuf::from("/")].into_iter().collect(),
        };
        let reader = Worker::start(format!("c:{}", config.name), move || rights).await;
        let reader = self.reader.insert(reader);
        let Ok(reader) = reader else {
            return;
        };
        let program = match &sight.server {
            Server::Down(absence) => last_program(absence, sight, reader).await.map(Ok),
            Server::Up(process) => process.postmaster().map(Program::from_postmaster),
        };
        let (tls, start) = match program {
            None => return,
            Some(Ok(program)) => asked(&program, config, sight, reader).await,
            Some(Err(error)) => {
                let tried = DryStart::NotKnown(error.to_string());
                let pid = process.map_or(0, Process::pid);
                let around = Err(SettingsError::NoExecutable { pid });
                (Err(error), NextStart { around, tried })
            }
        };
        if !sight.server.is_up() && matches!(tls, Err(SettingsError::Asking { .. })) {
            // An upgrade has removed it, perhaps: nothing follows from that.
            return;
        }
        if let Some(postmaster) = postmaster {
            self.edits = edits(postmaster, sight, &start.around, reader).await;
        }
        (self.tls, self.start) = (Some(tls), Some(start));
    }
}

/// The program of the last start of a server that is down. Since a file of the server's user names it, it only runs as
/// that user.
async fn last_program(
    absence: &Absence,
    sight: &InstanceSnapshot,
    reader: &Worker,
) -> Option<Program> {
    let may = is_root() || Ids::own().uid == sight.targets.server.uid;
    if !may || !matches!(absence, Absence::NoPidFile | Absence::Stale { .. }) {
        return None;
    }
    let targets = sight.targets.clone();
    let told = reader.call(move || targets.last_start()).await;
    Program::from_last_start(&told.ok()?.ok()??)
}

/// What a PostgreSQL's program says: its settings, and what came of a start.
async fn asked(
    program: &Program,
    config: &InstanceConfig,
    sight: &InstanceSnapshot,
    reader: &Worker,
) -> (Result<TlsSettings, SettingsError>, NextStart) {
    let (data, server) = (&sight.targets.data, sight.targets.server);
    let (tls, around) = tokio::join!(
        program.tls_settings(data, server),
        program.surroundings(data, server),
    );
    let installed = sight.look.installed.bundle().map(|bundle| &**bundle);
    let tls = tls.map(|tls| tls.for_instance(config, installed));
    let tried = tried(program, sight, &tls, &around, reader).await;
    (tls, NextStart { around, tried })
}

/// What the server's program says about a start.
async fn tried(
    program: &Program,
    sight: &InstanceSnapshot,
    tls: &Result<TlsSettings, SettingsError>,
    around: &Result<Surroundings, SettingsError>,
    reader: &Worker,
) -> DryStart {
    let (Ok(tls), Ok(around)) = (tls, around) else {
        return DryStart::NotKnown("its configuration could not be read".into());
    };
    let server = sight.targets.server;
    if !is_root() && Ids::own().uid != server.uid {
        return DryStart::NotKnown("only its own user can try a start".into());
    }
    let running = sight.server.postmaster();
    let data = &sight.targets.data;
    let mut tried = program.dry_start(data, server, running, tls, around).await;
    let said = match &mut tried {
        // What a start waits for is named where it can be.
        DryStart::NotKnown(why) => why,
        // The server names a file, and not the line of pg_hosts.conf that names it.
        DryStart::Fails {
            stage: LoadStage::Tls,
            said,
        } if tls.hosts().is_some() => said,
        DryStart::Loads | DryStart::Fails { .. } => return tried,
    };
    let named = tls.clone();
    let faults = reader.call(move || named.faults()).await;
    for fault in faults.unwrap_or_default() {
        *said = format!("{said}; {fault}");
    }
    tried
}
