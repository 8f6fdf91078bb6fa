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
    pub(super) async fn verified(self) -> Verdict<'a> {
        if self.instance.config.verify == Verify::None {
            return Verdict::Served;
        }
        let addresses = match self.instance.addresses(&self.state.process) {
            Ok(addresses) => addresses,
            Err(why) => return Verdict::Unverified(why),
        };
        match self.watch(&addresses).await {
            Seen::New => Verdict::Served,
            Seen::Off => {
                let names = Names::of(&self.instance.config.place);
                Verdict::NotUsed(NotUsed::tls_off(&names).to_string())
            }
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
        // A command may let the reload happen later, and Patroni does it in its next loop: there,
        // only the last look counts.
        let config = &self.instance.config;
        let immediate = config.reload == Reload::Signal && config.kind() != Kind::Patroni;
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
        let process = &self.state.process;
        self.instance.another(process, served, limit).await
    }

    /// A third leaf is served: does the configuration say why?
    async fn explained(self, why: String) -> Verdict<'a> {
        let process = &self.state.process;
        let asked = self.instance.tls_settings(process, &self.before.sight);
        let asked = asked.await;
        let config = &self.instance.config;
        match asked.map(|s| s.not_used(&config.cert_file, &config.key_file)) {
            Ok(Some(not_used)) => Verdict::NotUsed(not_used.to_string()),
            _ => Verdict::Unverified(why),
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
        let config = &self.instance.config;
        match asked {
            Ok(settings) => match settings.not_used(&config.cert_file, &config.key_file) {
                Some(why) => Verdict::NotUsed(why.to_string()),
                None if self.before.proven() => self.refused(Some(settings)).await,
                None => self.signalled_again(settings).await,
            },
            // What was installed was served until now: these files are in use.
            Err(_) if self.before.proven() => self.refused(None).await,
            Err(why) => Verdict::Unverified(format!(
                "the certificate of before is still served, and whether the server uses the files is not known: {why}"
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
        let mut reason = format!(
            "{} did not load {}: after the reload, new connections still get {}",
            self.instance.config.kind().name(),
            self.bundle.fingerprint().short(),
            self.before
                .leaf()
                .map_or_else(|| "none".into(), |l| l.short()),
        );
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
                Kind::PgBouncer | Kind::Patroni => "; its log says why",
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
