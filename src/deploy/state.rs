//! What state an instance is in, and what is wrong with it: a pure function of what was seen.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{Readiness, held_until, still_held};
use crate::bundle::{Bundle, Fingerprint};
use crate::config::{self, Mode, ServerKind, Verify};
use crate::lineage::Source;
use crate::problem::Problem;
use crate::server::files::{HeldBy, Installed};
use crate::server::mounts::Pinned;
use crate::server::postmaster::Absence;
use crate::server::probe::Served;
use crate::server::process::Process;
use crate::server::settings::{FIX_FIRST, Names, SettingsError, TlsSettings};
use crate::server::{InstanceError, InstanceSnapshot, Server, Unseen};
use crate::trust::{Needed, Roots};

/// The state of an instance; the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The caller lacks the right to look.
    Unknown,
    /// The source is unreadable, unfit or refused by our checks.
    SourceInvalid,
    /// The operator rolled back; waits for the lineage to change.
    Held,
    /// The server refused the source's bundle.
    Rejected,
    /// The source's files do not fit yet, or a delay runs.
    Waiting,
    /// The server is down, and what is installed can load.
    NotRunning,
    /// Something else keeps rewriting the installed files.
    Contended,
    /// What is installed is not what the source holds.
    OutOfDate,
    /// The server's configuration names other files, or TLS is off.
    NotUsed,
    /// What is installed is right, and another leaf is served.
    NotServed,
    /// What is installed is right, and serving cannot be looked at.
    Unverified,
    /// Source, installed and served are one.
    InSync,
}

impl State {
    /// All of them, those that are well first.
    pub const ALL: [State; 12] = [
        State::InSync,
        State::NotRunning,
        State::Waiting,
        State::Unknown,
        State::SourceInvalid,
        State::Rejected,
        State::Held,
        State::OutOfDate,
        State::NotUsed,
        State::NotServed,
        State::Unverified,
        State::Contended,
    ];

    /// What is so, in words for the manual.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            State::InSync => "the lineage's certificate is installed and served",
            State::NotRunning => "the server is down; the installed files can be loaded",
            State::Waiting => "a renewal is in progress or not valid yet, or a `delay` is running",
            State::Unknown => "you lack the permission to look, and the daemon is not running",
            State::SourceInvalid => {
                "the lineage cannot be read, or holds something that must not be installed"
            }
            State::Rejected => {
                "the server would not load it, or no client could connect with it; the previous one is back"
            }
            State::Held => "an operator rolled back; this bundle is held",
            State::OutOfDate => "the installed certificate is not the lineage's",
            State::NotUsed => "the server's configuration names other files, or TLS is off",
            State::NotServed => "the server serves a different certificate from the installed one",
            State::Unverified => "it is installed, but what the server serves cannot be checked",
            State::Contended => "something else keeps rewriting the installed files",
        }
    }

    /// What to do about it, in words for the manual.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            State::InSync => "nothing",
            State::NotRunning => "start it when you are ready",
            State::Waiting => {
                "nothing; it becomes `source_invalid` after `settle_timeout` if it stays incomplete"
            }
            State::Unknown => "run it as root, or start the daemon",
            State::SourceInvalid => {
                "see `why`: permissions, or renew again (`certbot renew --force-renewal`); the old certificate is still served"
            }
            State::Rejected => "see the server's log, fix the cause, run `pgcertd sync --force`",
            State::Held => "renew, or run `pgcertd sync --force`",
            State::OutOfDate => {
                "see `why`: a full disk, a missing directory, a daemon that is not running"
            }
            State::NotUsed => "set what `fix` says, and reload the server",
            State::NotServed => "run `pgcertd sync --force`; does `address` lead to this server?",
            State::Unverified => {
                "does the server answer on TCP? If not, set `address`, or `verify = \"none\"`"
            }
            State::Contended => "find and remove it, then run `pgcertd sync --force`",
        }
    }

    /// Whether nothing needs a person.
    pub(crate) fn is_well(self) -> bool {
        matches!(self, State::InSync | State::NotRunning | State::Waiting)
    }

    /// As in JSON and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::SourceInvalid => "source_invalid",
            State::Held => "held",
            State::Rejected => "rejected",
            State::Waiting => "waiting",
            State::NotRunning => "not_running",
            State::Contended => "contended",
            State::OutOfDate => "out_of_date",
            State::NotUsed => "not_used",
            State::NotServed => "not_served",
            State::Unverified => "unverified",
            State::InSync => "in_sync",
        }
    }
}

