//! PEM in and out: the blocks of a file, and the canonical text of what was parsed.
//!
//! The lines are judged here, as strictly as OpenSSL's `SSL_CTX_use_certificate_chain_file`
//! does, which Postgres calls: text between blocks is allowed, anything that looks like a block
//! must be a sound one, also after a good leaf. Only sound blocks reach the decoder.

use rustls_pemfile::Item;
use zeroize::{Zeroize, Zeroizing};

use super::error::{BundleError, Part, PemFault};
use super::key::KeyKind;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// A block that matters to a bundle. All others are checked for soundness and left out.
pub(super) enum Block {
    Certificate(Vec<u8>),
    Revocations(Vec<u8>),
    Key(KeyKind, Zeroizing<Vec<u8>>),
}

/// The certificates and private keys of a file, in its order.
pub(super) fn blocks(text: &[u8], part: Part) -> Result<Vec<Block>, BundleError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(BundleError::Empty { part });
    }
    if matches!(text, [0x30, 0x80..=0x84, ..]) {
        return Err(BundleError::LooksLikeDer { part });
    }
    let sections =
        sections(text).map_err(|(fault, line)| BundleError::BrokenPem { part, fault, line })?;
    if sections.is_empty() {
        return Err(BundleError::NoPem { part });
    }
    let mut blocks = Vec::new();
    for section in &sections {
        blocks.extend(section.block(part)?);
    }
    Ok(blocks)
}

/// One block as it stands in the file.
struct Section<'a> {
    label: &'a [u8],
    /// From the first dash of the `BEGIN` line to the last of the `END` line.
    text: &'a [u8],
    encrypted: bool,
    line: usize,
}

impl Section<'_> {
    fn block(&self, part: Part) -> Result<Option<Block>, BundleError> {
        if self.encrypted || self.label == b"ENCRYPTED PRIVATE KEY" {
            return Err(BundleError::EncryptedKey { part });
        }
        match self.label {
            b"CERTIFICATE" | b"X509 CRL" | b"PRIVATE KEY" | b"RSA PRIVATE KEY"
            | b"EC PRIVATE KEY" => decode(self.text).map(Some).ok_or(BundleError::BrokenPem {
                part,
                fault: PemFault::BadBase64,
                line: self.line,
            }),
            b"TRUSTED CERTIFICATE" | b"X509 CERTIFICATE" => {
                Err(BundleError::UncommonCertificate { part })
            }
            label if label.ends_with(b"PRIVATE KEY") => Err(BundleError::UnusableKey { part }),
            _ => Ok(None),
        }
    }
}

/// The only use of rustls-pemfile: one sound block to its DER. `None` where the decoder finds
/// something else in it.
fn decode(text: &[u8]) -> Option<Block> {
    let (item, _rest) = rustls_pemfile::read_one_from_slice(text).ok()??;
    match item {
        Item::X509Certificate(der) => Some(Block::Certificate(der.to_vec())),
        Item::Crl(der) => Some(Block::Revocations(der.to_vec())),
        Item::Pkcs8Key(mut key) => {
            let der = Zeroizing::new(key.secret_pkcs8_der().to_vec());
            key.zeroize();
            Some(Block::Key(KeyKind::Pkcs8, der))
        }
        Item::Pkcs1Key(mut key) => {
            let der = Zeroizing::new(key.secret_pkcs1_der().to_vec());
            key.zeroize();
            Some(Block::Key(KeyKind::Pkcs1, der))
        }
        Item::Sec1Key(mut key) => {
            let der = Zeroizing::new(key.secret_sec1_der().to_vec());
            key.zeroize();
            Some(Block::Key(KeyKind::Sec1, der))
        }
        _ => None,
    }
}

/// A block that has begun and not yet ended.
struct Open<'a> {
    label: &'a [u8],
    start: usize,
    line: usize,
    encrypted: bool,
    base64: Base64,
}

