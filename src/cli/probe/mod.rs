//! `pgcertd probe`: what a server serves, and whether clients that verify take it.
//!
//! It works on any host, without a config and without a login. Every address that the name has
//! is looked at, since a client may get any of them; the exit status is 0 where `verify-full`
//! takes what each address that answers serves.

mod document;
mod drawn;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::manual::{Chapter, Manual};
use super::{Exit, Failure, print, print_json, prober};
use crate::config::{Address, duration};
use crate::server::probe::{Opening, ProbeError, Prober, Served};
use crate::trust::Roots;
use document::ProbeJson;

pub(super) const MANUAL: Manual = Manual {
    command: "probe",
    description: &[
        "Asks a server for TLS as a client does, at each address that its name has, and shows what it serves: TLS \
         version, cipher and key exchange, the chain as it was sent, names, dates, keys. It needs no login, no config \
         and no rights, and leaves no error in the server's log; but `--direct` has a server before 17 log one line.",
        "Then it says whether a client with `sslmode=verify-full`, and one with `sslmode=verify-ca`, accepts that, as \
         psql does with OpenSSL 3, each reason with its remedy. Where other clients judge otherwise, a note says so, and \
         where a signature without a digest (Ed25519, Ed448) keeps clients with SCRAM passwords out.",
        "An address at which nobody answers is shown, and counts for nothing as long as another answers. \
         `docs/clients.md` has the line that makes each kind of client verify.",
    ],
    exit: &[
        (
            Exit::Well,
            "verify-full accepts what each address that answers serves",
        ),
        (
            Exit::Problem,
            "it does not, that cannot be judged, or the server could not be asked",
        ),
        (
            Exit::Usage,
            "wrong usage, or the file of `--ca` cannot be read",
        ),
    ],
    chapters: no_chapters,
    examples: &[
        (
            "pgcertd probe db.example.com",
            "As the clients name the server; port 5432.",
        ),
        (
            "pgcertd probe --ca ./root.pem '[2001:db8::7]:5433'",
            "An IPv6 address with a port, and a root of your own.",
        ),
        (
            "pgcertd probe --hostaddr 192.0.2.7 db.example.com",
            "Before DNS points there: the name is verified all the same.",
        ),
    ],
};

fn no_chapters() -> Vec<Chapter> {
    Vec::new()
}

/// What libpq calls the system's roots.
const SYSTEM: &str = "system";

#[derive(Debug, Args)]
pub(super) struct ProbeArguments {
    /// The server, as its clients name it; the port is 5432 where none is given.
    #[arg(value_name = "HOST[:PORT]")]
    address: Address,
    /// Connect to this IP address, and verify for HOST all the same (as libpq's hostaddr does).
    #[arg(long, value_name = "IP")]
    hostaddr: Option<IpAddr>,
    /// Trust these roots (PEM) instead of the system's, as libpq does with sslrootcert=FILE.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// Begin with TLS at once, as sslnegotiation=direct does: PostgreSQL 17 and later.
    #[arg(long)]
    direct: bool,
    /// How long each address may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::positive)]
    timeout: Duration,
}

impl ProbeArguments {
    fn opening(&self) -> Opening {
        if self.direct {
            Opening::Direct
        } else {
            Opening::Request
        }
    }
}

/// One address, and what was seen there.
struct ProbeAnswer {
    socket: SocketAddr,
    served: Result<Served, Unanswered>,
}

/// Why nothing was seen at an address, and what to do about it.
struct Unanswered {
    why: String,
    mend: String,
}

pub(super) async fn probe(wanted: &ProbeArguments, json: bool) -> Result<Exit, Failure> {
    let (roots, from) = roots(wanted)?;
    let sockets = resolved(wanted).await?;
    let prober = prober()?;
    let seen = look(&prober, wanted, sockets).await?;
    prober.farewells().await;
    if seen.iter().all(|seen| seen.served.is_err()) {
        return Err(unanswered(&wanted.address, &seen));
    }
    let document = ProbeJson::from_wanted(wanted, &seen, &roots, from, Timestamp::now());
    if json {
        print_json(&document)?;
    } else {
        print(&drawn::drawn(&document, Timestamp::now()))?;
    }
    Ok(if document.accepted {
        Exit::Well
    } else {
        Exit::Problem
    })
}

