//! Who of another host is let in without encryption, and how not to.
//!
//! The server goes through the rules in their order and takes the first that fits a connection;
//! that one lets in or keeps out, and no later one is tried. So a rule is exposed when it takes
//! connections that nothing encrypts, from an address that is not this host's, does not reject
//! them, and no rule before it has rejected all of them already. A rule before it that lets them
//! in hides it today, but not once that one is changed: such a rule does not count.
//!
//! `host` and `hostnogssenc` become `hostssl`: whoever comes with TLS meets the same rule as
//! before, and whoever comes without meets none. `hostnossl` becomes a comment: as `hostssl` it
//! would let in by its method those with TLS, whom it never concerned. Where such a line was for
//! the clients of this host too, lines of their own before it keep them as they were
//! (`loopback.rs`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::group_diff_ops;
use similar::udiff::UnifiedHunkHeader;

use super::address::{Addresses, HbaAddress};
use super::loopback::{self, THIS_HOST};
use super::words::HbaWord;
use super::{Rule, RuleKind, Rules};

/// A rule that lets clients of other hosts in without encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed<'r> {
    /// The file that it is in.
    pub(crate) file: &'r Path,
    pub(crate) rule: &'r Rule,
    /// The addresses of this host for which it decides as well.
    pub(crate) near: Vec<IpAddr>,
    /// What else its change means.
    pub(crate) notes: Vec<Note>,
}

/// What a change means beside what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The rule is for clients of this host too, over loopback: a line of their own keeps them as
    /// they were.
    LoopbackKept,
    /// The rule names hosts, of which this one may be: its clients need TLS as well then.
    LoopbackToo,
    /// The rule is for clients that GSSAPI may encrypt: they need TLS instead then.
    GssapiToo,
}

/// What becomes of the first word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// `hostssl` takes its place.
    HostSsl,
    /// A `#` comes before it: the line is a comment.
    Comment,
}

/// One line that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineChange {
    pub(crate) file: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) before: RuleKind,
    pub(crate) rewrite: Rewrite,
    pub(crate) notes: Vec<Note>,
}

/// The files as they would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaProposal {
    /// Each changed line, in the order of the rules; none where nobody is let in unencrypted.
    pub(crate) changes: Vec<LineChange>,
    /// The old and the new text of each changed file.
    pub texts: BTreeMap<PathBuf, (Vec<u8>, Vec<u8>)>,
}

impl Rules {
    /// The rules that let clients of other hosts in without encryption. Meaningful where there
    /// are no faults: with one, the server goes by rules that are in no file any more.
    pub fn exposed(&self) -> Vec<Exposed<'_>> {
        let found = self.rules.iter().enumerate();
        found
            .filter_map(|(index, (file, rule))| {
                let before = &self.rules[..index];
                if !rule.kind.takes_plaintext() || rule.rejects() {
                    return None;
                }
                let let_in = taken(rule)?;
                let remote = let_in.clone().without(&Addresses::loopback());
                let left = unmatched(remote, rule, before, Rule::rejects);
                if left.is_empty() {
                    return None;
                }
                let mut notes = Vec::new();
                // Those over loopback whom a rule takes before meet that one still.
                let is_left = |ip: &IpAddr| {
                    let near = let_in.clone().and(&Addresses::from_ip(*ip));
                    !unmatched(near, rule, before, |_| true).is_empty()
                };
                let near: Vec<IpAddr> = THIS_HOST.into_iter().filter(is_left).collect();
                let surely = |ip: &IpAddr| {
                    let address = rule.address.as_ref();
                    address.is_some_and(|hba_address| hba_address.surely_takes(*ip))
                };
                let by_name = matches!(rule.address, Some(HbaAddress::Name(_)));
                if by_name && !near.is_empty() {
                    notes.push(Note::LoopbackToo);
                }
                let near: Vec<IpAddr> = near.into_iter().filter(surely).collect();
                if !near.is_empty() {
                    notes.push(Note::LoopbackKept);
                }
                if rule.method == "gss" && rule.kind == RuleKind::Host {
                    notes.push(Note::GssapiToo);
                }
                Some(Exposed {
                    file,
                    rule,
                    near,
                    notes,
                })
            })
            .collect()
    }

    /// The texts with which no client of another host is let in without encryption. Lines for
    /// Unix sockets, loopback and the server's own addresses stay as they are.
    pub fn proposal(&self) -> HbaProposal {
        let mut changes: Vec<LineChange> = Vec::new();
        let mut places: BTreeMap<&Path, Vec<Edit>> = BTreeMap::new();
        for Exposed {
            file,
            rule,
            near,
            notes,
        } in self.exposed()
        {
            let seen = |change: &LineChange| change.file == file && change.line == rule.line;
            // A file may be included twice.
            if changes.iter().any(seen) {
                continue;
            }
            let (rewrite, edit) = match rule.kind {
                RuleKind::HostNoSsl => (
                    Rewrite::Comment,
                    (rule.place.start, rule.place.start, b"#".to_vec()),
                ),
                _ => (
                    Rewrite::HostSsl,
                    (rule.place.start, rule.place.end, b"hostssl".to_vec()),
                ),
            };
            let edits = places.entry(file).or_default();
            if let Some(text) = self.texts.get(file)
                && !near.is_empty()
            {
                let begin = rule.span.start;
                edits.push((begin, begin, loopback::lines(text, rule, &near)));
            }
            edits.push(edit);
            changes.push(LineChange {
                file: file.to_owned(),
                line: rule.line,
                before: rule.kind,
                rewrite,
                notes,
            });
        }
        let texts = places
            .into_iter()
            .filter_map(|(file, edits)| {
                let old = self.texts.get(file)?;
                let new = edited(old, edits);
                Some((file.to_owned(), (old.clone(), new)))
            })
            .collect();
        HbaProposal { changes, texts }
    }
}

