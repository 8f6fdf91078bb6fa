//! Who answers where: several processes may listen at one address (`SO_REUSEPORT`), and the kernel
//! chooses among them for each connection.
//!
//! The configuration tells that only in part: `so_reuseport` may have changed since the start, and
//! sockets that systemd passes share a port by its `ReusePort=`. The kernel's table tells all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use procfs::net::{TcpNetEntries, TcpState};
use procfs::{FromReadSI, current_system_info};

use crate::config::Address;
use crate::host::look::{self, CannotLook};

/// How many sockets listen at each address, in the network of one process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PgBouncerListeners(BTreeMap<SocketAddr, usize>);

impl PgBouncerListeners {
    /// Those that the kernel tells of in the network of the process that has this entry in `/proc`. A socket that two
    /// processes hold, as while one takes over from the other, is one. Blocks.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub(super) fn beside(proc: &Path) -> Result<PgBouncerListeners, CannotLook> {
        let mut listening = Vec::new();
        for table in ["net/tcp", "net/tcp6"] {
            let path = proc.join(table);
            // A kernel without IPv6 has no second table.
            let Some(bytes) = look::read(&path)? else {
                continue;
            };
            // Of a table that was cut, what comes first is whole: those that listen.
            let lines = bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .unwrap_or_default();
            let entries = TcpNetEntries::from_read(&bytes[..lines], current_system_info());
            let entries = entries.map_err(|_| CannotLook::odd(&path))?.0;
            let entries = entries
                .into_iter()
                .filter(|entry| entry.state == TcpState::Listen);
            listening.extend(entries.map(|entry| entry.local_address));
        }
        Ok(PgBouncerListeners::from_sockets(listening))
    }

    fn from_sockets(listening: impl IntoIterator<Item = SocketAddr>) -> PgBouncerListeners {
        let mut counts = BTreeMap::new();
        for address in listening {
            *counts.entry(address).or_default() += 1;
        }
        PgBouncerListeners(counts)
    }

    /// Whether more than one socket may get a connection to this address. Of a name it is not known
    /// which addresses are meant: there, one that is shared at its port counts.
    pub(super) fn share(&self, address: &Address) -> bool {
        let port = address.port;
        let Ok(ip) = address.host.parse::<IpAddr>() else {
            let mut at_port = self.0.iter().filter(|(at, _)| at.port() == port);
            return at_port.any(|(_, count)| *count > 1);
        };
        // Whoever listens at the very address comes first, then whoever does at all of its family.
        let [v4, v6] = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let candidates = if ip.is_ipv4() {
            vec![ip, v4, v6]
        } else {
            vec![ip, v6]
        };
        let mut counts = candidates
            .into_iter()
            .filter_map(|ip| self.0.get(&SocketAddr::new(ip, port)));
        counts.next().is_some_and(|count| *count > 1)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn shared(listening: &[&str], host: &str, port: u16) -> bool {
        let listening = listening.iter().map(|text| text.parse().unwrap());
        let host = host.to_owned();
        PgBouncerListeners::from_sockets(listening).share(&Address { host, port })
    }

    #[test]
    fn an_address_is_shared_where_two_sockets_listen_and_none_is_nearer() {
        let two = ["127.0.0.1:6432", "127.0.0.1:6432", "127.0.0.2:6432"];
        assert!(shared(&two, "127.0.0.1", 6432));
        assert!(!shared(&two, "127.0.0.2", 6432));
        assert!(!shared(&two, "127.0.0.1", 6433));
        assert!(shared(&two, "localhost", 6432));
        let all = ["0.0.0.0:6432", "0.0.0.0:6432", "10.0.0.1:6432"];
        assert!(shared(&all, "127.0.0.1", 6432));
        assert!(!shared(&all, "10.0.0.1", 6432));
        assert!(!shared(&all, "::1", 6432));
        let both = ["[::]:6432", "[::]:6432"];
        assert!(shared(&both, "::1", 6432) && shared(&both, "127.0.0.1", 6432));
    }
}
