//! What a command does to a server, judged only by the exact names that the instances' servers run under.
//!
//! A name that only looks similar (`postgrest`, `postgres_exporter`) belongs to somebody else. A command that may affect more
//! than the instances (several clusters, a pattern, a container, other hosts) doesn't count as theirs alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::command::Simple;
use super::judge::{Deed, HookVerdict, Judge};
use crate::config::ServerKind;

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Restart,
    Reload,
    /// Does nothing to a running server.
    Start,
    /// Only looks.
    Look,
}

/// Whose server a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Only to an instance.
    Instance(ServerKind),
    /// To an instance, and perhaps to others.
    Shared(ServerKind),
    Other,
}

/// Options of `systemctl` that take the next word as a value.
const VALUED_OF_SYSTEMCTL: [&str; 9] = [
    "-s",
    "--signal",
    "-t",
    "--type",
    "-p",
    "--property",
    "--kill-who",
    "--kill-whom",
    "--job-mode",
];

/// Those of `pkill` and its like.
const VALUED_OF_PKILL: [&str; 8] = ["-u", "-U", "-g", "-G", "-P", "-t", "-s", "--signal"];

/// Those of `docker exec`.
const VALUED_OF_EXEC: [&str; 6] = ["-u", "--user", "-e", "--env", "-w", "--workdir"];

/// Those of `patronictl`.
const VALUED_OF_PATRONICTL: [&str; 6] = ["-c", "--config-file", "-d", "--dcs-url", "-k", "--dcs"];

impl Judge {
    /// What a command does to servers; none if its program doesn't deal with them.
    pub(super) fn of_service(&self, simple: &Simple) -> Option<HookVerdict> {
        let arguments: Vec<&str> = simple.arguments().collect();
        let first = simple.command().first().map_or("", |word| &*word.text);
        if let Some((_, unit)) = first.rsplit_once("/init.d/") {
            return Some(self.of_script(unit, arguments.first().copied()));
        }
        Some(match simple.program() {
            "systemctl" => self.of_systemctl(&arguments),
            "service" | "rc-service" | "invoke-rc.d" => {
                let words = operands(&arguments, &[]);
                self.of_script(words.first()?, words.get(1).copied())
            }
            "sv" => {
                let words = operands(&arguments, &[]);
                self.done(act(words.first()?)?, &words[1..])
            }
            "docker" | "podman" | "docker-compose" | "podman-compose" => {
                self.of_container(simple, &arguments)?
            }
            "pg_ctl" => self.of_pg_ctl(&arguments)?,
            "pg_ctlcluster" => self.of_pg_ctlcluster(&arguments)?,
            "psql" => self.of_psql(&arguments)?,
            "patronictl" => self.of_patronictl(&arguments)?,
            "pkill" | "killall" | "pgrep" | "pidof" => {
                self.of_name(simple.program(), &arguments)?
            }
            // `kill -HUP $(head -1 postmaster.pid)`
            "head" | "cat" => arguments.iter().find_map(|word| self.of_pid_file(word))?,
            _ => return None,
        })
    }

    /// Whether an instance is of this kind.
    pub(super) fn has(&self, kind: ServerKind) -> bool {
        self.scopes.iter().any(|scope| scope.kind == kind)
    }

    fn of_systemctl(&self, arguments: &[&str]) -> HookVerdict {
        let elsewhere = |word: &&str| {
            let options = ["-H", "--host", "-M", "--machine", "--user"];
            options.contains(&word.split('=').next().unwrap_or(word))
        };
        let words = operands(arguments, &VALUED_OF_SYSTEMCTL);
        match words.split_first() {
            Some((verb, units)) if !arguments.iter().any(elsewhere) => match act(verb) {
                Some(act) => self.done(act, units),
                None => HookVerdict::Other,
            },
            _ => HookVerdict::Other,
        }
    }

    fn of_script(&self, unit: &str, verb: Option<&str>) -> HookVerdict {
        match verb.and_then(act) {
            Some(act) => self.done(act, &[unit]),
            None => HookVerdict::Other,
        }
    }

    /// A container is only known by its name, which says little.
    fn of_container(&self, simple: &Simple, arguments: &[&str]) -> Option<HookVerdict> {
        let words = operands(arguments, &VALUED_OF_EXEC);
        let words = match words.first() {
            Some(&"compose") => &words[1..],
            _ => &words[..],
        };
        let verdict = match words.split_first()? {
            (&"exec", [_, program, ..]) => {
                let command = simple.command();
                let at = command.iter().position(|word| word.text == *program)?;
                let inner = Simple {
                    words: command[at..].to_vec(),
                    ..Simple::default()
                };
                self.of_service(&inner)?
            }
            (verb, containers) => self.done(act(verb)?, containers),
        };
        Some(match verdict {
            HookVerdict::Old(deeds) => HookVerdict::Mixed(deeds),
            other => other,
        })
    }

