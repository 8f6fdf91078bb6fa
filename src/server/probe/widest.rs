//! The hello of a client that offers whatever any client may: does a server end the handshakes of all
//! of them, or only the probe's?
//!
//! The probe's TLS library knows fewer ciphers and curves than the OpenSSL that psql uses. Where it
//! is turned away, this tells whether that says something of the server. Two hellos are said, one after the
//! other. Up to TLS 1.2 a server shows its certificate before anything is encrypted (RFC 5246, 7.3), so that
//! no key has to be agreed on here. In TLS 1.3 it names a cipher and a group in which it wants a key, for
//! none is sent (RFC 8446, 4.1.4): where the probe offers both, what became of the probe becomes of every
//! client, since it offers every signature of which a [`Bundle`](crate::bundle::Bundle)'s key is capable.

use std::io;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AskedName, Opening, ProbeError, Prober, connected, request};
use crate::config::Address;

/// Every cipher suite of TLS 1.3.
const NEW_SUITES: &[u16] = &[0x1302, 0x1303, 0x1301, 0x1304, 0x1305];

/// Every cipher suite up to TLS 1.2 that authenticates the server by RSA or ECDSA and encrypts, as
/// IANA numbers them; last the empty renegotiation, without which some servers end the handshake.
#[rustfmt::skip]
const SUITES: &[u16] = &[
    // ECDHE with ECDSA.
    0xc02b, 0xc02c, 0xcca9, 0xc0ac, 0xc0ad, 0xc0ae, 0xc0af, 0xc023, 0xc024, 0xc009, 0xc00a, 0xc008,
    0xc007, 0xc072, 0xc073, 0xc086, 0xc087, 0xc05c, 0xc05d,
    // ECDHE with RSA.
    0xc02f, 0xc030, 0xcca8, 0xc027, 0xc028, 0xc013, 0xc014, 0xc012, 0xc011, 0xc076, 0xc077, 0xc08a,
    0xc08b, 0xc060, 0xc061,
    // DHE with RSA.
    0x009e, 0x009f, 0xccaa, 0xc09e, 0xc09f, 0xc0a2, 0xc0a3, 0x0067, 0x006b, 0x0033, 0x0039, 0x0016,
    0x0045, 0x0088, 0x00be, 0x00c4, 0x009a, 0xc052, 0xc053, 0xc07c, 0xc07d,
    // RSA alone.
    0x009c, 0x009d, 0xc09c, 0xc09d, 0xc0a0, 0xc0a1, 0x003c, 0x003d, 0x002f, 0x0035, 0x000a, 0x0041,
    0x0084, 0x00ba, 0x00c0, 0x0096, 0x0005, 0x0004, 0x0007, 0xc050, 0xc051, 0xc07a, 0xc07b,
    // TLS_EMPTY_RENEGOTIATION_INFO_SCSV
    0x00ff,
];

/// Every group that OpenSSL knows: the curves of NIST, X25519 and X448, Brainpool's, `ffdhe`, ML-KEM alone and with a
/// curve, and the old curves.
#[rustfmt::skip]
const GROUPS: &[u16] = &[
    29, 23, 24, 25, 30, 26, 27, 28, 31, 32, 33, 256, 257, 258, 259, 260, 0x11ec, 0x11eb, 0x11ed, 0x0200, 0x0201, 0x0202,
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
];

/// Every signature, with RSA, RSA-PSS, ECDSA and EdDSA, and every digest.
const SIGNATURES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401,
    0x0501, 0x0601, 0x0303, 0x0301, 0x0203, 0x0201, 0x0302, 0x0402, 0x081a, 0x081b, 0x081c, 0x0904,
    0x0905, 0x0906,
];

/// How a hello begins by which a server asks for a key in another group: a version, and this in the place of
/// randomness (RFC 8446, 4.1.3).
const RETRY: [u8; 34] = [
    3, 3, 0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8,
    0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33,
    0x9c,
];

/// A server sends no more than this before its certificate has begun.
const ENOUGH: usize = 64 << 10;

