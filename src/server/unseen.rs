//! Why the served certificate is not known, and what to do about it.

use crate::bundle::Fingerprint;
use crate::config::Address;
use crate::problem::Problem;
use crate::server::probe::ProbeError;

/// Why the served certificate is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unseen {
    /// There is nowhere to look.
    #[error("{}", .0.what)]
    Nowhere(Problem),
    /// `verify = "none"`.
    #[error("verify = \"none\": what is served is not looked at")]
    NotWanted,
    #[error("the server is not running")]
    Down,
    /// The configured address leads to another server.
    #[error(
        "address = \"{address}\" leads to another server, which serves {}, while this one serves {} at {own}",
        leaf.short(), own_leaf.short()
    )]
    Another {
        address: Address,
        leaf: Fingerprint,
        /// Where the instance's server listens.
        own: Address,
        own_leaf: Fingerprint,
    },
    /// It speaks HTTP without TLS.
    #[error("{0} speaks HTTP without TLS")]
    Plain(Address),
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Unseen {
    pub(crate) fn problem(&self) -> Problem {
        let fix = match self {
            Unseen::Nowhere(problem) => return problem.clone(),
            Unseen::NotWanted | Unseen::Down => "",
            Unseen::Plain(_) => {
                "set restapi.certfile and restapi.keyfile in Patroni's configuration and reload it"
            }
            Unseen::Another { .. } => "correct address in pgcertd's config, or remove it there",
            Unseen::Probe(error @ ProbeError::Connect { .. }) => match error.cannot_look() {
                Some(cannot) => cannot.remedy(),
                None => {
                    "see that the server can be reached there, or set address to where it listens"
                }
            },
            Unseen::Probe(ProbeError::Silent { .. }) => {
                "see whether the server hangs, or set address to where it listens"
            }
            Unseen::Probe(ProbeError::NotPostgres { .. }) => {
                "set address to where the server listens"
            }
            Unseen::Probe(ProbeError::TlsOff { .. }) => {
                "set ssl = on in the server's configuration and reload it"
            }
            Unseen::Probe(error) if error.is_ended_handshake() && !error.is_alert() => {
                "see whether the server is overloaded, or its authentication_timeout too short; its log says why"
            }
            Unseen::Probe(error) if error.is_alert() => {
                "see whether the server's ciphers and protocols fit its certificate's key; its log says why"
            }
            Unseen::Probe(
                ProbeError::Turned { .. }
                | ProbeError::Closed { .. }
                | ProbeError::NotDirect { .. }
                | ProbeError::Handshake { .. }
                | ProbeError::Unparsable { .. },
            ) => "the server's log says why",
        };
        Problem::new(self.to_string(), fix)
    }

    /// Whether the server itself ended a TLS handshake by an alert, and not for being late.
    pub(crate) fn is_alert(&self) -> bool {
        matches!(self, Unseen::Probe(error) if error.is_alert())
    }

    /// Whether it was not the server that kept it from being seen: the connection could not be tried, or another one
    /// answered.
    pub(crate) fn is_no_answer(&self) -> bool {
        match self {
            Unseen::Probe(error) => error.cannot_look().is_some(),
            Unseen::Another { .. } => true,
            _ => false,
        }
    }

    /// Whether something took the connection and did not go on in time.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Unseen::Probe(ProbeError::Silent { .. }))
    }

    /// Whether the server itself said that TLS is off.
    pub(crate) fn is_tls_off(&self) -> bool {
        matches!(
            self,
            Unseen::Plain(_) | Unseen::Probe(ProbeError::TlsOff { .. })
        )
    }
}