    fn of_pg_ctl(&self, arguments: &[&str]) -> Option<HookVerdict> {
        let act = arguments.iter().find_map(|word| act(word))?;
        let mut rest = arguments.iter();
        let mut directory = None;
        while let Some(word) = rest.next() {
            match word.strip_prefix("-D").or(word.strip_prefix("--pgdata=")) {
                Some("") => directory = rest.next().copied(),
                Some(named) => directory = Some(named),
                None => {}
            }
        }
        let owner = match directory {
            None => Owner::Shared(ServerKind::Postgres),
            Some(named) if named.contains('$') => Owner::Shared(ServerKind::Postgres),
            Some(named) if self.is_home(Path::new(named)) => Owner::Instance(ServerKind::Postgres),
            Some(_) => Owner::Other,
        };
        Some(self.judged(act, [owner]))
    }

    fn of_pg_ctlcluster(&self, arguments: &[&str]) -> Option<HookVerdict> {
        let words = operands(arguments, &[]);
        let [version, name, verb, ..] = words[..] else {
            return None;
        };
        Some(self.judged(act(verb)?, [self.owner_of_cluster(version, name)]))
    }

    fn of_psql(&self, arguments: &[&str]) -> Option<HookVerdict> {
        let of_pooler = || {
            let reload = |word: &&str| word.trim_end_matches(';').eq_ignore_ascii_case("reload");
            arguments.iter().any(reload) && arguments.iter().any(|word| word.contains("pgbouncer"))
        };
        let owner = if arguments.iter().any(|word| word.contains("pg_reload_conf")) {
            self.owner_of_all_clusters()
        } else if of_pooler() {
            Owner::Shared(ServerKind::PgBouncer)
        } else {
            return None;
        };
        let mut hosts = arguments
            .windows(2)
            .filter(|pair| ["-h", "--host"].contains(&pair[0]));
        let host = hosts.next().map(|pair| pair[1]).or_else(|| {
            let mut words = arguments.iter();
            words.find_map(|word| word.strip_prefix("--host=").or(word.strip_prefix("-h")))
        });
        let is_here = |host: &str| {
            host.starts_with('/') || ["", "localhost", "127.0.0.1", "::1"].contains(&host)
        };
        let named_elsewhere = arguments
            .iter()
            .any(|word| word.contains("host=") || word.contains("://"));
        if named_elsewhere || !host.is_none_or(is_here) {
            return Some(HookVerdict::Other);
        }
        Some(self.judged(Act::Reload, [owner]))
    }

    /// It also reaches members on other hosts.
    fn of_patronictl(&self, arguments: &[&str]) -> Option<HookVerdict> {
        let words = operands(arguments, &VALUED_OF_PATRONICTL);
        let act = act(words.first()?)?;
        let kind = match act {
            // Patroni itself keeps running.
            Act::Restart => ServerKind::Postgres,
            _ if self.has(ServerKind::Patroni) => ServerKind::Patroni,
            _ => ServerKind::Postgres,
        };
        let known = self.has(ServerKind::Postgres) || self.has(ServerKind::Patroni);
        let owner = if known {
            Owner::Shared(kind)
        } else {
            Owner::Other
        };
        Some(self.judged_anyway(act, [owner]))
    }

    /// Processes by their program's name.
    fn of_name(&self, program: &str, arguments: &[&str]) -> Option<HookVerdict> {
        let has = |options: &[&str]| arguments.iter().any(|word| options.contains(word));
        let hangs_up = has(&["-HUP", "-SIGHUP", "-1", "--signal=HUP", "HUP", "SIGHUP"]);
        let act = if hangs_up || ["pgrep", "pidof"].contains(&program) {
            Act::Reload
        } else {
            Act::Restart
        };
        let whole_name = has(&["-x", "--exact"]) || ["killall", "pidof"].contains(&program);
        let owner = |pattern: &&str| {
            let anchored = pattern.starts_with('^') && pattern.ends_with('$');
            let is_letter = |character: char| {
                character.is_ascii_alphanumeric() || character == '_' || character == '-'
            };
            let names = || pattern.split(|character| !is_letter(character));
            let kind = names().find_map(kind_of_program)?;
            let exact =
                (whole_name || anchored) && names().filter(|name| !name.is_empty()).count() == 1;
            Some(if exact && kind == ServerKind::Postgres {
                self.owner_of_all_clusters()
            } else {
                Owner::Shared(kind)
            })
        };
        let patterns = operands(arguments, &VALUED_OF_PKILL);
        let owners: Vec<Owner> = patterns.iter().filter_map(owner).collect();
        (!owners.is_empty()).then(|| self.judged(act, owners))
    }