/// How a server answers a client that offers everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WidestAnswer {
    /// It goes on with the handshake.
    GoesOn,
    /// It ends it by an alert: by which.
    Ends(String),
    /// It wants a key in a group, for a cipher, that the probe offers too.
    AsProbe,
}

/// How a server answers one hello.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ServerHello {
    GoesOn,
    /// It ends the handshake by this alert.
    Alert(AlertDescription),
    /// It wants a key in this group, for this cipher.
    Wants {
        group: u16,
        suite: u16,
    },
}

/// Up to which version a hello goes.
#[derive(Clone, Copy)]
enum Newest {
    Tls12,
    Tls13,
}

impl Prober {
    /// Offers what any client may to the server at `address`, up to TLS 1.2 and then in TLS 1.3, and leaves once it has
    /// answered: its log then has a line on each handshake that was not finished.
    ///
    /// # Errors
    /// It does not come so far within `limit` that the server could shake hands, or closes the connection without an
    /// alert.
    pub(crate) async fn welcome(
        &self,
        address: &Address,
        asked: &AskedName,
        opening: Opening,
        limit: Duration,
    ) -> Result<WidestAnswer, ProbeError> {
        let old = self.answer(address, asked, opening, Newest::Tls12, limit);
        let old = old.await?;
        if !matches!(old, ServerHello::Alert(_)) {
            return Ok(WidestAnswer::GoesOn);
        }
        let new = self.answer(address, asked, opening, Newest::Tls13, limit);
        let new = new.await?;
        let ends = |alert| WidestAnswer::Ends(format!("it sends the alert {alert:?}"));
        Ok(match (old, new) {
            (_, ServerHello::Wants { group, suite }) if !self.offers(group, suite) => {
                WidestAnswer::GoesOn
            }
            // There is no TLS 1.2: what it says of that is of no client.
            (ServerHello::Alert(AlertDescription::ProtocolVersion), ServerHello::Alert(alert)) => {
                ends(alert)
            }
            (ServerHello::Alert(AlertDescription::ProtocolVersion), ServerHello::Wants { .. }) => {
                WidestAnswer::AsProbe
            }
            (ServerHello::Alert(alert), ServerHello::Alert(_) | ServerHello::Wants { .. }) => {
                ends(alert)
            }
            _ => WidestAnswer::GoesOn,
        })
    }

    /// Whether the probe offers this group and this cipher.
    fn offers(&self, group: u16, suite: u16) -> bool {
        let groups = &self.provider.kx_groups;
        let suites = &self.provider.cipher_suites;
        groups
            .iter()
            .any(|supported_kx_group| u16::from(supported_kx_group.name()) == group)
            && suites
                .iter()
                .any(|supported_cipher_suite| u16::from(supported_cipher_suite.suite()) == suite)
    }

    async fn answer(
        &self,
        address: &Address,
        asked: &AskedName,
        opening: Opening,
        newest: Newest,
        limit: Duration,
    ) -> Result<ServerHello, ProbeError> {
        let mut stage = "connecting";
        let asking = async {
            let connecting = TcpStream::connect((address.host.as_str(), address.port));
            let mut tcp = connected(address, connecting).await?;
            if opening == Opening::Request {
                stage = "waiting for its answer to a request for TLS";
                request(address, &mut tcp, stage).await?;
            }
            stage = "shaking hands";
            let failed = |source| ProbeError::Handshake {
                address: address.clone(),
                source,
            };
            let mut random = [0_u8; 32];
            let filled = self.provider.secure_random.fill(&mut random);
            filled.map_err(|_| failed(io::Error::other("there is no randomness")))?;
            let hello = hello(random, asked, newest);
            answered(&mut tcp, &hello).await.map_err(failed)
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(answered) => answered,
            Err(_) => Err(ProbeError::Silent {
                address: address.clone(),
                stage,
                limit,
            }),
        }
    }
}

async fn answered(tcp: &mut TcpStream, hello: &[u8]) -> io::Result<ServerHello> {
    let mut heard = Vec::new();
    let mut part = [0_u8; 4096];
    let mut sent = tcp.write_all(hello).await;
    loop {
        let read = match sent {
            Ok(()) => tcp.read(&mut part).await,
            Err(error) => Err(error),
        };
        match read {
            // A server that is only late closes it, too: that is no answer.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
            Ok(length) => heard.extend_from_slice(part.get(..length).unwrap_or_default()),
        }
        if let Some(answer) = understood(&heard) {
            return Ok(answer);
        }
        sent = Ok(());
    }
}

