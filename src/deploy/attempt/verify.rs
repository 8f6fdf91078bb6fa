//! The look at what a server serves after it was asked to load the files, and what follows from it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::watch::{Next, WireLook, WireVerdict, WireWatch};
use super::{Deployment, Ending, Proof, Refused, Reloaded, Verdict, ask_reload};
use crate::config::{Address, Mode, ServerKind, Verify};
use crate::host::privilege::as_user;
use crate::problem::Problem;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::probe::Served;
use crate::server::program::Program;
use crate::server::settings::{FIX_FIRST, Names, SettingsError, TlsSettings, is_named_by};
use crate::server::{Server, Unseen};

/// How often a server is asked again for one bundle: files whose times lie ahead seem to change for ever.
const MOST_AGAIN: u32 = 3;

/// A look that did not show the server's certificate.
fn unclear(unseen: &Unseen) -> WireLook {
    if unseen.is_no_answer() {
        WireLook::Blind(unseen.problem())
    } else {
        WireLook::Unclear(unseen.problem())
    }
}

impl<'a> Deployment<'a, Reloaded> {
    /// Looks at what new clients get, until it is the bundle or `verify_timeout` has passed.
    pub(super) async fn verified(self) -> Verdict<'a> {
        if self.instance.config.verify == Verify::None {
            return Verdict::Ended(Ending::deployed());
        }
        let addresses = match self.instance.addresses(&self.state.process) {
            Ok(addresses) => addresses,
            Err(problem) => return Verdict::Ended(Ending::unverified(problem)),
        };
        #[cfg(feature = "failpoints")]
        fail::fail_point!("reloaded");
        let (verdict, served) = Box::pin(self.watch(&addresses)).await;
        match verdict {
            WireVerdict::New => match self.used(Ok(())).await {
                Verdict::Ended(ending) => Verdict::Ended(Ending {
                    served: served.map(Box::new),
                    ..ending
                }),
                refused @ Verdict::Refused(_) => refused,
            },
            WireVerdict::NewLeaf => {
                let doubt = "the new certificate is served, but clients are asked for certificates of CAs other than the installed ones";
                self.used(Err(doubt.into())).await
            }
            WireVerdict::Off => {
                let names = Names::for_home(&self.instance.config.place);
                Verdict::Ended(Ending::installed(names.tls_off()))
            }
            WireVerdict::Ended => self.server_ended(),
            WireVerdict::ShutOut(why) => Box::pin(self.shut_out(why)).await,
            WireVerdict::Unclear(why) if self.is_patroni() && self.before.proven() => {
                self.silent(&addresses, why).await
            }
            WireVerdict::Unclear(problem) | WireVerdict::Blind(problem) => {
                Verdict::Ended(Ending::unverified(problem))
            }
            WireVerdict::Third(why) => Box::pin(self.explained(why)).await,
            WireVerdict::Old if self.is_patroni() => self.overslept().await,
            WireVerdict::Old => Box::pin(self.weighed()).await,
        }
    }

    fn is_patroni(&self) -> bool {
        self.instance.config.kind() == ServerKind::Patroni
    }

    /// A Patroni's REST API, which answered just before the signal, answers no more where it did:
    /// this is how it refuses, unless it has ended or was told to listen elsewhere.
    async fn silent(mut self, addresses: &[Address], seen: Problem) -> Verdict<'a> {
        let now = match self.instance.look().await {
            Ok(sight) => sight.server,
            Err(error) => return Verdict::Ended(Ending::unverified(seen.and(error))),
        };
        let before = &self.state.process;
        let process = match now {
            Server::Up(process) if process.run() == before.run() => process,
            // Whether it still runs, and where it listens, is then not known.
            Server::Down(absence) if absence.may_run() => {
                return Verdict::Ended(Ending::unverified(seen.and(absence)));
            }
            _ if before.is_stopped() => {
                let stopped = seen.and("its process is stopped");
                return Verdict::Ended(Ending::unverified(stopped));
            }
            _ if before.alive() => return self.deaf(seen),
            _ => return self.server_ended(),
        };
        match self.instance.addresses(&process) {
            Ok(moved) if moved != addresses => {
                self.state.process = process;
                self.state.at = Instant::now();
                Box::pin(self.verified()).await
            }
            _ => self.deaf(seen),
        }
    }

    /// Patroni's REST API went silent over the pair.
    fn deaf(self, seen: Problem) -> Verdict<'a> {
        let short = self.bundle.fingerprint().short();
        let subject = format!("Patroni did not load {short}, and its REST API stopped responding");
        self.not_taken(seen.about(subject))
    }

    /// The files go back, unless they are somebody else's.
    fn not_taken(self, reason: Problem) -> Verdict<'a> {
        if self.instance.config.mode != Mode::Manage {
            return Verdict::Ended(Ending::not_taken(reason));
        }
        let process = Arc::clone(&self.state.process);
        let proof = Proof::NotLoaded;
        Verdict::Refused(Box::new(self.into_state(Refused {
            process,
            reason,
            proof,
        })))
    }

    /// A Patroni that still shows the old leaf has not tried the new one: it keeps no old context.
    async fn overslept(mut self) -> Verdict<'a> {
        let process = Arc::clone(&self.state.process);
        let asked = self.settings(&process).await;
        let config = &self.instance.config;
        let not_used = asked.and_then(|tls_settings| {
            let not_used = tls_settings.not_used(&config.cert_file, &config.key_file);
            Ok(not_used?)
        });
        match not_used {
            Ok(Some(not_used)) => Verdict::Ended(Ending::installed(not_used)),
            _ => Verdict::Ended(Ending::unverified(format!(
                "Patroni has not loaded {} within {} s: its loop_wait is longer (set verify_timeout), or its version is one that does not reload certificates (before 2.1, or 3.0.0 to 3.0.2), \
                 or the serial number is the old one's; it loads it at its next restart",
                self.bundle.fingerprint().short(),
                config.verify_timeout.as_secs()
            ))),
        }
    }

    /// What the looks came to, and what the last of them showed.
    async fn watch(&self, addresses: &[Address]) -> (WireVerdict, Option<Served>) {
        let mut watch = WireWatch::for_instance(&self.instance.config, self.state.at);
        loop {
            let patience = watch.patience(Instant::now());
            let looked = self
                .instance
                .served_in_turn(addresses, &self.bundle, patience)
                .await;
            let glimpse = match &looked {
                Ok(served) => self.understood(served, patience).await,
                Err(unseen) if unseen.is_tls_off() => WireLook::Off,
                Err(_) if !self.state.process.alive() => return (WireVerdict::Ended, None),
                Err(unseen) if unseen.is_alert() => WireLook::ShutOut(unseen.problem()),
                Err(unseen) => unclear(unseen),
            };
            match watch.heard(glimpse, Instant::now()) {
                Next::Word(WireVerdict::Old) => return self.old_for_all(addresses).await,
                Next::Word(seen) => return (seen, looked.ok()),
                Next::After(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The first of the names still gets what was before. A server that gives the bundle to another of them has loaded it.
    async fn old_for_all(&self, addresses: &[Address]) -> (WireVerdict, Option<Served>) {
        let (instance, bundle) = (&self.instance, &self.bundle);
        if instance.asked_names(Some(bundle)).len() < 2 {
            return (WireVerdict::Old, None);
        }
        let limit = instance.config.verify_timeout;
        match instance.served_by_name(addresses, bundle, limit).await {
            Ok(served) if served.is_divided => (WireVerdict::Third(self.third(&served)), None),
            Ok(served) if served.shown().is_of(bundle) => (WireVerdict::New, Some(served)),
            Ok(_) | Err(_) => (WireVerdict::Old, None),
        }
    }

    /// What a leaf that is served means; `limit` for a look at the server itself, where needed.
    async fn understood(&self, served: &Served, limit: Duration) -> WireLook {
        let new = &self.bundle;
        if served.shown().is_of(new) {
            return WireLook::New;
        }
        // Postgres loads all files or none.
        if served.leaf.fingerprint() == new.fingerprint() && !self.before.has_leaf_of(new) {
            return WireLook::NewLeaf;
        }
        // What one name gets was loaded, so that what another one gets is no refusal.
        if served.is_divided {
            return WireLook::Third(self.third(served));
        }
        match self.shown_by_another(served, limit).await {
            Some(another) => unclear(&another),
            None if self.before.is_shown(&served.shown(), new) => WireLook::Old,
            None => WireLook::Third(self.third(served)),
        }
    }

    /// What is neither the bundle nor what was before.
    fn third(&self, served: &Served) -> Problem {
        let address = &served.address;
        if served.is_divided {
            let what = format!(
                "{address} serves {} to clients that ask for {}, and the bundle to others",
                served.leaf.fingerprint().short(),
                served.asked
            );
            return Problem::new(what, "see which files pg_hosts.conf gives them");
        }
        let what = if served.leaf.fingerprint() == self.bundle.fingerprint() {
            format!(
                "{address} asks clients for certificates of CAs that are neither the installed nor the previous ones"
            )
        } else {
            format!(
                "{address} serves {}, which is neither the bundle nor what was served before",
                served.leaf.fingerprint().short()
            )
        };
        Problem::new(what, "make sure no other server answers there")
    }

    /// The certificate is served; the CA and CRL files that come with it count where the
    /// configuration names them. `doubt` is what was seen that speaks against it.
    async fn used(self, doubt: Result<(), Problem>) -> Verdict<'a> {
        if self.bundle.client_trust().digest().is_none() {
            return Verdict::Ended(Ending::deployed());
        }
        let process = Arc::clone(&self.state.process);
        let sight = &self.before.sight;
        let asked = Box::pin(self.instance.known_tls_settings(&process, sight)).await;
        let asked = asked.map(|settings| self.instance.with_names(settings, Some(&self.bundle)));
        let config = &self.instance.config;
        let asked = asked.map(|tls_settings| tls_settings.companions_not_used(config));
        Verdict::Ended(match (asked, doubt) {
            (Ok(Ok(Some(not_used))), _) => Ending::installed(not_used),
            (_, Err(problem)) => Ending::unverified(problem),
            (Ok(Err(cannot)), _) => Ending::unverified(cannot.problem()),
            _ => Ending::deployed(),
        })
    }

    /// A configured address may lead to another host of the row, or to a proxy, that serves the
    /// very same old leaf: then the server itself, asked where it listens, tells.
    async fn shown_by_another(&self, served: &Served, limit: Duration) -> Option<Unseen> {
        let process = &self.state.process;
        self.instance.another(process, served, limit).await
    }

    /// A third leaf is served: does the configuration say why?
    async fn explained(self, third: Problem) -> Verdict<'a> {
        match self.accounted_for().await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::Ended(Ending::unverified(third)),
        }
    }

    /// What follows where the configuration accounts for what is seen: it names other files, or means the names that
    /// were asked for to get something else. The deployment itself, where it does neither.
    pub(super) async fn accounted_for(mut self) -> Result<Verdict<'a>, Self> {
        let process = Arc::clone(&self.state.process);
        let asked_before = self.instance.asked_names(Some(&self.bundle));
        let asked = self.settings(&process).await;
        if let Ok(Some(not_used)) = asked.and_then(|tls_settings| self.not_used(&tls_settings)) {
            return Ok(Verdict::Ended(Ending::installed(not_used)));
        }
        if self.instance.asked_names(Some(&self.bundle)) == asked_before {
            return Err(self);
        }
        self.state.at = Instant::now();
        Ok(Box::pin(self.verified()).await)
    }

    /// Why what the wire shows says nothing of the files: the configuration names others. CA and
    /// CRL files count where only these are new.
    pub(super) fn not_used(
        &self,
        settings: &TlsSettings,
    ) -> Result<Option<Problem>, SettingsError> {
        let config = &self.instance.config;
        let pair = settings.not_used(&config.cert_file, &config.key_file)?;
        if pair.is_some() || !self.before.has_leaf_of(&self.bundle) {
            return Ok(pair);
        }
        Ok(settings.companions_not_used(config)?)
    }

    /// Whether what was there before is known to have been in use.
    fn was_in_use(&self) -> bool {
        if self.before.has_leaf_of(&self.bundle) {
            self.before.proven_authorities()
        } else {
            self.before.proven()
        }
    }

    /// The old leaf is still served: is that a refusal, or are other files in use?
    async fn weighed(mut self) -> Verdict<'a> {
        let settings = match self.state.known.take() {
            Some(known) => known,
            None => {
                let process = Arc::clone(&self.state.process);
                let asked = self.settings(&process).await;
                match asked.and_then(|settings| Ok((self.not_used(&settings)?, settings))) {
                    Ok((Some(not_used), _)) => return Verdict::Ended(Ending::installed(not_used)),
                    Ok((None, settings)) if self.was_in_use() => settings,
                    Ok((None, settings)) => return self.signalled_again(Some(settings)).await,
                    // What was installed was served until now: these files are in use.
                    Err(_) if self.was_in_use() => return self.refused(),
                    Err(error) => {
                        return Verdict::Ended(Ending::unverified(format!(
                            "the previous certificate is still served, and whether the server uses the files is not known: {error}"
                        )));
                    }
                }
            }
        };
        if let Some(problem) = Box::pin(self.blocked(&settings)).await {
            return Verdict::Ended(Ending::unverified(problem));
        }
        // What was fixed before anyone looked for it may be to blame as well.
        if self.state.again < MOST_AGAIN && self.is_mended(&settings).await {
            return self.signalled_again(None).await;
        }
        self.refused()
    }

    /// Whether another file of the reload was changed since the signal, so that what kept the server from loading may not
    /// be there any more.
    async fn is_mended(&mut self, settings: &TlsSettings) -> bool {
        // What the kernel notes as a file's time is a tick old.
        const TICK: Duration = Duration::from_millis(20);
        let signalled = SystemTime::now() - self.state.at.elapsed() - TICK;
        let (settings, config) = (settings.clone(), self.instance.config.clone());
        let server = self.before.sight.targets.server;
        let looked = as_user(server, move || {
            settings.changed_elsewhere(&config, signalled)
        });
        if looked.await.unwrap_or_default() {
            return true;
        }
        let process = Arc::clone(&self.state.process);
        let sight = &self.before.sight;
        let edited = self.instance.changed_since(&process, sight, signalled);
        !edited.await.is_empty()
    }

    /// A server that was not seen to use the files may have read its configuration before somebody made it name them, and
    /// one that refused them may have read another file before that was fixed. What it shows after another signal is its
    /// answer.
    async fn signalled_again(mut self, known: Option<TlsSettings>) -> Verdict<'a> {
        let process = Arc::clone(&self.state.process);
        if let Err(error) = ask_reload(self.instance, &self.before.sight, &process).await {
            return Verdict::Ended(Ending::unverified(error.to_string()));
        }
        self.state.at = Instant::now();
        self.state.known = known;
        self.state.again += 1;
        Box::pin(self.verified()).await
    }

    /// Why the server loads nothing new, where that is no fault of the bundle.
    async fn blocked(&self, settings: &TlsSettings) -> Option<Problem> {
        let mut causes = self.faults_elsewhere(settings.clone()).await;
        if causes.is_empty() {
            causes.extend(self.blamed_elsewhere(settings).await);
        }
        (!causes.is_empty()).then(|| {
            let fix = format!(
                "{FIX_FIRST}; {} is loaded once that is done. Don't restart the server before that: it would not start",
                self.bundle.fingerprint().short()
            );
            let what = Problem::whats(&causes);
            Problem::new(self.not_loaded(), fix).and(what)
        })
    }

    /// What the wire shows of a reload that loaded nothing.
    fn not_loaded(&self) -> String {
        let (name, short) = (
            self.instance.config.kind().name(),
            self.bundle.fingerprint().short(),
        );
        if self.before.has_leaf_of(&self.bundle) {
            return format!(
                "{name} did not load the CA file that comes with {short}: after the reload, new clients are still asked for certificates of the previous CAs"
            );
        }
        let before = self.before.leaf();
        format!(
            "{name} did not load {short}: after the reload, new connections still get {}",
            before.map_or_else(|| "none".into(), |leaf| leaf.short()),
        )
    }

    fn refused(self) -> Verdict<'a> {
        let log = self.instance.config.kind().profile().log_of_load;
        let reason = Problem::new(self.not_loaded(), log);
        self.not_taken(reason)
    }

    /// What keeps the server from loading anything new beside the files of the instance, as far as that shows.
    async fn faults_elsewhere(&self, settings: TlsSettings) -> Vec<Problem> {
        let server = self.before.sight.targets.server;
        let config = self.instance.config.clone();
        let looked = as_user(server, move || settings.faults_elsewhere(&config));
        looked.await.unwrap_or_default()
    }

    /// The same, as the server's own program says: a start on a throw-away data directory fails for a setting, or for a
    /// file that is not the instance's. Only OpenSSL knows what it takes for a cipher, or whether another name's key will
    /// do.
    async fn blamed_elsewhere(&self, settings: &TlsSettings) -> Option<Problem> {
        let said = async {
            let postmaster = self.state.process.postmaster()?;
            let program = Program::from_postmaster(postmaster).ok()?;
            let targets = &self.before.sight.targets;
            let (data, server) = (&targets.data, targets.server);
            let around = program.surroundings(data, server).await.ok()?;
            let start = program.dry_start(data, server, Some(postmaster), settings, &around);
            match start.await {
                DryStart::Fails {
                    stage: LoadStage::Tls,
                    said,
                } => Some(said),
                DryStart::Fails { .. } | DryStart::Loads | DryStart::NotKnown(_) => None,
            }
        };
        let said = said.await?;
        let mut own = self.instance.config.targets();
        let is_own = settings.is_pair_named_by(&said) || own.any(|file| is_named_by(&said, file));
        (!is_own).then(|| Problem::new(said, FIX_FIRST))
    }
}
