//! One deployment: install, reload, verify, and where Postgres refuses, roll back.
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
//! What ends it early leaves the files as they were, or says how they are.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::bundle::{Bundle, Fingerprint};
use crate::config::{Address, Mode, Reload, Verify};
use crate::instance::files::{Found, Held, HeldBy, Keep, Staged as StagedFiles};
use crate::instance::postmaster::Postmaster;
use crate::instance::probe::Served;
use crate::instance::reload::{ReloadError, reload};
use crate::instance::settings::{NotUsed, TlsSettings, tls_settings};
use crate::instance::{Instance, InstanceError, Server, Sight, Unseen};

/// How long the look before an install may take; it runs beside the writing of the new file.
const GLANCE: Duration = Duration::from_secs(2);

/// The least time between the signal and the second connection that shows the old leaf. A
/// postmaster handles a pending SIGHUP before it accepts (`ServerLoop`), so one connection
/// would do; a second one, later, costs nothing when the answer is yes.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// The first pause between two looks while a verdict is awaited; each further one is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two looks while a verdict is awaited.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// New clients get the bundle. `verify = "none"` counts as well.
    Deployed,
    /// The files are right, and Postgres is down or does not use them: why, and what to set.
    Installed(String),
    /// The files are right, and what is served could not be seen: why.
    Unverified(String),
    /// Postgres would not load it, and the files are somebody else's and stay: why.
    NotTaken(String),
    /// Postgres would not load it; what was there before is back: why.
    RolledBack(String),
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
}

/// A leaf that was seen both installed and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// The leaf.
    pub leaf: Fingerprint,
    /// The server that showed it, by the start time in its pid file.
    pub start_time: i64,
}

/// What was, before anything was changed.
struct Before {
    sight: Sight,
    served: Option<Served>,
    installed: Option<Fingerprint>,
    proven: Option<Proven>,
}

impl Before {
    /// The leaf that a server which did not take the new one still shows.
    fn leaf(&self) -> Option<Fingerprint> {
        self.served_leaf().or(self.installed)
    }

    /// What was served: as seen just now, or as this same server showed it when what is
    /// installed was proven.
    fn served_leaf(&self) -> Option<Fingerprint> {
        match &self.served {
            Some(served) => Some(served.leaf.fingerprint()),
            None => self.installed.filter(|_| self.proven_by_this_server()),
        }
    }

    fn proven_by_this_server(&self) -> bool {
        let server = self.sight.server.postmaster();
        self.proven.is_some_and(|proven| {
            Some(proven.leaf) == self.installed
                && server.is_some_and(|p| p.file.start_time == proven.start_time)
        })
    }

    /// Whether what was installed was seen served.
    fn proven(&self) -> bool {
        self.installed.is_some() && self.served_leaf() == self.installed
    }

