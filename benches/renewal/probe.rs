//! The one probe: what a new TLS connection to a PostgreSQL is shown, again and again.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::write_clock::DEADLINE;

/// SSLRequest: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Opens connections to one server.
#[derive(Clone)]
pub struct Probe {
    server: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Probe {
    /// A probe of this server, which takes any certificate.
    pub fn new(server: SocketAddr) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAny(provider)))
            .with_no_client_auth();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(Self {
            server,
            config: Arc::new(config),
        })
    }

    /// One connection, closed in order; gives the leaf's fingerprint and the handshake's end.
    pub fn connect(&self) -> Result<(String, Instant)> {
        let mut stream = TcpStream::connect(self.server).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer).context("SSLRequest")?;
        ensure!(answer == *b"S", "the server speaks no TLS");

        let name = ServerName::IpAddress(self.server.ip().into());
        let mut tls = ClientConnection::new(self.config.clone(), name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).context("handshake")?;
        }
        let ended = Instant::now();

        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        let fingerprint = fingerprint(leaf.context("the server showed no certificate")?);
        tls.send_close_notify();
        while tls.wants_write() {
            tls.write_tls(&mut stream).context("close_notify")?;
        }
        stream.read_to_end(&mut Vec::new()).context("end")?;
        Ok((fingerprint, ended))
    }

    /// Opens connections back to back, in a thread of its own, until one shows another leaf than
    /// `old`; that must be `new`. A server that is restarted refuses some meanwhile.
    pub fn watch(&self, old: &str, new: &str, is_restarted: bool) -> Watch {
        let (probe, old, new) = (self.clone(), old.to_owned(), new.to_owned());
        let (sender, begun) = channel();
        let thread = thread::spawn(move || {
            let start = Instant::now();
            for count in 1.. {
                let (seen, ended) = match probe.connect() {
                    Err(_) if is_restarted && start.elapsed() < DEADLINE => {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    connected => connected?,
                };
                if seen == new {
                    let connection = start.elapsed() / count;
                    return Ok(Seen { ended, connection });
                }
                ensure!(seen == old, "a third certificate is served: {seen}");
                if start.elapsed() > DEADLINE {
                    bail!("the new certificate is not served within {DEADLINE:?}");
                }
                // Nobody hears but the first.
                let _ = sender.send(());
            }
            unreachable!("the deadline comes before the last number")
        });
        Watch { begun, thread }
    }
}

/// The first connection that showed the new leaf.
pub struct Seen {
    /// When its handshake ended.
    pub ended: Instant,
    /// How long a connection took from its beginning to its end, on the average of all.
    pub connection: Duration,
}

/// A probe under way.
pub struct Watch {
    begun: Receiver<()>,
    thread: JoinHandle<Result<Seen>>,
}

impl Watch {
    /// Waits until a connection has shown the old leaf.
    pub fn begun(self) -> Result<Self> {
        match self.begun.recv() {
            Ok(()) => Ok(self),
            Err(_) => Err(self
                .seen()
                .err()
                .unwrap_or_else(|| anyhow!("the new certificate is served before its renewal"))),
        }
    }

    /// Waits for the new leaf.
    pub fn seen(self) -> Result<Seen> {
        self.thread
            .join()
            .map_err(|_| anyhow!("the probe has panicked"))?
    }
}

fn fingerprint(leaf: &CertificateDer) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, leaf);
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Whether a certificate is good is not the question here.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
