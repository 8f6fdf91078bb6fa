//! Where schedules and hooks are kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::crontab::Crontab;
use super::schedule::Schedule;
use super::tree::{Tree, Unread};
use super::{Client, acme_sh, certbot, command, crontab, schedule};

/// A part of the host's files, looked at in one go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// What certbot keeps in this directory.
    Certbot(PathBuf),
    /// What acme.sh keeps in this directory.
    AcmeSh(PathBuf),
    /// What acme.sh keeps of the one certificate in this directory.
    Certificate(PathBuf),
    /// The `cli.ini` of a user's home.
    Home(PathBuf),
    /// The host's own settings: those of dehydrated, Fedora's of certbot, units.
    Settings,
    Crontabs,
}

/// A command that runs at renewals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub place: HookPlace,
    /// What a shell is handed.
    pub commands: String,
    /// The lineage that it is for; none where it runs for all.
    pub lineage: Option<PathBuf>,
}

/// Where a hook is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookPlace {
    /// A line of its own in a client's file, which may go.
    Setting {
        file: PathBuf,
        /// The line; the first of several.
        line: String,
        client: Client,
    },
    /// A program in a directory of which each is run.
    Program {
        file: PathBuf,
        /// Where it leads, if it is a link.
        link: Option<PathBuf>,
    },
    /// A line of a crontab.
    Crontab {
        file: PathBuf,
        /// Whose it is, where `crontab` keeps it.
        user: Option<String>,
        line: String,
        /// Where the command begins in it.
        at: usize,
    },
    /// A file that needs a person.
    File(PathBuf),
}

#[derive(Debug, Default)]
pub struct FoundHook {
    /// Hooks, in the order in which they were found.
    pub hooks: Vec<Hook>,
    pub(crate) schedules: Vec<Schedule>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

impl HookPlace {
    pub fn file(&self) -> &Path {
        match self {
            HookPlace::Setting { file, .. }
            | HookPlace::Program { file, .. }
            | HookPlace::Crontab { file, .. }
            | HookPlace::File(file) => file,
        }
    }
}

impl FoundHook {
    /// Takes in what another area holds, but what is known already.
    pub(crate) fn merge(&mut self, other: FoundHook) {
        for hook in other.hooks {
            if !self.hooks.contains(&hook) {
                self.hooks.push(hook);
            }
        }
        self.schedules.extend(other.schedules);
        self.unread.extend(other.unread);
    }

    /// What was read, or nothing with a note of it.
    pub(super) fn seen<T: Default>(&mut self, read: Result<T, Unread>) -> T {
        read.unwrap_or_else(|error| {
            self.unread.push(error);
            T::default()
        })
    }
}

/// The homes of all users, by `/etc/passwd`, root's first.
pub(crate) fn homes(tree: &Tree) -> Vec<PathBuf> {
    let passwd = tree.text(Path::new("/etc/passwd"));
    let passwd = passwd.ok().flatten().unwrap_or_default();
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    let nowhere = [
        "/",
        "/nonexistent",
        "/dev",
        "/proc",
        "/bin",
        "/sbin",
        "/usr/sbin",
    ];
    let others: BTreeSet<PathBuf> = passwd
        .lines()
        .filter_map(home)
        .filter(|home| home.is_absolute() && !nowhere.iter().any(|name| home == Path::new(name)))
        .collect();
    let mut homes = vec![PathBuf::from("/root")];
    homes.extend(others.into_iter().filter(|home| home != Path::new("/root")));
    homes
}

/// All areas of a host whose users have these homes, and whose instances have these lineages.
pub(crate) fn areas(homes: &[PathBuf], lineages: &[PathBuf]) -> BTreeSet<Area> {
    let mut areas = BTreeSet::from([
        Area::Settings,
        Area::Crontabs,
        Area::Certbot(certbot::HOME.into()),
    ]);
    areas.extend(homes.iter().cloned().map(Area::Home));
    areas.extend(acme_sh::homes(homes).into_iter().map(Area::AcmeSh));
    for lineage in lineages {
        areas.extend(certbot::home_of(lineage).map(|home| Area::Certbot(home.to_owned())));
        areas.insert(Area::Certificate(lineage.clone()));
    }
    areas
}

impl Area {
    /// Looks; `systemd` says whether it is process 1, since Debian's crontab of certbot leaves the work to it then.
    pub fn look(&self, tree: &Tree, systemd: bool) -> FoundHook {
        let mut found = FoundHook::default();
        match self {
            Area::Certbot(home) => certbot::hooks(tree, home, &mut found),
            Area::AcmeSh(home) => acme_sh::hooks(tree, home, &mut found),
            Area::Certificate(directory) => acme_sh::of_certificate(tree, directory, &mut found),
            Area::Home(home) => {
                certbot::settings(
                    tree,
                    &home.join(".config/letsencrypt/cli.ini"),
                    None,
                    &mut found,
                );
            }
            Area::Settings => settings(tree, &mut found),
            Area::Crontabs => crontabs(tree, systemd, &mut found),
        }
        found
    }

