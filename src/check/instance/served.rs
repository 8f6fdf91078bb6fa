//! What clients get: at each address that the server listens on, for each name that they verify.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use jiff::Timestamp;
use nix::ifaddrs::getifaddrs;
use procfs::net::TcpState;
use procfs::process::Process;
use tokio::task::JoinSet;

use super::{Case, unknowable};
use crate::bundle::Certificate;
use crate::check::{Finding, FindingKind};
use crate::config::{self, Mode, Verify};
use crate::deploy::state::Observation;
use crate::server::postmaster::Postmaster;
use crate::server::probe::{ProbeError, Served};
use crate::server::{InstanceSnapshot, Unseen, process};
use crate::trust::{self, Fault, Roots};

#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// As it listens: an unspecified address stands for all of its family.
    listening: BTreeSet<SocketAddr>,
    /// Whether it does so in this network namespace.
    here: bool,
}

impl Listeners {
    /// Whether clients of other hosts reach it.
    pub(super) fn reaches_out(&self) -> bool {
        self.listening.iter().any(|addr| !addr.ip().is_loopback())
    }

    /// The addresses of this host at which it can be reached.
    fn addresses(&self) -> BTreeSet<SocketAddr> {
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

/// The addresses of all interfaces; link-local ones are in no client's settings.
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

/// Where `postmaster` listens, by the kernel's table: its own configuration tells what it is to
/// be, and its pid file the first address alone.
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

/// Whether new clients get what is installed.
pub(super) fn proven(case: &Case, sight: &InstanceSnapshot, seen: &Observation) -> Option<Finding> {
    let (kind, config) = (FindingKind::Served, case.instance());
    let served = match &seen.served {
        Ok(served) => served,
        Err(_) if config.verify == Verify::None => return None,
        Err(Unseen::Down) => return None,
        // That TLS is off is a finding of its own there.
        Err(unseen) if unseen.is_tls_off() && config.kind() != config::ServerKind::Postgres => {
            return None;
        }
        Err(unseen) => return Some(Finding::from_problem(kind, unseen.problem())),
    };
    let (address, leaf) = (&served.address, served.leaf.fingerprint());
    let installed = sight
        .look
        .installed
        .bundle()
        .map(|entry| entry.fingerprint());
    let what = format!("{address} serves {} over {}", leaf.short(), served.protocol);
    Some(match installed {
        Some(installed) if installed != leaf => {
            let seen = format!("{what}, and {} is installed", installed.short());
            let finding = Finding::problem(kind, seen);
            match config.mode {
                Mode::Manage | Mode::Reload => finding.command(case.sync(&["--force"])),
                Mode::Observe => {
                    finding.sentence("reload the server, which pgcertd does not do in mode observe")
                }
            }
        }
        _ => Finding::good(kind, what),
    })
}

/// That clients with passwords do not get in with what is served, whatever a handshake shows.
pub(super) fn locked_out(seen: &Observation) -> Option<Finding> {
    let served = seen.served.as_ref().ok()?;
    (!served.leaf.facts().has_digest).then(|| {
        let (address, why) = (&served.address, trust::no_digest(&served.leaf));
        Finding::problem(FindingKind::ServedTrusted, format!("{address}: {why}")).sentence(
            "have it issued by an authority with an RSA or ECDSA key; until then clients get in with channel_binding=disable",
        )
    })
}

/// Whether clients accept it, where a configured address is all that can be looked at.
pub(super) async fn of_address(case: &Case) -> Vec<Finding> {
    let config = case.instance();
    let (Some(address), Verify::Handshake) = (&config.address, config.verify) else {
        return Vec::new();
    };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let sockets: BTreeSet<SocketAddr> = found.into_iter().flatten().collect();
    judged(case, sockets).await
}

/// Whether clients accept what is served at each address.
pub(super) async fn trusted(
    case: &Case,
    sight: &InstanceSnapshot,
    postmaster: &Postmaster,
    listeners: &Listeners,
) -> Vec<Finding> {
    if case.instance().verify == Verify::None || case.instance().server_names.is_empty() {
        return Vec::new();
    }
    let mut sockets = listeners.addresses();
    if sockets.is_empty() && case.instance().address.is_some() {
        return of_address(case).await;
    }
    if sockets.is_empty() && postmaster.file.listen.as_deref() != Some("") {
        let seen = "at which addresses clients get which certificate is not known: the server \
                    listens in a network of its own";
        return vec![
            unknowable(FindingKind::ServedTrusted, sight, seen.to_owned())
                .sentence("set address to where clients reach it"),
        ];
    }
    if let Some(address) = &case.instance().address {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        sockets.extend(found.into_iter().flatten());
    }
    judged(case, sockets).await
}

/// Whether clients accept what another server than a Postgres serves, where it says that it listens
/// and where the config says that clients reach it.
pub(super) async fn of_process(case: &Case, process: &process::Process) -> Vec<Finding> {
    let config = case.instance();
    if config.verify == Verify::None || config.server_names.is_empty() {
        return Vec::new();
    }
    let mut addresses = process.addresses().unwrap_or_default();
    addresses.extend(config.address.clone());
    let mut sockets = BTreeSet::new();
    for address in addresses {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        sockets.extend(found.into_iter().flatten());
    }
    judged(case, sockets).await
}

/// One look at each address for each name, as a client of that name takes it.
async fn judged(case: &Case, sockets: BTreeSet<SocketAddr>) -> Vec<Finding> {
    let looked = looked(case, sockets).await;
    let Ok(roots) = tokio::task::spawn_blocking(Roots::system).await else {
        let seen = "the system's roots could not be read";
        return vec![Finding::problem(FindingKind::ServedTrusted, seen)];
    };
    let now = Timestamp::now();
    let mut findings = Vec::new();
    let mut good: BTreeSet<SocketAddr> = looked.keys().map(|(socket, _)| *socket).collect();
    // What is wrong at several addresses or for several names is said once.
    let mut faults: BTreeMap<String, (Fault, BTreeSet<SocketAddr>)> = BTreeMap::new();
    let mut silent = BTreeSet::new();
    for ((socket, name), seen) in looked {
        match seen {
            Err(error) => {
                good.remove(&socket);
                if silent.insert(socket) {
                    let problem = Unseen::Probe(error).problem();
                    let finding = Finding::notice(FindingKind::ServedTrusted, problem.what);
                    findings.push(finding.advised(&problem.fix));
                }
            }
            Ok(served) => {
                for mut fault in of_name(&served, &roots, &name, now) {
                    if fault.kind == trust::FaultKind::IncompleteChain
                        && !lacks_intermediate(case, &served.leaf)
                    {
                        // Its issuer may be a root of somebody's own, as far as anyone here knows.
                        fault.kind = trust::FaultKind::UnknownRoot;
                    }
                    good.remove(&socket);
                    let entry = faults.entry(fault.problem.what.clone());
                    entry.or_insert((fault, BTreeSet::new())).1.insert(socket);
                }
            }
        }
    }
    findings.extend(faults.values().map(|(fault, at)| refused(fault, at)));
    if !good.is_empty() {
        let seen = format!("verify-full accepts what is served at {}", listed(&good));
        findings.push(Finding::good(FindingKind::ServedTrusted, seen));
    }
    findings
}

/// What each address showed to a client that asks for each name.
async fn looked(
    case: &Case,
    sockets: BTreeSet<SocketAddr>,
) -> BTreeMap<(SocketAddr, String), Result<Served, ProbeError>> {
    let limit = case.instance().verify_timeout;
    let opening = case.instance().kind().profile().opening;
    let mut looking = JoinSet::new();
    for socket in sockets {
        for name in &case.instance().server_names {
            let (prober, name) = (case.prober.clone(), name.to_str().into_owned());
            looking.spawn(async move {
                let seen = prober.look_at(socket, &name, opening, limit).await;
                ((socket, name), seen)
            });
        }
    }
    looking.join_all().await.into_iter().collect()
}

fn of_name(served: &Served, roots: &Roots, name: &str, now: Timestamp) -> Vec<Fault> {
    let judgement = trust::judge(&served.leaf, &served.rest(), roots, name, now);
    judgement.faults().cloned().collect()
}

/// Whether the issuer of `leaf` is known to be an intermediate, which a server has to send: the lineage's
/// chain has it as one, or a public authority has issued the leaf.
fn lacks_intermediate(case: &Case, leaf: &Certificate) -> bool {
    let chain = case.source.bundle().map(|bundle| bundle.intermediates());
    let mut intermediates = chain.unwrap_or_default().iter();
    leaf.facts().is_logged
        || intermediates
            .any(|certificate| leaf.names_as_issuer(certificate) && !certificate.is_self_issued())
}

fn refused(fault: &Fault, at: &BTreeSet<SocketAddr>) -> Finding {
    let kind = FindingKind::ServedTrusted;
    let seen = format!(
        "verify-full refuses what is served at {}: {}",
        listed(at),
        fault.problem.what
    );
    match fault.kind {
        // A root of one's own is a way to run a server; its clients are told of it.
        trust::FaultKind::UnknownRoot | trust::FaultKind::SelfSigned => Finding::notice(kind, seen)
            .because("clients accept it only where sslrootcert names its root")
            .sentence("give clients its root (sslrootcert), or have a public authority issue it"),
        trust::FaultKind::IncompleteChain => Finding::problem(kind, seen).sentence(
            "serve fullchain.pem, which holds the intermediates; if that issuer is a root of your own, \
             clients name its file by sslrootcert, and SSL_CERT_FILE names it to check",
        ),
        trust::FaultKind::NotJudged => Finding::notice(kind, seen).advised(&fault.problem.fix),
        _ => Finding::problem(kind, seen).advised(&fault.problem.fix),
    }
}

fn listed(sockets: &BTreeSet<SocketAddr>) -> String {
    let all: Vec<String> = sockets.iter().map(ToString::to_string).collect();
    all.join(", ")
}