    fn of_pid_file(&self, word: &str) -> Option<HookVerdict> {
        let path = Path::new(word);
        let owner = match path.file_name()?.to_str()? {
            "postmaster.pid" => match path.parent() {
                Some(directory) if self.is_home(directory) => Owner::Instance(ServerKind::Postgres),
                _ if word.contains('$') => Owner::Shared(ServerKind::Postgres),
                _ => Owner::Other,
            },
            "pgbouncer.pid" => Owner::Shared(ServerKind::PgBouncer),
            "patroni.pid" => Owner::Shared(ServerKind::Patroni),
            _ => return None,
        };
        Some(self.judged(Act::Reload, [owner]))
    }

    fn done(&self, act: Act, units: &[&str]) -> HookVerdict {
        self.judged(act, units.iter().map(|unit| self.owner_of_unit(unit)))
    }

    /// The verdict on an act on servers of these owners; a kind without an instance belongs to somebody else.
    fn judged(&self, act: Act, owners: impl IntoIterator<Item = Owner>) -> HookVerdict {
        let known = |owner: Owner| match owner {
            Owner::Instance(kind) | Owner::Shared(kind) if !self.has(kind) => Owner::Other,
            owner => owner,
        };
        self.judged_anyway(act, owners.into_iter().map(known))
    }

    fn judged_anyway(&self, act: Act, owners: impl IntoIterator<Item = Owner>) -> HookVerdict {
        let mut kinds = BTreeSet::new();
        let mut all = true;
        for owner in owners {
            match owner {
                Owner::Instance(kind) => drop(kinds.insert(kind)),
                Owner::Shared(kind) => {
                    kinds.insert(kind);
                    all = false;
                }
                Owner::Other => all = false,
            }
        }
        let deed = match act {
            Act::Restart => Deed::Restarts,
            Act::Reload => Deed::Reloads,
            Act::Look => return HookVerdict::Harmless,
            Act::Start if all && !kinds.is_empty() => return HookVerdict::Harmless,
            Act::Start => return HookVerdict::Other,
        };
        let deeds: BTreeSet<Deed> = kinds.into_iter().map(deed).collect();
        match (deeds.is_empty(), all) {
            (true, _) => HookVerdict::Other,
            (false, true) => HookVerdict::Old(deeds),
            (false, false) => HookVerdict::Mixed(deeds),
        }
    }

    fn owner_of_unit(&self, unit: &str) -> Owner {
        let unit = unit.strip_suffix(".service").unwrap_or(unit);
        if let Some(glob) = unit.find(['*', '?', '[', '$']) {
            let mut names = UNITS.iter();
            let named = names.find(|(name, kind)| {
                let reaches = name.starts_with(&unit[..glob]) || unit.starts_with(name);
                reaches && self.has(*kind)
            });
            return named.map_or(Owner::Other, |(_, kind)| Owner::Shared(*kind));
        }
        let (base, instance) = match unit.split_once('@') {
            Some((base, instance)) => (base, Some(instance)),
            None => (unit, None),
        };
        match (base, instance) {
            ("postgresql", Some(cluster)) => match cluster.split_once('-') {
                Some((version, name)) => self.owner_of_cluster(version, name),
                None => Owner::Shared(ServerKind::Postgres),
            },
            ("postgresql" | "postgres", None) => self.owner_of_all_clusters(),
            ("pgbouncer", None) if self.is_home(Path::new("/etc/pgbouncer/pgbouncer.ini")) => {
                Owner::Instance(ServerKind::PgBouncer)
            }
            ("pgbouncer", _) => Owner::Shared(ServerKind::PgBouncer),
            // It takes the Postgres that it runs with it.
            ("patroni", _) => match (
                self.has(ServerKind::Patroni),
                self.has(ServerKind::Postgres),
            ) {
                (true, true) if instance.is_none() => Owner::Instance(ServerKind::Patroni),
                (true, _) => Owner::Shared(ServerKind::Patroni),
                (false, _) => Owner::Shared(ServerKind::Postgres),
            },
            (_, None) => match base.strip_prefix("postgresql-") {
                Some(version) if is_version(version) => {
                    self.owner_of_directory(&Path::new("/var/lib/pgsql").join(version).join("data"))
                }
                _ => Owner::Other,
            },
            _ => Owner::Other,
        }
    }