    /// Whether what was installed is worth keeping: it was seen served just now, or, where the
    /// server hangs, the last time.
    fn worth_keeping(&self) -> bool {
        match self.served {
            Some(_) => self.proven(),
            None => self.proven.is_some_and(|p| Some(p.leaf) == self.installed),
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
/// Postgres was asked to load them.
struct Reloaded {
    postmaster: Arc<Postmaster>,
    at: Instant,
    /// The configuration, where it was asked before the signal and names the files.
    known: Option<TlsSettings>,
}
/// Postgres was proven not to take them.
struct Refused {
    postmaster: Arc<Postmaster>,
    reason: String,
}

/// What the wire said.
enum Verdict<'a> {
    Served,
    NotUsed(String),
    Unverified(String),
    NotTaken(String),
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
    let down = installed.before.sight.server.postmaster().is_none();
    if down {
        return Ok(Outcome::Installed(
            "the server is not running; it will load the files when it starts".into(),
        ));
    }
    match installed.reloaded().await?.verified().await {
        Verdict::Served => Ok(Outcome::Deployed),
        Verdict::NotUsed(why) => Ok(Outcome::Installed(why)),
        Verdict::Unverified(why) => Ok(Outcome::Unverified(why)),
        Verdict::NotTaken(why) => Ok(Outcome::NotTaken(why)),
        Verdict::Refused(refused) => refused.rolled_back().await,
    }
}

impl<'a> Deployment<'a, Begun> {
    fn begin(instance: &'a mut Instance, order: Order) -> Self {
        let installed = order.sight.look.installed.bundle().map(|b| b.fingerprint());
        Deployment {
            instance,
            bundle: order.bundle,
            before: Before {
                sight: order.sight,
                served: order.served,
                installed,
                proven: order.proven,
            },
            state: Begun,
        }
    }

    /// Writes the new files beside the targets. Where it is not known what the server serves, it
    /// is asked meanwhile.
    async fn staged(mut self) -> Result<Deployment<'a, Staged>, String> {
        let bundle = Arc::clone(&self.bundle);
        let wanted =
            self.instance.config.verify == Verify::Handshake && self.before.served_leaf().is_none();
        let glance = self
            .before
            .sight
            .server
            .postmaster()
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
    /// proven served, and differs.
    async fn installed(self) -> Result<Deployment<'a, Installed>, String> {
        let worth_keeping = self.before.worth_keeping();
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
                let committed = targets.commit(&staged, &keep);
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
    /// Asks Postgres to load the files.
    async fn reloaded(self) -> Result<Deployment<'a, Reloaded>, String> {
        let Server::Up(postmaster) = self.before.sight.server.clone() else {
            return Err("the server is not running".into());
        };
        ask_reload(self.instance, &self.before.sight, &postmaster)
            .await
            .map_err(|e| e.to_string())?;
        let at = Instant::now();
        Ok(self.into_state(Reloaded {
            postmaster,
            at,
            known: None,
        }))
    }
}

/// What repeated looks at the wire came to.
enum Seen {
    /// The new leaf.
    New,
    /// The leaf of before, as often and as late as counts for proof.
    Old,
    /// TLS is off.
    Off,
    /// A third leaf, as steadily.
    Third(String),
    /// Another leaf, or none to be seen.
    Unclear(String),
}

impl<'a> Deployment<'a, Reloaded> {
    /// Looks at what new clients get, until it is the bundle or `verify_timeout` has passed.
    async fn verified(self) -> Verdict<'a> {
        if self.instance.config.verify == Verify::None {
            return Verdict::Served;
        }
        let addresses = match self.instance.addresses(&self.state.postmaster) {
            Ok(addresses) => addresses,
            Err(why) => return Verdict::Unverified(why),
        };
        match self.watch(&addresses).await {
            Seen::New => Verdict::Served,
            Seen::Off => Verdict::NotUsed(NotUsed::tls_off().to_string()),
            Seen::Unclear(why) => Verdict::Unverified(why),
            Seen::Third(why) => self.explained(why).await,
            Seen::Old => self.weighed().await,
        }
    }

