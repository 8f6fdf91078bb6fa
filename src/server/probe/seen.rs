//! What a client asks a server for, and what it is shown.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::{InvalidDnsNameError, ServerName};

use super::error::ProbeError;
use crate::bundle::{Bundle, Certificate, Fingerprint};
use crate::config::Address;

/// The name that a client asks for in its TLS handshake (SNI).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedName {
    Host(String),
    /// None, as of libpq where it is given an address (RFC 6066, 3).
    Absent,
}

impl AskedName {
    /// What a client asks for that calls the server so.
    pub fn by_host(host: &str) -> AskedName {
        if host.parse::<IpAddr>().is_ok() {
            AskedName::Absent
        } else {
            AskedName::Host(host.to_owned())
        }
    }

    pub(super) fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match self {
            AskedName::Host(host) => ServerName::try_from(host.clone()),
            // No name is sent for an address.
            AskedName::Absent => Ok(ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())),
        }
    }
}

impl fmt::Display for AskedName {
    /// As after "clients that ask for".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedName::Host(name) => f.write_str(name),
            AskedName::Absent => f.write_str("no name"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Served {
    pub(crate) address: Address,
    /// What was asked for there.
    pub(crate) asked: AskedName,
    /// Whether a client that asked for another name got what was looked for, and this is something else.
    pub(crate) is_divided: bool,
    /// The leaf, by which the certificate is known.
    pub leaf: Certificate,
    /// What was sent after the leaf, in the order sent, as DER.
    pub(crate) intermediates: Vec<Vec<u8>>,
    /// The names of the CAs of which it asks clients for certificates, as DER, each once; empty
    /// where it asks for none. Postgres sends those of `ssl_ca_file`.
    pub(crate) authorities: BTreeSet<Vec<u8>>,
    /// Such as `TLSv1.3`.
    pub(crate) protocol: String,
    /// Such as `TLS_AES_256_GCM_SHA384`, the name that OpenSSL and `pg_stat_ssl` have too in TLS 1.3.
    pub(crate) cipher: String,
    /// Such as `X25519`.
    pub(crate) key_exchange: String,
}

impl Served {
    /// What was sent after the leaf, as far as it can be parsed.
    pub(crate) fn rest(&self) -> Vec<Certificate> {
        let ders = self.intermediates.iter();
        ders.filter_map(|der| Certificate::from_der(der.as_slice()).ok())
            .collect()
    }
}

/// What of a handshake tells one bundle from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) leaf: Fingerprint,
    /// See [`Served::authorities`].
    pub(crate) authorities: BTreeSet<Vec<u8>>,
}

impl Shown {
    /// Whether a server that has loaded `bundle` shows this. Where its CA file is another's there
    /// is nothing to compare; a CRL shows in no handshake, nor a CA file that holds other
    /// certificates by the same names.
    pub(crate) fn is_of(&self, bundle: &Bundle) -> bool {
        self.leaf == bundle.fingerprint() && self.asks_as(bundle)
    }

    /// Whether clients are asked for certificates of the CAs that `bundle` comes with.
    pub(crate) fn asks_as(&self, bundle: &Bundle) -> bool {
        let names = bundle.client_trust().names();
        names.is_none_or(|names| names == self.authorities)
    }
}

/// Of several looks at one server, the first that did not show what `is_wanted`; else the first that failed; else the
/// first.
pub(crate) fn least_wanted(
    mut looks: Vec<Result<Served, ProbeError>>,
    is_wanted: impl Fn(&Served) -> bool,
) -> Option<Result<Served, ProbeError>> {
    let another = looks
        .iter()
        .position(|look| look.as_ref().is_ok_and(|served| !is_wanted(served)));
    let is_divided =
        another.is_some() && looks.iter().any(|look| look.as_ref().is_ok_and(&is_wanted));
    let chosen = another.or_else(|| looks.iter().position(Result::is_err));
    if looks.is_empty() {
        return None;
    }
    let look = looks.swap_remove(chosen.unwrap_or(0));
    Some(look.map(|served| Served {
        is_divided,
        ..served
    }))
}

impl Served {
    /// By what it is compared.
    pub(crate) fn shown(&self) -> Shown {
        Shown {
            leaf: self.leaf.fingerprint(),
            authorities: self.authorities.clone(),
        }
    }
}

/// How a client asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// By an SSLRequest, which every server understands.
    Request,
    /// By a TLS handshake at once, with ALPN `postgresql`: PostgreSQL 17 and later
    /// (`sslnegotiation=direct`).
    Direct,
    /// By a TLS handshake at once, without a protocol to agree on: an HTTPS server.
    Https,
}
