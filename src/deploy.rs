//! One deployment: install, reload, verify, and where the server refuses, roll back.
//!
//! A deployment is a value that passes through its states; each transition is a method of the
//! state that it leaves:
//!
//! ```text
//! Begun --staged--> Staged --installed--> Installed --reloaded--> Reloaded --verified--> Verdict
//!                                                                             |
//!                                        Refused --rolled_back--> RolledBack <+ (refused, proven)
//! ```
//!
//! Where a refusal shows in that no client gets in, the way back is part of its proof; where that
//! leads nowhere, the bundle goes in again (`reinstated`).
//!
//! What ends it early leaves the files as they were, or says how they are.

mod roll_back;
mod shut_out;
mod verify;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bundle::{Bundle, Fingerprint, Identity};
use crate::config::{Kind, Mode, Verify};
use crate::instance::files::{Keep, Staged as StagedFiles, Trial};
use crate::instance::patroni::Rehearsal;
use crate::instance::probe::{Served, Shown};
use crate::instance::process::Process;
use crate::instance::reload::{ReloadError, reload};
use crate::instance::settings::TlsSettings;
use crate::instance::{Instance, InstanceError, Server, Sight};

/// How long the look before an install may take; it runs beside the writing of the new file.
const GLANCE: Duration = Duration::from_secs(2);

/// How long a Patroni's REST API may take to show that it lives, before Patroni is asked to reload.
const DEAF: Duration = Duration::from_secs(5);

/// Why nothing more is to be done about a server that is down.
const NOT_RUNNING: &str = "the server is not running; it will load the files when it starts";

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// New clients get the bundle. `verify = "none"` counts as well.
    Deployed,
    /// The files are right, and the server is down or does not use them: why, and what to set.
    Installed(String),
    /// The files are right, and what is served could not be seen: why.
    Unverified(String),
    /// The server would not load it, and the files are somebody else's and stay: why.
    NotTaken(String),
    /// The server would not load it; what was there before is back: why.
    RolledBack(String),
    /// Nothing was written, and the server ended before it was seen to load the files.
    Ended,
    /// A step failed: why, and what to do.
    Failed(String),
}

/// What a deployment is to do.
pub struct Order {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Whether the files are written, or are right as they are.
    pub write: bool,
    /// The look that led to this order.
    pub sight: Sight,
    /// What was served, if that was looked at already.
    pub served: Option<Served>,
    /// What was last seen both installed and served.
    pub proven: Option<Proven>,
    /// What becomes of the bundle that is installed.
    pub replaced: Replaced,
}

/// What becomes of a bundle that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It becomes the previous one, if it was proven served and differs.
    KeptIfProven,
    /// The previous one goes in, and stays the previous one.
    NotKept,
}

/// A bundle that was seen both installed and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// Which.
    pub bundle: Identity,
    /// The run of the server that showed it ([`Process::run`]).
    pub run: i64,
}

/// What was, before anything was changed.
struct Before {
    sight: Sight,
    served: Option<Served>,
    proven: Option<Proven>,
    replaced: Replaced,
}

impl Before {
    fn installed(&self) -> Option<&Bundle> {
        self.sight.look.installed.bundle().map(|it| &**it)
    }

    /// The leaf that a server which did not take the new one still shows.
    fn leaf(&self) -> Option<Fingerprint> {
        let installed = self.installed().map(Bundle::fingerprint);
        self.served_leaf().or(installed)
    }

    /// What was served: as seen just now, or as this same server showed it when what is
    /// installed was proven.
    fn served_leaf(&self) -> Option<Fingerprint> {
        match &self.served {
            Some(served) => Some(served.leaf.fingerprint()),
            None => self.proven_by_this_server().map(Bundle::fingerprint),
        }
    }

    /// The CAs of which clients were asked for certificates, in the same way.
    fn authorities(&self) -> Option<BTreeSet<Vec<u8>>> {
        match &self.served {
            Some(served) => Some(served.authorities.clone()),
            None => self.proven_by_this_server()?.companions().names(),
        }
    }

    /// Whether what is served need not be looked at.
    fn is_known(&self) -> bool {
        self.served.is_some() || self.proven_by_this_server().is_some()
    }

    fn proven_by_this_server(&self) -> Option<&Bundle> {
        let process = self.sight.server.process()?;
        let proven = self.proven?;
        let same = proven.run == process.run();
        self.installed()
            .filter(|it| same && it.identity() == proven.bundle)
    }

