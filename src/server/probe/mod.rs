//! Looks at the certificate that a Postgres server gives to a new client.
//!
//! A client asks for TLS with an SSLRequest (PostgreSQL's protocol, "SSL Session
//! Encryption"), shakes hands and leaves, without a login. Any certificate is accepted here:
//! the question is which one is served, and the answer is compared by fingerprint. The server
//! proves in the handshake that it holds the key; that signature is verified.
//!
//! The probe is quiet in the server's log: it says goodbye (`close_notify`) and reads to the
//! end before it closes. No session is resumed, since a resumed one shows no certificate.

mod widest;
mod witness;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bundle::{Bundle, Certificate, Fingerprint};
use crate::config::Address;
use crate::host::look::CannotLook;
pub(crate) use widest::WidestAnswer;
use witness::{AnyCertificate, ClientHelloSent};

/// `int32 8, int32 80877103`: PostgreSQL's `NEGOTIATE_SSL_CODE`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How PostgreSQL's protocol is called in a TLS handshake (`PG_ALPN_PROTOCOL`).
const ALPN: &[u8] = b"postgresql";

/// How long the farewell of a probe may take; only a process that exits waits for it.
const FAREWELL: Duration = Duration::from_secs(2);

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

    fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
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

/// Why the served certificate could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection: nothing listens, or the way is barred.
    #[error("{address} cannot be reached: {}", connecting(address, source))]
    Connect {
        address: Address,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not answer within {:.1} s while {stage}", limit.as_secs_f32())]
    Silent {
        address: Address,
        stage: &'static str,
        limit: Duration,
    },
    /// The server answered `N`.
    #[error("{address} is a PostgreSQL server without TLS (ssl = off)")]
    TlsOff { address: Address },
    /// The server answered with an error of its own.
    #[error("{address} refused the connection: {text}")]
    Turned {
        address: Address,
        /// The server's words, cut to a line.
        text: String,
    },
    /// The answer is none that PostgreSQL gives.
    #[error("{address} is not a PostgreSQL server: it answered {answer} to a request for TLS")]
    NotPostgres { address: Address, answer: String },
    /// The connection ended without an answer.
    #[error("{address} closed the connection while {stage}")]
    Closed {
        address: Address,
        stage: &'static str,
    },
    /// A TLS handshake without an SSLRequest before it came to nothing.
    #[error("{address} takes no direct TLS handshake: {reason}")]
    NotDirect { address: Address, reason: String },
    #[error("the TLS handshake with {address} failed: {source}")]
    Handshake {
        address: Address,
        #[source]
        source: io::Error,
    },
    /// The certificate that was shown cannot be parsed.
    #[error("{address} serves a certificate that cannot be parsed: {reason}")]
    Unparsable {
        address: Address,
        /// What is wrong with it.
        reason: String,
    },
}

impl ProbeError {
    /// Whether the server itself ended a TLS handshake that had begun, by an alert or by closing the
    /// connection.
    pub(crate) fn is_ended_handshake(&self) -> bool {
        matches!(self, ProbeError::Handshake { source, .. } if is_ended(source))
    }

    /// Whether it ended it by an alert. One that is merely late closes the connection without one, as Postgres does
    /// after `authentication_timeout`: that says nothing of its certificate.
    pub fn is_alert(&self) -> bool {
        matches!(self, ProbeError::Handshake { source, .. } if is_alert(source))
    }

    /// The connection that could not even be tried, so that it says nothing of the server.
    pub(crate) fn cannot_look(&self) -> Option<CannotLook> {
        match self {
            ProbeError::Connect { address, source } => CannotLook::connecting(address, source),
            _ => None,
        }
    }
}

/// What the system said of a connection, with the call where that is no answer of the other side.
fn connecting(address: &Address, source: &io::Error) -> String {
    match CannotLook::connecting(address, source) {
        Some(_) => format!("connect: {source}"),
        None => source.to_string(),
    }
}

/// Opens probes; holds the TLS configuration that they share.
#[derive(Clone)]
pub struct Prober {
    config: ClientConfig,
    /// The same with ALPN `postgresql`.
    direct: ClientConfig,
    provider: Arc<CryptoProvider>,
    /// The ends of connections, which nobody who wants to know what is served waits for.
    farewells: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prober")
    }
}