    /// The owner of one of Debian's clusters.
    fn owner_of_cluster(&self, version: &str, name: &str) -> Owner {
        if !is_version(version) || name.contains('$') {
            return Owner::Shared(ServerKind::Postgres);
        }
        let configured = Path::new("/etc/postgresql").join(version).join(name);
        let text = self.tree.text(&configured.join("postgresql.conf"));
        let text = text.ok().flatten().unwrap_or_default();
        let mut lines = text.lines().map(str::trim_start);
        let named = lines.find_map(|line| {
            let (key, value) = line.split_once('=')?;
            let named = key.trim() == "data_directory";
            named
                .then(|| value.split('\'').nth(1))
                .flatten()
                .map(str::to_owned)
        });
        match named {
            Some(directory) => self.owner_of_directory(Path::new(&directory)),
            None => {
                let home = Path::new("/var/lib/postgresql").join(version).join(name);
                self.owner_of_directory(&home)
            }
        }
    }

    fn owner_of_directory(&self, directory: &Path) -> Owner {
        if self.is_home(directory) {
            Owner::Instance(ServerKind::Postgres)
        } else if self.tree.is_directory(directory) {
            Owner::Other
        } else {
            Owner::Shared(ServerKind::Postgres)
        }
    }

    /// The owner of every cluster on this host.
    fn owner_of_all_clusters(&self) -> Owner {
        let list = |directory: &Path| self.tree.list(directory).unwrap_or_default();
        let versions = list(Path::new("/etc/postgresql"));
        let mut clusters = versions.iter().flat_map(|version| list(version));
        let all = clusters.all(|cluster| {
            let name = |path: &Path| {
                path.file_name()
                    .map(|name| name.to_string_lossy().into_owned())
            };
            let version = cluster.parent().and_then(name).unwrap_or_default();
            let owner = self.owner_of_cluster(&version, &name(&cluster).unwrap_or_default());
            // Only clusters count.
            !is_version(&version) || owner == Owner::Instance(ServerKind::Postgres)
        });
        if all {
            Owner::Instance(ServerKind::Postgres)
        } else {
            Owner::Shared(ServerKind::Postgres)
        }
    }

    /// Whether this data directory or file is an instance's home.
    fn is_home(&self, path: &Path) -> bool {
        self.scopes.iter().any(|scope| scope.home == path)
    }

    /// Whether a path contains the name of a server of an instance's kind, and doesn't belong to another cluster.
    pub(super) fn is_named_for_server(&self, path: &str) -> bool {
        // On another host.
        if path
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':'))
        {
            return false;
        }
        let path = path.to_ascii_lowercase();
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let is_kinds =
            |word: &&str| {
                let stem = word.split('.').next().unwrap_or(word);
                let stem = stem.split_once('-').map_or(stem, |(stem, version)| {
                    if is_version(version) { stem } else { word }
                });
                let kind = match stem {
                    "pgsql" | "pgdata" | "postgresql" => Some(ServerKind::Postgres),
                    name => kind_of_program(name),
                };
                kind.is_some_and(|kind| self.has(kind))
            };
        let anothers = words.windows(3).any(|at| {
            let is_cluster = at[0] == "postgresql" && is_version(at[1]);
            is_cluster && self.owner_of_cluster(at[1], at[2]) == Owner::Other
        });
        words.iter().any(is_kinds) && !anothers
    }
}

/// What the names of units begin with.
const UNITS: [(&str, ServerKind); 4] = [
    ("postgresql", ServerKind::Postgres),
    ("postgres", ServerKind::Postgres),
    ("pgbouncer", ServerKind::PgBouncer),
    ("patroni", ServerKind::Patroni),
];

fn kind_of_program(name: &str) -> Option<ServerKind> {
    match name {
        "postgres" | "postmaster" => Some(ServerKind::Postgres),
        "pgbouncer" => Some(ServerKind::PgBouncer),
        "patroni" => Some(ServerKind::Patroni),
        _ => None,
    }
}

fn is_version(text: &str) -> bool {
    text.starts_with(|character: char| character.is_ascii_digit())
        && text
            .chars()
            .all(|character| character.is_ascii_digit() || character == '.')
}

/// The arguments that are neither options nor values of the `valued` ones.
fn operands<'a>(arguments: &[&'a str], valued: &[&str]) -> Vec<&'a str> {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if valued.contains(word) {
            rest.next();
        } else if !word.starts_with('-') {
            words.push(*word);
        }
    }
    words
}

fn act(verb: &str) -> Option<Act> {
    Some(match verb {
        "restart" | "try-restart" | "condrestart" | "fast-restart" | "stop" => Act::Restart,
        "reload"
        | "reload-or-restart"
        | "try-reload-or-restart"
        | "force-reload"
        | "hup"
        | "kill" => Act::Reload,
        "start" => Act::Start,
        "status" | "show" | "cat" | "is-active" | "is-enabled" | "is-failed" => Act::Look,
        _ => return None,
    })
}
