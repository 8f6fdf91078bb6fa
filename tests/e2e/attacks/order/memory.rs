//! What is left of private keys in the daemon's memory once they are installed.

use std::{
    fs::{self, File},
    io::BufRead,
    os::unix::fs::FileExt,
};

use pgcertd::testing::bundle::Fingerprint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::crashes::stage::{Files, Stage};
use crate::stage::HOST;
use crate::world::{
    SOON, World,
    ca::{Issued, KeyType, Options},
    daemon::{Launch, eventually_state},
    eventually,
};

/// Stretches of a private key by which any copy of it is known: of its number as it is encoded and as
/// a machine computes with it, and of its text.
fn secrets(issued: &Issued) -> Vec<(&'static str, Vec<u8>)> {
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let der = key.secret_der();
    let lines: Vec<&str> = issued.key_pem.lines().collect();
    let (number, text) = match der.len() {
        // P-256 in PKCS#8: the scalar, of which the second line of base64 has the middle.
        ..256 => (&der[36..68], &lines[2][..18]),
        // RSA-3072: within the first prime, and a line behind the middle.
        _ => (&der[850..898], lines[lines.len() * 5 / 8]),
    };
    let limbs = number.iter().rev().copied().collect();
    vec![
        ("number", number.to_vec()),
        ("limbs", limbs),
        ("text", text.as_bytes().to_vec()),
    ]
}

/// Whether `needle` lies in `bytes`, found fast in any build.
///
/// The daemon keeps a key for a second after it was read. Compared byte by byte, unoptimized and on a busy machine, one
/// look took minutes: the test's only one was within that second. The standard library's search for a byte is optimized
/// in every build.
fn contains(mut bytes: &[u8], needle: &[u8]) -> bool {
    // Most of the memory is zeros.
    let begin = needle.iter().position(|byte| *byte != 0).unwrap();
    let (first, others) = needle[begin..].split_first().unwrap();
    while bytes.skip_until(*first).unwrap() > 0 {
        if bytes.starts_with(others) {
            return true;
        }
    }
    false
}

/// Which stretches lie in the memory of a process, and where.
fn found(pid: u32, needles: &[(String, Vec<u8>)]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        // What is mapped from a file and was never written to holds what the file holds.
        let from_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
        let untouched = from_file && !rights.contains('w');
        if !rights.starts_with('r') || line.contains("[v") || untouched {
            continue;
        }
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        let mut filled = 0;
        // Areas that are not there any more, or that hold nothing yet, read short.
        while let Ok(count @ 1..) = memory.read_at(&mut bytes[filled..], begin + filled as u64) {
            filled += count;
        }
        let hits = needles
            .iter()
            .filter(|(_, needle)| contains(&bytes[..filled], needle));
        found.extend(hits.map(|(name, _)| format!("{name} in {line}")));
    }
    found
}

fn needles(name: &str, issued: &Issued) -> Vec<(String, Vec<u8>)> {
    let secrets = secrets(issued).into_iter();
    secrets
        .map(|(what, bytes)| (format!("{name}: {what}"), bytes))
        .collect()
}

fn no_key_stays(files: Files, kind: KeyType, started: fn(Launch) -> Launch) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, files);
    let mut daemon = started(Launch::new(&world)).daemon(&stage.config);
    daemon.ready();
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    let options = Options {
        key: kind,
        ..Options::default()
    };
    let mut known = needles("before", &stage.now);
    for turn in 1..=2 {
        let next = stage.ca.issue_with(&[HOST], &options);
        known.extend(needles(&format!("renewal {turn}"), &next));
        stage.lineage.renew(&next);
        eventually(SOON, "it is served", || {
            stage.cluster.served() == next.fingerprint
        });
        daemon.wait_for_log(&format!("{} deployed and served", &next.fingerprint[..6]));
        stage.now = next;
    }
    // What is looked for is to be found at all: the installed certificate is public, and known.
    let leaf = CertificateDer::from_pem_slice(stage.now.leaf_pem.as_bytes()).unwrap();
    assert_eq!(
        Fingerprint::from_der(&leaf).to_string(),
        stage.now.fingerprint
    );
    let public = [("leaf".to_owned(), leaf[leaf.len() - 40..].to_vec())];
    assert!(
        !found(daemon.pid(), &public).is_empty(),
        "the search finds nothing"
    );
    let gone = || {
        eventually(SOON, "no key is in memory", || {
            let found = found(daemon.pid(), &known);
            if found.is_empty() {
                Ok(())
            } else {
                Err(format!("{found:#?}"))
            }
        });
    };
    gone();
    // Nor after comparisons that find nothing to do.
    let done = stage.pgcertd(&["sync"]);
    assert_eq!(done.code(), 0, "{done:?}");
    gone();
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn no_private_key_stays_in_the_daemons_memory() {
    no_key_stays(Files::One, KeyType::P256, Launch::like_the_unit);
}

#[test]
fn no_private_key_stays_in_the_daemons_memory_with_two_files_and_rsa() {
    no_key_stays(Files::Two, KeyType::Rsa3072, |launch| launch);
}
