//! Whether a hook still does what pgcertd now does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::command::{self, Simple};
use super::contents::{Hook, HookPlace};
use super::crontab;
use super::tree::Tree;
use crate::config::ServerKind;

/// How deep to follow scripts that run scripts.
const DEPTH: usize = 3;

/// What belongs to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub kind: ServerKind,
    /// Its data directory, or the file that it was started with.
    pub home: PathBuf,
    /// Its targets, and the files that its server's configuration names.
    pub files: BTreeSet<PathBuf>,
    /// Directories and files that nobody else should write: the same, and its state directory.
    pub directories: BTreeSet<PathBuf>,
    /// The directories of its lineage, including `archive/`.
    pub lineages: BTreeSet<PathBuf>,
}

/// Something that a hook no longer has to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    /// It restarts or stops a server of this kind.
    Restarts(ServerKind),
    Reloads(ServerKind),
    /// It writes this file, or to this directory.
    Copies(String),
    /// It changes the owner or mode of a copy.
    Adjusts,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Restarts(kind) => write!(f, "restarts {}", product(*kind)),
            Deed::Reloads(kind) => write!(f, "reloads {}", product(*kind)),
            Deed::Copies(to) => write!(f, "copies to {to}"),
            Deed::Adjusts => f.write_str("changes the owner or mode of the copy"),
        }
    }
}

fn product(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Postgres => "PostgreSQL",
        ServerKind::PgBouncer | ServerKind::Patroni => kind.name(),
    }
}

/// How much of a hook is obsolete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it: it can be removed.
    All,
    /// A part, or not all of it was understood.
    Some,
}

/// What is obsolete in a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookJudgement {
    pub(crate) deeds: BTreeSet<Deed>,
    pub share: Share,
}

#[derive(Debug, Clone)]
pub struct Judge {
    pub(super) tree: Tree,
    pub(super) scopes: Vec<Scope>,
}

pub(super) enum HookVerdict {
    Old(BTreeSet<Deed>),
    /// It also does other things.
    Mixed(BTreeSet<Deed>),
    /// It does nothing that would be missed.
    Harmless,
    /// Not pgcertd's business.
    Other,
}

/// Programs that can go with the rest of a hook.
const HARMLESS: [&str; 23] = [
    "set", "echo", "printf", "logger", "true", ":", "exit", "return", "test", "[", "[[", "umask",
    "cd", "export", "local", "readonly", "unset", "sleep", "date", "shift", "wait", "id", "sync",
];

/// Programs that write to their last operand.
const COPYING: [&str; 6] = ["cp", "mv", "install", "rsync", "ln", "scp"];

/// Programs that change owner or mode, or prepare a copy.
const ADJUSTING: [&str; 8] = [
    "chmod",
    "chown",
    "chgrp",
    "setfacl",
    "chcon",
    "restorecon",
    "mkdir",
    "rm",
];

impl Judge {
    /// For hooks on a host with these instances.
    pub fn new(tree: Tree, scopes: Vec<Scope>) -> Judge {
        Judge { tree, scopes }
    }

    /// What is obsolete in a hook, if anything is. Not everything that cron runs is a hook (a weekly restart isn't): there the
    /// command must run an ACME client, or copy.
    pub fn judge_hook(&self, hook: &Hook) -> Option<HookJudgement> {
        let judgement = self.judge(&hook.commands)?;
        let of_cron = match &hook.place {
            HookPlace::Crontab { .. } => true,
            HookPlace::Program { file, .. } => crontab::is_program(file),
            HookPlace::Setting { .. } | HookPlace::File(_) => false,
        };
        let copies = judgement
            .deeds
            .iter()
            .any(|deed| matches!(deed, Deed::Copies(_)));
        (!of_cron || copies || has_client(&hook.commands)).then_some(judgement)
    }

    /// What is obsolete in shell commands, if anything is.
    pub(crate) fn judge(&self, commands: &str) -> Option<HookJudgement> {
        self.judge_within(commands, DEPTH)
    }

    fn judge_within(&self, commands: &str, depth: usize) -> Option<HookJudgement> {
        let parsed = command::parse(commands);
        let mut deeds = BTreeSet::new();
        let mut all = parsed.whole;
        for verdict in self.verdicts(&parsed, depth) {
            match verdict {
                HookVerdict::Old(done) => deeds.extend(done),
                HookVerdict::Mixed(done) => {
                    deeds.extend(done);
                    all = false;
                }
                HookVerdict::Harmless => {}
                HookVerdict::Other => all = false,
            }
        }
        let share = if all { Share::All } else { Share::Some };
        (!deeds.is_empty()).then_some(HookJudgement { deeds, share })
    }

