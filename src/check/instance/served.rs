//! What clients get: at each address that the server listens on, for each name that they verify.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::look::InstanceLook;
use super::words::unknowable;
use crate::bundle::Certificate;
use crate::check::finding::Finding;
use crate::config::{Address, ServerKind, Verify};
use crate::server::Unseen;
use crate::server::probe::{ProbeError, Served};
use crate::trust::{self, Fault, Roots};

pub(in crate::check) fn server_names(look: &InstanceLook) -> Option<Finding> {
    let instance = look.instance();
    if !instance.server_names.is_empty() {
        let names = instance.server_names.iter().map(|name| name.to_str());
        let names: Vec<_> = names.collect();
        let seen = format!("clients verify {}", names.join(", "));
        return Some(Finding::good(seen));
    }
    let example = look.seen.source.bundle().and_then(|bundle| {
        let names = bundle.leaf().names();
        names.iter().find(|name| !name.starts_with("*.")).cloned()
    });
    let finding = Finding::notice("the config doesn't say which names clients verify");
    Some(finding.fix(format!(
        "add the host names from the clients' settings to [[instance]] {} in {}: server_names = [\"{}\"]",
        instance.name,
        look.context.config.file.display(),
        example.as_deref().unwrap_or("db.example.com"),
    )))
}

/// Whether new clients get what is installed.
pub(in crate::check) fn served(look: &InstanceLook) -> Option<Finding> {
    let (sight, config) = (look.sight()?, look.instance());
    let served = match &look.seen.served {
        Ok(served) => served,
        Err(Unseen::Down) => return None,
        Err(_) if config.verify == Verify::None => return None,
        // There, `ssl` finds that TLS is off.
        Err(unseen) if unseen.is_tls_off() && config.kind() != ServerKind::Postgres => return None,
        Err(unseen) => return Some(Finding::problem(unseen.problem())),
    };
    let leaf = served.leaf.fingerprint().short();
    let shown = format!("{} serves {leaf} over {}", served.address, served.protocol);
    Some(match sight.look.installed.bundle() {
        Some(installed) if !served.shown().is_of(installed) => {
            let installed = installed.fingerprint().short();
            let problem = look.seen.not_served(served, config);
            Finding::problem(problem.and(format!("{shown}, and {installed} is installed")))
        }
        _ => Finding::good(shown),
    })
}

/// Whether clients accept what is served: at each address of this host that the server listens on, and at the
/// config's address. Of a server that cannot be looked at, that address is all that is known.
pub(in crate::check) async fn trusted(look: &InstanceLook) -> Vec<Finding> {
    let config = look.instance();
    let mut findings = Vec::from_iter(locked_out(look));
    if config.verify == Verify::None || config.server_names.is_empty() {
        return findings;
    }
    let mut sockets = BTreeSet::new();
    if let Some(sight) = look.sight() {
        let Some(process) = sight.server.process() else {
            return findings;
        };
        sockets = match process.postmaster() {
            Some(_) => look.listeners.addresses(),
            None => resolved(process.addresses().unwrap_or_default()).await,
        };
        let listen = process
            .postmaster()
            .map(|found| found.file.listen.as_deref());
        if sockets.is_empty() && config.address.is_none() && listen.is_some_and(|l| l != Some("")) {
            let seen = "which certificate clients get at which address is not known: the server \
                        listens in a network of its own";
            let finding = unknowable(sight, seen.to_owned());
            findings.push(finding.fix("set address to where clients reach it"));
            return findings;
        }
    }
    sockets.extend(resolved(config.address.clone()).await);
    findings.extend(judged(look, sockets).await);
    findings
}

async fn resolved(addresses: impl IntoIterator<Item = Address>) -> BTreeSet<SocketAddr> {
    let mut sockets = BTreeSet::new();
    for address in addresses {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        sockets.extend(found.into_iter().flatten());
    }
    sockets
}

/// Whether a PostgreSQL serves something with which clients with passwords can't log in, although the handshake succeeds.
fn locked_out(look: &InstanceLook) -> Option<Finding> {
    look.sight()?.server.postmaster()?;
    let served = look.seen.served.as_ref().ok()?;
    (!served.leaf.facts().has_digest).then(|| {
        let (address, why) = (&served.address, trust::no_digest(&served.leaf));
        Finding::problem(format!("{address}: {why}")).fix(
            "have it issued by an authority with an RSA or ECDSA key; until then clients get in with channel_binding=disable",
        )
    })
}

/// Connects to each address for each name, and judges what it shows as a client does.
async fn judged(look: &InstanceLook, sockets: BTreeSet<SocketAddr>) -> Vec<Finding> {
    let looked = looked(look, sockets).await;
    let Ok(roots) = tokio::task::spawn_blocking(Roots::system).await else {
        return vec![Finding::problem("the system's roots could not be read")];
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
                    findings.push(Finding::notice(Unseen::Probe(error).problem()));
                }
            }
            Ok(served) => {
                for mut fault in of_name(&served, &roots, &name, now) {
                    if fault.kind == trust::FaultKind::IncompleteChain
                        && !lacks_intermediate(look, &served.leaf)
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
        let at = listed(&good);
        findings.push(Finding::good(format!(
            "verify-full accepts what is served at {at}"
        )));
    }
    findings
}

/// What each address showed to a client that asks for each name.
async fn looked(
    look: &InstanceLook,
    sockets: BTreeSet<SocketAddr>,
) -> BTreeMap<(SocketAddr, String), Result<Served, ProbeError>> {
    let config = look.instance();
    let (limit, opening) = (config.verify_timeout, config.kind().profile().opening);
    let mut looking = JoinSet::new();
    for socket in sockets {
        for name in &config.server_names {
            let (prober, name) = (look.context.prober.clone(), name.to_str().into_owned());
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

/// Whether the issuer of `leaf` is known to be an intermediate, which a server has to send: it is one in the
/// lineage's chain, or a public authority issued the leaf.
fn lacks_intermediate(look: &InstanceLook, leaf: &Certificate) -> bool {
    let chain = look
        .seen
        .source
        .bundle()
        .map(|bundle| bundle.intermediates());
    let mut intermediates = chain.unwrap_or_default().iter();
    leaf.facts().is_logged
        || intermediates
            .any(|certificate| leaf.names_as_issuer(certificate) && !certificate.is_self_issued())
}

fn refused(fault: &Fault, at: &BTreeSet<SocketAddr>) -> Finding {
    let seen = format!(
        "verify-full rejects what is served at {}: {}",
        listed(at),
        fault.problem.what
    );
    match fault.kind {
        // A root of one's own is a way to run a server, of which its clients know.
        trust::FaultKind::UnknownRoot | trust::FaultKind::SelfSigned => Finding::notice(seen)
            .because("clients only accept it if sslrootcert names its root")
            .fix("give clients its root (sslrootcert), or have a public authority issue it"),
        trust::FaultKind::IncompleteChain => Finding::problem(seen).fix(
            "serve fullchain.pem, which has the intermediates; if that issuer is your own root, \
             name its file in the clients' sslrootcert, and in SSL_CERT_FILE for check",
        ),
        trust::FaultKind::NotJudged => Finding::notice(seen).fix(&*fault.problem.fix),
        _ => Finding::problem(seen).fix(&*fault.problem.fix),
    }
}

fn listed(sockets: &BTreeSet<SocketAddr>) -> String {
    let all: Vec<String> = sockets.iter().map(ToString::to_string).collect();
    all.join(", ")
}
