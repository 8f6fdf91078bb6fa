//! A server that has loaded a bundle with which no TLS client gets in.
//!
//! Postgres loads a key for which its ciphers have no use, or which its OpenSSL finds too weak for
//! its level, without a word: each handshake fails after that, by an alert. One that ends without an alert proves
//! nothing, since a server that is overloaded cuts handshakes for being late (`authentication_timeout`). It is proven in two steps: before
//! the files go back, by a client that offers whatever any may; after that, by the handshakes that come to
//! their end again. Where they do not, the bundle was not the cause, and goes in again.

use std::sync::Arc;

use tokio::time::Instant;

use super::watch::{Next, WireLook, WireVerdict, WireWatch};
use super::{Deployment, Ending, Proof, Refused, Reloaded, Verdict, WayBack};
use crate::bundle::Bundle;
use crate::config::Mode;
use crate::problem::Problem;
use crate::server::Lockout;
use crate::server::files::{Keep, Trial};
use crate::server::process::Process;
use crate::server::reload::reload;

/// What became of handshakes once the previous files were back.
pub(super) enum Returned {
    /// They come to their end again.
    Served,
    ShutOut,
    /// That is not known, or another certificate is shown.
    Doubtful(Problem),
}

impl<'a> Deployment<'a, Reloaded> {
    /// Handshakes fail: is that so for every client, and is it the bundle?
    pub(super) async fn shut_out(self, seen: Problem) -> Verdict<'a> {
        // Who is turned away for the name that he asks for says nothing of the bundle.
        let deployment = match self.accounted_for().await {
            Ok(verdict) => return verdict,
            Err(deployment) => deployment,
        };
        let process = Arc::clone(&deployment.state.process);
        let limit = deployment.instance.config.verify_timeout;
        let lockout = deployment
            .instance
            .lockout(&process, &deployment.bundle, limit);
        let how = match lockout.await {
            Lockout::Proven(how) => how,
            Lockout::Doubtful(doubt) => {
                return Verdict::Ended(Ending::unverified(seen.and(doubt)));
            }
        };
        if !process.alive() {
            return deployment.server_ended();
        }
        deployment.locked_out(&how, process).await
    }

    /// It is so, for every client.
    async fn locked_out(mut self, how: &str, process: Arc<Process>) -> Verdict<'a> {
        let reason = self.shut_out_reason(how).await;
        if self.instance.config.mode != Mode::Manage {
            // The files are somebody else's: they stay.
            return Verdict::Ended(Ending::not_taken(reason));
        }
        if self.before.proven_way_back(&self.bundle).is_none() {
            let stays = reason.and("no other bundle has been seen served, so it stays");
            return Verdict::Ended(Ending::unverified(stays));
        }
        Verdict::Refused(Box::new(self.into_state(Refused {
            process,
            reason,
            proof: Proof::ShutOut,
        })))
    }

    /// What happened, the likely cause, and how to fix it.
    async fn shut_out_reason(&mut self, how: &str) -> Problem {
        let process = Arc::clone(&self.state.process);
        let ciphers = self.instance.ciphers(&process, &self.before.sight).await;
        let key = &self.bundle.leaf().facts().key;
        let way = self.before.way_back(&self.bundle);
        let before = way.and_then(|way| self.before.bundle_on(way));
        let before = before.map(|bundle| bundle.leaf().facts().key.as_str());
        let kind = self.instance.config.kind();
        let cause = match (ciphers, kind) {
            (Some(ciphers), _) => ciphers.against(key, before),
            (None, _) => format!("check whether its cipher settings allow a key of {key}"),
        };
        let log = kind.profile().log_of_handshake;
        let what = format!(
            "{} loaded {} ({key}), but no TLS client can connect with it ({how}): {cause}",
            kind.name(),
            self.bundle.fingerprint().short(),
        );
        Problem::new(what, format!("its log says more{log}"))
    }
}

impl Deployment<'_, Refused> {
    /// Reloads the server with the restored files, and checks whether clients can connect again.
    pub(super) async fn returned(&mut self, way: WayBack) -> Returned {
        let config = &self.instance.config;
        let process = Arc::clone(&self.state.process);
        let owner = self.before.sight.targets.server;
        // Straight on: a REST API that answers by an alert lives, and reloads.
        let asked = reload(&config.reload, &process, &config.name, &config.place, owner);
        if let Err(error) = asked.await {
            return Returned::Doubtful(format!("the reload after that failed: {error}").into());
        }
        let addresses = match self.instance.addresses(&process) {
            Ok(addresses) => addresses,
            Err(problem) => return Returned::Doubtful(problem),
        };
        let wanted = self.before.bundle_on(way).map(Bundle::fingerprint);
        let mut watch = WireWatch::for_instance(&self.instance.config, Instant::now());
        loop {
            let patience = watch.patience(Instant::now());
            let looked = match self.before.bundle_on(way) {
                Some(bundle) => {
                    let looked = self.instance.served_by_name(&addresses, bundle, patience);
                    looked.await
                }
                None => self.instance.served(&addresses, patience).await,
            };
            let glimpse = match looked {
                Ok(served) if Some(served.leaf.fingerprint()) == wanted => WireLook::New,
                Ok(served) => {
                    let leaf = served.leaf.fingerprint().short();
                    WireLook::Third(format!("{leaf} is served now").into())
                }
                Err(unseen) if unseen.is_alert() => WireLook::ShutOut(unseen.problem()),
                Err(_) if !process.alive() => {
                    return Returned::Doubtful("the server has stopped since".into());
                }
                Err(unseen) => {
                    let subject = "what is served now is not known";
                    WireLook::Unclear(unseen.problem().about(subject))
                }
            };
            match watch.heard(glimpse, Instant::now()) {
                Next::After(pause) => tokio::time::sleep(pause).await,
                Next::Word(WireVerdict::New) => return Returned::Served,
                Next::Word(WireVerdict::ShutOut(_)) => return Returned::ShutOut,
                Next::Word(
                    WireVerdict::Third(doubt)
                    | WireVerdict::Unclear(doubt)
                    | WireVerdict::Blind(doubt),
                ) => {
                    return Returned::Doubtful(doubt);
                }
                Next::Word(_) => return Returned::Doubtful("TLS is off now".into()),
            }
        }
    }

    /// It was not the bundle: with the previous files clients get in as little. It is what the
    /// lineage holds, so it goes in again, and is not held.
    pub(super) async fn reinstated(self) -> Result<Ending, Problem> {
        let short = self.bundle.fingerprint().short();
        let told = Problem::from(format!(
            "no TLS client can connect, neither with {short} nor with the previous files, so it is not the certificate"
        ));
        let failed = |error: String| {
            let told = told.clone();
            told.and(format_args!("reinstalling {short} failed: {error}"))
        };
        let (keyed, look) = (self.keyed.clone(), Arc::clone(&self.before.sight.look));
        self.instance
            .on_files(move |targets| {
                match keyed {
                    Some(keyed) => {
                        let staged = targets.stage(&keyed)?;
                        targets.commit(&staged, &Keep::No, Trial::Unchanged)?;
                    }
                    // It was in the files already.
                    None => targets.put_back(&look.found)?,
                }
                targets.release()
            })
            .await
            .map_err(|error| failed(error.to_string()))?;
        let config = &self.instance.config;
        let (process, owner) = (&self.state.process, self.before.sight.targets.server);
        reload(&config.reload, process, &config.name, &config.place, owner)
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Ending::unverified(Problem {
            fix: "check the server's TLS settings (ciphers, protocols, curves); its log says why"
                .into(),
            ..told
        }))
    }
}
