//! Free ports for tests that run side by side.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which Linux takes the ports of outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 that no other test takes while this lives, even when nothing listens on it.
///
/// The claim is a socket in the abstract namespace, which no file backs and the kernel takes back
/// with the process; so a stopped server keeps its port.
pub struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    /// Claims a port on which nothing listens.
    pub fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes begin far apart, so that they seldom try the same port.
        let begin = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let number = FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let name = SocketAddr::from_abstract_name(format!("pgcertd-test-port-{number}"));
            let Ok(claim) = UnixListener::bind_addr(&name.unwrap()) else {
                continue;
            };
            let address = (Ipv4Addr::LOCALHOST, number);
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!("no port of 127.0.0.1 is free");
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