/// Splits a file into its blocks; the error is the fault and its line, counted from 1.
fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, (PemFault, usize)> {
    let mut found = Vec::new();
    let mut open: Option<Open<'_>> = None;
    let mut start = 0;
    let mut last = 0;
    for (index, raw) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        last = number;
        let line = raw.trim_ascii_end();
        if raw.contains(&0) {
            return Err((PemFault::Nul, number));
        }
        match open.take() {
            None => open = outside(raw, line, start, number)?,
            Some(block) if line.starts_with(DASHES) => {
                let end = start + line.len();
                found.push(
                    block
                        .ended(line, text, end)
                        .map_err(|fault| (fault, number))?,
                );
            }
            Some(mut block) => {
                block.body(line).map_err(|fault| (fault, number))?;
                open = Some(block);
            }
        }
        start += raw.len();
    }
    match open {
        Some(_) => Err((PemFault::Unterminated, last)),
        None => Ok(found),
    }
}

/// A line between blocks: it opens one, or is text.
fn outside<'a>(
    raw: &[u8],
    line: &'a [u8],
    start: usize,
    number: usize,
) -> Result<Option<Open<'a>>, (PemFault, usize)> {
    if line.starts_with(END) {
        return Err((PemFault::StrayEnd, number));
    }
    if let Some(rest) = line.strip_prefix(BEGIN) {
        let label = rest
            .strip_suffix(DASHES)
            .filter(|label| is_label(label))
            .ok_or((PemFault::BadBegin, number))?;
        return Ok(Some(Open {
            label,
            start,
            line: number,
            encrypted: false,
            base64: Base64::default(),
        }));
    }
    // A file cut off within the first characters of its next block.
    if !raw.is_empty() && BEGIN.starts_with(raw) {
        return Err((PemFault::BadBegin, number));
    }
    Ok(None)
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b" #._/".contains(byte))
}

impl<'a> Open<'a> {
    fn body(&mut self, line: &[u8]) -> Result<(), PemFault> {
        if self.encrypted {
            // Headers, an empty line, ciphertext: refused as a whole, so only its end matters.
            return Ok(());
        }
        if line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED") {
            self.encrypted = true;
            return Ok(());
        }
        // OpenSSL takes an empty line for the end of headers, and all headers for encryption.
        if line.is_empty() || line.contains(&b':') {
            return Err(PemFault::BadBody);
        }
        self.base64.take(line)
    }

    fn ended(self, line: &[u8], text: &'a [u8], end: usize) -> Result<Section<'a>, PemFault> {
        let label = line
            .strip_prefix(END)
            .and_then(|rest| rest.strip_suffix(DASHES));
        if label != Some(self.label) {
            return Err(PemFault::Unterminated);
        }
        if !self.encrypted {
            self.base64.finish()?;
        }
        Ok(Section {
            label: self.label,
            text: &text[self.start..end],
            encrypted: self.encrypted,
            line: self.line,
        })
    }
}

/// The form of base64, as OpenSSL wants it: whole groups of four, padding at the end alone.
#[derive(Default)]
struct Base64 {
    digits: usize,
    padding: usize,
}

impl Base64 {
    fn take(&mut self, line: &[u8]) -> Result<(), PemFault> {
        for byte in line {
            match byte {
                b'=' => self.padding += 1,
                b' ' | b'\t' => {}
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if self.padding == 0 => {
                    self.digits += 1;
                }
                _ => return Err(PemFault::BadBase64),
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), PemFault> {
        match (self.digits, self.padding) {
            (0, _) => Err(PemFault::BadBody),
            (digits, 0..=2) if (digits + self.padding).is_multiple_of(4) => Ok(()),
            _ => Err(PemFault::BadBase64),
        }
    }
}

/// Canonical PEM (RFC 7468: 64 columns, LF) of blocks, in one buffer of the exact size, so that
/// no reallocation leaves a copy of a key behind.
pub(super) fn encode(blocks: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let length = blocks.iter().map(|(label, der)| encoded(label, der)).sum();
    let mut text = Zeroizing::new(vec![0; length]);
    let mut at = 0;
    for (label, der) in blocks {
        let written = pem_rfc7468::encode(label, pem_rfc7468::LineEnding::LF, der, &mut text[at..])
            .expect("the buffer was measured for these blocks")
            .len();
        at += written;
    }
    text.truncate(at);
    text
}

fn encoded(label: &str, der: &[u8]) -> usize {
    pem_rfc7468::encoded_len(label, pem_rfc7468::LineEnding::LF, der)
        .expect("the label is one of five constants, and what a file held fits in memory")
}
