//! `pgcertd probe`: what a server serves, and whether clients with `sslmode=verify-full` take it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Serialize;

use super::manual::{Chapter, Manual};
use super::paint::{BAD, GOOD, labelled, span, styled};
use super::{Exit, Failure, print, print_json, prober};
use crate::config::Address;
use crate::instance::probe::Served;
use crate::report::day;
use crate::report::view::{CertificateView, VERSION};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MANUAL: Manual = Manual {
    command: "probe",
    description: &[
        "Asks a server for TLS as a client does, shows the certificate that it serves, and says whether a client with \
         `sslmode=verify-full` would accept it: dates, name, and a chain to a trusted root. It needs no login, no \
         config and no rights, and leaves no error in the server's log.",
        "It is a little stricter than libpq: a name that stands in the common name alone is not taken.",
    ],
    exit: &[
        (Exit::Well, "verify-full would accept it"),
        (
            Exit::Problem,
            "it would not, or the server could not be asked",
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
    ],
};

fn no_chapters() -> Vec<Chapter> {
    Vec::new()
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The server, as its clients name it; the port is 5432 where none is given.
    #[arg(value_name = "HOST[:PORT]")]
    address: Address,
    /// Trust these roots (PEM) instead of the system's.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    ca: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    version: u32,
    address: String,
    protocol: String,
    cipher: String,
    certificate: CertificateView,
    /// How many certificates were sent.
    chain: usize,
    accepted: bool,
    problem: Option<String>,
}

pub(super) async fn probe(wanted: &Arguments, json: bool) -> Result<Exit, Failure> {
    let prober = prober()?;
    let served = prober
        .look(&wanted.address, PATIENCE)
        .await
        .map_err(|e| Failure::problem(&e))?;
    prober.farewells().await;
    let roots = roots(wanted)?;
    let problem = refusal(&served, &wanted.address, roots).err();
    let document = Document {
        version: VERSION,
        address: wanted.address.to_string(),
        protocol: served.protocol.clone(),
        cipher: served.cipher.clone(),
        certificate: (&served.leaf).into(),
        chain: 1 + served.intermediates.len(),
        accepted: problem.is_none(),
        problem,
    };
    if json {
        print_json(&document)?;
    } else {
        print(&drawn(&document))?;
    }
    Ok(if document.accepted {
        Exit::Well
    } else {
        Exit::Problem
    })
}

fn roots(wanted: &Arguments) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    match &wanted.ca {
        Some(file) => {
            let unreadable =
                |reason: String| Failure::usage(&format!("--ca {}: {reason}", file.display()));
            let roots = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| unreadable(e.to_string()))?;
            for root in roots {
                store.add(root).map_err(|e| unreadable(e.to_string()))?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(native.certs);
        }
    }
    Ok(store)
}

/// Why a client that verifies would refuse it. webpki is stricter than libpq in a few ways (a
/// name that stands in the common name alone, a CA as a leaf).
fn refusal(served: &Served, address: &Address, roots: RootCertStore) -> Result<(), String> {
    if roots.is_empty() {
        return Err("no root certificate to trust was found; install ca-certificates, or name a file with --ca".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| e.to_string())?;
    let name = ServerName::try_from(address.host.as_str()).map_err(|e| e.to_string())?;
    let leaf = CertificateDer::from(served.leaf.der());
    let rest: Vec<CertificateDer<'_>> = served
        .intermediates
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    verifier
        .verify_server_cert(&leaf, &rest, &name, &[], UnixTime::now())
        .map(|_| ())
        .map_err(|e| told(&e, served, address))
}

fn told(error: &rustls::Error, served: &Served, address: &Address) -> String {
    use rustls::CertificateError as E;
    let rustls::Error::InvalidCertificate(error) = error else {
        return error.to_string();
    };
    match error {
        E::NotValidForName | E::NotValidForNameContext { .. } => format!(
            "it does not cover {}: it names {}",
            address.host,
            served.leaf.names().join(", ")
        ),
        E::Expired | E::ExpiredContext { .. } => {
            format!("it, or a certificate above it, has expired (its own date is {})", day(served.leaf.not_after()))
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("it is not valid before {}", served.leaf.not_before())
        }
        E::UnknownIssuer => {
            "no trusted root signed it: a root is missing on this side, or an intermediate on the server's".into()
        }
        other => other.to_string(),
    }
}

fn drawn(document: &Document) -> String {
    let leaf = &document.certificate;
    let left = span(leaf.not_after.duration_since(Timestamp::now()));
    let mut out = format!(
        "{}  {}  {}\n",
        document.address, document.protocol, document.cipher
    );
    let rows = [
        ("leaf", leaf.fingerprint.to_string()),
        ("name", leaf.names.join(", ")),
        (
            "from",
            format!("{} by {}", day(leaf.not_before), leaf.issuer),
        ),
        ("ends", format!("{} ({left} left)", day(leaf.not_after))),
        ("sent", format!("{} certificates", document.chain)),
    ];
    for (label, text) in rows {
        out.push_str(&labelled(label, &text));
    }
    match &document.problem {
        None => out.push_str(&format!(
            "{}\n",
            styled(GOOD, "verify-full would accept it")
        )),
        Some(problem) => {
            out.push_str(&format!("{}\n", styled(BAD, "verify-full would refuse it")));
            out.push_str(&labelled("why", problem));
        }
    }
    out
}
