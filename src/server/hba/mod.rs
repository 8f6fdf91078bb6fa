//! `pg_hba.conf`: what its lines say, which of them let a client of another host in without
//! encryption, and the text that no longer does.
//!
//! The reading is PostgreSQL's (`hba.c`), fault for fault in what concerns a line's form; what a
//! method's options may be is left to the server, who is asked before anything is reloaded
//! (`pg_hba_file_rules`). The text is kept byte for byte: a [`HbaProposal`] differs from it in the
//! first words of the lines that it changes, and in lines before them that keep the clients of
//! this host as they were.
//!
//! Everything here is a function of the files' texts, which [`HbaFiles`] supplies. Nothing is written.

mod address;
mod dialect;
mod exposure;
mod files;
mod loopback;
#[cfg(test)]
mod tests;
pub(super) mod words;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use address::AddressStart;
use words::HbaLine;

pub use address::HbaAddress;
pub use dialect::Dialect;
pub(crate) use exposure::{Exposed, HbaProposal, Note, difference};
pub(crate) use files::HbaFiles;
pub use files::OnDisk;
pub use files::Rules;
pub(super) use files::{Lines, beside};
pub(crate) use loopback::tightens;
pub use words::HbaWord;

/// Which connections a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    /// Over TCP, encrypted by GSSAPI.
    HostGssEnc,
    /// Over TCP, not encrypted by GSSAPI; with TLS or without.
    HostNoGssEnc,
}

impl RuleKind {
    const ALL: [RuleKind; 6] = [
        RuleKind::Local,
        RuleKind::Host,
        RuleKind::HostSsl,
        RuleKind::HostNoSsl,
        RuleKind::HostGssEnc,
        RuleKind::HostNoGssEnc,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RuleKind::Local => "local",
            RuleKind::Host => "host",
            RuleKind::HostSsl => "hostssl",
            RuleKind::HostNoSsl => "hostnossl",
            RuleKind::HostGssEnc => "hostgssenc",
            RuleKind::HostNoGssEnc => "hostnogssenc",
        }
    }

    /// Whether a connection over TCP that nothing encrypts is among them.
    pub(crate) fn takes_plaintext(self) -> bool {
        matches!(
            self,
            RuleKind::Host | RuleKind::HostNoSsl | RuleKind::HostNoGssEnc
        )
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line that lets somebody in, or keeps somebody out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The number of its first line in its file, from 1.
    pub line: usize,
    /// Which connections it is for.
    pub kind: RuleKind,
    /// Where the word for that is in the text.
    pub(crate) place: Range<usize>,
    /// Where the whole line is, with what continues it and its end.
    pub(crate) span: Range<usize>,
    pub databases: Vec<HbaWord>,
    pub users: Vec<HbaWord>,
    /// From where; none for Unix sockets.
    pub address: Option<HbaAddress>,
    /// How they prove who they are; `reject` keeps them out.
    pub method: String,
    /// The method's options, `name=value`, as they are written.
    pub options: Vec<HbaWord>,
}

impl Rule {
    /// Whether it keeps out those that it is for.
    pub(crate) fn rejects(&self) -> bool {
        self.method == "reject"
    }
}

/// How another file is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inclusion {
    /// `include`: it must be there.
    File,
    /// `include_if_exists`.
    FileIfThere,
    /// `include_dir`: its files that end in `.conf`, by name.
    Directory,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Whom to let in or keep out.
    Rule(Rule),
    /// To read another file here.
    Include {
        /// The number of the line.
        line: usize,
        how: Inclusion,
        /// The path as it is written: one that is relative is so to the file's directory.
        path: PathBuf,
    },
    /// Nothing: the server refuses the line, and with it the whole file.
    Fault {
        /// The number of the line.
        line: usize,
        /// Why, in the server's words.
        why: String,
    },
}

