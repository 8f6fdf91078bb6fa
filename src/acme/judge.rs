//! Whether a hook still does what pgcertd does now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::command::{self, Simple};
use super::{Client, Hook, Place, Tree, crontab};

/// How deep scripts that run scripts are followed.
const DEPTH: usize = 3;

/// What belongs to an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Its targets, and the files that its server's configuration names.
    pub files: BTreeSet<PathBuf>,
    /// Its data directory and its state directory.
    pub directories: BTreeSet<PathBuf>,
    /// The directories in which its lineage lies, `archive/` included.
    pub lineages: BTreeSet<PathBuf>,
}

/// Something that a hook does and need not do any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// It restarts PostgreSQL, or stops it.
    Restarts,
    /// It has PostgreSQL reload.
    Reloads,
    /// It writes this file, or into this directory.
    Copies(String),
    /// It changes owner or mode of what was copied.
    Adjusts,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Restarts => f.write_str("restarts PostgreSQL"),
            Deed::Reloads => f.write_str("reloads PostgreSQL"),
            Deed::Copies(to) => write!(f, "copies to {to}"),
            Deed::Adjusts => f.write_str("changes owner or mode of the copy"),
        }
    }
}

/// How much of a hook that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it: it may go.
    All,
    /// A part, or not all was understood.
    Some,
}

/// What was found in a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it does, each once.
    pub deeds: BTreeSet<Deed>,
    /// How much of it that is.
    pub share: Share,
}

/// Knows the instances.
#[derive(Debug, Clone)]
pub struct Judge {
    tree: Tree,
    scopes: Vec<Scope>,
}

/// Of one simple command.
enum Verdict {
    /// It does nothing else.
    Old(BTreeSet<Deed>),
    /// It does other things as well.
    Mixed(BTreeSet<Deed>),
    /// It does nothing that would be missed.
    Harmless,
    /// It is none of pgcertd's business.
    Other,
}

/// Programs that nobody misses once what they frame is gone.
const HARMLESS: [&str; 24] = [
    "set", "echo", "printf", "logger", "true", ":", "exit", "return", "test", "[", "[[", "umask",
    "cd", "export", "local", "readonly", "unset", "sleep", "date", "trap", "shift", "wait", "id",
    "sync",
];

/// Programs whose last operand is written.
const COPYING: [&str; 6] = ["cp", "mv", "install", "rsync", "ln", "scp"];