/// Everything that was seen of one instance at one moment.
pub(crate) struct Observation {
    pub(crate) source: Source,
    /// Whether that may go in.
    pub(crate) readiness: Readiness,
    /// The files and the process.
    pub(crate) sight: Result<InstanceSnapshot, InstanceError>,
    pub(crate) served: Result<Served, Unseen>,
    /// What the server's configuration says, where something is amiss and it could be asked.
    pub(crate) settings: Option<Result<TlsSettings, SettingsError>>,
    /// What keeps the server from loading anything new, in other files than the instance's, where something is amiss.
    pub(crate) faults: Vec<Problem>,
    /// A target that the server sees as a single file, where something is amiss.
    pub(crate) pinned: Option<Pinned>,
    /// Whether something else keeps rewriting the installed files.
    pub(crate) contended: bool,
    /// Why the last attempt did not succeed.
    pub(crate) failure: Option<Problem>,
    /// The roots that are known, where what is said of a chain depends on them.
    pub(crate) roots: Arc<Roots>,
    pub(crate) at: Timestamp,
}

impl Observation {
    fn installed_leaf(&self) -> Option<Fingerprint> {
        let sight = self.sight.as_ref().ok()?;
        Some(sight.look.installed.bundle()?.fingerprint())
    }

    /// What clients need of a bundle.
    pub(crate) fn needed<'a>(&self, bundle: &'a Bundle) -> Needed<'a> {
        Needed::of_bundle(bundle, &self.roots, self.at)
    }

    /// When the first certificate of that ends.
    pub(crate) fn end_of(&self, bundle: &Bundle) -> Timestamp {
        self.needed(bundle).first_end().not_after()
    }

    /// Whether the caller lacks the right to look at something.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.source, Source::Invalid { denied: true, .. })
            || self.sight.as_ref().is_err_and(InstanceError::is_denied)
    }

    /// Decides the state, and the problem where there is one.
    pub(crate) fn state(&self, config: &config::InstanceConfig) -> (State, Option<Problem>) {
        self.of_source()
            .or_else(|| self.of_memory(config))
            .or_else(|| self.of_unknown())
            .or_else(|| self.of_waiting())
            .unwrap_or_else(|| match &self.sight {
                Err(error) => (State::OutOfDate, Some(error.problem())),
                Ok(sight) => self.of_files(sight, config),
            })
    }

    /// Why the running server, which uses the installed files, could not start with them again;
    /// nothing where it could, or where that is not known.
    pub(crate) fn would_not_start(&self, config: &config::InstanceConfig) -> Option<Problem> {
        let sight = self.sight.as_ref().ok()?;
        let settings = self.settings.as_ref()?.as_ref().ok()?;
        let (cert, key) = (&config.cert_file, &config.key_file);
        if !sight.server.is_up() {
            return None;
        }
        if !self.faults.is_empty() {
            return Some(Problem::new(Problem::whats(&self.faults), no_restart()));
        }
        if settings.not_used(cert, key) != Ok(None) {
            return None;
        }
        let why = match &sight.look.installed {
            Installed::Absent => format!("{} does not exist", cert.display()),
            Installed::Unusable(why) => why.clone(),
            Installed::Usable(bundle) => {
                let named = settings.companions_not_used(config) == Ok(None);
                if let Some(fault) = sight.look.companions_fault.as_ref().filter(|_| named) {
                    let fix = "don't restart it until that is fixed";
                    return Some(Problem::new(fault, fix).with(config.command(&["sync"])));
                }
                let held = sight.look.held.as_ref()?;
                let served = self.served.as_ref().ok().map(|s| s.leaf.fingerprint());
                let leaf = bundle.fingerprint();
                let refused = held.is_of(bundle.identity())
                    && held.by == HeldBy::Postgres
                    && still_held(held, &sight.server, self.at);
                if !refused || served == Some(leaf) {
                    return None;
                }
                format!(
                    "{} holds {}, which it rejected",
                    cert.display(),
                    leaf.short()
                )
            }
        };
        let pair = if cert == key {
            cert.display().to_string()
        } else {
            format!("{} with {}", cert.display(), key.display())
        };
        let fix = format!("don't restart it until {pair} holds a matching certificate and key");
        Some(Problem::new(why, fix).with(config.command(&["sync"])))
    }

    /// Whether the server could start with what is installed, as far as that can be told. A server
    /// that runs and uses other files could.
    pub(crate) fn can_start(&self, config: &config::InstanceConfig) -> bool {
        let broken = self.sight.as_ref().is_ok_and(|sight| {
            matches!(sight.server, Server::Down(_)) && sight.look.installed.bundle().is_none()
        });
        !broken && self.would_not_start(config).is_none()
    }

    /// Whether the files hold what the lineage holds.
    pub(crate) fn source_is_installed(&self) -> bool {
        let installed = self
            .sight
            .as_ref()
            .ok()
            .map(|snapshot| &snapshot.look.installed);
        match (self.source.bundle(), installed.and_then(Installed::bundle)) {
            (Some(source), Some(installed)) => installed.same_content(source),
            _ => false,
        }
    }

    /// When the instance is to be looked at again without any event.
    pub(crate) fn again_at(&self) -> Option<Timestamp> {
        match &self.readiness {
            Readiness::Later { at, .. } | Readiness::Delayed { at, .. } => {
                Some(*at).filter(|at| *at < Timestamp::MAX)
            }
            Readiness::Refused { at, .. } => *at,
            Readiness::Ready => {
                let sight = self.sight.as_ref().ok()?;
                let held = sight.look.held.as_ref()?;
                held_until(held).filter(|at| *at > Timestamp::now())
            }
        }
    }

    fn is_starting(&self) -> bool {
        self.sight.as_ref().is_ok_and(|sight| {
            let process = sight.server.process();
            process.is_some_and(Process::is_starting)
        })
    }

    fn of_source(&self) -> Option<(State, Option<Problem>)> {
        match &self.readiness {
            Readiness::Refused { problem, .. } => {
                Some((State::SourceInvalid, Some(problem.clone())))
            }
            _ => None,
        }
    }

    fn of_memory(&self, config: &config::InstanceConfig) -> Option<(State, Option<Problem>)> {
        let sight = self.sight.as_ref().ok()?;
        let source = self.source.bundle()?;
        let held = sight.look.held.as_ref()?;
        if !held.is_of(source.identity()) {
            return None;
        }
        match held.by {
            HeldBy::Operator => Some((
                State::Held,
                Some(
                    Problem::new(
                        &held.reason,
                        "it stays held until the lineage changes; to deploy it sooner",
                    )
                    .with(config.command(&["sync", "--force"])),
                ),
            )),
            HeldBy::Postgres => {
                // Refused and yet served: somebody made it work meanwhile.
                let served = self
                    .served
                    .as_ref()
                    .is_ok_and(|served| served.shown().is_of(source));
                let installed = sight.look.installed.bundle();
                let moved_on = served
                    || installed.is_some_and(|bundle| bundle.identity() == source.identity())
                        && !still_held(held, &sight.server, self.at);
                (!moved_on).then(|| {
                    (
                        State::Rejected,
                        Some(
                            Problem::new(
                                &held.reason,
                                format!(
                                    "it is retried when the lineage changes, when {} has restarted, or after a day; to retry now, once the cause is fixed",
                                    config.kind().name()
                                ),
                            )
                            .with(config.command(&["sync", "--force"])),
                        ),
                    )
                })
            }
        }
    }

    /// A server that may run or not: nothing of it is well.
    fn of_unknown(&self) -> Option<(State, Option<Problem>)> {
        match &self.sight.as_ref().ok()?.server {
            Server::Down(absence) if absence.may_run() => {
                Some((State::Unverified, Some(absence.problem())))
            }
            Server::Up(_) | Server::Down(_) => None,
        }
    }

    fn of_waiting(&self) -> Option<(State, Option<Problem>)> {
        match &self.readiness {
            Readiness::Later { problem, .. } | Readiness::Delayed { problem, .. } => {
                Some((State::Waiting, Some(problem.clone())))
            }
            _ => None,
        }
    }

    fn of_files(
        &self,
        sight: &InstanceSnapshot,
        config: &config::InstanceConfig,
    ) -> (State, Option<Problem>) {
        let look = &sight.look;
        let loads = look.installed.bundle();
        if let (Server::Down(_), Some(bundle)) = (&sight.server, loads)
            && !self.needed(bundle).is_expired(self.at)
        {
            let untried = self.of_trial(look, config);
            return (State::NotRunning, untried.or_else(|| self.of_absence()));
        }
        if self.contended {
            return (
                State::Contended,
                Some(
                    Problem::new(
                        format!(
                            "something else rewrote {} three times within an hour",
                            config.cert_file.display()
                        ),
                        "remove the hook or job that writes it (`pgcertd check` may name it), then run",
                    )
                    .with(config.command(&["sync", "--force"])),
                ),
            );
        }
        if !self.source_is_installed() {
            return (
                State::OutOfDate,
                Some(self.out_of_date(&look.installed, config)),
            );
        }
        if let Server::Down(absence) = &sight.server {
            return (State::OutOfDate, Some(absence.to_string().into()));
        }
        self.of_serving(config)
    }

    /// Why the server is thought to be down, unless it was simply shut down.
    fn of_absence(&self) -> Option<Problem> {
        match &self.sight.as_ref().ok()?.server {
            Server::Up(_) | Server::Down(Absence::NoPidFile | Absence::Stopping) => None,
            Server::Down(absence) => Some(absence.problem()),
        }
    }

    fn out_of_date(&self, installed: &Installed, config: &config::InstanceConfig) -> Problem {
        if let Some(pinned) = &self.pinned {
            return pinned.problem();
        }
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let what = match installed {
            Installed::Absent => format!("{} does not exist yet", config.cert_file.display()),
            Installed::Unusable(why) => why.clone(),
            Installed::Usable(installed) => self.difference(installed, config),
        };
        match config.mode {
            Mode::Manage => {
                Problem::new(what, "make sure the daemon is running; to install it now")
                    .with(config.command(&["sync"]))
            }
            Mode::Reload | Mode::Observe => Problem::new(
                what,
                "in this mode something else writes the file: find out why it hasn't",
            ),
        }
    }

    /// In what the installed files differ from the source.
    fn difference(&self, installed: &Bundle, config: &config::InstanceConfig) -> String {
        let sight = self.sight.as_ref().ok();
        let fault = sight.and_then(|snapshot| snapshot.look.companions_fault.clone());
        let same_pair = self
            .source
            .bundle()
            .is_some_and(|bundle| bundle.same_pair(installed));
        if let (true, Some(fault)) = (same_pair, fault) {
            return fault;
        }
        let source = self.source.bundle().map(|bundle| bundle.client_trust());
        let is_same = |piece| {
            source.is_some_and(|trust| trust.pem(piece) == installed.client_trust().pem(piece))
        };
        let pair = (!same_pair).then(|| {
            let lineage = format!("lineage {}", config.lineage.name);
            (&config.cert_file, lineage)
        });
        let trust_files = config.trust_files();
        let differing = trust_files.present().filter(|(piece, _)| !is_same(*piece));
        let differing =
            differing.map(|(_, found)| (&found.file, found.source.display().to_string()));
        let each = pair.into_iter().chain(differing);
        let each = each.map(|(file, holder)| format!("{} does not match {holder}", file.display()));
        each.collect::<Vec<_>>().join(", ")
    }

    fn of_serving(&self, config: &config::InstanceConfig) -> (State, Option<Problem>) {
        if config.verify == Verify::None {
            return (State::InSync, None);
        }
        if let Some(Ok(settings)) = &self.settings
            && let Ok(Some(not_used)) = settings.not_used(&config.cert_file, &config.key_file)
        {
            let problem = match settings.hosts() {
                // Its lines are not among what the set-up writes.
                Some(_) => not_used,
                None => not_used_by(config, not_used),
            };
            return (State::NotUsed, Some(problem));
        }
        if let Some(Ok(settings)) = &self.settings {
            match settings.companions_not_used(config) {
                Ok(Some(not_used)) => return (State::NotUsed, Some(not_used)),
                Ok(None) => {}
                // Nothing on the wire tells it.
                Err(cannot) => return (State::Unverified, Some(cannot.problem())),
            }
        }
        let sight = self.sight.as_ref().ok();
        let installed = sight.and_then(|snapshot| snapshot.look.installed.bundle());
        match &self.served {
            Ok(served) if installed.is_some_and(|bundle| served.shown().is_of(bundle)) => {
                (State::InSync, None)
            }
            Ok(served) => (State::NotServed, Some(self.not_served(served, config))),
            Err(unseen) if unseen.is_tls_off() => {
                let names = Names::for_home(&config.place);
                let problem = not_used_by(config, names.tls_off());
                (State::NotUsed, Some(problem))
            }
            // A server that starts says so before it listens; its pid file tells when it does.
            Err(_) if self.is_starting() => (State::NotRunning, None),
            Err(unseen) => (State::Unverified, Some(unseen.problem())),
        }
    }

    /// Why clients get another certificate than is installed, and what to do.
    pub(crate) fn not_served(&self, served: &Served, config: &config::InstanceConfig) -> Problem {
        if let Some(pinned) = &self.pinned {
            return pinned.problem();
        }
        if !self.faults.is_empty() {
            let why = format!(
                "{} does not serve the installed certificate, and the server cannot load anything new: {}",
                served.address,
                Problem::whats(&self.faults)
            );
            return Problem::new(why, no_restart());
        }
        let problem = self.failure.clone().unwrap_or_else(|| {
            let address = &served.address;
            let what = if served.is_divided {
                format!(
                    "{address} does not serve the installed certificate to clients that ask for {}",
                    served.asked
                )
            } else if Some(served.leaf.fingerprint()) == self.installed_leaf() {
                format!(
                    "{address} asks clients for certificates of CAs other than the installed ones"
                )
            } else {
                format!("{address} does not serve the installed certificate")
            };
            what.into()
        });
        match config.mode {
            Mode::Manage | Mode::Reload => problem.with(config.command(&["sync", "--force"])),
            Mode::Observe => Problem {
                fix: "reload the server; in mode observe pgcertd does not".into(),
                ..problem
            },
        }
    }
}

/// What is to be left alone while a file is broken that a start loads.
fn no_restart() -> String {
    format!("{FIX_FIRST}; don't restart the server before that: it would not start")
}

/// `setup` fixes it, unless pgcertd is told to touch nothing.
fn not_used_by(config: &config::InstanceConfig, not_used: Problem) -> Problem {
    match (config.kind(), config.mode) {
        (ServerKind::Postgres, Mode::Manage | Mode::Reload) => {
            Problem::new(not_used.what, "").with(config.command(&["setup", "--instance"]))
        }
        _ => not_used,
    }
}
