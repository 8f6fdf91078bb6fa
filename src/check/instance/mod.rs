//! What is so of one instance: everything between its lineage and its clients.
//!
//! The order is that of a renewal: may it be read, is it fit, can it be installed, would the
//! server load it, who gets it.

mod client_ca;
mod edits;
mod files;
mod labels;
mod neighbour;
mod plaintext;
mod restart;
mod served;
mod server;
mod source;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, FindingKind, Unit, user_name};
use crate::config::{self, Config};
use crate::deploy::Keeper;
use crate::deploy::state::Observation;
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker, is_root};
use crate::lineage::Source;
use crate::server::dry_start::DryStart;
use crate::server::postmaster::Absence;
use crate::server::probe::Prober;
use crate::server::program::{Program, Surroundings};
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{Instance, InstanceError, InstanceSnapshot, Server};
use edits::Edits;

/// An instance that is looked at.
#[derive(Clone)]
pub(super) struct Case {
    pub(crate) config: Arc<Config>,
    pub(crate) index: usize,
    pub(crate) source: Source,
    pub(crate) unit: Arc<Option<Unit>>,
    pub(crate) prober: Prober,
}

/// What a server's configuration says.
struct ServerAnswers {
    tls: Result<TlsSettings, SettingsError>,
    around: Result<Surroundings, SettingsError>,
}

/// Reads what a server reads: a thread with the file rights of its user, which writes nothing.
struct ServerReader(Worker);

impl ServerReader {
    async fn start(server: Ids, name: &str) -> Result<ServerReader, PrivilegeError> {
        let rights = Rights::Writer {
            owner: server,
            write: Default::default(),
            read: [PathBuf::from("/")].into_iter().collect(),
        };
        let worker = Worker::start(format!("c:{name}"), move || rights).await?;
        Ok(ServerReader(worker))
    }

    async fn see<R: Send + 'static>(
        &self,
        look: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, PrivilegeError> {
        self.0.call(look).await
    }
}

impl Case {
    fn instance(&self) -> &config::InstanceConfig {
        &self.config.instances[self.index]
    }

    /// The command that sets the server up for this instance.
    fn setup(&self, more: &[&str]) -> String {
        let wanted = [more, &["--yes", "--instance"]].concat();
        let wanted = [&["setup"], wanted.as_slice()].concat();
        self.instance().command(&wanted)
    }

    fn sync(&self, more: &[&str]) -> String {
        self.instance().command(&[&["sync"], more].concat())
    }

    /// How long it may take in all: the proofs, one after the other, have a limit of their own.
    pub(super) fn patience(&self, beside: Duration) -> Duration {
        const PROOFS: u32 = 4;
        beside + self.instance().verify_timeout * PROOFS
    }

    /// What is said of an instance that did not answer in time.
    pub(super) fn silent(&self, after: Duration) -> Finding {
        let seen = format!("it could not be looked at within {} s", after.as_secs());
        Finding::problem(FindingKind::DataDirectory, seen)
            .sentence("see that the file systems of its lineage and its data directory answer")
    }