    async fn watch(&self, addresses: &[Address]) -> Seen {
        let limit = self.instance.config.verify_timeout;
        let deadline = self.state.at + limit;
        let new = self.bundle.fingerprint();
        let old = self.before.leaf().filter(|old| *old != new);
        let immediate = self.instance.config.reload == Reload::Signal;
        let mut shown_old = 0_u32;
        let mut shown_third = 0_u32;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = left.max(Duration::from_millis(1));
            let unclear = match self.instance.served(addresses, patience).await {
                Ok(served) if served.leaf.fingerprint() == new => return Seen::New,
                Ok(served) => match self.shown_by_another(&served, patience).await {
                    Some(another) => Some(another.sentence()),
                    None if Some(served.leaf.fingerprint()) == old => {
                        shown_old += 1;
                        // A command may let the reload happen later (Patroni does at its next
                        // loop): there, only the last look counts.
                        let late = self.state.at.elapsed() >= SECOND_LOOK;
                        if immediate && shown_old >= 2 && late {
                            return Seen::Old;
                        }
                        None
                    }
                    None => {
                        let why = format!(
                            "{} serves {}, which is neither the bundle nor what was served before; see that no other server answers there",
                            served.address,
                            served.leaf.fingerprint().short()
                        );
                        shown_third += 1;
                        let late = self.state.at.elapsed() >= SECOND_LOOK;
                        if immediate && shown_third >= 2 && late {
                            return Seen::Third(why);
                        }
                        Some(why)
                    }
                },
                Err(unseen) if unseen.is_tls_off() => return Seen::Off,
                Err(unseen) => Some(unseen.sentence()),
            };
            if Instant::now() + pause >= deadline {
                return match unclear {
                    Some(why) => Seen::Unclear(why),
                    None if shown_old >= 2 => Seen::Old,
                    None => Seen::Unclear("the server was seen only once after the reload".into()),
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A configured address may lead to another host of the row, or to a proxy, that serves the
    /// very leaf of before: then the server itself, seen where it listens, tells.
    async fn shown_by_another(&self, served: &Served, limit: Duration) -> Option<Unseen> {
        let postmaster = &self.state.postmaster;
        self.instance.another(postmaster, served, limit).await
    }

    /// A third leaf is served: does the configuration say why?
    async fn explained(self, why: String) -> Verdict<'a> {
        let config = &self.instance.config;
        let owner = self.before.sight.targets.server;
        let asked = tls_settings(&self.state.postmaster, &config.data_directory, owner).await;
        match asked.map(|s| s.not_used(&config.cert_file, &config.key_file)) {
            Ok(Some(not_used)) => Verdict::NotUsed(not_used.to_string()),
            _ => Verdict::Unverified(why),
        }
    }

    /// The old leaf is still served: is that a refusal, or are other files in use?
    async fn weighed(mut self) -> Verdict<'a> {
        if let Some(known) = self.state.known.take() {
            return self.refused(Some(&known));
        }
        let config = &self.instance.config;
        let asked = tls_settings(
            &self.state.postmaster,
            &config.data_directory,
            self.before.sight.targets.server,
        )
        .await;
        match asked {
            Ok(settings) => match settings.not_used(&config.cert_file, &config.key_file) {
                Some(why) => Verdict::NotUsed(why.to_string()),
                None if self.before.proven() => self.refused(Some(&settings)),
                None => self.signalled_again(settings).await,
            },
            // What was installed was served until now: these files are in use.
            Err(_) if self.before.proven() => self.refused(None),
            Err(why) => Verdict::Unverified(format!(
                "the certificate of before is still served, and whether the server uses the files is not known: {why}"
            )),
        }
    }

    /// A server that was not seen to use the files may have read its configuration before
    /// somebody made it name them. What it shows after another signal is its answer to them.
    async fn signalled_again(self, settings: TlsSettings) -> Verdict<'a> {
        let postmaster = Arc::clone(&self.state.postmaster);
        if let Err(error) = ask_reload(self.instance, &self.before.sight, &postmaster).await {
            return Verdict::Unverified(error.to_string());
        }
        let again = self.into_state(Reloaded {
            postmaster,
            at: Instant::now(),
            known: Some(settings),
        });
        Box::pin(again.verified()).await
    }

    fn refused(self, settings: Option<&TlsSettings>) -> Verdict<'a> {
        let mut reason = format!(
            "Postgres did not load {}: after the reload, new connections still get {}",
            self.bundle.fingerprint().short(),
            self.before
                .leaf()
                .map_or_else(|| "none".into(), |l| l.short()),
        );
        let causes: Vec<String> = settings
            .map(TlsSettings::faults_elsewhere)
            .unwrap_or_default();
        if causes.is_empty() {
            reason.push_str(
                "; the server's log says why, just before \"SSL configuration was not reloaded\"",
            );
        }
        for cause in causes {
            reason.push_str("; ");
            reason.push_str(&cause);
        }
        let postmaster = Arc::clone(&self.state.postmaster);
        if self.instance.config.mode != Mode::Manage {
            // The files are somebody else's: they stay.
            return Verdict::NotTaken(reason);
        }
        Verdict::Refused(Box::new(self.into_state(Refused { postmaster, reason })))
    }
}

