//! What a person is shown of a line before it is changed.

use std::path::PathBuf;

use serde::Serialize;

use crate::server::hba::{Exposed, HbaAddress, HbaWord, Note, Rule, RuleKind};

/// A line that lets clients of other hosts in without TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExposedLine {
    /// The file that it is in.
    pub(crate) file: PathBuf,
    /// The number of its first line, from 1.
    pub line: usize,
    /// As it is written, with what continues it.
    pub text: String,
    /// Whom it lets in, and how they prove who they are.
    pub whom: String,
    pub(crate) becomes: &'static str,
    /// What else that means, each a sentence.
    pub(crate) notes: Vec<&'static str>,
}

impl ExposedLine {
    pub(super) fn from_exposed(exposed: &Exposed<'_>, text: &[u8]) -> ExposedLine {
        let rule = exposed.rule;
        let written = text.get(rule.span.clone()).unwrap_or_default();
        ExposedLine {
            file: exposed.file.to_owned(),
            line: rule.line,
            text: String::from_utf8_lossy(written).trim().to_owned(),
            whom: whom(rule),
            becomes: match rule.kind {
                RuleKind::HostNoSsl => "a comment: it is for clients without TLS alone",
                _ => "hostssl",
            },
            notes: exposed.notes.iter().map(|note| said(*note)).collect(),
        }
    }
}

fn said(note: Note) -> &'static str {
    match note {
        Note::LoopbackKept => {
            "Clients of this host over loopback get a line of their own before it, and need no TLS."
        }
        Note::LoopbackToo => {
            "If this host itself has such a name, its clients over loopback need TLS as well."
        }
        Note::GssapiToo => "Clients that GSSAPI encrypts need TLS instead.",
    }
}

fn whom(rule: &Rule) -> String {
    let users = listed(&rule.users, "every user", "user");
    let databases = listed(&rule.databases, "every database", "database");
    let address = rule.address.as_ref().map_or_else(String::new, from);
    format!(
        "{users}, to {databases}, from {address}, by {}",
        rule.method
    )
}

fn listed(words: &[HbaWord], every: &str, one: &str) -> String {
    if words.iter().any(|word| word.is_keyword("all")) {
        return every.to_owned();
    }
    let names: Vec<String> = words.iter().map(HbaWord::text).collect();
    format!("{one} {}", names.join(", "))
}

fn from(address: &HbaAddress) -> String {
    match address {
        HbaAddress::All => "every address".to_owned(),
        HbaAddress::SameHost => "this host's addresses".to_owned(),
        HbaAddress::SameNet => "every network that this host is in".to_owned(),
        HbaAddress::Name(name) => String::from_utf8_lossy(name).into_owned(),
        HbaAddress::Net { ip, mask } => match prefix(*mask) {
            Some(0) => format!(
                "every {} address",
                if ip.is_ipv4() { "IPv4" } else { "IPv6" }
            ),
            Some(bits) => format!("{ip}/{bits}"),
            None => format!("{ip} with mask {mask}"),
        },
    }
}

/// The number of leading bits that a mask without holes has.
fn prefix(mask: std::net::IpAddr) -> Option<u32> {
    let (value, unused) = match mask {
        std::net::IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 96),
        std::net::IpAddr::V6(v6) => (u128::from(v6), 0),
    };
    let ones = value.leading_ones();
    (value.count_ones() == ones && ones <= 128 - unused).then_some(ones)
}
