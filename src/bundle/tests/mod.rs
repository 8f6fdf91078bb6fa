//! Bundles that are accepted, refused and compared. Certificates come from rcgen, and from
//! `tests/fixtures` where rcgen cannot make them.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

mod accepts;
mod certificates;
mod client_trust;
mod compares;
mod cost;
mod names;
mod properties;
mod refuses;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;

use super::error::{Form, PemFault};
use super::keyed::NO_KEY;
use super::set_right::SetRight;
use super::*;

/// A CA, which issues from 2024-01-01 to 2024-04-01 unless told otherwise.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Issued {
    pem: String,
    der: Vec<u8>,
    key: String,
}

impl Authority {
    fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn leaf(&self, names: &[&str]) -> Issued {
        self.issue(leaf_params(names), &KeyPair::generate().unwrap())
    }

    fn issue(&self, params: CertificateParams, key: &KeyPair) -> Issued {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Issued {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key: key.serialize_pem(),
        }
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2024, 4, 1);
    params
}

fn self_signed(params: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued {
        pem: certificate.pem(),
        der: certificate.der().to_vec(),
        key: key.serialize_pem(),
    }
}

/// leaf, intermediate, root: what the fullchain and key files hold.
fn full_chain() -> (String, String) {
    let root = Authority::root("Root");
    let intermediate = root.intermediate("Intermediate");
    let leaf = intermediate.leaf(&["db.example.com"]);
    (leaf.pem + &intermediate.pem + &root.pem, leaf.key)
}

fn parse(chain: &str, key: &str) -> Result<KeyedBundle, BundleError> {
    KeyedBundle::parse(&[chain.as_bytes()], key.as_bytes())
}

fn bundle(issued: &Issued) -> KeyedBundle {
    parse(&issued.pem, &issued.key).unwrap()
}

fn refused(chain: &str, key: &str) -> BundleError {
    parse(chain, key).map(drop).unwrap_err()
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn server(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name
        ))
    };
}
use fixture;