/// Programs that change owner or mode, or make way.
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
    /// Of hooks on this host, which has these instances.
    #[must_use]
    pub fn new(tree: Tree, scopes: Vec<Scope>) -> Judge {
        Judge { tree, scopes }
    }

    /// What is old in a hook; none where nothing is. What else cron runs, a weekly restart for one, is no hook: there
    /// the command must run an ACME client, or copy.
    #[must_use]
    pub fn judge_hook(&self, hook: &Hook) -> Option<Judgement> {
        let judgement = self.judge(&hook.commands)?;
        let of_cron = match &hook.place {
            Place::Crontab { .. } => true,
            Place::Program { file, .. } => crontab::is_program(file),
            Place::Setting { .. } | Place::File(_) => false,
        };
        let copies = judgement
            .deeds
            .iter()
            .any(|it| matches!(it, Deed::Copies(_)));
        (!of_cron || copies || has_client(&hook.commands)).then_some(judgement)
    }

    /// What is old in commands that a shell is handed; none where nothing is.
    #[must_use]
    pub fn judge(&self, commands: &str) -> Option<Judgement> {
        self.judge_within(commands, DEPTH)
    }

    fn judge_within(&self, commands: &str, depth: usize) -> Option<Judgement> {
        let parsed = command::parse(commands);
        let mut deeds = BTreeSet::new();
        let mut all = parsed.whole;
        for verdict in self.verdicts(&parsed, depth) {
            match verdict {
                Verdict::Old(done) => deeds.extend(done),
                Verdict::Mixed(done) => {
                    deeds.extend(done);
                    all = false;
                }
                Verdict::Harmless => {}
                Verdict::Other => all = false,
            }
        }
        let share = if all { Share::All } else { Share::Some };
        (!deeds.is_empty()).then_some(Judgement { deeds, share })
    }

    /// Commands without what is old in them, empty where that is all; none where it cannot be told apart.
    #[must_use]
    pub fn without(&self, commands: &str) -> Option<String> {
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
                Verdict::Old(_) => gone = true,
                // Between the two an operator would be left that means something else.
                Verdict::Other | Verdict::Mixed(_) if gone => return None,
                Verdict::Mixed(_) => {
                    cuts.extend(self.hook_options(simple)?);
                    kept = Some(simple);
                }
                Verdict::Other => kept = Some(simple),
                Verdict::Harmless => {}
            }
        }
        let Some(last) = kept else {
            return Some(String::new());
        };
        let mut rest = match gone {
            true => commands[..last.end()].to_owned(),
            false => commands.to_owned(),
        };
        for cut in cuts.into_iter().rev() {
            rest.replace_range(cut, "");
        }
        Some(rest)
    }

    fn verdicts(&self, parsed: &command::Commands, depth: usize) -> Vec<Verdict> {
        let simple: Vec<Simple> = parsed
            .simple
            .iter()
            .map(|simple| expanded(simple, &parsed.variables))
            .collect();
        let serves = simple.iter().any(|it| service_deed(it).is_some());
        let mut copied = BTreeSet::new();
        let mut verdicts = Vec::new();
        for simple in &simple {
            verdicts.push(self.verdict(simple, serves, &mut copied, depth));
        }
        verdicts
    }

    fn verdict(
        &self,
        simple: &Simple,
        serves: bool,
        copied: &mut BTreeSet<PathBuf>,
        depth: usize,
    ) -> Verdict {
        if let Some(deed) = service_deed(simple) {
            return Verdict::Old(BTreeSet::from([deed]));
        }
        let program = simple.program();
        if Client::of_program(program).is_some() {
            return self.of_client(simple, depth);
        }
        if let Some(inner) = self.inner(simple, depth) {
            return inner;
        }
        let copies = self.copies(simple, serves);
        if !copies.is_empty() {
            copied.extend(copies.iter().map(PathBuf::from));
            return Verdict::Old(copies.into_iter().map(Deed::Copies).collect());
        }
        if ADJUSTING.contains(&program) && self.all_ours(simple, copied) {
            return Verdict::Old(BTreeSet::from([Deed::Adjusts]));
        }
        if HARMLESS.contains(&program) && simple.writes.is_empty() {
            return Verdict::Harmless;
        }
        // Converts on the way, as openssl does.
        let of_lineage = simple.arguments().any(|word| self.is_lineage(word));
        let mut arguments = simple.arguments();
        match arguments.find(|word| of_lineage && self.is_target(word)) {
            Some(named) => Verdict::Mixed(BTreeSet::from([Deed::Copies(named.to_owned())])),
            None => Verdict::Other,
        }
    }

    /// What the hooks on a client's command line do.
    fn of_client(&self, simple: &Simple, depth: usize) -> Verdict {
        let mut deeds = BTreeSet::new();
        for (_, commands) in hooks_on(simple) {
            let judged = self.judge_within(&commands, depth.saturating_sub(1));
            deeds.extend(judged.into_iter().flat_map(|it| it.deeds));
        }
        match deeds.is_empty() {
            true => Verdict::Other,
            false => Verdict::Mixed(deeds),
        }
    }

    /// Where the old hooks lie on a client's command line, with the blank before each; none where one does more.
    fn hook_options(&self, simple: &Simple) -> Option<Vec<std::ops::Range<usize>>> {
        Client::of_program(simple.program())?;
        let mut cuts = Vec::new();
        for (span, commands) in hooks_on(simple) {
            match self.judge(&commands).map(|it| it.share) {
                Some(Share::All) => cuts.push(span),
                Some(Share::Some) => return None,
                None => {}
            }
        }
        Some(cuts)
    }

    /// What a script or a text for another shell does; none where the command is neither.
    fn inner(&self, simple: &Simple, depth: usize) -> Option<Verdict> {
        let text = self.inner_text(simple, depth)?;
        let judged = self.judge_within(&text, depth - 1);
        Some(match judged {
            None => Verdict::Other,
            Some(Judgement {
                deeds,
                share: Share::All,
            }) => Verdict::Old(deeds),
            Some(Judgement { deeds, .. }) => Verdict::Mixed(deeds),
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
            return match arguments.any(text) {
                true => arguments.next().map(str::to_owned),
                false => self
                    .tree
                    .text(Path::new(simple.operands().next()?))
                    .ok()
                    .flatten(),
            };
        }
        let path = &simple.command().first()?.text;
        path.starts_with('/').then(|| script(path)).flatten()
    }

    /// The files that a command writes for a server.
    fn copies(&self, simple: &Simple, serves: bool) -> Vec<String> {
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
                .find_map(|it| it.strip_prefix("--target-directory="));
            to.extend(directory.or(long).or(simple.operands().next_back()));
        } else if program == "tee" {
            to.extend(simple.operands());
        }
        let of_lineage = simple.arguments().any(|word| self.is_lineage(word));
        to.into_iter()
            .filter(|to| {
                let for_postgres = serves || is_for_postgres(to);
                let from = simple.operands();
                self.is_target(to)
                    || from
                        .into_iter()
                        .any(|from| self.is_target(&joined(to, from)))
                    || (of_lineage && for_postgres && !to.starts_with("/dev/"))
            })
            .map(str::to_owned)
            .collect()
    }

    /// Whether every path that a command names is a copy or belongs to an instance.
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

    /// Whether a path is a file of an instance, or lies in its directories.
    fn is_target(&self, word: &str) -> bool {
        let path = Path::new(word);
        path.is_absolute()
            && self.scopes.iter().any(|scope| {
                scope.files.contains(path)
                    || scope.directories.iter().any(|it| path.starts_with(it))
            })
    }

    fn is_lineage(&self, word: &str) -> bool {
        // What certbot and acme.sh hand to a hook.
        let handed = ["RENEWED_LINEAGE", "CERT_FULLCHAIN_PATH", "CERT_KEY_PATH"];
        let path = Path::new(word);
        let mut lineages = self.scopes.iter().flat_map(|scope| &scope.lineages);
        handed.iter().any(|it| word.contains(it)) || lineages.any(|it| path.starts_with(it))
    }
}