impl Prober {
    /// Prepares the TLS side.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults: a fault in how pgcertd was built.
    pub fn new() -> Result<Prober, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(AnyCertificate::by(&provider))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let mut direct = config.clone();
        direct.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Prober {
            config,
            direct,
            provider,
            farewells: Arc::default(),
        })
    }

    /// Waits until every connection has come to its end. A process that exits before leaves
    /// resets behind, of which the server's log speaks.
    pub(crate) async fn farewells(&self) {
        let mut ending = std::mem::take(&mut *self.ending());
        while ending.join_next().await.is_some() {}
    }

    fn ending(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to `address` once, and returns what it serves.
    ///
    /// # Errors
    /// Each way in which a server can fail to show a certificate within `limit` has its own.
    pub async fn look(
        &self,
        address: &Address,
        opening: Opening,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        self.look_for(address, &AskedName::by_host(&address.host), opening, limit)
            .await
    }

    /// The same for a client that asks for `asked`.
    ///
    /// # Errors
    /// As [`Prober::look`].
    pub async fn look_for(
        &self,
        address: &Address,
        asked: &AskedName,
        opening: Opening,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        self.see(address, asked, connecting, opening, limit).await
    }

    /// The same for each of `asked` at once, in their order.
    pub(crate) async fn look_for_all(
        &self,
        address: &Address,
        asked: &[AskedName],
        opening: Opening,
        limit: Duration,
    ) -> Vec<Result<Served, ProbeError>> {
        if let [only] = asked {
            return vec![self.look_for(address, only, opening, limit).await];
        }
        let mut looking = JoinSet::new();
        for (index, asked) in asked.iter().cloned().enumerate() {
            let (prober, address) = (self.clone(), address.clone());
            looking.spawn(async move {
                let looked = prober.look_for(&address, &asked, opening, limit).await;
                (index, looked)
            });
        }
        let mut looks = looking.join_all().await;
        looks.sort_by_key(|(index, _)| *index);
        looks.into_iter().map(|(_, looked)| looked).collect()
    }

    /// Connects to one address of the server that clients call `host`.
    ///
    /// # Errors
    /// As [`Prober::look`]; they name the socket's address.
    pub(crate) async fn look_at(
        &self,
        socket: SocketAddr,
        host: &str,
        opening: Opening,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        let address = Address {
            host: socket.ip().to_string(),
            port: socket.port(),
        };
        let (asked, connecting) = (AskedName::by_host(host), TcpStream::connect(socket));
        self.see(&address, &asked, connecting, opening, limit).await
    }

    async fn see(
        &self,
        address: &Address,
        asked: &AskedName,
        connecting: impl Future<Output = io::Result<TcpStream>>,
        opening: Opening,
        limit: Duration,
    ) -> Result<Served, ProbeError> {
        let mut stage = "connecting";
        let looking = async {
            let tcp = connected(address, connecting).await?;
            self.shake_hands(address, asked, tcp, opening, &mut stage)
                .await
        };
        match tokio::time::timeout(limit, looking).await {
            Ok(Ok((served, None))) => Ok(served),
            Ok(Ok((served, Some(stream)))) => {
                let mut ending = self.ending();
                while ending.try_join_next().is_some() {}
                ending.spawn(farewell(stream));
                Ok(served)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ProbeError::Silent {
                address: address.clone(),
                stage,
                limit,
            }),
        }
    }

    async fn shake_hands(
        &self,
        address: &Address,
        asked_name: &AskedName,
        mut tcp: TcpStream,
        opening: Opening,
        stage: &mut &'static str,
    ) -> Result<(Served, Option<TlsStream<TcpStream>>), ProbeError> {
        if opening == Opening::Request {
            *stage = "waiting for its answer to a request for TLS";
            request(address, &mut tcp, stage).await?;
        }
        *stage = "shaking hands";
        let mut config = match opening {
            Opening::Request | Opening::Https => self.config.clone(),
            Opening::Direct => self.direct.clone(),
        };
        let seen = AnyCertificate::by(&self.provider);
        config
            .dangerous()
            .set_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>);
        let asked = Arc::new(ClientHelloSent::default());
        config.client_auth_cert_resolver = Arc::clone(&asked) as Arc<dyn ResolvesClientCert>;
        let connector = TlsConnector::from(Arc::new(config));
        let failed = |source: io::Error| match opening {
            Opening::Direct if is_end(&source) => ProbeError::NotDirect {
                address: address.clone(),
                reason: "it closed the connection".into(),
            },
            _ => ProbeError::Handshake {
                address: address.clone(),
                source,
            },
        };
        let name = asked_name.server_name();
        let name = name.map_err(|e| failed(io::Error::other(e)))?;
        let stream = match connector.connect(name, tcp).await {
            Ok(stream) => stream,
            // It has shown its leaf, and proven that it holds the key, before it refused the client.
            Err(error)
                if is_ended(&error)
                    && let Some(shown) = seen.proven() =>
            {
                let rest = shown.get(1..).unwrap_or_default().to_vec();
                let mut served = unfinished(address, asked_name, shown.first(), rest)?;
                served.authorities = asked.names();
                return Ok((served, None));
            }
            Err(error) => return Err(failed(error)),
        };
        // libpq ends a direct connection whose server has not agreed on the protocol.
        if opening == Opening::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(ProbeError::NotDirect {
                address: address.clone(),
                reason: "it speaks TLS, but has not agreed on the protocol postgresql (ALPN)"
                    .into(),
            });
        }
        let mut served = served(address, asked_name, &stream)?;
        served.authorities = asked.names();
        Ok((served, Some(stream)))
    }
}

