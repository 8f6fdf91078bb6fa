//! Lines that keep the clients of this host as they were, before a line that is changed.
//!
//! A line for every address is for loopback as well. Before it becomes `hostssl`, the same line
//! goes in for loopback alone: the same databases, users, method and options, for fewer
//! addresses. So it lets in nobody whom the line did not let in before.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::words::HbaWord;
use super::{Dialect, Entry, Rule, RuleKind};

/// The two addresses by which programs on one host reach each other.
pub(super) const THIS_HOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// How such a line ends, for whoever reads the file.
const REMARK: &[u8] = b"# clients of this host, as before (pgcertd)";

/// A line of `rule`, of `text`, for each of `near`.
pub(super) fn lines(text: &[u8], rule: &Rule, near: &[IpAddr]) -> Vec<u8> {
    let end: &[u8] = if text[rule.span.clone()].ends_with(b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    };
    let mut lines = Vec::new();
    for ip in near {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let mut fields = vec![
            rule.kind.as_str().as_bytes().to_vec(),
            written(text, &rule.databases).join(&b','),
            written(text, &rule.users).join(&b','),
            format!("{ip}/{bits}").into_bytes(),
            rule.method.clone().into_bytes(),
        ];
        fields.extend(written(text, &rule.options));
        fields.push(REMARK.to_vec());
        lines.extend_from_slice(&fields.join(&b'\t'));
        lines.extend_from_slice(end);
    }
    lines
}

/// The words as they are written, each on one line.
fn written(text: &[u8], words: &[HbaWord]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for word in words {
        let mut one = Vec::new();
        for byte in &text[word.place.clone()] {
            if *byte == b'\n' {
                // The line was continued within the word: a backslash, and the end.
                while one.pop().is_some_and(|octet| octet == b'\r') {}
            } else {
                one.push(*byte);
            }
        }
        all.push(one);
    }
    all
}

/// Whether `new` is `old` with some of its lines changed as a [`Proposal`](super::HbaProposal)
/// changes them, and nothing else.
pub(crate) fn tightens(old: &[u8], new: &[u8], dialect: Dialect) -> bool {
    let marked = |line: &&[u8]| line.trim_ascii_end().ends_with(REMARK);
    // An earlier change left such lines in the old text.
    let stayed: HashSet<&[u8]> = physical(old).filter(marked).collect();
    let new = physical(new).filter(|line| !marked(line) || stayed.contains(line));
    let new = new.collect::<Vec<_>>().concat();
    let (mut at, mut left) = (0, new.as_slice());
    for entry in super::entries(old, dialect) {
        let Entry::Rule(rule) = entry else { continue };
        let Some(rest) = left.strip_prefix(&old[at..rule.place.start]) else {
            return false;
        };
        (at, left) = (rule.place.start, rest);
        match rule.kind {
            RuleKind::Host | RuleKind::HostNoGssEnc => {
                if let Some(rest) = left.strip_prefix(b"hostssl") {
                    (at, left) = (rule.place.end, rest);
                }
            }
            RuleKind::HostNoSsl => left = left.strip_prefix(b"#").unwrap_or(left),
            RuleKind::Local | RuleKind::HostSsl | RuleKind::HostGssEnc => {}
        }
    }
    left == &old[at..]
}

fn physical(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}