    /// Whether what was installed was seen served; its CA and CRL files may not be used.
    fn proven(&self) -> bool {
        let installed = self.installed().map(Bundle::fingerprint);
        installed.is_some() && self.served_leaf() == installed
    }

    /// Whether the CAs of which clients were asked for certificates were those installed.
    fn proven_authorities(&self) -> bool {
        let names = self.installed().and_then(|it| it.companions().names());
        names.is_some() && self.authorities() == names
    }

    /// Whether `shown` is what was there before `new`: by its leaf, or where that is the same, by
    /// the CAs of which it asks clients for certificates.
    fn is_shown(&self, shown: &Shown, new: &Bundle) -> bool {
        if Some(shown.leaf) != self.leaf() || shown.is_of(new) {
            return false;
        }
        let names = || self.installed().and_then(|it| it.companions().names());
        let before = || self.authorities().or_else(names).unwrap_or_default();
        shown.leaf != new.fingerprint() || shown.authorities == before()
    }

    /// Whether `new` has the leaf of before, so that only its CAs can show that it was loaded.
    fn has_leaf_of(&self, new: &Bundle) -> bool {
        self.leaf() == Some(new.fingerprint())
    }

    /// What goes in again in the place of `new`: the files that were found, or the previous
    /// bundle, where that is served and they are not, or where they are `new` already, or what a
    /// crash has left of two.
    fn way_back(&self, new: &Bundle) -> Option<WayBack> {
        let found_is_new = self.installed().is_some_and(|it| it.same_content(new));
        let previous = self.sight.look.previous.as_ref();
        let previous = previous.filter(|it| !it.same_content(new));
        if self.sight.look.is_torn() {
            return previous.map(|_| WayBack::Previous);
        }
        let previous_is_served =
            previous.is_some_and(|it| Some(it.fingerprint()) == self.served_leaf());
        if !self.proven() && previous_is_served || found_is_new && previous.is_some() {
            return Some(WayBack::Previous);
        }
        (!found_is_new).then_some(WayBack::Found)
    }

    /// The same, where clients were seen to get in with it: just now, or at the time when it
    /// became the previous bundle.
    fn proven_way_back(&self, new: &Bundle) -> Option<WayBack> {
        self.way_back(new)
            .filter(|way| *way == WayBack::Previous || self.proven())
    }

    /// What is installed once that way was gone.
    fn bundle_on(&self, way: WayBack) -> Option<&Bundle> {
        match way {
            WayBack::Found => self.installed(),
            WayBack::Previous => self.sight.look.previous.as_deref(),
        }
    }

    /// Whether what was installed is to be the previous bundle: it was seen served just now, or,
    /// where the server hangs, the last time, be it by another process. What a crash has left of
    /// two bundles is neither, whatever its leaf.
    fn worth_keeping(&self) -> bool {
        if self.replaced == Replaced::NotKept || self.sight.look.is_torn() {
            return false;
        }
        match self.served {
            Some(_) => self.proven(),
            None => {
                let installed = self.installed().map(Bundle::identity);
                let seen = self.proven.map(|it| it.bundle);
                installed.is_some() && (seen == installed || self.sight.look.proven == installed)
            }
        }
    }

    /// What is on trial while `new` goes in: that one, where a server is there to give the verdict,
    /// and there is another bundle to go back to. Where `new` is the one to go back to, it is what
    /// makes room for it, so that a crash between the renames is known for what it is.
    fn trial(&self, new: &Bundle) -> Trial {
        let is_another = |it: &&Bundle| !it.same_content(new);
        match self.replaced {
            Replaced::KeptIfProven => {
                let installed = self.installed().filter(|_| self.worth_keeping());
                let back = installed.or(self.sight.look.previous.as_deref());
                match back.is_some_and(|it| is_another(&it)) && self.sight.server.is_up() {
                    true => Trial::Begins(new.into()),
                    false => Trial::Unchanged,
                }
            }
            Replaced::NotKept => {
                let leaves = self.installed().filter(is_another);
                match leaves.filter(|_| !self.sight.look.is_on_trial()) {
                    Some(installed) => Trial::Begins(installed.into()),
                    None => Trial::Unchanged,
                }
            }
        }
    }
}

