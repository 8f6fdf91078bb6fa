//! The look at what a server serves after it was asked to load the files, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Deployment, Refused, Reloaded, Verdict, ask_reload};
use crate::config::{Address, Kind, Mode, Reload, Verify};
use crate::instance::Unseen;
use crate::instance::probe::Served;
use crate::instance::settings::{Names, NotUsed, TlsSettings};

/// The least time between the signal and the second connection that shows the old leaf. A
/// postmaster handles a pending SIGHUP before it accepts (`ServerLoop`), so one connection
/// would do; PgBouncer may accept in the same turn of its loop. A second one, later, costs nothing when the answer is yes.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// The first pause between two looks while a verdict is awaited; each further one is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two looks while a verdict is awaited.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What repeated looks at the wire came to.
enum Seen {
    /// The bundle.
    New,
    /// The new leaf, and other CAs of clients than those of the bundle.
    NewLeaf,
    /// What was there before, as often and as late as counts for proof.
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
    pub(super) async fn verified(self) -> Verdict<'a> {
        if self.instance.config.verify == Verify::None {
            return Verdict::Served;
        }
        let addresses = match self.instance.addresses(&self.state.process) {
            Ok(addresses) => addresses,
            Err(why) => return Verdict::Unverified(why),
        };
        match self.watch(&addresses).await {
            Seen::New => self.used(Ok(())).await,
            Seen::NewLeaf => {
                let why = "the new certificate is served, and clients are asked for certificates of other CAs than were installed";
                self.used(Err(why.into())).await
            }
            Seen::Off => {
                let names = Names::of(&self.instance.config.place);
                Verdict::NotUsed(NotUsed::tls_off(&names).to_string())
            }
            // It answered just before the signal: this is how a Patroni refuses.
            Seen::Unclear(why) if self.is_patroni() && self.before.proven() => self.deaf(&why),
            Seen::Unclear(why) => Verdict::Unverified(why),
            Seen::Third(why) => self.explained(why).await,
            Seen::Old if self.is_patroni() => self.overslept().await,
            Seen::Old => self.weighed().await,
        }
    }

    fn is_patroni(&self) -> bool {
        self.instance.config.kind() == Kind::Patroni
    }

    /// Patroni's REST API went silent over the pair.
    fn deaf(self, why: &str) -> Verdict<'a> {
        let reason = format!(
            "Patroni did not load {}, and its REST API has stopped to answer: {why}",
            self.bundle.fingerprint().short()
        );
        let process = Arc::clone(&self.state.process);
        if self.instance.config.mode != Mode::Manage {
            return Verdict::NotTaken(reason);
        }
        Verdict::Refused(Box::new(self.into_state(Refused { process, reason })))
    }

    /// A Patroni that still shows the old leaf has not tried the new one: it keeps no old context.
    async fn overslept(self) -> Verdict<'a> {
        let process = Arc::clone(&self.state.process);
        let asked = self
            .instance
            .tls_settings(&process, &self.before.sight)
            .await;
        let config = &self.instance.config;
        match asked.map(|it| it.not_used(&config.cert_file, &config.key_file)) {
            Ok(Some(not_used)) => Verdict::NotUsed(not_used.to_string()),
            _ => Verdict::Unverified(format!(
                "Patroni has not loaded {} within {} s: its loop_wait is longer (set verify_timeout), or it is before 2.1 or 3.0.3, \
                 which do not reload a certificate, or the serial number is the old one's; it loads it at its next restart",
                self.bundle.fingerprint().short(),
                config.verify_timeout.as_secs()
            )),
        }
    }

    async fn watch(&self, addresses: &[Address]) -> Seen {
        let limit = self.instance.config.verify_timeout;
        let deadline = self.state.at + limit;
        let new = &self.bundle;
        // A command may let the reload happen later, and Patroni does it in its next loop: there,
        // only the last look counts.
        let config = &self.instance.config;
        let immediate = config.reload == Reload::Signal && config.kind() != Kind::Patroni;
        let mut shown_old = 0_u32;
        let mut shown_third = 0_u32;
        // What accepts in the turn of its loop in which it also reloads may answer as before.
        let at_once = config.kind() == Kind::Postgres;
        let mut shown_off = 0_u32;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = left.max(Duration::from_millis(1));
            let unclear = match self.instance.served(addresses, patience).await {
                Ok(served) if served.shown().is_of(new) => return Seen::New,
                // Postgres loads all files or none.
                Ok(served)
                    if served.leaf.fingerprint() == new.fingerprint()
                        && !self.before.has_leaf_of(new) =>
                {
                    return Seen::NewLeaf;
                }
                Ok(served) => match self.shown_by_another(&served, patience).await {
                    Some(another) => Some(another.sentence()),
                    None if self.before.is_shown(&served.shown(), new) => {
                        shown_old += 1;
                        let late = self.state.at.elapsed() >= SECOND_LOOK;
                        if immediate && shown_old >= 2 && late {
                            return Seen::Old;
                        }
                        None
                    }
                    None => {
                        let why = self.third(&served);
                        shown_third += 1;
                        let late = self.state.at.elapsed() >= SECOND_LOOK;
                        if immediate && shown_third >= 2 && late {
                            return Seen::Third(why);
                        }
                        Some(why)
                    }
                },
                Err(unseen) if unseen.is_tls_off() => {
                    shown_off += 1;
                    let late = self.state.at.elapsed() >= SECOND_LOOK;
                    if at_once || !self.is_patroni() && shown_off >= 2 && late {
                        return Seen::Off;
                    }
                    if Instant::now() + pause >= deadline {
                        return Seen::Off;
                    }
                    Some(unseen.sentence())
                }
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

    /// What is neither the bundle nor what was before.
    fn third(&self, served: &Served) -> String {
        let address = &served.address;
        match served.leaf.fingerprint() == self.bundle.fingerprint() {
            true => format!(
                "{address} asks clients for certificates of CAs that are neither those installed nor those of before; see that no other server answers there"
            ),
            false => format!(
                "{address} serves {}, which is neither the bundle nor what was served before; see that no other server answers there",
                served.leaf.fingerprint().short()
            ),
        }
    }

    /// The certificate is served; the CA and CRL files that come with it count where the
    /// configuration names them. `doubt` is what was seen that speaks against it.
    async fn used(self, doubt: Result<(), String>) -> Verdict<'a> {
        if self.bundle.companions().digest().is_none() {
            return Verdict::Served;
        }
        let asked = self
            .instance
            .tls_settings(&self.state.process, &self.before.sight);
        let asked = asked.await;
        let config = &self.instance.config;
        match (asked.map(|it| it.companions_not_used(config)), doubt) {
            (Ok(Some(not_used)), _) => Verdict::NotUsed(not_used.to_string()),
            (_, Err(why)) => Verdict::Unverified(why),
            _ => Verdict::Served,
        }
    }

    /// A configured address may lead to another host of the row, or to a proxy, that serves the
    /// very leaf of before: then the server itself, seen where it listens, tells.
    async fn shown_by_another(&self, served: &Served, limit: Duration) -> Option<Unseen> {
        let process = &self.state.process;
        self.instance.another(process, served, limit).await
    }

    /// A third leaf is served: does the configuration say why?
    async fn explained(self, why: String) -> Verdict<'a> {
        let process = &self.state.process;
        let asked = self.instance.tls_settings(process, &self.before.sight);
        let asked = asked.await;
        match asked.map(|it| self.not_used(&it)) {
            Ok(Some(not_used)) => Verdict::NotUsed(not_used.to_string()),
            _ => Verdict::Unverified(why),
        }
    }

    /// Why what the wire shows says nothing of the files: the configuration names others. CA and
    /// CRL files count where only these are new.
    fn not_used(&self, settings: &TlsSettings) -> Option<NotUsed> {
        let config = &self.instance.config;
        let pair = settings.not_used(&config.cert_file, &config.key_file);
        pair.or_else(|| {
            let alone = self.before.has_leaf_of(&self.bundle);
            alone.then(|| settings.companions_not_used(config))?
        })
    }

    /// Whether what was there before is known to have been in use.
    fn was_in_use(&self) -> bool {
        match self.before.has_leaf_of(&self.bundle) {
            true => self.before.proven_authorities(),
            false => self.before.proven(),
        }
    }

    /// The old leaf is still served: is that a refusal, or are other files in use?
    async fn weighed(mut self) -> Verdict<'a> {
        if let Some(known) = self.state.known.take() {
            return self.refused(Some(known)).await;
        }
        let process = &self.state.process;
        let asked = self.instance.tls_settings(process, &self.before.sight);
        let asked = asked.await;
        match asked {
            Ok(settings) => match self.not_used(&settings) {
                Some(why) => Verdict::NotUsed(why.to_string()),
                None if self.was_in_use() => self.refused(Some(settings)).await,
                None => self.signalled_again(settings).await,
            },
            // What was installed was served until now: these files are in use.
            Err(_) if self.was_in_use() => self.refused(None).await,
            Err(why) => Verdict::Unverified(format!(
                "what was there before is still served, and whether the server uses the files is not known: {why}"
            )),
        }
    }

    /// A server that was not seen to use the files may have read its configuration before
    /// somebody made it name them. What it shows after another signal is its answer to them.
    async fn signalled_again(self, settings: TlsSettings) -> Verdict<'a> {
        let process = Arc::clone(&self.state.process);
        if let Err(error) = ask_reload(self.instance, &self.before.sight, &process).await {
            return Verdict::Unverified(error.to_string());
        }
        let again = self.into_state(Reloaded {
            process,
            at: Instant::now(),
            known: Some(settings),
        });
        Box::pin(again.verified()).await
    }

    async fn refused(self, settings: Option<TlsSettings>) -> Verdict<'a> {
        let (name, short) = (
            self.instance.config.kind().name(),
            self.bundle.fingerprint().short(),
        );
        let mut reason = match (self.before.leaf(), self.before.has_leaf_of(&self.bundle)) {
            (_, true) => format!(
                "{name} did not load the CA file that comes with {short}: after the reload, new connections are still asked for certificates of the CAs of before"
            ),
            (before, false) => format!(
                "{name} did not load {short}: after the reload, new connections still get {}",
                before.map_or_else(|| "none".into(), |leaf| leaf.short()),
            ),
        };
        let look = |it: TlsSettings| tokio::task::spawn_blocking(move || it.faults_elsewhere());
        let causes = match settings.map(look) {
            Some(looked) => looked.await.unwrap_or_default(),
            None => Vec::new(),
        };
        if causes.is_empty() {
            reason.push_str(match self.instance.config.kind() {
                Kind::Postgres => {
                    "; the server's log says why, just before \"SSL configuration was not reloaded\""
                }
                Kind::PgBouncer => {
                    "; its log says why, just before \"TLS configuration could not be reloaded\""
                }
                Kind::Patroni => "; its log says why",
            });
        }
        for cause in causes {
            reason.push_str("; ");
            reason.push_str(&cause);
        }
        let process = Arc::clone(&self.state.process);
        if self.instance.config.mode != Mode::Manage {
            // The files are somebody else's: they stay.
            return Verdict::NotTaken(reason);
        }
        Verdict::Refused(Box::new(self.into_state(Refused { process, reason })))
    }
}