    pub(super) async fn findings(self) -> Vec<Finding> {
        let instance = Instance::new(&self.config, self.instance(), self.prober.clone());
        let mut keeper = Keeper::new(instance);
        let seen = keeper
            .observe(&self.source, self.config.watch.settle_timeout)
            .await;
        let mut findings = vec![source::fit(&self, &seen), self.server_names()];
        findings.extend(client_ca::expiry(&self));
        findings.extend(source::readable(&self).await);
        findings.extend(source::writers(&self).await);
        match &seen.sight {
            Err(error) => {
                let closed = files::closed(&self, &mut keeper).await;
                findings.extend(closed.is_empty().then(|| unlooked(error)));
                findings.extend(closed);
                findings.extend(served::of_address(&self).await);
            }
            Ok(sight) => {
                let (key, home) = (self.instance().place.key(), sight.targets.data.display());
                let what = key.replace("data_directory", "data directory");
                findings.push(Finding::good(
                    FindingKind::DataDirectory,
                    format!("{what} {home}"),
                ));
                if self.instance().kind() != config::ServerKind::Postgres {
                    findings.extend(files::findings(&self, &mut keeper, sight, &seen).await);
                    findings.extend(neighbour::findings(&self, &mut keeper, sight, &seen).await);
                    return findings;
                }
                findings.push(version::finding(&self, &mut keeper).await);
                findings.extend(files::findings(&self, &mut keeper, sight, &seen).await);
                let server = sight.targets.server;
                match ServerReader::start(server, &self.instance().name).await {
                    Err(error) => findings.push(
                        Finding::problem(FindingKind::Server, error.to_string())
                            .because("the server's files could not be looked at"),
                    ),
                    Ok(eyes) => findings.extend(self.of_server(sight, &seen, &eyes).await),
                }
            }
        }
        findings
    }

    /// What follows from a look at the server.
    async fn of_server(
        &self,
        sight: &InstanceSnapshot,
        seen: &Observation,
        eyes: &ServerReader,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(files::apart(self, sight, eyes).await);
        findings.extend(labels::finding(self, sight, eyes).await);
        if let Server::Down(absence) = &sight.server {
            findings.push(server::down(absence, sight));
            findings.extend(self.of_next_start(sight, absence, eyes).await);
        }
        let Some(process) = sight.server.process() else {
            return findings;
        };
        let Some(postmaster) = process.postmaster() else {
            return findings;
        };
        findings.push(Finding::good(
            FindingKind::Server,
            format!("the server runs, process {}", postmaster.pid),
        ));
        findings.push(files::single(sight, process).await);
        let (answers, tried) = match Program::from_postmaster(postmaster) {
            Ok(program) => self.asked(&program, sight, eyes).await,
            Err(_) => ServerAnswers::unaskable(postmaster.pid),
        };
        let edits = edits::edits(postmaster, sight, &answers, eyes).await;
        findings.extend(server::findings(self, sight, &answers, &edits));
        findings.push(restart::finding(self, sight, &answers, &tried, &edits));
        let (listeners, rules) = tokio::join!(
            served::listeners(postmaster, sight.targets.server.uid),
            plaintext::rules(postmaster, &answers, &tried, edits.loaded, eyes),
        );
        findings.extend(edits.finding);
        let reload = edits::reload(postmaster, sight);
        findings.extend(plaintext::finding(self, sight, rules, &listeners, reload));
        findings.extend(served::proven(self, sight, seen));
        findings.extend(served::locked_out(seen));
        findings.extend(served::trusted(self, sight, postmaster, &listeners).await);
        findings
    }

    /// Whether a server that is down would start as it last did. Nobody runs a program that
    /// another user's file names, but as that user.
    async fn of_next_start(
        &self,
        sight: &InstanceSnapshot,
        absence: &Absence,
        eyes: &ServerReader,
    ) -> Vec<Finding> {
        let may = is_root() || Ids::own().uid == sight.targets.server.uid;
        if !may || !matches!(absence, Absence::NoPidFile | Absence::Stale { .. }) {
            return Vec::new();
        }
        let targets = sight.targets.clone();
        let told = eyes.see(move || targets.last_start()).await;
        let Ok(Ok(Some(text))) = told else {
            return Vec::new();
        };
        let Some(program) = Program::from_last_start(&text) else {
            return Vec::new();
        };
        let (answers, tried) = self.asked(&program, sight, eyes).await;
        if answers.is_unasked() {
            // An upgrade has removed it, perhaps: nothing follows from that.
            return Vec::new();
        }
        let edits = Edits::default();
        let mut findings = server::findings(self, sight, &answers, &edits);
        findings.push(restart::finding(self, sight, &answers, &tried, &edits));
        findings
    }

