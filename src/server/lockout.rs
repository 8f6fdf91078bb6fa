//! Whether a server shakes hands with no client at all.

use std::time::Duration;

use super::instance::Instance;
use super::probe::{AskedName, ProbeError, WidestAnswer};
use super::process::Process;
use super::unseen::Unseen;
use crate::bundle::Bundle;
use crate::config::Address;
use crate::problem::Problem;

/// Whether a server ends the handshakes of all its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lockout {
    /// It does: how it ends them, as `it sends the alert HandshakeFailure`.
    Proven(String),
    /// That is not so, or not known: why.
    Doubtful(Problem),
}

impl Instance {
    /// Whether the server of `process` ends the handshakes of the probe and of a client that offers whatever any may, each by
    /// an alert and for each name that counts with `bundle`. It is asked at the first address that takes connections, and
    /// where it says that it listens, if that is known: another server may answer at a configured address.
    pub(crate) async fn lockout(
        &self,
        process: &Process,
        bundle: &Bundle,
        limit: Duration,
    ) -> Lockout {
        let addresses = match (process.addresses(), &self.config.address) {
            (Ok(own), _) => own,
            (Err(_), Some(configured)) => vec![configured.clone()],
            (Err(why), None) => return Lockout::Doubtful(why),
        };
        let names = self.asked_names(Some(bundle));
        let mut doubt = Problem::from("there is no address to look at");
        for address in &addresses {
            match self.all_locked_out(address, &names, limit).await {
                Ok(lockout) => return lockout,
                Err(error) => doubt = error.to_string().into(),
            }
        }
        Lockout::Doubtful(doubt)
    }

    /// The same at one address; an error where nothing there takes connections.
    async fn all_locked_out(
        &self,
        address: &Address,
        names: &[AskedName],
        limit: Duration,
    ) -> Result<Lockout, ProbeError> {
        let mut last = Lockout::Doubtful("no name is asked for".into());
        for asked in names {
            last = self.locked_out(address, asked, limit).await?;
            if matches!(last, Lockout::Doubtful(_)) {
                break;
            }
        }
        Ok(last)
    }

    /// The same for one name.
    async fn locked_out(
        &self,
        address: &Address,
        asked: &AskedName,
        limit: Duration,
    ) -> Result<Lockout, ProbeError> {
        let opening = self.opening();
        let looked = self.prober.look_for(address, asked, opening, limit).await;
        let turned_away = match looked {
            Ok(_) => {
                let doubt = format!("{address} shakes hands with pgcertd");
                return Ok(Lockout::Doubtful(doubt.into()));
            }
            Err(error) if error.is_alert() => error,
            Err(error @ (ProbeError::Connect { .. } | ProbeError::Closed { .. })) => {
                return Err(error);
            }
            Err(error) => return Ok(Lockout::Doubtful(Unseen::from(error).problem())),
        };
        let welcome = self.prober.welcome(address, asked, opening, limit).await?;
        Ok(match welcome {
            WidestAnswer::Ends(how) => Lockout::Proven(how),
            WidestAnswer::AsProbe => Lockout::Proven(turned_away.to_string()),
            WidestAnswer::GoesOn => Lockout::Doubtful(Problem::new(
                format!(
                    "{address} continues the handshake with a client that offers more than pgcertd's TLS library can, as psql's does"
                ),
                "see that psql gets in",
            )),
        })
    }
}
