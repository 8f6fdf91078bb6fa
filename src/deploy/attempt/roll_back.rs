//! The way back, where a server was proven not to take the files.

use std::sync::Arc;

use jiff::Timestamp;

use super::shut_out::Returned;
use super::{Deployment, Ending, Proof, Refused, WayBack, ask_reload};
use crate::config::ServerKind;
use crate::deploy::SyncOutcome;
use crate::problem::Problem;
use crate::server::InstanceError;
use crate::server::files::{Found, Held, HeldBy, Keep, Trial};
use crate::server::setting_names::RESTART;

impl Deployment<'_, Refused> {
    /// Remembers the refusal, puts back what was there, and proves what is served. In this
    /// order, whoever comes after a crash knows what lies in place, were Postgres down by then.
    pub(super) async fn rolled_back(mut self) -> Result<Ending, Problem> {
        let mut told = self.state.reason.clone();
        let remembered = self.remember().await;
        let way = self.before.way_back(&self.bundle);
        told = match self.restore(way).await {
            Ok(restored) => told.and(restored),
            Err(e) => return Err(told.and(format_args!("putting the files back failed: {e}"))),
        };
        if let Err(e) = remembered {
            told = told.and(format_args!("the rejection could not be recorded: {e}"));
        }
        told = match (self.state.proof, way) {
            (Proof::ShutOut, Some(way)) => match self.returned(way).await {
                Returned::Served => told.and("TLS clients can connect again"),
                Returned::ShutOut => return self.reinstated().await,
                Returned::Doubtful(doubt) => told.and(doubt),
            },
            _ => match self.doubt_after_return().await {
                Some(doubt) => told.and(doubt),
                None => told,
            },
        };
        Ok(Ending::failed(SyncOutcome::RolledBack, told))
    }

    /// Puts back the files that are known to be good: those that were found, if they were
    /// served; else the previous bundle, if that is served; else what was found, be it nothing.
    async fn restore(&mut self, way: Option<WayBack>) -> Result<&'static str, InstanceError> {
        let look = Arc::clone(&self.before.sight.look);
        let nothing = look.found.iter().all(|f| matches!(f, Found::Absent));
        match way {
            None => Ok("there is no earlier bundle to go back to, so the files stay"),
            Some(WayBack::Previous) => {
                self.instance
                    .on_files(move |targets| match &look.previous {
                        Some(previous) => {
                            let keyed = targets.previous_with_key(previous)?;
                            let staged = targets.stage(&keyed)?;
                            targets.commit(&staged, &Keep::No, Trial::Unchanged)
                        }
                        None => Ok(()),
                    })
                    .await?;
                Ok("the previous bundle is back")
            }
            Some(WayBack::Found) => {
                self.instance
                    .on_files(move |targets| targets.put_back(&look.found))
                    .await?;
                Ok(if nothing {
                    "there was no file before, so it was removed"
                } else {
                    "the previous files are back"
                })
            }
        }
    }

    async fn remember(&mut self) -> Result<(), InstanceError> {
        let held = Held {
            fingerprint: self.bundle.fingerprint(),
            companions: self.bundle.client_trust().digest(),
            by: HeldBy::Postgres,
            reason: self.state.reason.to_string(),
            since: Timestamp::now(),
            postmaster_start: Some(self.state.process.run()),
        };
        self.instance.on_files(move |t| t.hold(&held)).await
    }

    /// Reloads the previous files; what speaks against their being served then.
    async fn doubt_after_return(&self) -> Option<Problem> {
        let is_patroni = self.state.process.kind() == ServerKind::Patroni;
        // A Patroni was either not asked, or answers no more; a second signal would hold it up for ever.
        if !is_patroni
            && let Err(e) = ask_reload(self.instance, &self.before.sight, &self.state.process).await
        {
            return Some(format!("the reload after that failed: {e}").into());
        }
        let addresses = match self.instance.addresses(&self.state.process) {
            Ok(addresses) => addresses,
            Err(problem) => return Some(problem),
        };
        let limit = self.instance.config.verify_timeout;
        let looked = match self.before.installed() {
            Some(bundle) => {
                let looked = self.instance.served_by_name(&addresses, bundle, limit);
                looked.await
            }
            None => self.instance.served(&addresses, limit).await,
        };
        match looked {
            Ok(served) if Some(served.leaf.fingerprint()) == self.before.leaf() => None,
            Ok(served) => {
                Some(format!("{} is served now", served.leaf.fingerprint().short()).into())
            }
            Err(_) if is_patroni => {
                Some(format!("restart Patroni to bring its REST API back: {RESTART}").into())
            }
            Err(unseen) => Some(unseen.problem().about("what is served now is not known")),
        }
    }
}
