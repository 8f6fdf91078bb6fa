//! `pgcertd probe`: what a server serves, and whether clients that verify accept it.
//!
//! It works on any host, without a config or a login. It looks at every address that the name resolves to, since a client may
//! get any of them; the exit status is 0 if `verify-full` accepts what each answering address serves.

mod answer;
mod document;
mod drawn;

use std::net::SocketAddr;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::exit::{Exit, Failure, print, print_json, prober};
use super::manual::{Chapter, Manual};
use crate::config::Address;
use crate::server::probe::{Opening, ProbeError, Prober, Served};
use crate::trust::Roots;
pub(super) use answer::ProbeArguments;
use answer::{ProbeAnswer, SYSTEM, Unanswered};
use document::ProbeJson;

pub(super) const MANUAL: Manual = Manual {
    command: "probe",
    description: &[
        "Asks a server for TLS like a client, at each address that its name resolves to, and shows what it serves: TLS \
         version, cipher and key exchange, the chain as sent, names, dates and keys. It needs no login, config or special \
         rights, and leaves no error in the server's log, except for one line with `--direct` on a server before 17.",
        "Then it says whether a client with `sslmode=verify-full`, and one with `sslmode=verify-ca`, accepts that, as \
         psql does with OpenSSL 3, and how to fix each problem. A note says if other clients judge differently, or if a \
         signature without a digest (Ed25519, Ed448) locks out clients with SCRAM passwords.",
        "An address where nobody answers is shown, but doesn't count as long as another one answers. \
         `docs/clients.md` has the line that makes each kind of client verify.",
    ],
    exit: &[
        (
            Exit::Well,
            "verify-full accepts what each answering address serves",
        ),
        (
            Exit::Problem,
            "it doesn't, that can't be judged, or the server could not be asked",
        ),
        (Exit::Usage, "wrong usage, or the `--ca` file can't be read"),
    ],
    chapters: no_chapters,
    examples: &[
        (
            "pgcertd probe db.example.com",
            "The server as its clients name it, on port 5432.",
        ),
        (
            "pgcertd probe --ca ./root.pem '[2001:db8::7]:5433'",
            "An IPv6 address with a port, and your own root.",
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

pub(super) async fn probe(wanted: &ProbeArguments, json: bool) -> Result<Exit, Failure> {
    let (roots, from) = roots(wanted)?;
    let sockets = resolved(wanted).await?;
    let prober = prober()?;
    let seen = look(&prober, wanted, sockets).await?;
    prober.drain().await;
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

/// The roots, and where they come from.
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
                "cannot resolve {host}: {error}; is the name right?"
            )));
        }
        Err(_) => {
            return Err(Failure::problem(&format!(
                "{host} could not be resolved within {:.1} s",
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

/// Looks at all addresses at once; the answers are in their order.
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
                    fix: fix(&error).to_owned(),
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

/// A server that doesn't accept direct TLS, by its answer to an SSLRequest, which they all understand.
fn not_direct(error: &ProbeError, asked: Result<&Served, &ProbeError>) -> Unanswered {
    let fix = match asked {
        Ok(_) => {
            "it is PostgreSQL before 17, or a proxy that expects an SSLRequest: \
             probe it without --direct, and don't set sslnegotiation=direct in clients"
        }
        Err(ProbeError::TlsOff { .. }) => {
            "it is PostgreSQL without TLS: set ssl = on in its configuration and reload it"
        }
        Err(_) => "it doesn't answer an SSLRequest either: is this PostgreSQL's port?",
    };
    Unanswered {
        why: error.to_string(),
        fix: fix.to_owned(),
    }
}

fn fix(error: &ProbeError) -> &'static str {
    match error {
        ProbeError::Connect { .. } => {
            "is PostgreSQL running there, is that address in listen_addresses, and does the firewall let it through?"
        }
        ProbeError::Silent { .. } => "it hangs, or a firewall drops the packets; see --timeout",
        ProbeError::TlsOff { .. } => {
            "set ssl = on, ssl_cert_file and ssl_key_file in its configuration and reload it"
        }
        ProbeError::Turned { .. } | ProbeError::Closed { .. } => "its log says why",
        ProbeError::NotPostgres { .. } => "is this PostgreSQL's port?",
        ProbeError::NotDirect { .. } => "probe it without --direct",
        ProbeError::Handshake { source, .. } => handshake_fix(source),
        ProbeError::Unparsable { .. } => "look at it with openssl s_client -starttls postgres",
    }
}

fn handshake_fix(error: &std::io::Error) -> &'static str {
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
            "it has no cipher or key type in common with pgcertd: see ssl_ciphers and the key \
             there; libpq may still connect"
        }
        _ => "its log says why",
    }
}

/// One sentence, or a line for each address if there are several.
fn unanswered(address: &Address, seen: &[ProbeAnswer]) -> Failure {
    let sentences: Vec<String> = seen
        .iter()
        .filter_map(|seen| seen.served.as_ref().err())
        .map(|unanswered| format!("{}; {}", unanswered.why, unanswered.fix))
        .collect();
    match sentences.as_slice() {
        [only] => Failure::problem(only),
        many => {
            let lines: Vec<String> = many
                .iter()
                .map(|sentence| format!("  {sentence}"))
                .collect();
            let first = format!("no answer from any address of {address}:");
            Failure::problem(&first).with_lines(&lines)
        }
    }
}
