//! One deployment: install, reload, verify, and where the server refuses, roll back.
//!
//! A deployment is a value that passes through its states; each transition is a method of the
//! state that it leaves:
//!
//! ```text
//! Begun --installed--> Installed --reloaded--> Reloaded --verified--> Verdict
//!                                                           |
//!                      Refused --rolled_back--> RolledBack <+ (refused, proven)
//! ```
//!
//! Where a refusal shows in that no client gets in, the way back is part of its proof; where that
//! leads nowhere, the bundle goes in again (`reinstated`).
//!
//! What ends it early leaves the files as they were, or says how they are.

mod before;
mod order;
mod roll_back;
mod shut_out;
mod verify;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bundle::{Bundle, KeyedBundle};
use crate::config::{Mode, ServerKind, Verify};
use crate::deploy::SyncOutcome;
use crate::problem::Problem;
use crate::server::files::{FilesError, FilesSnapshot, Keep, StagedFiles, Targets, Trial};
use crate::server::patroni::Rehearsal;
use crate::server::probe::Served;
use crate::server::process::Process;
use crate::server::reload::{ReloadError, reload};
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{Instance, InstanceSnapshot, Server};
use before::{Before, WayBack};
pub(crate) use order::{Content, DeploymentOrder, Proven, Replaced};

/// How long the look before an install may take; it runs beside the writing of the new file.
const GLANCE: Duration = Duration::from_secs(2);

/// How long a Patroni's REST API may take to show that it lives, before Patroni is asked to reload.
const DEAF: Duration = Duration::from_secs(5);

/// Why nothing more is to be done about a server that is down.
const NOT_RUNNING: &str = "the server is not running; it will load the files when it starts";

/// How a deployment ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// [`SyncOutcome::Unchanged`] where nothing was written and the server ended before it was seen to load the files.
    pub(crate) outcome: SyncOutcome,
    /// Why new clients do not get the bundle, where they do not.
    pub(crate) problem: Option<Problem>,
    /// Whether the server showed what it makes of the files, so that asking it again would tell nothing new.
    pub(crate) is_answered: bool,
    /// What new clients were seen to get: the bundle.
    pub(crate) served: Option<Box<Served>>,
}

impl Ending {
    /// New clients get the bundle. `verify = "none"` counts as well.
    fn deployed() -> Ending {
        Ending {
            outcome: SyncOutcome::Deployed,
            problem: None,
            is_answered: true,
            served: None,
        }
    }

    fn failed(outcome: SyncOutcome, problem: impl Into<Problem>) -> Ending {
        Ending {
            outcome,
            problem: Some(problem.into()),
            is_answered: true,
            served: None,
        }
    }

    /// The files are right, and the server is down or does not use them.
    fn installed(problem: impl Into<Problem>) -> Ending {
        Ending::failed(SyncOutcome::Installed, problem)
    }

    /// The server would not load it, and the files are somebody else's and stay.
    fn not_taken(problem: Problem) -> Ending {
        Ending::failed(SyncOutcome::Unverified, problem)
    }

    /// The files are right, and what is served could not be seen, or another file than the bundle's keeps the server from
    /// loading anything.
    fn unverified(problem: impl Into<Problem>) -> Ending {
        Ending {
            is_answered: false,
            ..Ending::failed(SyncOutcome::Unverified, problem)
        }
    }
}

/// What a deployment that is under way knows in each of its states.
struct Deployment<'a, State> {
    instance: &'a mut Instance,
    bundle: Arc<Bundle>,
    /// The same with its key, where it is written. It goes when this does.
    keyed: Option<Arc<KeyedBundle>>,
    before: Before,
    state: State,
}

struct Begun;
/// The new files are in place.
struct FilesInstalled {
    /// What was said to be on trial before they were.
    trial: Trial,
}
/// How new files, which lie beside the old ones, take their place.
struct FileSwap {
    look: Arc<FilesSnapshot>,
    /// Whether what was found becomes the previous bundle.
    is_kept: bool,
    trial: Trial,
}

/// The server was asked to load them.
struct Reloaded {
    process: Arc<Process>,
    at: Instant,
    /// The configuration, where it was asked before the signal and names the files.
    known: Option<TlsSettings>,
    /// How often the server was asked for want of an answer to the time before.
    again: u32,
}
/// The server was proven not to take them.
struct Refused {
    process: Arc<Process>,
    reason: Problem,
    proof: Proof,
}

/// By what it was proven that a server did not take a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It did not load it.
    NotLoaded,
    /// It loaded it, and no client gets in with it.
    ShutOut,
}

/// What came of asking a server to load the files.
enum Verdict<'a> {
    Ended(Ending),
    Refused(Box<Deployment<'a, Refused>>),
}

