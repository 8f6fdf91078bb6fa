//! A certificate authority of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, RsaKeySize, SerialNumber, SignatureAlgorithm,
};

use super::{
    SOON, World, command,
    process::{run, run_reading},
};

/// A day, for dates.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The kind of a leaf's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256.
    #[default]
    P256,
    /// ECDSA over P-384.
    P384,
    /// ECDSA over P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA of 1024 bits, which OpenSSL refuses.
    Rsa1024,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
}

/// How a leaf is to differ from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last.
    pub not_after: SystemTime,
    /// The kind of its key.
    pub key: KeyType,
    /// A key in PEM to use again, as `certbot --reuse-key` does; `key` does not count then.
    pub reuse_key: Option<String>,
    /// How many certificates lie between leaf and root.
    pub intermediates: usize,
    /// A last change of what is signed.
    pub adjust: fn(&mut CertificateParams),
}

impl Default for Options {
    /// From an hour ago for 90 days, a new P-256 key, one intermediate.
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            not_before: now - Duration::from_secs(60 * 60),
            not_after: now + 90 * DAY,
            key: KeyType::default(),
            reuse_key: None,
            intermediates: 1,
            adjust: |_| {},
        }
    }
}

/// What an authority gives to who asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The leaf.
    pub leaf_pem: String,
    /// The intermediates, the leaf's issuer first.
    pub intermediates: Vec<String>,
    /// The private key, PKCS#8.
    pub key_pem: String,
    /// SHA-256 of the leaf's DER, lower-case hex.
    pub fingerprint: String,
    /// The leaf's serial number, lower-case hex.
    pub serial: String,
}

impl Issued {
    /// The intermediates in one file: certbot's `chain.pem`.
    pub fn chain_pem(&self) -> String {
        self.intermediates.concat()
    }

    /// Leaf and intermediates in one file: certbot's `fullchain.pem`.
    pub fn fullchain_pem(&self) -> String {
        self.leaf_pem.clone() + &self.chain_pem()
    }

    /// Leaf, intermediates and key in one file.
    pub fn combined_pem(&self) -> String {
        self.fullchain_pem() + &self.key_pem
    }
}

/// A root and as many intermediates as are asked for.
pub struct Ca {
    name: String,
    root: PathBuf,
    /// The root, then each signed by the one before.
    authorities: Vec<(Certificate, Issuer<'static, KeyPair>)>,
}

/// The most intermediates that a leaf can have.
pub const MOST_INTERMEDIATES: usize = 3;

impl Ca {
    /// A new root, whose certificate is written into the world.
    pub fn new(world: &World, name: &str) -> Self {
        Self::new_with(world, name, |_, _| {})
    }

