//! PEM in and out: the blocks of a file, and the canonical text of what was parsed.
//!
//! The lines are judged here, as strictly as OpenSSL's `SSL_CTX_use_certificate_chain_file`
//! does, which Postgres calls: text between blocks is allowed, anything that looks like a block
//! must be a sound one, even after a good leaf. In a lineage's files, which are written anew, faults of the lines alone
//! are set right. Only sound blocks reach the decoder.

use std::collections::BTreeSet;

use rustls::pki_types::PrivateKeyDer;
use rustls_pemfile::Item;
use x509_parser::asn1_rs::{Any, FromDer};
use zeroize::Zeroizing;

use super::error::{BundleError, Form, PemFault};
use super::piece::Piece;
use super::set_right::SetRight;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemSource {
    /// A lineage's file, of which a new one is made.
    Lineage,
    /// A file that a server loads as it is.
    Server,
}

/// A block that matters to a bundle. All others are checked for soundness and left out.
pub(super) enum Block {
    Certificate(Vec<u8>),
    List(Vec<u8>),
    Key(Zeroizing<PrivateKeyDer<'static>>),
}

pub(super) struct Blocks {
    /// In the order of the file.
    pub(super) blocks: Vec<Block>,
    pub(super) set_right: BTreeSet<SetRight>,
}

/// The certificates, CRLs and private keys of a file.
pub(super) fn blocks(text: &[u8], piece: Piece, source: PemSource) -> Result<Blocks, BundleError> {
    let other = |form| Err(BundleError::OtherForm { piece, form });
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(BundleError::Empty { piece });
    }
    if let Some(form) = binary(text).or(escaped(text)) {
        return other(form);
    }
    let mut reader = PemReader::new(source);
    let sections = reader
        .sections(text)
        .map_err(|(fault, line)| BundleError::BrokenPem { piece, fault, line })?;
    if sections.is_empty() {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        return match text.trim_ascii_start().first() {
            Some(b'<') => other(Form::Html),
            _ => Err(BundleError::NoPem { piece }),
        };
    }
    let mut set_right = reader.set_right;
    let mut blocks = Vec::new();
    for section in &sections {
        blocks.extend(section.block(piece, &mut set_right)?);
    }
    let is_certificate = |block: &Block| matches!(block, Block::Certificate(_));
    let is_missing =
        matches!(piece, Piece::Certificate | Piece::Chain) && !blocks.iter().any(is_certificate);
    let instead = sections.iter().find_map(PemSection::instead_of_certificate);
    match instead.filter(|_| is_missing) {
        Some(form) => other(form),
        None => Ok(Blocks { blocks, set_right }),
    }
}

/// What a file is that is not text.
fn binary(text: &[u8]) -> Option<Form> {
    const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'-', 0, b'-', 0, ..] | [0, b'-', 0, b'-', ..] => {
            return Some(Form::Utf16);
        }
        [0xfe, 0xed, 0xfe, 0xed, ..] => return Some(Form::JavaKeyStore),
        _ => {}
    }
    let inside = match text {
        [0x30, 0x80, rest @ ..] => rest,
        // No text begins like a key as short as that.
        [0x30, 0x00..=0x7f, 0x02, 0x01, ..] => &text[2..],
        [0x30, length @ 0x81..=0x84, rest @ ..] => {
            rest.get(usize::from(length - 0x80)..).unwrap_or_default()
        }
        _ => return None,
    };
    Some(match inside {
        [0x02, 0x01, 0x03, ..] => Form::Pkcs12,
        [0x02, 0x01, 0x00 | 0x01, ..] => Form::DerKey,
        _ if inside.starts_with(SIGNED_DATA) => Form::DerPkcs7,
        _ => Form::Der,
    })
}

/// Whether the ends of a block's lines are written out, as in a string of JSON.
fn escaped(text: &[u8]) -> Option<Form> {
    let mut rest = text;
    while let Some(begin) = position(rest, BEGIN) {
        rest = &rest[begin + BEGIN.len()..];
        let end = position(rest, DASHES)?;
        let behind = &rest[end + DASHES.len()..];
        if behind.starts_with(b"\\n") || behind.starts_with(b"\\r\\n") {
            return Some(Form::Escaped);
        }
    }
    None
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|bytes| bytes == wanted)
}

/// One block as it stands in the file, once it has ended.
struct PemSection<'a> {
    label: &'a [u8],
    /// Its lines between BEGIN and END; nothing where they are ciphertext.
    body: Zeroizing<Vec<u8>>,
    encrypted: bool,
    /// Where it begins, counted from 1.
    line: usize,
    base64: Base64,
}