/// What a server says with these bytes; nothing where more of them must come.
fn understood(bytes: &[u8]) -> Option<ServerHello> {
    if bytes.len() > ENOUGH {
        return Some(ServerHello::GoesOn);
    }
    let mut messages = Vec::new();
    let mut rest = bytes;
    // A record: its type, a version, its length (RFC 5246, 6.2.1).
    while let [kind, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((content, following)) = after.split_at_checked(length) else {
            messages.extend_from_slice(if *kind == HANDSHAKE { after } else { &[] });
            break;
        };
        match (*kind, content) {
            (HANDSHAKE, _) => messages.extend_from_slice(content),
            (ALERT, [_, alert]) => return Some(ServerHello::Alert(AlertDescription::from(*alert))),
            // OpenSSL says at once that its cipher changes.
            _ => return told(&messages).or(Some(ServerHello::GoesOn)),
        }
        rest = following;
    }
    told(&messages)
}

/// The type of a record that holds an alert.
const ALERT: u8 = 21;

/// The type of a record that holds a part of the handshake.
const HANDSHAKE: u8 = 22;

/// The type of the message in which a server tells what it has chosen; it may not be able to use
/// its key all the same.
const SERVER_HELLO: u8 = 2;

/// What these messages say: that there is more in them than the server's hello, or which key that wants.
fn told(mut messages: &[u8]) -> Option<ServerHello> {
    while let [kind, rest @ ..] = messages {
        if *kind != SERVER_HELLO {
            return Some(ServerHello::GoesOn);
        }
        let [high, middle, low, body @ ..] = rest else {
            return None;
        };
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let (body, following) = body.split_at_checked(usize::try_from(length).ok()?)?;
        if body.starts_with(&RETRY) {
            return Some(wanted(body).unwrap_or(ServerHello::GoesOn));
        }
        messages = following;
    }
    None
}

/// What a hello wants that asks for a key (RFC 8446, 4.1.3 and 4.2.8).
fn wanted(hello: &[u8]) -> Option<ServerHello> {
    const KEY_SHARE: u16 = 51;
    let number = |bytes: &[u8]| Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    let session = usize::from(*hello.get(RETRY.len())?);
    let after = hello.get(RETRY.len() + 1 + session..)?;
    let suite = number(after)?;
    // The suite, no compression, the length of the extensions.
    let mut extensions = after.get(5..)?;
    loop {
        let (kind, length) = (number(extensions)?, number(extensions.get(2..)?)?);
        let content = extensions.get(4..)?;
        if kind == KEY_SHARE {
            let group = number(content)?;
            return Some(ServerHello::Wants { group, suite });
        }
        extensions = content.get(usize::from(length)..)?;
    }
}

/// A ClientHello in its record (RFC 5246, 7.4.1.2).
fn hello(random: [u8; 32], asked: &AskedName, newest: Newest) -> Vec<u8> {
    let server_name = match asked {
        // A list of one, of the type host_name (RFC 6066, 3).
        AskedName::Host(name) => {
            let entry = [&[0], counted(name.as_bytes()).as_slice()].concat();
            extension(0, &counted(&entry))
        }
        AskedName::Absent => Vec::new(),
    };
    let mut extensions = vec![
        server_name,
        // supported_groups, ec_point_formats, signature_algorithms, extended_master_secret
        extension(10, &counted(&words(GROUPS))),
        extension(11, &[1, 0]),
        extension(13, &counted(&words(SIGNATURES))),
        extension(23, &[]),
    ];
    let suites = match newest {
        Newest::Tls12 => SUITES,
        Newest::Tls13 => {
            // supported_versions, and a key_share without any
            extensions.push(extension(43, &[2, 3, 4]));
            extensions.push(extension(51, &counted(&[])));
            NEW_SUITES
        }
    };
    let body = [
        &[3, 3],
        random.as_slice(),
        // No session; the suites; no compression.
        &[0],
        &counted(&words(suites)),
        &[1, 0],
        &counted(&extensions.concat()),
    ]
    .concat();
    let client_hello = [&[1, 0], counted(&body).as_slice()].concat();
    [&[HANDSHAKE, 3, 1], counted(&client_hello).as_slice()].concat()
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), &counted(content)].concat()
}