    /// The same with a last change of what is signed; the root's depth is 0, and each
    /// intermediate's is one more than its issuer's.
    pub fn new_with(
        world: &World,
        name: &str,
        adjust: impl Fn(usize, &mut CertificateParams),
    ) -> Self {
        let mut authorities: Vec<(Certificate, Issuer<'static, KeyPair>)> = Vec::new();
        for depth in 0..=MOST_INTERMEDIATES {
            let key = KeyPair::generate().unwrap();
            let name = match depth {
                0 => name.to_owned(),
                _ => format!("{name} Intermediate {depth}"),
            };
            let mut params = authority(&name);
            adjust(depth, &mut params);
            let certificate = match authorities.last() {
                None => params.self_signed(&key),
                Some((_, issuer)) => params.signed_by(&key, issuer),
            };
            authorities.push((certificate.unwrap(), Issuer::new(params, key)));
        }
        let file = name
            .to_lowercase()
            .replace(|letter: char| !letter.is_alphanumeric(), "-");
        let root = world.directory("roots").join(format!("{file}.pem"));
        fs::write(&root, authorities[0].0.pem()).unwrap();
        Self {
            name: name.to_owned(),
            root,
            authorities,
        }
    }

    /// The file with the root's certificate, which every user may read.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root's certificate.
    pub fn root_pem(&self) -> String {
        self.authorities[0].0.pem()
    }

    /// The certificate of its first intermediate.
    pub fn intermediate_pem(&self) -> String {
        self.authorities[1].0.pem()
    }

    /// The root's list of what it has revoked, which is of an hour ago and good for 30 days.
    pub fn crl(&self, revoked: &[&Issued]) -> String {
        let now = SystemTime::now();
        let hour = Duration::from_secs(60 * 60);
        self.crl_of(revoked, now - hour, now + 30 * DAY)
    }

    /// The same from and until these times.
    pub fn crl_of(&self, revoked: &[&Issued], from: SystemTime, until: SystemTime) -> String {
        let entry = |issued: &&Issued| RevokedCertParams {
            serial_number: serial_of(&issued.serial),
            revocation_time: from.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: from.into(),
            next_update: until.into(),
            crl_number: next_serial(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.authorities[0].1).unwrap();
        list.pem().unwrap()
    }

    /// Issues a certificate, by the root itself, for a client that is called so.
    pub fn issue_client(&self, name: &str) -> Issued {
        let options = Options {
            intermediates: 0,
            adjust: |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            ..Options::default()
        };
        self.issue_with(&[name], &options)
    }

    /// Issues the usual certificate for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &Options::default())
    }

    /// Issues a certificate as the options say.
    #[track_caller]
    pub fn issue_with(&self, names: &[&str], options: &Options) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, name.clone());
        }
        params.not_before = options.not_before.into();
        params.not_after = options.not_after.into();
        params.serial_number = Some(next_serial());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (options.adjust)(&mut params);
        let issuer = &self.authorities[options.intermediates].1;
        let (leaf, key_pem) = match (&options.reuse_key, options.key) {
            (None, KeyType::Rsa1024) => {
                let (public, key_pem) = weak_rsa();
                (params.signed_by(&public, issuer), key_pem)
            }
            (reused, kind) => {
                let key = match reused {
                    Some(pem) => KeyPair::from_pem(pem).unwrap(),
                    None => generate(kind),
                };
                (params.signed_by(&key, issuer), key.serialize_pem())
            }
        };
        let leaf_pem = leaf.unwrap().pem();
        let (fingerprint, serial) = describe(&leaf_pem);
        Issued {
            leaf_pem,
            intermediates: self.authorities[1..=options.intermediates]
                .iter()
                .rev()
                .map(|(certificate, _)| certificate.pem())
                .collect(),
            key_pem,
            fingerprint,
            serial,
        }
    }
}

/// Fingerprint and serial number, lower-case hex, of the first certificate in a text, by openssl.
#[track_caller]
pub fn describe(pem: &str) -> (String, String) {
    let said = run_reading(
        command("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-serial"]),
        pem.as_bytes(),
        SOON,
    )
    .result()
    .unwrap();
    let value = |key: &str| {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.replace(':', "").to_lowercase()
    };
    (value("sha256 Fingerprint="), value("serial="))
}

/// A serial number by its digits.
fn serial_of(hex: &str) -> SerialNumber {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    SerialNumber::from_slice(&bytes)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(next_serial());
    params.not_before = (SystemTime::now() - 365 * DAY).into();
    params.not_after = (SystemTime::now() + 3650 * DAY).into();
    params
}

/// Positive, sixteen bytes, and no other's: the time, the process, a counter.
fn next_serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let mut bytes = vec![0x40];
    bytes.extend_from_slice(&now.as_nanos().to_be_bytes()[9..]);
    bytes.extend_from_slice(&std::process::id().to_be_bytes());
    bytes.extend_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()[4..]);
    SerialNumber::from_slice(&bytes)
}

fn generate(kind: KeyType) -> KeyPair {
    match kind {
        KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        KeyType::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeyType::Rsa1024 => unreachable!("made by openssl"),
    }
    .unwrap()
}

/// The public half of an RSA key, as PKCS#1.
struct RsaPublic(Vec<u8>);

impl PublicKeyData for RsaPublic {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// A key that the Rust libraries refuse to make.
fn weak_rsa() -> (RsaPublic, String) {
    let generated = run(
        command("openssl").args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:1024",
        ]),
        SOON,
    );
    let key_pem = generated.stdout;
    let public_pem = run_reading(
        command("openssl").args(["rsa", "-RSAPublicKey_out"]),
        key_pem.as_bytes(),
        SOON,
    )
    .stdout;
    let (_, der) = pem_rfc7468::decode_vec(public_pem.as_bytes()).unwrap();
    (RsaPublic(der), key_pem)
}
