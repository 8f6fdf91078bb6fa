//! Why what a server serves could not be seen.

use std::io;
use std::time::Duration;

use crate::config::Address;
use crate::host::look::CannotLook;

/// Why the served certificate could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection: nothing listens, or the way is barred.
    #[error("{address} cannot be reached: {}", connecting(address, source))]
    Connect {
        address: Address,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not answer within {:.1} s while {stage}", limit.as_secs_f32())]
    Silent {
        address: Address,
        stage: &'static str,
        limit: Duration,
    },
    /// The server answered `N`.
    #[error("{address} is a PostgreSQL server without TLS (ssl = off)")]
    TlsOff { address: Address },
    /// The server answered with an error of its own.
    #[error("{address} refused the connection: {text}")]
    Turned {
        address: Address,
        /// The server's words, cut to a line.
        text: String,
    },
    /// The answer is none that PostgreSQL gives.
    #[error("{address} is not a PostgreSQL server: it answered {answer} to a request for TLS")]
    NotPostgres { address: Address, answer: String },
    /// The connection ended without an answer.
    #[error("{address} closed the connection while {stage}")]
    Closed {
        address: Address,
        stage: &'static str,
    },
    /// A TLS handshake without an SSLRequest before it came to nothing.
    #[error("{address} takes no direct TLS handshake: {reason}")]
    NotDirect { address: Address, reason: String },
    #[error("the TLS handshake with {address} failed: {source}")]
    Handshake {
        address: Address,
        #[source]
        source: io::Error,
    },
    /// The certificate that was shown cannot be parsed.
    #[error("{address} serves a certificate that cannot be parsed: {reason}")]
    Unparsable {
        address: Address,
        /// What is wrong with it.
        reason: String,
    },
}

impl ProbeError {
    /// Whether the server itself ended a TLS handshake that had begun, by an alert or by closing the
    /// connection.
    pub(crate) fn is_ended_handshake(&self) -> bool {
        matches!(self, ProbeError::Handshake { source, .. } if is_ended(source))
    }

    /// Whether it ended it by an alert. One that is merely late closes the connection without one, as Postgres does
    /// after `authentication_timeout`: that says nothing of its certificate.
    pub fn is_alert(&self) -> bool {
        matches!(self, ProbeError::Handshake { source, .. } if is_alert(source))
    }

    /// The connection that could not even be tried, so that it says nothing of the server.
    pub(crate) fn cannot_look(&self) -> Option<CannotLook> {
        match self {
            ProbeError::Connect { address, source } => CannotLook::connecting(address, source),
            _ => None,
        }
    }
}

/// What the system said of a connection, with the call where that is no answer of the other side.
fn connecting(address: &Address, source: &io::Error) -> String {
    match CannotLook::connecting(address, source) {
        Some(_) => format!("connect: {source}"),
        None => source.to_string(),
    }
}

/// Whether the server ended a handshake, as one does under TLS 1.2 that demands a certificate of its
/// clients; under TLS 1.3 the client is through before that is judged.
pub(super) fn is_ended(error: &io::Error) -> bool {
    is_alert(error) || is_end(error)
}

pub(super) fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|pair| pair.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted
    )
}