impl PemSection<'_> {
    fn block(
        &self,
        piece: Piece,
        set_right: &mut BTreeSet<SetRight>,
    ) -> Result<Option<Block>, BundleError> {
        if self.encrypted || self.label == b"ENCRYPTED PRIVATE KEY" {
            return Err(BundleError::EncryptedKey { piece });
        }
        let decoded = |label: &[u8]| {
            decode(&self.text(label)).ok_or(BundleError::BrokenPem {
                piece,
                fault: PemFault::BadBase64,
                line: self.line,
            })
        };
        match self.label {
            b"CERTIFICATE" | b"X509 CRL" | b"PRIVATE KEY" | b"RSA PRIVATE KEY"
            | b"EC PRIVATE KEY" => decoded(self.label).map(Some),
            // OpenSSL reads these like the others; the first may say what it is trusted for, which counts in a CA file.
            b"TRUSTED CERTIFICATE" | b"X509 CERTIFICATE"
                if !matches!(piece, Piece::Ca | Piece::Crl) =>
            {
                set_right.insert(SetRight::Label);
                Ok(Some(match decoded(b"CERTIFICATE")? {
                    Block::Certificate(der) => Block::Certificate(first_element(der)),
                    other => other,
                }))
            }
            b"TRUSTED CERTIFICATE" | b"X509 CERTIFICATE" => {
                Err(BundleError::UncommonCertificate { piece })
            }
            b"OPENSSH PRIVATE KEY" => Err(BundleError::OtherForm {
                piece,
                form: Form::OpensshKey,
            }),
            label if label.ends_with(b"PRIVATE KEY") => Err(BundleError::UnusableKey { piece }),
            _ => Ok(None),
        }
    }

    /// What it is, where it may be there instead of a certificate.
    fn instead_of_certificate(&self) -> Option<Form> {
        match self.label {
            b"PKCS7" | b"CMS" | b"PKCS #7 SIGNED DATA" => Some(Form::Pkcs7),
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Some(Form::Request),
            _ => None,
        }
    }

    /// The block alone, with this label.
    fn text(&self, label: &[u8]) -> Zeroizing<Vec<u8>> {
        let line = |kind: &[u8]| [kind, label, DASHES, b"\n"].concat();
        Zeroizing::new([line(BEGIN), self.body.to_vec(), line(END)].concat())
    }
}

/// The first element of DER, without what OpenSSL appends to a trusted certificate.
fn first_element(mut der: Vec<u8>) -> Vec<u8> {
    let behind = Any::from_der(&der).map_or(0, |(behind, _)| behind.len());
    der.truncate(der.len() - behind);
    der
}

/// The only use of rustls-pemfile: one sound block to its DER. `None` where the decoder finds something else in it.
fn decode(text: &[u8]) -> Option<Block> {
    let (item, _rest) = rustls_pemfile::read_one_from_slice(text).ok()??;
    let key = |der: PrivateKeyDer<'static>| Block::Key(Zeroizing::new(der));
    match item {
        Item::X509Certificate(der) => Some(Block::Certificate(der.to_vec())),
        Item::Crl(der) => Some(Block::List(der.to_vec())),
        Item::Pkcs8Key(der) => Some(key(der.into())),
        Item::Pkcs1Key(der) => Some(key(der.into())),
        Item::Sec1Key(der) => Some(key(der.into())),
        _ => None,
    }
}

/// Takes a file apart into its blocks.
struct PemReader<'a> {
    source: PemSource,
    found: Vec<PemSection<'a>>,
    open: Option<PemSection<'a>>,
    set_right: BTreeSet<SetRight>,
}

impl<'a> PemReader<'a> {
    fn new(source: PemSource) -> Self {
        Self {
            source,
            found: Vec::new(),
            open: None,
            set_right: BTreeSet::new(),
        }
    }