fn words(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// With its length before it, in two bytes; nothing here is longer than these can tell.
fn counted(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().as_slice(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: [u8; 6] = [SERVER_HELLO, 0, 0, 2, 9, 9];
    const CERTIFICATE: [u8; 4] = [11, 0, 4, 0];

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3], counted(content).as_slice()].concat()
    }

    #[test]
    fn an_alert_ends_it_also_after_the_servers_hello() {
        let alert = record(ALERT, &[2, 40]);
        assert_eq!(
            understood(&alert),
            Some(ServerHello::Alert(AlertDescription::HandshakeFailure))
        );
        let late = [record(HANDSHAKE, &HELLO), record(ALERT, &[2, 80])].concat();
        assert_eq!(
            understood(&late),
            Some(ServerHello::Alert(AlertDescription::InternalError))
        );
    }

    #[test]
    fn the_servers_hello_alone_is_no_answer_and_its_certificate_is() {
        let whole = [HELLO.as_slice(), &CERTIFICATE].concat();
        for content in [&whole[..0], &whole[..1], &whole[..3], &whole[..6]] {
            assert_eq!(understood(&record(HANDSHAKE, content)), None, "{content:?}");
        }
        assert_eq!(
            understood(&record(HANDSHAKE, &whole)),
            Some(ServerHello::GoesOn)
        );
        let split = [
            record(HANDSHAKE, &whole[..2]),
            record(HANDSHAKE, &whole[2..]),
        ]
        .concat();
        assert_eq!(understood(&split), Some(ServerHello::GoesOn));
        for cut in 0..split.len() - CERTIFICATE.len() {
            assert_eq!(understood(&split[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_hello_that_asks_for_a_key_tells_for_what() {
        // OpenSSL 3.0 with secp521r1 alone: no session, TLS_AES_256_GCM_SHA384, supported_versions, key_share.
        let rest = [
            0, 0x13, 0x02, 0, 0, 12, 0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 25,
        ];
        let message = |begins: &[u8]| {
            let body = [begins, &rest].concat();
            [&[SERVER_HELLO, 0], counted(&body).as_slice()].concat()
        };
        let asks = record(HANDSHAKE, &message(&RETRY));
        let (group, suite) = (25, 0x1302);
        let wants = Some(ServerHello::Wants { group, suite });
        assert_eq!(understood(&asks), wants);
        const CHANGE_CIPHER_SPEC: u8 = 20;
        let changes = [asks.clone(), record(CHANGE_CIPHER_SPEC, &[1])].concat();
        assert_eq!(understood(&changes), wants);
        for cut in 0..asks.len() {
            assert_eq!(understood(&asks[..cut]), None, "{cut}");
        }
        assert_eq!(understood(&record(HANDSHAKE, &message(&[7; 34]))), None);
    }

    #[test]
    fn what_is_no_tls_or_never_ends_ends_nothing() {
        assert_eq!(understood(b"EFATAL: no\0"), None);
        assert_eq!(understood(&record(b'E', b"no")), Some(ServerHello::GoesOn));
        assert_eq!(understood(&vec![0; ENOUGH + 1]), Some(ServerHello::GoesOn));
    }

    #[test]
    fn its_lengths_add_up() {
        let names = ["127.0.0.1", "db.example.com"].map(AskedName::by_host);
        for (asked, newest) in names
            .iter()
            .flat_map(|asked| [Newest::Tls12, Newest::Tls13].map(|newest| (asked, newest)))
        {
            let hello = hello([7; 32], asked, newest);
            let length = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
            assert_eq!(length(3), hello.len() - 5);
            assert_eq!(length(7), hello.len() - 9);
        }
        assert!(
            !SUITES.contains(&0x5600),
            "a fallback would be refused as one"
        );
    }
}