/// Reads the text of one file.
pub(crate) fn entries(text: &[u8], dialect: Dialect) -> Vec<Entry> {
    words::lines(text, dialect)
        .into_iter()
        .map(|line| {
            let number = line.number;
            if let Some(include) = include(&line, dialect) {
                return include;
            }
            rule(line, dialect).map_or_else(|why| Entry::Fault { line: number, why }, Entry::Rule)
        })
        .collect()
}

fn include(line: &HbaLine, dialect: Dialect) -> Option<Entry> {
    let [what, path] = line.fields.as_slice() else {
        return None;
    };
    let (what, path) = (what.first()?, path.first()?);
    let how = match what.bytes.as_slice() {
        b"include" => Inclusion::File,
        b"include_if_exists" => Inclusion::FileIfThere,
        b"include_dir" => Inclusion::Directory,
        _ => return None,
    };
    use std::os::unix::ffi::OsStrExt;
    dialect.includes().then(|| Entry::Include {
        line: line.number,
        how,
        path: PathBuf::from(std::ffi::OsStr::from_bytes(&path.bytes)),
    })
}

fn rule(line: HbaLine, dialect: Dialect) -> Result<Rule, String> {
    let mut fields = line.fields.into_iter();
    let mut next = |missing: &str| {
        fields
            .next()
            .ok_or_else(|| format!("end-of-line before {missing}"))
    };
    let first = only(next("connection type")?, "connection type")?;
    let kind = RuleKind::ALL
        .into_iter()
        .find(|kind| first.bytes == kind.as_str().as_bytes())
        .ok_or_else(|| format!("invalid connection type \"{}\"", first.text()))?;
    let databases = next("database specification")?;
    let users = next("role specification")?;
    let address = match kind {
        RuleKind::Local => None,
        _ => {
            let word = only(next("IP address specification")?, "host address")?;
            Some(match address::begun(&word)? {
                AddressStart::Whole(address) => address,
                AddressStart::WantsMask(ip) => {
                    let mask = only(next("netmask specification")?, "netmask")?;
                    address::masked(ip, &mask)?
                }
            })
        }
    };
    let method = only(next("authentication method")?, "authentication type")?.text();
    let method = usable(&method, kind, dialect)?.to_owned();
    let options: Vec<HbaWord> = fields.flatten().collect();
    if let Some(odd) = options.iter().find(|word| !word.bytes.contains(&b'=')) {
        let odd = odd.text();
        return Err(format!(
            "authentication option not in name=value format: {odd}"
        ));
    }
    Ok(Rule {
        line: line.number,
        kind,
        place: first.place,
        span: line.span,
        databases,
        users,
        address,
        method,
        options,
    })
}

/// The word of a field that may have but one.
fn only(field: Vec<HbaWord>, what: &str) -> Result<HbaWord, String> {
    <[HbaWord; 1]>::try_from(field)
        .map(|[word]| word)
        .map_err(|_| format!("multiple values specified for {what}"))
}

/// The method, if connections of this kind may use it.
fn usable(method: &str, kind: RuleKind, dialect: Dialect) -> Result<&str, String> {
    const KNOWN: [&str; 14] = [
        "trust",
        "ident",
        "peer",
        "password",
        "gss",
        "sspi",
        "reject",
        "md5",
        "scram-sha-256",
        "pam",
        "bsd",
        "ldap",
        "cert",
        "radius",
    ];
    let local = kind == RuleKind::Local;
    match method {
        // Over a Unix socket there is nobody to ask.
        "ident" if local => Ok("peer"),
        "gss" if local => Err("gssapi authentication is not supported on local sockets".into()),
        "peer" if !local => Err("peer authentication is only supported on local sockets".into()),
        "cert" if kind != RuleKind::HostSsl => {
            Err("cert authentication is only supported on hostssl connections".into())
        }
        "oauth" if dialect.knows_oauth() => Ok(method),
        _ if KNOWN.contains(&method) => Ok(method),
        _ => Err(format!("invalid authentication method \"{method}\"")),
    }
}
