//! Which paths an instance needs, and which of them a unit's sandbox denies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::rules::{Denial, Need, Sandbox};
use crate::check::names::quoted;
use crate::check::unit::{DROP_INS, UNIT};
use crate::config::{Config, InstanceConfig, Mode, Reload};
use crate::host::patience::Questions;

/// Paths, and what the daemon does with each.
pub(crate) type Needs = BTreeSet<(PathBuf, Need)>;

/// What an instance needs whose lineage is reached through these directories.
pub(crate) fn needs(
    config: &Config,
    instance: &InstanceConfig,
    lineage: &BTreeSet<PathBuf>,
) -> Needs {
    let mut needs = BTreeSet::from([(instance.home().to_owned(), Need::Read)]);
    needs.extend(lineage.iter().map(|path| (path.clone(), Need::Read)));
    let trust_files = instance.trust_files();
    let sources = trust_files.present().map(|(_, found)| found.source.clone());
    let elsewhere = sources.filter(|source| source.is_absolute());
    needs.extend(elsewhere.map(|source| (source, Need::Read)));
    if instance.mode == Mode::Manage {
        let directories = instance.targets().filter_map(Path::parent);
        needs.extend(directories.map(|file| (file.to_owned(), Need::Write)));
        needs.insert((config.state_of(instance), Need::Write));
    }
    if let Reload::Command(words) = &instance.reload
        && let Some(program) = words.first().map(Path::new)
        && program.is_absolute()
    {
        needs.insert((program.to_owned(), Need::Run));
        needs.insert((program.to_owned(), Need::Read));
    }
    needs
}

/// What a sandbox denies of what is needed; displayed as a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortfall {
    denials: Vec<Denial>,
}

impl Shortfall {
    /// None if everything is allowed. Follows links, which can be slow.
    pub(crate) fn between(sandbox: &Sandbox, needs: &Needs) -> Option<Shortfall> {
        let paths = needs.iter().map(|(path, _)| path.clone());
        let followed: BTreeMap<PathBuf, PathBuf> =
            Questions::default().ask(paths, |path: &PathBuf| real(path));
        let mut denials: Vec<Denial> = Vec::new();
        for (path, need) in needs {
            for path in [Some(path), followed.get(path)].into_iter().flatten() {
                let denied = sandbox.denies(path, *need);
                denials.extend(denied.filter(|denial| !denials.contains(denial)));
            }
        }
        // What cannot be seen is not told again as what cannot be written.
        let written: Vec<PathBuf> = denials
            .iter()
            .filter(|denial| denial.need == Need::Write)
            .map(|denial| denial.path.clone())
            .collect();
        denials.retain(|found| found.need != Need::Read || !written.contains(&found.path));
        (!denials.is_empty()).then_some(Shortfall { denials })
    }

    /// The lines of a drop-in that allow all of it.
    ///
    /// # Errors
    /// A sentence: a drop-in should not allow it, or cannot.
    pub(crate) fn settings(&self) -> Result<BTreeSet<String>, String> {
        let mut lines = BTreeSet::new();
        for denial in &self.denials {
            match &denial.settings {
                Some(settings) => lines.extend(settings.iter().cloned()),
                None => {
                    return Err(format!(
                        "move {} elsewhere, or undo {} with `systemctl edit pgcertd`",
                        denial.path.display(),
                        denial.by
                    ));
                }
            }
        }
        Ok(lines)
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen: Vec<String> = self.denials.iter().map(ToString::to_string).collect();
        f.write_str(&seen.join("; "))
    }
}

/// The command that adds these lines to a drop-in of the instance's own.
pub(crate) fn command(name: &str, lines: &BTreeSet<String>) -> String {
    let file = format!("{DROP_INS}/paths-{name}.conf");
    let words: Vec<String> = lines.iter().map(quoted).collect();
    format!(
        "mkdir -p {DROP_INS} && printf '%s\\n' '[Service]' {} >>{file} && \
         systemctl daemon-reload && systemctl try-restart {UNIT}",
        words.join(" ")
    )
}

/// The path with links followed in the longest part of it that exists.
fn real(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}
