//! Where a server listens: a host and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use rustls::pki_types::ServerName;
use thiserror::Error;

/// PostgreSQL's default port.
const DEFAULT_PORT: u16 = 5432;

/// A host and a port, as in `127.0.0.1:5432`, `[::1]:5432` or `db.example.com:5432`.
///
/// Without a port, it is 5432. An IPv6 address needs brackets if a port follows it, and is always shown with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// The TCP port, never zero.
    pub port: u16,
}

/// Why a text is not an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The host is neither an IP address nor a host name.
    #[error("the host is neither an IP address nor a host name")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// It is a path, such as that of a Unix socket, over which PostgreSQL does not speak TLS.
    #[error("it is a path, and PostgreSQL doesn't speak TLS over Unix sockets")]
    Socket,
}

impl Address {
    /// Where this host reaches a server that listens at `listen`, best first: an address that stands for all is reached
    /// over loopback, and so are `*` and no address at all, which stand for both families.
    pub(crate) fn from_listen(listen: &str, port: u16) -> Vec<Address> {
        let all = matches!(listen, "" | "*");
        let ip: Option<IpAddr> = listen.parse().ok();
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        let mut hosts = Vec::new();
        if all || ip == Some(v4.into()) {
            hosts.push(Ipv4Addr::LOCALHOST.to_string());
        }
        if all || ip == Some(v6.into()) {
            hosts.push(Ipv6Addr::LOCALHOST.to_string());
        }
        if hosts.is_empty() {
            hosts.push(listen.to_owned());
        }
        let address = |host| Address { host, port };
        hosts.into_iter().map(address).collect()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') {
            return Err(AddressError::Socket);
        }
        let (host, port) = parts(text)?;
        ServerName::try_from(host).map_err(|_| AddressError::Host)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => number(port).ok_or(AddressError::Port)?,
        };
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

fn parts(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| AddressError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressError::Port),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

/// A port, in digits: `u16` itself would accept a plus sign as well.
fn number(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|&port| digits && port != 0)
}