/// Carries out `order` on `instance`; the caller holds the instance's lock.
pub(crate) async fn deploy(instance: &mut Instance, order: DeploymentOrder) -> Ending {
    match Box::pin(run(instance, order)).await {
        Ok(ending) => ending,
        Err(problem) => Ending::failed(SyncOutcome::Failed, problem),
    }
}

async fn run(instance: &mut Instance, order: DeploymentOrder) -> Result<Ending, Problem> {
    let begun = Deployment::begin(instance, order);
    let installed = match begun.keyed.clone() {
        Some(keyed) => begun.installed(keyed).await?,
        None => begun.unchanged(),
    };
    match &installed.before.sight.server {
        Server::Up(_) => {}
        // It may well run on what was there before.
        Server::Down(absence) if absence.may_run() => {
            return Ok(Ending::unverified(absence.problem()));
        }
        Server::Down(_) => return Ok(Ending::installed(installed.at_next_start())),
    }
    if let Some(not_used) = installed.unused() {
        return Ok(Ending::installed(not_used));
    }
    let verdict = match installed.foreseen().await {
        Some(reason) => installed.foreseen_refused(reason)?,
        None => Box::pin(installed.tried()).await?,
    };
    match verdict {
        Verdict::Ended(ending) => Ok(ending),
        Verdict::Refused(refused) => refused.rolled_back().await,
    }
}

impl<'a> Deployment<'a, Begun> {
    fn begin(instance: &'a mut Instance, order: DeploymentOrder) -> Self {
        Deployment {
            instance,
            bundle: Arc::clone(order.content.bundle()),
            keyed: match order.content {
                Content::New(keyed) => Some(keyed),
                Content::Installed(_) => None,
            },
            before: Before {
                sight: order.sight,
                served: order.served,
                proven: order.proven,
                replaced: order.replaced,
                forced: order.forced,
            },
            state: Begun,
        }
    }

    /// Puts the new files in place. Where it is not known what the server serves, it is asked while they are written: what
    /// they replace is kept as the previous bundle if it was proven served, and differs, unless it is the previous one that
    /// goes in.
    async fn installed(
        mut self,
        keyed: Arc<KeyedBundle>,
    ) -> Result<Deployment<'a, FilesInstalled>, Problem> {
        let written = match self.glance() {
            None => {
                let swap = self.swap();
                let visit = self.instance.on_files(move |targets| {
                    let staged = targets.stage(&keyed)?;
                    swap.carried_out(targets, &staged)
                });
                visit.await
            }
            Some(glance) => {
                let stage = self.instance.on_files(move |targets| targets.stage(&keyed));
                let (staged, served) = tokio::join!(stage, glance);
                let staged = staged.map_err(|error| error.problem())?;
                self.before.served = served;
                let swap = self.swap();
                let visit = self
                    .instance
                    .on_files(move |targets| swap.carried_out(targets, &staged));
                visit.await
            }
        };
        let trial = written.map_err(|error| error.problem())?;
        Ok(self.into_state(FilesInstalled { trial }))
    }

    /// A look at what the server serves, where that is to be known and is not.
    fn glance(&self) -> Option<impl Future<Output = Option<Served>> + use<>> {
        if self.instance.config.verify != Verify::Handshake || self.before.is_known() {
            return None;
        }
        let process = self.before.sight.server.process()?;
        let addresses = self.instance.addresses(process).ok()?;
        let installed = self.before.sight.look.installed.bundle().cloned();
        Some(self.instance.glance(addresses, installed, GLANCE))
    }

    /// How the new files take the place of the old ones.
    fn swap(&self) -> FileSwap {
        let needs_pair = self.instance.config.kind().profile().needs_pair_to_start;
        let installed = self.before.installed();
        let differs = installed.is_some_and(|old| !old.same_content(&self.bundle));
        FileSwap {
            look: Arc::clone(&self.before.sight.look),
            is_kept: differs && self.before.worth_keeping(),
            trial: if needs_pair {
                self.before.trial(&self.bundle)
            } else {
                Trial::Unchanged
            },
        }
    }

    /// The files are right as they are.
    fn unchanged(self) -> Deployment<'a, FilesInstalled> {
        let trial = Trial::Unchanged;
        self.into_state(FilesInstalled { trial })
    }
}

impl FileSwap {
    /// Carries it out; returns what is on trial then.
    fn carried_out(self, targets: &Targets, staged: &StagedFiles) -> Result<Trial, FilesError> {
        let keep = if self.is_kept {
            Keep::AsPrevious(&self.look)
        } else {
            Keep::No
        };
        let committed = targets.commit(staged, &keep, self.trial);
        if committed.is_err() {
            // The first error is the one to report; leftovers are removed next time.
            let _second = targets.discard(staged);
        }
        committed.map(|()| self.trial)
    }
}

