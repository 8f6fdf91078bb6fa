//! Whether a client that comes without TLS is let in, seen as such a client sees it.
//!
//! It comes from an address of this host's own that is not loopback, which to `pg_hba.conf` is as remote as any
//! but for `samehost` lines. It says who it is and goes no further: no password is sent, whatever is asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one address may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The protocol's version 3.0 (`StartupMessage`, protocol-message-formats).
const VERSION: i32 = 196_608;

/// `invalid_authorization_specification`, with which a client that no line lets in is refused.
const NO_LINE: &[u8] = b"C28000\0";

/// What such a client meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaintextAnswer {
    Refused,
    /// It is let in, or asked who it is.
    LetIn,
}

/// Tries it at each address of this host's own that the server listens at; the answers, by address.
pub(crate) async fn tried(port: u16, role: &str) -> Vec<(IpAddr, PlaintextAnswer)> {
    let mut answers = Vec::new();
    for ip in own_addresses() {
        let trying = welcome(SocketAddr::new(ip, port), role);
        if let Ok(Ok(Some(welcome))) = tokio::time::timeout(PATIENCE, trying).await {
            answers.push((ip, welcome));
        }
    }
    answers
}

/// None where the server answers something else, such as that it has no room.
async fn welcome(address: SocketAddr, role: &str) -> io::Result<Option<PlaintextAnswer>> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for text in ["user", role, "database", "postgres", ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    Ok(match head[0] {
        b'R' => Some(PlaintextAnswer::LetIn),
        b'E' => {
            let length = usize::try_from(length).unwrap_or(0).clamp(4, 4096) - 4;
            let mut error = vec![0; length];
            stream.read_exact(&mut error).await?;
            let refused = error.windows(NO_LINE.len()).any(|bytes| bytes == NO_LINE);
            refused.then_some(PlaintextAnswer::Refused)
        }
        _ => None,
    })
}

/// The addresses of this host but loopback, and those that need a scope.
fn own_addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address
                .as_sockaddr_in()
                .map(|sockaddr_in| IpAddr::V4(sockaddr_in.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|in6| IpAddr::V6(in6.ip())))
        })
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}
