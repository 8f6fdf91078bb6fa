//! Where ACME clients keep schedules and hooks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::contents::{AreaContents, HookPlace};
use super::crontab::Crontab;
use super::tree::Tree;
use super::{acme_sh, certbot, command, crontab, schedule};

/// A part of the host's files that is read in one go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// What certbot keeps in this directory.
    Certbot(PathBuf),
    /// What acme.sh keeps in this directory.
    AcmeSh(PathBuf),
    /// What acme.sh keeps for the one certificate in this directory.
    Certificate(PathBuf),
    /// The `cli.ini` in a user's home.
    Home(PathBuf),
    /// The host's settings: for dehydrated, for certbot on Fedora, and units.
    Settings,
    Crontabs,
}

/// The homes of all users in `/etc/passwd`, root's first.
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
        .filter(|home| home.is_absolute() && !nowhere.iter().any(|path| home == Path::new(path)))
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
    /// Reads it. `systemd` says whether that is process 1: certbot's crontab on Debian then leaves the work to its timer.
    pub fn look(&self, tree: &Tree, systemd: bool) -> AreaContents {
        let mut contents = AreaContents::default();
        match self {
            Area::Certbot(home) => certbot::hooks(tree, home, &mut contents),
            Area::AcmeSh(home) => acme_sh::hooks(tree, home, &mut contents),
            Area::Certificate(directory) => acme_sh::of_certificate(tree, directory, &mut contents),
            Area::Home(home) => {
                certbot::settings(
                    tree,
                    &home.join(".config/letsencrypt/cli.ini"),
                    None,
                    &mut contents,
                );
            }
            Area::Settings => settings(tree, &mut contents),
            Area::Crontabs => crontabs(tree, systemd, &mut contents),
        }
        contents
    }

    /// Where it is, as part of a sentence.
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

fn settings(tree: &Tree, contents: &mut AreaContents) {
    certbot::sysconfig(tree, contents);
    let mut configs = vec![PathBuf::from("/etc/dehydrated/config")];
    let more = tree.list(Path::new("/etc/dehydrated/conf.d"));
    configs.extend(contents.or_note(more));
    for config in configs {
        let text = contents.or_note(tree.text(&config)).unwrap_or_default();
        if let Some(hook) = command::parse(&text).variables.remove("HOOK") {
            let hook = PathBuf::from(hook);
            let text = contents.or_note(tree.text(&hook)).unwrap_or_default();
            contents.add(HookPlace::File(hook), text);
        }
    }
    units(tree, contents);
}

/// What the administrator's own units for a client run.
fn units(tree: &Tree, contents: &mut AreaContents) {
    const UNITS: &str = "/etc/systemd/system";
    let client = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = ["certbot", "acme", "dehydrated", "lego", "snap.certbot"];
        known.iter().any(|word| name.starts_with(word))
    };
    let units = contents.or_note(tree.list(Path::new(UNITS)));
    let mut files = Vec::new();
    for unit in units.iter().filter(client) {
        match unit.extension().and_then(|name| name.to_str()) {
            Some("service") => files.push(unit.clone()),
            Some("d") => files.extend(contents.or_note(tree.list(unit))),
            _ => {}
        }
    }
    for file in files {
        let text = contents.or_note(tree.text(&file)).unwrap_or_default();
        for line in text
            .lines()
            .filter(|line| line.trim_start().starts_with("Exec"))
        {
            if let Some((_, run)) = line.split_once('=') {
                let run = run.trim_start_matches(['-', '@', ':', '+', '!']);
                contents.add(HookPlace::File(file.clone()), run.to_owned());
            }
        }
    }
}

fn crontabs(tree: &Tree, systemd: bool, contents: &mut AreaContents) {
    for Crontab { file, user, lines } in crontab::all(tree, contents) {
        for line in lines {
            let command = &line.text[line.at..];
            let schedules = schedule::of_cron(&file, command, systemd);
            contents.schedules.extend(schedules);
            let commands = command.to_owned();
            let place = HookPlace::Crontab {
                file: file.clone(),
                user: user.clone(),
                line: line.text,
                at: line.at,
            };
            contents.add(place, commands);
        }
    }
    for file in crontab::programs(tree, contents) {
        let text = contents.or_note(tree.text(&file)).unwrap_or_default();
        contents
            .schedules
            .extend(schedule::of_cron(&file, &text, systemd));
        let link = tree.link(&file);
        contents.add(HookPlace::Program { file, link }, text);
    }
}

#[cfg(test)]
mod tests;