fn has_client(commands: &str) -> bool {
    let parsed = command::parse(commands);
    let mut programs = parsed.simple.iter().map(Simple::program);
    programs.any(|it| Client::of_program(it).is_some())
}

/// A file that was copied into a directory is named by that directory and its own name.
fn within_copy(path: &Path, copied: &BTreeSet<PathBuf>) -> bool {
    let parent = path.parent().unwrap_or(path);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    // `chmod 600 /etc/tls/*.pem` after copies to `/etc/tls/a.pem`.
    file.contains('*')
        && copied
            .iter()
            .any(|copy| copy == parent || copy.parent() == Some(parent))
}

/// The path of `from` once it was copied to the directory `to`.
fn joined(to: &str, from: &str) -> String {
    let name = Path::new(from).file_name().unwrap_or_default();
    Path::new(to).join(name).to_string_lossy().into_owned()
}

fn is_for_postgres(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["postgres", "pgsql", "pgdata"]
        .iter()
        .any(|it| path.contains(it))
}

/// Each hook on a client's command line: where option and value lie, with the blank before, and the value.
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
            let end = words.get(last).map_or(words[at].span.end, |it| it.span.end);
            hooks.push((start..end, value.unwrap_or_default().to_owned()));
            at = last;
        }
        at += 1;
    }
    hooks
}

/// What a command does to the service PostgreSQL.
fn service_deed(simple: &Simple) -> Option<Deed> {
    let words: Vec<&str> = simple.operands().collect();
    let first = simple.command().first().map_or("", |word| &*word.text);
    let is_server = |word: &&&str| {
        let word = word.to_ascii_lowercase();
        word.starts_with("postgres") || word.starts_with("pgsql")
    };
    let named = words.iter().find(is_server).is_some();
    match simple.program() {
        "systemctl" | "service" | "rc-service" | "invoke-rc.d" | "sv" | "docker" | "podman"
        | "docker-compose" => words
            .iter()
            .find_map(|word| deed_of(word))
            .filter(|_| named),
        _ if first.contains("/init.d/postgres") => words.iter().find_map(|word| deed_of(word)),
        "pg_ctl" | "pg_ctlcluster" => words.iter().find_map(|word| deed_of(word)),
        "psql" => simple
            .arguments()
            .any(|word| word.contains("pg_reload_conf"))
            .then_some(Deed::Reloads),
        "pkill" | "killall" | "kill" | "pgrep" | "pidof" => simple
            .arguments()
            .any(|word| word.contains("postgres") || word.contains("postmaster"))
            .then_some(Deed::Reloads),
        // `kill -HUP $(head -1 postmaster.pid)`
        "head" | "cat" => simple
            .arguments()
            .any(|word| word.ends_with("postmaster.pid"))
            .then_some(Deed::Reloads),
        _ => None,
    }
}

fn deed_of(verb: &str) -> Option<Deed> {
    match verb {
        "restart" | "try-restart" | "condrestart" | "fast-restart" | "stop" | "start" => {
            Some(Deed::Restarts)
        }
        "reload"
        | "reload-or-restart"
        | "try-reload-or-restart"
        | "force-reload"
        | "hup"
        | "kill" => Some(Deed::Reloads),
        _ => None,
    }
}

/// A command with the variables that the text sets put in.
fn expanded(simple: &Simple, variables: &BTreeMap<String, String>) -> Simple {
    let mut simple = simple.clone();
    let words = simple.words.iter_mut().chain(&mut simple.writes);
    for word in words.filter(|word| word.text.contains('$')) {
        // Of two names of which one begins the other, the longer first.
        for (name, value) in variables.iter().rev() {
            word.text = word.text.replace(&format!("${{{name}}}"), value);
            word.text = word.text.replace(&format!("${name}"), value);
        }
    }
    simple
}

#[cfg(test)]
mod tests;