    /// What the server's program says: its settings, and what came of a start.
    async fn asked(
        &self,
        program: &Program,
        sight: &InstanceSnapshot,
        eyes: &ServerReader,
    ) -> (ServerAnswers, DryStart) {
        let (data, server) = (&sight.targets.data, sight.targets.server);
        let (tls, around) = tokio::join!(
            program.tls_settings(data, server),
            program.surroundings(data, server),
        );
        let installed = sight.look.installed.bundle().map(|bundle| &**bundle);
        let tls = tls.map(|tls| tls.for_instance(self.instance(), installed));
        let answers = ServerAnswers { tls, around };
        let tried = restart::tried(program, sight, &answers, eyes).await;
        (answers, tried)
    }

    fn server_names(&self) -> Finding {
        let kind = FindingKind::ServerNames;
        let (names, instance) = (&self.instance().server_names, self.instance());
        if !names.is_empty() {
            let names: Vec<_> = names
                .iter()
                .map(|server_name| server_name.to_str())
                .collect();
            return Finding::good(kind, format!("clients verify {}", names.join(", ")));
        }
        let example = self.source.bundle().and_then(|bundle| {
            let names = bundle.leaf().names();
            names.iter().find(|name| !name.starts_with("*.")).cloned()
        });
        Finding::notice(kind, "the config does not say which names clients verify").sentence(format!(
            "put the host names that stand in the clients' settings into [[instance]] {} in {}: server_names = [\"{}\"]",
            instance.name,
            self.config.file.display(),
            example.as_deref().unwrap_or("db.example.com"),
        ))
    }
}

impl ServerAnswers {
    /// Those of a server whose executable cannot be run from here.
    fn unaskable(pid: u32) -> (ServerAnswers, DryStart) {
        let answers = ServerAnswers {
            tls: Err(SettingsError::NoExecutable { pid }),
            around: Err(SettingsError::NoExecutable { pid }),
        };
        let why = SettingsError::NoExecutable { pid }.to_string();
        (answers, DryStart::NotKnown(why))
    }

    /// Whether the program itself could not be run.
    fn is_unasked(&self) -> bool {
        matches!(self.tls, Err(SettingsError::Asking { .. }))
    }
}

/// An instance whose files cannot be looked at.
fn unlooked(error: &InstanceError) -> Finding {
    let (kind, problem) = (FindingKind::DataDirectory, error.problem());
    if error.is_denied() && !is_root() {
        Finding::unseen(kind, problem.what, "root, or the server's user")
            .because("nothing of its files and its server can be told without that")
    } else {
        Finding::from_problem(kind, problem)
    }
}

/// The right that others than root and the server's user lack.
fn as_server(server: u32) -> String {
    format!("root, or user {}", user_name(server))
}

/// What is not known, and why: for want of a right, or because a look failed, which is a problem to whoever may look.
fn unknown(kind: FindingKind, sight: &InstanceSnapshot, seen: String) -> Finding {
    let server = sight.targets.server.uid;
    if is_root() || Ids::own().uid == server {
        Finding::problem(kind, seen).sentence("fix the cause that is named, then run check again")
    } else {
        Finding::unseen(kind, seen, as_server(server))
    }
}

/// What nobody can know of this server from here, and why, whatever he may look at: worth knowing, and nothing to mend.
fn unknowable(kind: FindingKind, sight: &InstanceSnapshot, seen: String) -> Finding {
    let finding = unknown(kind, sight, seen);
    if finding.lacks.is_some() {
        return finding;
    }
    Finding::notice(kind, finding.seen)
}

/// The same where the server's configuration could not be asked: the program of a server in a container cannot be run from
/// here, and any other reason is a look that failed.
fn unanswered(
    kind: FindingKind,
    sight: &InstanceSnapshot,
    what: &str,
    error: &SettingsError,
) -> Finding {
    let seen = format!("{what}: {error}");
    if matches!(error, SettingsError::NoExecutable { .. }) {
        unknowable(kind, sight, seen)
    } else {
        unknown(kind, sight, seen)
    }
}
