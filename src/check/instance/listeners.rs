//! Where a server listens, and at which of this host's addresses it can be reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use procfs::net::TcpState;
use procfs::process::Process;

use crate::server::postmaster::Postmaster;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// An unspecified address stands for all of its family.
    listening: BTreeSet<SocketAddr>,
    /// Whether it is in this network namespace.
    here: bool,
}

impl Listeners {
    /// Whether clients of other hosts reach it.
    pub(super) fn reaches_out(&self) -> bool {
        self.listening.iter().any(|addr| !addr.ip().is_loopback())
    }

    /// The addresses of this host at which it can be reached.
    pub(super) fn addresses(&self) -> BTreeSet<SocketAddr> {
        let own = own_addresses();
        let meant = |listening: &SocketAddr| -> Vec<SocketAddr> {
            if !listening.ip().is_unspecified() {
                return vec![*listening];
            }
            let same_family = |ip: &&IpAddr| ip.is_ipv4() == listening.is_ipv4();
            own.iter()
                .filter(same_family)
                .map(|ip| SocketAddr::new(*ip, listening.port()))
                .collect()
        };
        if self.here {
            self.listening.iter().flat_map(meant).collect()
        } else {
            BTreeSet::new()
        }
    }
}

/// The addresses of all interfaces, except link-local ones, which no client uses.
fn own_addresses() -> BTreeSet<IpAddr> {
    let of_interface = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address
            .as_sockaddr_in()
            .map(|sockaddr_in| IpAddr::V4(sockaddr_in.ip()));
        v4.or(address.as_sockaddr_in6().map(|in6| IpAddr::V6(in6.ip())))
    };
    let mut own: BTreeSet<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| of_interface(interface.address?))
        .collect();
    own.retain(|ip| match ip {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    });
    if own.is_empty() {
        own.extend([
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]);
    }
    own
}

/// Where `postmaster` listens, by the kernel's table: its configuration may not be in force, and its pid file has only
/// the first address.
pub(super) async fn listeners(postmaster: &Postmaster, server: u32) -> Listeners {
    let (pid, port) = (postmaster.pid, postmaster.file.port);
    let looked = tokio::task::spawn_blocking(move || {
        let process = Process::new(i32::try_from(pid).ok()?).ok()?;
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = namespace("self");
        // Where it may not be looked at, it is taken for this one.
        let here = namespace(&pid.to_string()).is_none_or(|path| Some(path) == own);
        let tables = [process.tcp(), process.tcp6()];
        let listening = tables
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.state == TcpState::Listen && entry.uid == server)
            .map(|entry| entry.local_address)
            .filter(|address| Some(address.port()) == port)
            .collect();
        Some(Listeners { listening, here })
    });
    looked.await.ok().flatten().unwrap_or_default()
}
