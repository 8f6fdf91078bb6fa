//! Looks at the certificate that a Postgres server gives to a new client.
//!
//! A client asks for TLS with an SSLRequest (PostgreSQL's protocol, "SSL Session
//! Encryption"), shakes hands and leaves, without a login. Any certificate is accepted here:
//! the question is which one is served, and the answer is compared by fingerprint. The server
//! proves in the handshake that it holds the key; that signature is verified.
//!
//! The probe is quiet in the server's log: it says goodbye (`close_notify`) and reads to the
//! end before it closes. No session is resumed, since a resumed one shows no certificate.

mod error;
mod seen;
mod widest;
mod witness;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bundle::Certificate;
use crate::config::Address;
pub(crate) use error::ProbeError;
use error::{is_end, is_ended};
pub use seen::{AskedName, Opening};
pub(crate) use seen::{Served, Shown, least_wanted};
pub(crate) use widest::WidestAnswer;
use witness::{AnyCertificate, ClientHelloSent};

/// `int32 8, int32 80877103`: PostgreSQL's `NEGOTIATE_SSL_CODE`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How PostgreSQL's protocol is called in a TLS handshake (`PG_ALPN_PROTOCOL`).
const ALPN: &[u8] = b"postgresql";

/// How long the farewell of a probe may take; only a process that exits waits for it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens probes; holds the TLS configuration that they share.
#[derive(Clone)]
pub struct Prober {
    config: ClientConfig,
    /// The same with ALPN `postgresql`.
    direct: ClientConfig,
    provider: Arc<CryptoProvider>,
    /// The ends of connections, which nobody who wants to know what is served waits for.
    closing: Arc<Mutex<JoinSet<()>>>,
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
            closing: Arc::default(),
        })
    }

    /// Waits until every connection has come to its end. A process that exits before leaves
    /// resets behind, of which the server's log speaks.
    pub(crate) async fn drain(&self) {
        let mut ending = std::mem::take(&mut *self.ending());
        while ending.join_next().await.is_some() {}
    }

    fn ending(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
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
                ending.spawn(close(stream));
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
async fn close(mut stream: TlsStream<TcpStream>) {
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