impl<'a> Deployment<'a, FilesInstalled> {
    /// What is to be said where the server is down.
    fn at_next_start(&self) -> Problem {
        if !matches!(self.state.trial, Trial::Begins(bundle) if bundle.bundle == self.bundle.identity())
        {
            return NOT_RUNNING.into();
        }
        let config = &self.instance.config;
        Problem::from(NOT_RUNNING).and(format_args!(
            "it has not been seen to serve {} yet: if it does not start, `{}` puts the previous files back",
            self.bundle.fingerprint().short(),
            config.command(&["sync"])
        ))
    }

    /// Why a Patroni does not use the files, which no reload would change: it is left alone, since
    /// it loses more than other servers by a reload that it need not make.
    fn unused(&self) -> Option<Problem> {
        let Some(Process::Patroni(patroni)) = self.before.sight.server.process() else {
            return None;
        };
        let config = &self.instance.config;
        let settings = patroni.tls(config).ok()?;
        let not_used = settings.not_used(&config.cert_file, &config.key_file);
        // Where that is not known, it is asked to load a pair that it was seen to load.
        not_used.ok()?
    }

    /// Why the server would not load the files, where that can be tried beforehand: a Patroni that
    /// was asked to load what it cannot goes on without its REST API.
    async fn foreseen(&self) -> Option<Problem> {
        let server = self.before.sight.targets.server;
        let Some(Process::Patroni(patroni)) = self.before.sight.server.process() else {
            return None;
        };
        match patroni.rehearsed(server, &self.instance.config).await? {
            Rehearsal::Loads => None,
            Rehearsal::Refused(said) => Some(Problem::from(format!(
                "Patroni would not load {}, and was not asked to: {said}",
                self.bundle.fingerprint().short()
            ))),
        }
    }

    fn foreseen_refused(self, reason: Problem) -> Result<Verdict<'a>, Problem> {
        let Server::Up(process) = self.before.sight.server.clone() else {
            return Err("the server is not running".into());
        };
        if self.instance.config.mode != Mode::Manage {
            return Ok(Verdict::Ended(Ending::not_taken(reason)));
        }
        let refused = self.into_state(Refused {
            process,
            reason,
            proof: Proof::NotLoaded,
        });
        Ok(Verdict::Refused(Box::new(refused)))
    }

    /// Asks the server to load the files, and looks what comes of it.
    async fn tried(self) -> Result<Verdict<'a>, Problem> {
        let Server::Up(process) = self.before.sight.server.clone() else {
            return Err("the server is not running".into());
        };
        match ask_reload(self.instance, &self.before.sight, &process).await {
            Ok(()) => {}
            Err(_) if !process.alive() => return Ok(self.server_ended()),
            Err(error) => return Err(error.to_string().into()),
        }
        let reloaded = Reloaded {
            process,
            at: Instant::now(),
            known: None,
            again: 0,
        };
        Ok(self.into_state(reloaded).verified().await)
    }
}

impl<'a, State> Deployment<'a, State> {
    /// What the server's configuration says, for the names that count with the new bundle.
    async fn settings(&mut self, process: &Process) -> Result<TlsSettings, SettingsError> {
        let asked = self.instance.tls_settings(process, &self.before.sight);
        let settings = Box::pin(asked).await?;
        Ok(self.instance.with_names(settings, Some(&self.bundle)))
    }

    /// The server's process ended before it was seen to load the files.
    fn server_ended(&self) -> Verdict<'a> {
        Verdict::Ended(if self.keyed.is_some() {
            Ending::installed(NOT_RUNNING)
        } else {
            Ending {
                outcome: SyncOutcome::Unchanged,
                ..Ending::deployed()
            }
        })
    }

    fn into_state<Next>(self, state: Next) -> Deployment<'a, Next> {
        Deployment {
            instance: self.instance,
            bundle: self.bundle,
            keyed: self.keyed,
            before: self.before,
            state,
        }
    }
}

async fn ask_reload(
    instance: &Instance,
    sight: &InstanceSnapshot,
    process: &Process,
) -> Result<(), ReloadError> {
    let config = &instance.config;
    if process.kind() == ServerKind::Patroni {
        // One that lost its REST API to a pair before would wait for ever for its end.
        let addresses = instance.addresses(process).map_err(ReloadError::Unseen)?;
        let seen = instance.served(&addresses, DEAF).await;
        if let Err(unseen) = seen
            && !unseen.is_tls_off()
        {
            return Err(ReloadError::Deaf(unseen.problem()));
        }
    }
    reload(
        &config.reload,
        process,
        &config.name,
        &config.place,
        sight.targets.server,
    )
    .await
}