/// The roots, and where they are from.
fn roots(wanted: &ProbeArguments) -> Result<(Roots, String), Failure> {
    let Some(file) = &wanted.ca else {
        return Ok((Roots::system(), SYSTEM.to_owned()));
    };
    let unusable = |why: String| Failure::usage(&format!("--ca {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|e| unusable(e.to_string()))?;
    let roots = Roots::from_pem(&text).map_err(|e| unusable(e.to_string()))?;
    Ok((roots, file.display().to_string()))
}

/// The addresses of the host, in the order in which the system gives them.
async fn resolved(wanted: &ProbeArguments) -> Result<Vec<SocketAddr>, Failure> {
    let Address { host, port } = &wanted.address;
    if let Some(address) = wanted.hostaddr {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let asking = tokio::net::lookup_host((host.as_str(), *port));
    let found = match tokio::time::timeout(wanted.timeout, asking).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            return Err(Failure::problem(&format!(
                "{host} has no address: {error}; is the name right, and does this host resolve it?"
            )));
        }
        Err(_) => {
            return Err(Failure::problem(&format!(
                "no name server has told the address of {host} within {:.1} s",
                wanted.timeout.as_secs_f32()
            )));
        }
    };
    let mut sockets = Vec::new();
    for socket in found {
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Looks at all addresses at once; what was seen is in their order.
async fn look(
    prober: &Prober,
    wanted: &ProbeArguments,
    sockets: Vec<SocketAddr>,
) -> Result<Vec<ProbeAnswer>, Failure> {
    let mut looking = JoinSet::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        let prober = prober.clone();
        let host = wanted.address.host.clone();
        let (opening, limit) = (wanted.opening(), wanted.timeout);
        looking.spawn(async move {
            let served = match prober.look_at(socket, &host, opening, limit).await {
                Ok(served) => Ok(served),
                Err(error @ ProbeError::NotDirect { .. }) => {
                    let asked = prober.look_at(socket, &host, Opening::Request, limit).await;
                    Err(not_direct(&error, asked.as_ref()))
                }
                Err(error) => Err(Unanswered {
                    mend: mend(&error).to_owned(),
                    why: error.to_string(),
                }),
            };
            (index, ProbeAnswer { socket, served })
        });
    }
    let mut seen = Vec::new();
    while let Some(one) = looking.join_next().await {
        seen.push(one.map_err(|e| Failure::problem(&e))?);
    }
    seen.sort_by_key(|(index, _)| *index);
    Ok(seen.into_iter().map(|(_, seen)| seen).collect())
}

/// What a server that took no direct handshake says to the request that all understand.
fn not_direct(error: &ProbeError, asked: Result<&Served, &ProbeError>) -> Unanswered {
    let mend = match asked {
        Ok(_) => {
            "it is PostgreSQL before 17, or something before it that asks for an SSLRequest: \
             probe it without --direct, and give clients no sslnegotiation=direct"
        }
        Err(ProbeError::TlsOff { .. }) => {
            "it is PostgreSQL without TLS: set ssl = on in its configuration and reload it"
        }
        Err(_) => "it answers no SSLRequest either: is this PostgreSQL's port?",
    };
    Unanswered {
        why: error.to_string(),
        mend: mend.to_owned(),
    }
}

fn mend(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Connect { .. } => {
            "does PostgreSQL run there, is that address in listen_addresses, and does a firewall let it through?"
        }
        ProbeError::Silent { .. } => "it hangs, or a firewall drops what is sent; see --timeout",
        ProbeError::TlsOff { .. } => {
            "set ssl = on, ssl_cert_file and ssl_key_file in its configuration and reload it"
        }
        ProbeError::Turned { .. } | ProbeError::Closed { .. } => "its log says why",
        ProbeError::NotPostgres { .. } => "is this PostgreSQL's port?",
        ProbeError::NotDirect { .. } => "probe it without --direct",
        ProbeError::Handshake { source, .. } => handshake_mend(source),
        ProbeError::Unparsable { .. } => "see it with openssl s_client -starttls postgres",
    }
}

fn handshake_mend(error: &std::io::Error) -> &'static str {
    use rustls::AlertDescription as A;
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(A::ProtocolVersion)) => {
            "it speaks neither TLS 1.2 nor 1.3: see ssl_max_protocol_version there"
        }
        Some(
            rustls::Error::AlertReceived(A::HandshakeFailure) | rustls::Error::PeerIncompatible(_),
        ) => {
            "it has no cipher or kind of key in common with pgcertd: see ssl_ciphers and the key \
             there; libpq may still connect"
        }
        _ => "its log says why",
    }
}

/// One address: its sentence. Several: a line for each.
fn unanswered(address: &Address, seen: &[ProbeAnswer]) -> Failure {
    let sentences: Vec<String> = seen
        .iter()
        .filter_map(|seen| seen.served.as_ref().err())
        .map(|unanswered| format!("{}; {}", unanswered.why, unanswered.mend))
        .collect();
    match sentences.as_slice() {
        [only] => Failure::problem(only),
        many => {
            let lines: Vec<String> = many.iter().map(|text| format!("  {text}")).collect();
            let first = format!("{address} was not seen at any of its addresses:");
            Failure::problem(&first).with_lines(&lines)
        }
    }
}