    /// Where it is, for a sentence.
    pub(crate) fn name(&self) -> String {
        match self {
            Area::Certbot(at) | Area::AcmeSh(at) | Area::Certificate(at) | Area::Home(at) => {
                at.display().to_string()
            }
            Area::Settings => "/etc".into(),
            Area::Crontabs => "/etc/cron.d, /var/spool/cron".into(),
        }
    }
}

fn settings(tree: &Tree, found: &mut FoundHook) {
    certbot::sysconfig(tree, found);
    let mut configs = vec![PathBuf::from("/etc/dehydrated/config")];
    let more = tree.list(Path::new("/etc/dehydrated/conf.d"));
    configs.extend(found.seen(more));
    for config in configs {
        let text = found.seen(tree.text(&config)).unwrap_or_default();
        if let Some(hook) = command::parse(&text).variables.remove("HOOK") {
            let hook = PathBuf::from(hook);
            let text = found.seen(tree.text(&hook)).unwrap_or_default();
            found.add(HookPlace::File(hook), text);
        }
    }
    units(tree, found);
}

/// What the administrator's own units of a client run.
fn units(tree: &Tree, found: &mut FoundHook) {
    const UNITS: &str = "/etc/systemd/system";
    let client = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = ["certbot", "acme", "dehydrated", "lego", "snap.certbot"];
        known.iter().any(|word| name.starts_with(word))
    };
    let units = found.seen(tree.list(Path::new(UNITS)));
    let mut files = Vec::new();
    for unit in units.iter().filter(client) {
        match unit.extension().and_then(|name| name.to_str()) {
            Some("service") => files.push(unit.clone()),
            Some("d") => files.extend(found.seen(tree.list(unit))),
            _ => {}
        }
    }
    for file in files {
        let text = found.seen(tree.text(&file)).unwrap_or_default();
        for line in text
            .lines()
            .filter(|line| line.trim_start().starts_with("Exec"))
        {
            if let Some((_, run)) = line.split_once('=') {
                let run = run.trim_start_matches(['-', '@', ':', '+', '!']);
                found.add(HookPlace::File(file.clone()), run.to_owned());
            }
        }
    }
}

fn crontabs(tree: &Tree, systemd: bool, found: &mut FoundHook) {
    for Crontab { file, user, lines } in crontab::all(tree, found) {
        for line in lines {
            let command = &line.text[line.at..];
            let schedules = schedule::of_cron(&file, command, systemd);
            found.schedules.extend(schedules);
            let commands = command.to_owned();
            let place = HookPlace::Crontab {
                file: file.clone(),
                user: user.clone(),
                line: line.text,
                at: line.at,
            };
            found.add(place, commands);
        }
    }
    for file in crontab::programs(tree, found) {
        let text = found.seen(tree.text(&file)).unwrap_or_default();
        found
            .schedules
            .extend(schedule::of_cron(&file, &text, systemd));
        let link = tree.link(&file);
        found.add(HookPlace::Program { file, link }, text);
    }
}

impl FoundHook {
    fn add(&mut self, place: HookPlace, commands: String) {
        self.hooks.push(Hook {
            place,
            commands,
            lineage: None,
        });
    }
}

#[cfg(test)]
mod tests;