    /// Commands without what is obsolete, empty if everything is; none if that cannot be separated.
    pub(crate) fn without(&self, commands: &str) -> Option<String> {
        let parsed = command::parse(commands);
        if !parsed.whole {
            return None;
        }
        let verdicts = self.verdicts(&parsed, DEPTH);
        let mut kept: Option<&Simple> = None;
        let mut cuts = Vec::new();
        let mut gone = false;
        for (simple, verdict) in parsed.simple.iter().zip(&verdicts) {
            match verdict {
                HookVerdict::Old(_) => gone = true,
                // The operator left between the two would mean something else.
                HookVerdict::Other | HookVerdict::Mixed(_) if gone => return None,
                HookVerdict::Mixed(_) => {
                    cuts.extend(self.hook_options(simple)?);
                    kept = Some(simple);
                }
                HookVerdict::Other => kept = Some(simple),
                HookVerdict::Harmless => {}
            }
        }
        let Some(last) = kept else {
            return Some(String::new());
        };
        let mut rest = if gone {
            commands[..last.end()].to_owned()
        } else {
            commands.to_owned()
        };
        for cut in cuts.into_iter().rev() {
            rest.replace_range(cut, "");
        }
        Some(rest)
    }

    fn verdicts(&self, parsed: &command::Commands, depth: usize) -> Vec<HookVerdict> {
        let simple: Vec<Simple> = parsed
            .simple
            .iter()
            .map(|simple| expanded(simple, &parsed.variables))
            .collect();
        let mut copied = BTreeSet::new();
        let mut verdicts = Vec::new();
        for simple in &simple {
            verdicts.push(self.verdict(simple, &mut copied, depth));
        }
        verdicts
    }

    fn verdict(
        &self,
        simple: &Simple,
        copied: &mut BTreeSet<PathBuf>,
        depth: usize,
    ) -> HookVerdict {
        if let Some(verdict) = self.of_service(simple)
            && !matches!(verdict, HookVerdict::Other)
        {
            return verdict;
        }
        let program = simple.program();
        if Client::of_program(program).is_some() {
            return self.of_client(simple, depth);
        }
        if let Some(inner) = self.inner(simple, depth) {
            return inner;
        }
        let copies = self.copies(simple);
        if !copies.is_empty() {
            copied.extend(copies.iter().map(PathBuf::from));
            return HookVerdict::Old(copies.into_iter().map(Deed::Copies).collect());
        }
        if ADJUSTING.contains(&program) && self.all_ours(simple, copied) {
            return HookVerdict::Old(BTreeSet::from([Deed::Adjusts]));
        }
        if HARMLESS.contains(&program) && simple.writes.is_empty() {
            return HookVerdict::Harmless;
        }
        // Converts while copying, like openssl.
        let of_lineage = simple.arguments().any(|word| self.is_lineage(word));
        let mut arguments = simple.arguments();
        match arguments.find(|word| of_lineage && self.is_target(word)) {
            Some(named) => HookVerdict::Mixed(BTreeSet::from([Deed::Copies(named.to_owned())])),
            None => HookVerdict::Other,
        }
    }

    /// What the hooks on a client's command line do.
    fn of_client(&self, simple: &Simple, depth: usize) -> HookVerdict {
        let mut deeds = BTreeSet::new();
        for (_, commands) in hooks_on(simple) {
            let judged = self.judge_within(&commands, depth.saturating_sub(1));
            deeds.extend(judged.into_iter().flat_map(|judgement| judgement.deeds));
        }
        if deeds.is_empty() {
            HookVerdict::Other
        } else {
            HookVerdict::Mixed(deeds)
        }
    }

    /// The positions of the obsolete hooks on a client's command line, with the space before each; none if one does more.
    fn hook_options(&self, simple: &Simple) -> Option<Vec<std::ops::Range<usize>>> {
        Client::of_program(simple.program())?;
        let mut cuts = Vec::new();
        for (span, commands) in hooks_on(simple) {
            match self.judge(&commands).map(|judgement| judgement.share) {
                Some(Share::All) => cuts.push(span),
                Some(Share::Some) => return None,
                None => {}
            }
        }
        Some(cuts)
    }

    /// What a script, or a command line for another shell, does; none if the command is neither.
    fn inner(&self, simple: &Simple, depth: usize) -> Option<HookVerdict> {
        let text = self.inner_text(simple, depth)?;
        let judged = self.judge_within(&text, depth - 1);
        Some(match judged {
            None => HookVerdict::Other,
            Some(HookJudgement {
                deeds,
                share: Share::All,
            }) => HookVerdict::Old(deeds),
            Some(HookJudgement { deeds, .. }) => HookVerdict::Mixed(deeds),
        })
    }

    fn inner_text(&self, simple: &Simple, depth: usize) -> Option<String> {
        if depth == 0 {
            return None;
        }
        let script = |path: &str| {
            let read = self.tree.text(Path::new(path)).ok().flatten()?;
            let first = read.lines().next().unwrap_or_default();
            (first.starts_with("#!") && first.contains("sh")).then_some(read)
        };
        let program = simple.program();
        if ["sh", "bash", "dash", "su"].contains(&program) {
            let mut arguments = simple.arguments();
            // `-c`, `-ec`, `-lc`
            let text = |word: &str| {
                word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
            };
            return if arguments.any(text) {
                arguments.next().map(str::to_owned)
            } else {
                self.tree
                    .text(Path::new(simple.operands().next()?))
                    .ok()
                    .flatten()
            };
        }
        let path = &simple.command().first()?.text;
        path.starts_with('/').then(|| script(path)).flatten()
    }