    /// The blocks of a file; the error is the fault and its line, counted from 1.
    fn sections(&mut self, text: &'a [u8]) -> Result<Vec<PemSection<'a>>, (PemFault, usize)> {
        let is_old_macs = !text.contains(&b'\n') && text.trim_ascii_end().contains(&b'\r');
        let end = if is_old_macs && self.source == PemSource::Lineage {
            b'\r'
        } else {
            b'\n'
        };
        let mut last = 0;
        for (index, raw) in text.split_inclusive(|byte| *byte == end).enumerate() {
            last = index + 1;
            if raw.contains(&0) {
                return Err((PemFault::Nul, last));
            }
            let begun = self.found.len();
            self.line(raw, last).map_err(|fault| (fault, last))?;
            if end == b'\r' && (self.open.is_some() || self.found.len() > begun) {
                self.set_right.insert(SetRight::Lines);
            }
        }
        match self.open {
            Some(_) => Err((PemFault::Unterminated, last)),
            None => Ok(std::mem::take(&mut self.found)),
        }
    }

    fn line(&mut self, raw: &'a [u8], number: usize) -> Result<(), PemFault> {
        let mut line = raw.trim_ascii_end();
        if self.open.is_none()
            && let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK)
        {
            // OpenSSL skips it too, at the beginning of a file and of each part that was appended.
            if rest.starts_with(BEGIN) {
                self.set_right.insert(SetRight::ByteOrderMark);
                line = rest;
            }
        }
        if self.source == PemSource::Server {
            return self.marker(line, raw, number);
        }
        let unindented = line.trim_ascii_start();
        if unindented.len() < line.len() && (self.open.is_some() || unindented.starts_with(BEGIN)) {
            self.set_right.insert(SetRight::Lines);
            line = unindented;
        }
        // A line may hold the ends of blocks and the beginnings of others.
        while let Some(at) = self.cut(line) {
            self.set_right.insert(SetRight::Lines);
            let (first, rest) = line.split_at(at);
            self.marker(first, first, number)?;
            line = rest.trim_ascii_start();
        }
        if line.is_empty() && self.open.as_ref().is_some_and(|open| !open.encrypted) {
            self.set_right.insert(SetRight::Lines);
            return Ok(());
        }
        let tail = raw.trim_ascii_end().len() - line.len();
        self.marker(line, &raw[tail..], number)
    }

    /// Where a line must be cut so that a block's first or last line stands alone.
    fn cut(&self, line: &[u8]) -> Option<usize> {
        let kind = match self.open {
            None => BEGIN,
            Some(_) => END,
        };
        if let Some(rest) = line.strip_prefix(kind) {
            let label = position(rest, DASHES)?;
            let end = kind.len() + label + DASHES.len();
            let behind = line[end..].trim_ascii_start();
            let is_cut = match kind {
                BEGIN => !behind.is_empty(),
                _ => behind.starts_with(BEGIN),
            };
            return is_cut.then_some(end);
        }
        position(line, END).filter(|at| self.open.is_some() && *at > 0)
    }

    fn marker(&mut self, line: &'a [u8], raw: &'a [u8], number: usize) -> Result<(), PemFault> {
        match self.open.take() {
            None => self.open = outside(raw, line, number)?,
            Some(block) if line.starts_with(DASHES) => self.found.push(block.ended(line)?),
            Some(mut block) => {
                block.body(line)?;
                self.open = Some(block);
            }
        }
        Ok(())
    }
}

/// A line between blocks: it opens one, or is text.
fn outside<'a>(
    raw: &[u8],
    line: &'a [u8],
    number: usize,
) -> Result<Option<PemSection<'a>>, PemFault> {
    if line.starts_with(END) {
        return Err(PemFault::StrayEnd);
    }
    if let Some(rest) = line.strip_prefix(BEGIN) {
        let label = rest
            .strip_suffix(DASHES)
            .filter(|label| is_label(label))
            .ok_or(PemFault::BadBegin)?;
        return Ok(Some(PemSection {
            label,
            body: Zeroizing::default(),
            line: number,
            encrypted: false,
            base64: Base64::default(),
        }));
    }
    // A file cut off within the first characters of its next block.
    if !raw.is_empty() && BEGIN.starts_with(raw) {
        return Err(PemFault::BadBegin);
    }
    Ok(None)
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b" #._/".contains(byte))
}

impl PemSection<'_> {
    fn body(&mut self, line: &[u8]) -> Result<(), PemFault> {
        if self.encrypted {
            // Headers, an empty line, ciphertext: the block is refused as a whole, so only its end matters.
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
        self.base64.take(line)?;
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        Ok(())
    }

    fn ended(self, line: &[u8]) -> Result<Self, PemFault> {
        let label = line
            .strip_prefix(END)
            .and_then(|rest| rest.strip_suffix(DASHES));
        if label != Some(self.label) {
            return Err(PemFault::Unterminated);
        }
        if !self.encrypted {
            self.base64.finish()?;
        }
        Ok(self)
    }
}

/// The form of base64 that OpenSSL requires: whole groups of four, padding at the end alone.
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

/// The same of blocks that hold no key.
pub(super) fn encode_public<'a>(label: &str, ders: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let blocks: Vec<_> = ders.into_iter().map(|der| (label, der)).collect();
    std::mem::take(&mut *encode(&blocks))
}

fn encoded(label: &str, der: &[u8]) -> usize {
    pem_rfc7468::encoded_len(label, pem_rfc7468::LineEnding::LF, der)
        .expect("the label is one of five constants, and what a file held fits in memory")
}
