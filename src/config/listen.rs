//! Where the metrics are served: only on this host.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// May precede the path of a Unix socket.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket that a client can connect to, in bytes (unix(7)).
const LONGEST: usize = 107;

/// An address that only this host can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// A loopback address; the port is never zero.
    Tcp(SocketAddr),
    /// A Unix socket, of at most 107 bytes.
    Unix(PathBuf),
}

/// Why a text is not a [`Listen`], to be read after the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ListenError {
    /// It is neither an IP address with a port nor a path.
    #[error("is neither an IP address with a port nor a path")]
    Address,
    /// The port is missing or zero.
    #[error("is an address without a port from 1 to 65535")]
    Port,
    /// Other hosts can reach it.
    #[error(
        "can be reached from other hosts, and there is neither a password nor encryption: to serve those hosts, use a proxy or node_exporter (`textfile`)"
    )]
    NotLoopback,
    /// No file can have this path.
    #[error("is not the path of a socket")]
    Path,
    /// No client can connect to it.
    #[error("is longer than 107 bytes, the most that the path of a Unix socket can have")]
    Long,
}

impl Listen {
    /// Parses a text. A path stays as it is written.
    pub(super) fn parse(text: &str) -> Result<Self, ListenError> {
        let path = text.strip_prefix(UNIX);
        if let Some(path) = path.or(Some(text).filter(|text| text.contains('/'))) {
            let named = Path::new(path).file_name().is_some();
            return if named && !path.ends_with('/') && !path.contains('\0') {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(ListenError::Path)
            };
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            return Err(match bare.parse::<IpAddr>() {
                Ok(_) => ListenError::Port,
                Err(_) => ListenError::Address,
            });
        };
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback);
        }
        match address.port() {
            0 => Err(ListenError::Port),
            _ => Ok(Self::Tcp(address)),
        }
    }

    /// A Unix socket at an absolute path.
    pub(super) fn at(path: PathBuf) -> Result<Self, ListenError> {
        if path.as_os_str().len() > LONGEST {
            Err(ListenError::Long)
        } else {
            Ok(Self::Unix(path))
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}
