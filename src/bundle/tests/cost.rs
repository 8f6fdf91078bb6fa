//! What it costs to read and check a bundle.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;

use super::super::pem::{self, Block, PemSource};
use super::super::{certificate, signature};
use super::*;
use crate::instructions::{Instructions, counted};

/// A chain of this many certificates, the root among them, and its key.
fn chain_of(certificates: usize) -> (String, String) {
    let root = Authority::root("Root");
    let mut pems = vec![root.pem.clone()];
    let mut issuer = root;
    for number in 2..certificates {
        issuer = issuer.intermediate(&format!("Intermediate {number}"));
        pems.push(issuer.pem.clone());
    }
    let leaf = issuer.leaf(&["db.example.com"]);
    pems.push(leaf.pem);
    pems.reverse();
    (pems.concat(), leaf.key)
}

/// What nobody can leave out: the files are decoded, each certificate is parsed once, each signature verified once,
/// the root's by its own key, and the private key is loaded.
fn least(chain: &str, key: &str) {
    let blocks = |text: &str, piece| {
        let read = pem::blocks(text.as_bytes(), piece, PemSource::Server);
        read.unwrap().blocks
    };
    let mut ders = Vec::new();
    for block in blocks(chain, Piece::Certificate) {
        if let Block::Certificate(der) = block {
            ders.push(der);
        }
    }
    let parsed = ders.iter().map(|der| certificate::parse(der).unwrap());
    let parsed: Vec<_> = parsed.collect();
    for (place, child) in parsed.iter().enumerate() {
        let issuer = parsed.get(place + 1).unwrap_or(child);
        signature::check(issuer, child).unwrap();
    }
    for block in blocks(key, Piece::Key) {
        if let Block::Key(der) = block {
            any_supported_type(&der).unwrap();
        }
    }
}

#[test]
fn a_bundle_costs_little_more_than_what_has_to_be_checked_and_grows_as_its_chain() {
    let counts = Instructions::under_callgrind(|| {
        let (short, long) = (chain_of(3), chain_of(30));
        // What is done once in a process is done here.
        parse(&short.0, &short.1).unwrap();
        counted!(parse_of_3, parse(&short.0, &short.1).unwrap());
        counted!(parse_of_30, parse(&long.0, &long.1).unwrap());
        counted!(least_of_3, least(&short.0, &short.1));
    });
    let counts = match counts {
        Ok(counts) => counts,
        Err(skipped) => return skipped.count(),
    };
    // 1.34 and 9.2: of the first, most is that both certificates are parsed again for each signature.
    counts.at_most("parse_of_3", 1.4, "least_of_3");
    counts.at_most("parse_of_30", 10.0, "parse_of_3");
}