impl HbaProposal {
    /// The difference, as `diff -u` shows it.
    pub fn diff(&self) -> String {
        let diffs = self.texts.iter();
        diffs
            .map(|(file, (old, new))| difference(file, old, new))
            .collect()
    }
}

/// The difference between two texts of a file, as `diff -u` shows it.
///
/// The crate's own `TextDiff` chooses its algorithm when it runs, which puts all of them into the program, many times over.
pub(crate) fn difference(file: &Path, old: &[u8], new: &[u8]) -> String {
    let (old, new) = (lines_of(old), lines_of(new));
    let mut changes = Compact::new(Replace::new(Capture::new()), &*old, &*new);
    let Ok(()) = myers::diff(&mut changes, &*old, 0..old.len(), &*new, 0..new.len());
    let changes = changes.into_inner().into_inner().into_ops();
    let mut diff = String::new();
    for hunk in group_diff_ops(changes, 3) {
        if diff.is_empty() {
            let name = file.display();
            diff = format!("--- {name}\n+++ {name} (new)\n");
        }
        diff += &format!("{}\n", UnifiedHunkHeader::new(&hunk));
        for line in hunk.iter().flat_map(|part| part.iter_changes(&*old, &*new)) {
            let text = line.value();
            diff += &format!("{}{}", line.tag(), String::from_utf8_lossy(text));
            if !text.ends_with(b"\n") {
                diff += "\n\\ No newline at end of file\n";
            }
        }
    }
    diff
}

/// Each line with its end.
fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// From where to where something else stands, and what.
type Edit = (usize, usize, Vec<u8>);

/// The text with something else in some of its places.
fn edited(old: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    // What comes before a line was added first, and stays first.
    edits.sort_by_key(|edit| (edit.0, edit.1));
    let mut new = Vec::with_capacity(old.len() + 3 * edits.len());
    let mut at = 0;
    for (start, end, word) in edits {
        new.extend_from_slice(&old[at..start]);
        new.extend_from_slice(&word);
        at = end;
    }
    new.extend_from_slice(&old[at..]);
    new
}

/// At least the addresses that a rule is for; none for a rule of this host alone.
fn taken(rule: &Rule) -> Option<Addresses> {
    match rule.address.as_ref()? {
        HbaAddress::All | HbaAddress::SameNet => Some(Addresses::all()),
        HbaAddress::SameHost => None,
        HbaAddress::Net { ip, mask } => Some(Addresses::at_least(*ip, *mask)),
        HbaAddress::Name(name) if name == b"localhost" => None,
        HbaAddress::Name(_) => Some(Addresses::all()),
    }
}

/// What is left of `addresses` of a rule after those before it that `count`.
fn unmatched(
    addresses: Addresses,
    rule: &Rule,
    before: &[(PathBuf, Rule)],
    count: impl Fn(&Rule) -> bool,
) -> Addresses {
    before
        .iter()
        .map(|(_, earlier)| earlier)
        .filter(|earlier| earlier.kind.takes_plaintext() && count(earlier))
        .filter(|earlier| {
            covers(&earlier.databases, &rule.databases, "replication")
                // A user's name has no word that `all` leaves out.
                && covers(&earlier.users, &rule.users, "")
        })
        .fold(addresses, |left, earlier| {
            left.without(&surely_matched(earlier, rule))
        })
}

/// At most the addresses that `earlier` takes of those that come to `rule`.
fn surely_matched(earlier: &Rule, rule: &Rule) -> Addresses {
    match &earlier.address {
        Some(HbaAddress::All) => Addresses::all(),
        Some(HbaAddress::Net { ip, mask }) => Addresses::at_most(*ip, *mask),
        // What a name or a network stands for is known to the server alone; the same word
        // stands for the same.
        same if *same == rule.address => Addresses::all(),
        _ => Addresses::none(),
    }
}

/// Whether whoever fits one of `later` fits one of `earlier`. `all` means everything but what
/// `exception`, a keyword, means.
fn covers(earlier: &[HbaWord], later: &[HbaWord], exception: &str) -> bool {
    let all = earlier.iter().any(|word| word.is_keyword("all"));
    // What a file holds is known to the server alone.
    let open = |word: &HbaWord| {
        word.is_keyword(exception) || !word.quoted && word.bytes[..].starts_with(b"@")
    };
    later
        .iter()
        .all(|word| all && !open(word) || earlier.iter().any(|other| other.means(word)))
}