/// What a deployment that is under way knows in each of its states.
struct Deployment<'a, State> {
    instance: &'a mut Instance,
    bundle: Arc<Bundle>,
    before: Before,
    state: State,
}

/// Nothing is changed yet.
struct Begun;
/// The new files lie beside the targets.
struct Staged(StagedFiles);
/// The new files are in place.
struct Installed;
/// The server was asked to load them.
struct Reloaded {
    process: Arc<Process>,
    at: Instant,
    /// The configuration, where it was asked before the signal and names the files.
    known: Option<TlsSettings>,
}
/// The server was proven not to take them.
struct Refused {
    process: Arc<Process>,
    reason: String,
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

/// What goes in again in the place of a bundle that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayBack {
    /// The files that were found.
    Found,
    /// The previous bundle.
    Previous,
}

/// What the wire said.
enum Verdict<'a> {
    Served,
    NotUsed(String),
    Unverified(String),
    NotTaken(String),
    /// The server ended meanwhile.
    Ended,
    Refused(Box<Deployment<'a, Refused>>),
}

/// Carries out `order` on `instance`; the caller holds the instance's lock.
pub async fn deploy(instance: &mut Instance, order: Order) -> Outcome {
    match run(instance, order).await {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::Failed(failure),
    }
}

async fn run(instance: &mut Instance, order: Order) -> Result<Outcome, String> {
    let write = order.write;
    let begun = Deployment::begin(instance, order);
    let installed = if write {
        begun.staged().await?.installed().await?
    } else {
        begun.unchanged()
    };
    match &installed.before.sight.server {
        Server::Up(_) => {}
        // It may well run on what was there before.
        Server::Down(absence) if absence.may_run() => {
            return Ok(Outcome::Unverified(match absence.mend() {
                "" => absence.to_string(),
                mend => format!("{absence}; {mend}"),
            }));
        }
        Server::Down(_) => {
            return Ok(Outcome::Installed(NOT_RUNNING.into()));
        }
    }
    if let Some(why) = installed.unused() {
        return Ok(Outcome::Installed(why));
    }
    let verdict = match installed.foreseen().await {
        Some(reason) => installed.foreseen_refused(reason)?,
        None => installed.tried().await?,
    };
    match verdict {
        Verdict::Served => Ok(Outcome::Deployed),
        Verdict::NotUsed(why) => Ok(Outcome::Installed(why)),
        Verdict::Unverified(why) => Ok(Outcome::Unverified(why)),
        Verdict::NotTaken(why) => Ok(Outcome::NotTaken(why)),
        Verdict::Ended if write => Ok(Outcome::Installed(NOT_RUNNING.into())),
        Verdict::Ended => Ok(Outcome::Ended),
        Verdict::Refused(refused) => refused.rolled_back().await,
    }
}

impl<'a> Deployment<'a, Begun> {
    fn begin(instance: &'a mut Instance, order: Order) -> Self {
        Deployment {
            instance,
            bundle: order.bundle,
            before: Before {
                sight: order.sight,
                served: order.served,
                proven: order.proven,
                replaced: order.replaced,
            },
            state: Begun,
        }
    }

    /// Writes the new files beside the targets. Where it is not known what the server serves, it
    /// is asked meanwhile.
    async fn staged(mut self) -> Result<Deployment<'a, Staged>, String> {
        let bundle = Arc::clone(&self.bundle);
        let wanted = self.instance.config.verify == Verify::Handshake && !self.before.is_known();
        let glance = self
            .before
            .sight
            .server
            .process()
            .filter(|_| wanted)
            .and_then(|p| {
                let addresses = self.instance.addresses(p).ok()?;
                Some(self.instance.glance(addresses, GLANCE))
            });
        let stage = self
            .instance
            .on_files(move |targets| targets.stage(&bundle));
        let (staged, served) = match glance {
            Some(glance) => tokio::join!(stage, glance),
            None => (stage.await, None),
        };
        let staged = staged.map_err(told)?;
        self.before.served = self.before.served.or(served);
        Ok(self.into_state(Staged(staged)))
    }

    /// The files are right as they are.
    fn unchanged(self) -> Deployment<'a, Installed> {
        self.into_state(Installed)
    }
}