async fn connected(
    address: &Address,
    connecting: impl Future<Output = io::Result<TcpStream>>,
) -> Result<TcpStream, ProbeError> {
    let unreachable = |source| ProbeError::Connect {
        address: address.clone(),
        source,
    };
    let tcp = connecting.await.map_err(unreachable)?;
    // Nagle's algorithm against delayed acknowledgement would cost 40 ms.
    tcp.set_nodelay(true).map_err(unreachable)?;
    Ok(tcp)
}

/// Sends an SSLRequest, and returns when the server has agreed.
async fn request(
    address: &Address,
    tcp: &mut TcpStream,
    stage: &'static str,
) -> Result<(), ProbeError> {
    let address = || address.clone();
    let failed = |source| {
        if is_end(&source) {
            ProbeError::Closed {
                address: address(),
                stage,
            }
        } else {
            ProbeError::Connect {
                address: address(),
                source,
            }
        }
    };
    tcp.write_all(&SSL_REQUEST).await.map_err(failed)?;
    let mut answer = [0_u8; 1];
    tcp.read_exact(&mut answer).await.map_err(failed)?;
    match answer[0] {
        b'S' => Ok(()),
        b'N' => Err(ProbeError::TlsOff { address: address() }),
        b'E' => Err(ProbeError::Turned {
            address: address(),
            text: error_text(tcp).await,
        }),
        other => Err(ProbeError::NotPostgres {
            address: address(),
            answer: format!("byte {other:#04x}"),
        }),
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted
    )
}

fn served(
    address: &Address,
    asked: &AskedName,
    stream: &TlsStream<TcpStream>,
) -> Result<Served, ProbeError> {
    let unparsable = |reason: String| ProbeError::Unparsable {
        address: address.clone(),
        reason,
    };
    let (_, connection) = stream.get_ref();
    let shown = connection.peer_certificates().unwrap_or_default();
    let (leaf, rest) = shown
        .split_first()
        .ok_or_else(|| unparsable("it is empty".into()))?;
    let unknown = || "unknown".to_owned();
    Ok(Served {
        address: address.clone(),
        asked: asked.clone(),
        is_divided: false,
        leaf: Certificate::from_der(leaf.as_ref()).map_err(|e| unparsable(e.to_string()))?,
        intermediates: rest.iter().map(|c| c.to_vec()).collect(),
        authorities: BTreeSet::new(),
        protocol: connection
            .protocol_version()
            .and_then(|v| v.as_str())
            .map_or_else(unknown, |name| name.replace('_', ".")),
        cipher: connection
            .negotiated_cipher_suite()
            .and_then(|s| s.suite().as_str())
            .map_or_else(unknown, |name| name.replacen("TLS13_", "TLS_", 1)),
        key_exchange: connection
            .negotiated_key_exchange_group()
            .and_then(|group| group.name().as_str())
            .map_or_else(unknown, str::to_owned),
    })
}

/// Whether the server ended a handshake, as one does under TLS 1.2 that demands a certificate of its
/// clients; under TLS 1.3 the client is through before that is judged.
fn is_ended(error: &io::Error) -> bool {
    is_alert(error) || is_end(error)
}

fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|pair| pair.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// What a server showed in a handshake that it ended itself.
fn unfinished(
    address: &Address,
    asked: &AskedName,
    leaf: Option<&Vec<u8>>,
    intermediates: Vec<Vec<u8>>,
) -> Result<Served, ProbeError> {
    let unparsable = |reason: String| ProbeError::Unparsable {
        address: address.clone(),
        reason,
    };
    let leaf = leaf.ok_or_else(|| unparsable("it is empty".into()))?;
    let unknown = || "unknown".to_owned();
    Ok(Served {
        address: address.clone(),
        asked: asked.clone(),
        is_divided: false,
        leaf: Certificate::from_der(leaf.as_slice()).map_err(|e| unparsable(e.to_string()))?,
        authorities: BTreeSet::new(),
        intermediates,
        protocol: "TLSv1.2".into(),
        cipher: unknown(),
        key_exchange: unknown(),
    })
}

/// `close_notify`, then whatever the server still says, then the end.
async fn farewell(mut stream: TlsStream<TcpStream>) {
    let _late = tokio::time::timeout(FAREWELL, async {
        if stream.shutdown().await.is_ok() {
            let mut rest = [0_u8; 256];
            while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {}
        }
    })
    .await;
}

/// What an ErrorResponse says: text to its first zero, as it comes when no process could be
/// started; or, after a length, fields, of which `M` is the message. Cut short, and without
/// controls: nobody has proven who says it.
async fn error_text(tcp: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ended = tcp.take(2048).read_to_end(&mut said).await;
    let text = match said.as_slice() {
        [0, 0, _, _, fields @ ..] => fields
            .split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(b"M"))
            .unwrap_or_default(),
        plain => plain.split(|byte| *byte == 0).next().unwrap_or_default(),
    };
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}