    /// The files that a command writes for a server.
    fn copies(&self, simple: &Simple) -> Vec<String> {
        let mut to: Vec<&str> = simple.writes.iter().map(|word| &*word.text).collect();
        let program = simple.program();
        if COPYING.contains(&program) {
            let given = simple.arguments().zip(simple.arguments().skip(1));
            let directory = given
                .filter(|(option, _)| *option == "-t")
                .map(|(_, value)| value)
                .next();
            let long = simple
                .arguments()
                .find_map(|word| word.strip_prefix("--target-directory="));
            to.extend(directory.or(long).or(simple.operands().next_back()));
        } else if program == "tee" {
            to.extend(simple.operands());
        }
        let of_lineage = simple.arguments().any(|word| self.is_lineage(word));
        to.into_iter()
            .filter(|to| {
                let from = simple.operands();
                self.is_target(to)
                    || from
                        .into_iter()
                        .any(|from| self.is_target(&joined(to, from)))
                    || (of_lineage && self.is_named_for_server(to))
            })
            .map(str::to_owned)
            .collect()
    }

    /// Whether every path in a command is a copy or belongs to an instance.
    fn all_ours(&self, simple: &Simple, copied: &BTreeSet<PathBuf>) -> bool {
        let mut paths = simple
            .operands()
            .filter(|word| word.contains('/') || word.starts_with('$'))
            .peekable();
        let ours = |path: &str| {
            let path = Path::new(path);
            let near = |copy: &PathBuf| {
                path == copy || path.starts_with(copy) || copy.parent() == Some(path)
            };
            self.is_target(&path.to_string_lossy())
                || copied.iter().any(near)
                || within_copy(path, copied)
        };
        paths.peek().is_some() && paths.all(ours)
    }

    /// Whether a path is a file of an instance, or is in one of its directories.
    fn is_target(&self, word: &str) -> bool {
        let path = Path::new(word);
        path.is_absolute()
            && self.scopes.iter().any(|scope| {
                scope.files.contains(path)
                    || scope.directories.iter().any(|own| path.starts_with(own))
            })
    }

    fn is_lineage(&self, word: &str) -> bool {
        // Variables that certbot and acme.sh set for a hook.
        let variables = ["RENEWED_LINEAGE", "CERT_FULLCHAIN_PATH", "CERT_KEY_PATH"];
        let path = Path::new(word);
        let mut lineages = self.scopes.iter().flat_map(|scope| &scope.lineages);
        variables.iter().any(|name| word.contains(name))
            || lineages.any(|directory| path.starts_with(directory))
    }
}

fn has_client(commands: &str) -> bool {
    let parsed = command::parse(commands);
    let mut programs = parsed.simple.iter().map(Simple::program);
    programs.any(|program| Client::of_program(program).is_some())
}

/// Whether a pattern in a directory covers what was copied there.
fn within_copy(path: &Path, copied: &BTreeSet<PathBuf>) -> bool {
    let parent = path.parent().unwrap_or(path);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    // `chmod 600 /etc/tls/*.pem` after copies to `/etc/tls/a.pem`.
    file.contains('*')
        && copied
            .iter()
            .any(|copy| copy == parent || copy.parent() == Some(parent))
}

/// The path of `from` after a copy to the directory `to`.
fn joined(to: &str, from: &str) -> String {
    let name = Path::new(from).file_name().unwrap_or_default();
    Path::new(to).join(name).to_string_lossy().into_owned()
}

/// Each hook on a client's command line: the position of option and value, with the space before, and the value.
fn hooks_on(simple: &Simple) -> Vec<(std::ops::Range<usize>, String)> {
    let words = simple.command();
    let mut hooks = Vec::new();
    let mut at = 1;
    while at < words.len() {
        let start = words[at - 1].span.end;
        let (option, value) = match words[at].text.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (&*words[at].text, None),
        };
        if option.starts_with("--") && (option.ends_with("-hook") || option == "--reloadcmd") {
            let last = at + usize::from(value.is_none());
            let value = value.or(words.get(last).map(|word| &*word.text));
            let end = words
                .get(last)
                .map_or(words[at].span.end, |word| word.span.end);
            hooks.push((start..end, value.unwrap_or_default().to_owned()));
            at = last;
        }
        at += 1;
    }
    hooks
}

/// A command with the variables of the text expanded.
fn expanded(simple: &Simple, variables: &BTreeMap<String, String>) -> Simple {
    let mut simple = simple.clone();
    let words = simple.words.iter_mut().chain(&mut simple.writes);
    for word in words.filter(|word| word.text.contains('$')) {
        // If one name is the beginning of another, the longer one first.
        for (name, value) in variables.iter().rev() {
            word.text = word.text.replace(&format!("${{{name}}}"), value);
            word.text = word.text.replace(&format!("${name}"), value);
        }
    }
    simple
}

#[cfg(test)]
mod tests;