impl<'a> Deployment<'a, Staged> {
    /// Puts the new files in place. What they replace is kept as the previous bundle if it was
    /// proven served, and differs, unless it is the previous one that goes in.
    async fn installed(self) -> Result<Deployment<'a, Installed>, String> {
        let worth_keeping = self.before.worth_keeping();
        let trial = match self.instance.config.kind() {
            Kind::Postgres | Kind::PgBouncer => self.before.trial(&self.bundle),
            // Its own Python has loaded it, and it starts on a pair that does not load, too.
            Kind::Patroni => Trial::Unchanged,
        };
        let sight = self.before.sight.clone();
        let bundle = Arc::clone(&self.bundle);
        let Deployment {
            instance,
            bundle: new,
            before,
            state: Staged(staged),
        } = self;
        instance
            .on_files(move |targets| {
                let keep = match sight.look.installed.bundle() {
                    Some(old) if worth_keeping && !old.same_content(&bundle) => {
                        Keep::AsPrevious(old)
                    }
                    _ => Keep::No,
                };
                let committed = targets.commit(&staged, &keep, trial);
                if committed.is_err() {
                    // The first error is the one to tell; leftovers are removed next time.
                    let _second = targets.discard(&staged);
                }
                committed
            })
            .await
            .map_err(told)?;
        Ok(Deployment {
            instance,
            bundle: new,
            before,
            state: Installed,
        })
    }
}

impl<'a> Deployment<'a, Installed> {
    /// Why a Patroni does not use the files, which no reload would change: it is left alone, since
    /// it loses more than other servers by a reload that it need not make.
    fn unused(&self) -> Option<String> {
        let Some(Process::Patroni(patroni)) = self.before.sight.server.process() else {
            return None;
        };
        let config = &self.instance.config;
        let settings = patroni.tls(config).ok()?;
        let not_used = settings.not_used(&config.cert_file, &config.key_file);
        // Where that is not known, it is asked to load a pair that it was seen to load.
        Some(not_used.ok()??.to_string())
    }

    /// Why the server would not load the files, where that can be tried beforehand: a Patroni that
    /// was asked to load what it cannot goes on without its REST API.
    async fn foreseen(&self) -> Option<String> {
        let server = self.before.sight.targets.server;
        let Some(Process::Patroni(patroni)) = self.before.sight.server.process() else {
            return None;
        };
        match patroni.rehearsed(server, &self.instance.config).await? {
            Rehearsal::Loads => None,
            Rehearsal::Refused(said) => Some(format!(
                "Patroni would not load {}, and was not asked to: {said}",
                self.bundle.fingerprint().short()
            )),
        }
    }

    fn foreseen_refused(self, reason: String) -> Result<Verdict<'a>, String> {
        let Server::Up(process) = self.before.sight.server.clone() else {
            return Err("the server is not running".into());
        };
        if self.instance.config.mode != Mode::Manage {
            return Ok(Verdict::NotTaken(reason));
        }
        let refused = self.into_state(Refused {
            process,
            reason,
            proof: Proof::NotLoaded,
        });
        Ok(Verdict::Refused(Box::new(refused)))
    }

    /// Asks the server to load the files, and looks what comes of it.
    async fn tried(self) -> Result<Verdict<'a>, String> {
        let Server::Up(process) = self.before.sight.server.clone() else {
            return Err("the server is not running".into());
        };
        match ask_reload(self.instance, &self.before.sight, &process).await {
            Ok(()) => {}
            Err(_) if !process.alive() => return Ok(Verdict::Ended),
            Err(error) => return Err(error.to_string()),
        }
        let reloaded = Reloaded {
            process,
            at: Instant::now(),
            known: None,
        };
        Ok(self.into_state(reloaded).verified().await)
    }
}

impl<'a, State> Deployment<'a, State> {
    fn into_state<Next>(self, state: Next) -> Deployment<'a, Next> {
        Deployment {
            instance: self.instance,
            bundle: self.bundle,
            before: self.before,
            state,
        }
    }
}

async fn ask_reload(
    instance: &Instance,
    sight: &Sight,
    process: &Process,
) -> Result<(), ReloadError> {
    let config = &instance.config;
    if process.kind() == Kind::Patroni {
        // One that lost its REST API to a pair before would wait for ever for its end.
        let addresses = instance.addresses(process).map_err(ReloadError::Unseen)?;
        let seen = instance.served(&addresses, DEAF).await;
        if let Err(unseen) = seen
            && !unseen.is_tls_off()
        {
            return Err(ReloadError::Deaf(unseen.sentence()));
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

fn told(error: InstanceError) -> String {
    error.to_string()
}
