//! What `probe` is asked, and what it saw at one address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{Address, duration};
use crate::server::probe::{Opening, Served};

/// What libpq calls the system's roots.
pub(super) const SYSTEM: &str = "system";

#[derive(Debug, Args)]
pub(in crate::cli) struct ProbeArguments {
    /// The server as its clients name it; the port defaults to 5432.
    #[arg(value_name = "HOST[:PORT]")]
    pub(super) address: Address,
    /// Connect to this IP address, but verify for HOST, like libpq's hostaddr.
    #[arg(long, value_name = "IP")]
    pub(super) hostaddr: Option<IpAddr>,
    /// Trust these roots (PEM) instead of the system's, like libpq's sslrootcert=FILE.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) ca: Option<PathBuf>,
    /// Start TLS directly, like libpq's sslnegotiation=direct: PostgreSQL 17 and later.
    #[arg(long)]
    pub(super) direct: bool,
    /// The time limit for each address.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::positive)]
    pub(super) timeout: Duration,
}

impl ProbeArguments {
    pub(super) fn opening(&self) -> Opening {
        if self.direct {
            Opening::Direct
        } else {
            Opening::Request
        }
    }
}

/// One address, and what was seen there.
pub(super) struct ProbeAnswer {
    pub(super) socket: SocketAddr,
    pub(super) served: Result<Served, Unanswered>,
}

/// Why nothing was seen at an address, and how to fix it.
pub(super) struct Unanswered {
    pub(super) why: String,
    pub(super) fix: String,
}
