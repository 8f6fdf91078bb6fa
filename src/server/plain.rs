//! Whether an HTTP server answers without TLS, where a handshake came to nothing.
//!
//! Python's HTTP server reads to a newline before it says anything, and few handshakes hold one: a
//! REST API without TLS is then as silent as one that is dead.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Address;
use crate::server::probe::ProbeError;

/// The least that such a server answers with a status line.
const QUESTION: &[u8] = b"HEAD / HTTP/1.0\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/";

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an HTTPS server may take to shake hands, before it is asked whether it speaks plain HTTP.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// Whether a handshake came to nothing in the way in which it does with plain HTTP. A server with
/// TLS is not asked in plain words, since it would log them as a fault: one that ends a connection
/// while it rebinds, or had less than [`SILENCE`] for its answer.
pub(super) fn is_likely(error: &ProbeError) -> bool {
    match error {
        ProbeError::Silent { limit, .. } => *limit >= SILENCE,
        ProbeError::Handshake { source, .. } => {
            let inner = source.get_ref().and_then(|pair| pair.downcast_ref());
            matches!(inner, Some(rustls::Error::InvalidMessage(_)))
        }
        _ => false,
    }
}

/// Whether what listens at `address` answers HTTP.
pub(super) async fn speaks_http(address: &Address) -> bool {
    let asking = async {
        let mut tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.write_all(QUESTION).await?;
        let mut answer = [0_u8; ANSWER.len()];
        tcp.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == ANSWER)
    };
    matches!(tokio::time::timeout(PATIENCE, asking).await, Ok(Ok(true)))
}