impl Deployment<'_, Refused> {
    /// Remembers the refusal, puts back what was there, and proves what is served. In this
    /// order, whoever comes after a crash knows what lies in place, were Postgres down by then.
    async fn rolled_back(mut self) -> Result<Outcome, String> {
        let mut told = self.state.reason.clone();
        let remembered = self.remember().await;
        match self.restore().await {
            Ok(restored) => told.push_str(&format!("; {restored}")),
            Err(e) => return Err(format!("{told}; putting the files back failed: {e}")),
        }
        if let Err(e) = remembered {
            told.push_str(&format!("; the refusal could not be remembered: {e}"));
        }
        if let Some(doubt) = self.doubt_after_return().await {
            told.push_str(&format!("; {doubt}"));
        }
        Ok(Outcome::RolledBack(told))
    }

    /// Puts back the files that are known to be good: those that were found, if they were
    /// served; else the previous bundle, if that is served; else what was found, be it nothing.
    async fn restore(&mut self) -> Result<&'static str, InstanceError> {
        let look = Arc::clone(&self.before.sight.look);
        let served = self.before.served_leaf();
        let is_new = |bundle: &Bundle| bundle.same_content(&self.bundle);
        let found_is_new = look.installed.bundle().is_some_and(|b| is_new(b));
        let previous = look.previous.as_ref().filter(|p| !is_new(p));
        let previous_is_served = previous.is_some_and(|p| Some(p.fingerprint()) == served);
        let take_previous =
            !self.before.proven() && previous_is_served || found_is_new && previous.is_some();
        if take_previous {
            self.instance
                .on_files(move |targets| match &look.previous {
                    Some(previous) => {
                        let staged = targets.stage(previous)?;
                        targets.commit(&staged, &Keep::No)
                    }
                    None => Ok(()),
                })
                .await?;
            return Ok("the previous bundle is back");
        }
        if found_is_new {
            return Ok("there is no earlier bundle to go back to, the files stay");
        }
        let nothing = look.found.iter().all(|f| matches!(f, Found::Absent));
        self.instance
            .on_files(move |targets| targets.put_back(&look.found))
            .await?;
        Ok(if nothing {
            "there was no file before, and there is none now"
        } else {
            "the files of before are back"
        })
    }

    async fn remember(&mut self) -> Result<(), InstanceError> {
        let held = Held {
            fingerprint: self.bundle.fingerprint(),
            by: HeldBy::Postgres,
            reason: self.state.reason.clone(),
            since: Timestamp::now(),
            postmaster_start: Some(self.state.postmaster.file.start_time),
        };
        self.instance.on_files(move |t| t.hold(&held)).await
    }

    /// Reloads the files of before; a sentence if they are not what is served then.
    async fn doubt_after_return(&self) -> Option<String> {
        if let Err(e) = ask_reload(self.instance, &self.before.sight, &self.state.postmaster).await
        {
            return Some(format!("the reload after that failed: {e}"));
        }
        let addresses = match self.instance.addresses(&self.state.postmaster) {
            Ok(addresses) => addresses,
            Err(why) => return Some(why),
        };
        let limit = self.instance.config.verify_timeout;
        match self.instance.served(&addresses, limit).await {
            Ok(served) if Some(served.leaf.fingerprint()) == self.before.leaf() => None,
            Ok(served) => Some(format!(
                "{} is served now",
                served.leaf.fingerprint().short()
            )),
            Err(unseen) => Some(format!(
                "what is served now is not known: {}",
                unseen.sentence()
            )),
        }
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
    postmaster: &Postmaster,
) -> Result<(), ReloadError> {
    let config = &instance.config;
    reload(
        &config.reload,
        postmaster,
        &config.name,
        &config.data_directory,
        sight.targets.server,
    )
    .await
}

fn told(error: InstanceError) -> String {
    error.to_string()
}
