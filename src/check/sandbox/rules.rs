//! What a unit lets its service see and write (systemd.exec(5), "Sandboxing").
//!
//! Only the settings are read; whether the user has the right to a path is another question. Of several rules for one path
//! the strictest applies, and of rules for nested paths the innermost; but nothing below an inaccessible path comes back.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::check::unit::{self, Unit};

/// What the service does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Look at it, or read it.
    Read,
    Write,
    Run,
}

/// What a rule makes of a path and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SandboxView {
    /// It cannot be seen, nor anything below it.
    Inaccessible,
    /// Something else is there, in which a bind mount may show a part.
    Covered,
    ReadOnly,
    /// It can be seen and written.
    Writable,
    /// Shown, in what covers it.
    Shown,
    /// The same, and it can be written.
    ShownWritable,
    /// Nothing there can be run.
    NoRun,
    Run,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SandboxRule {
    path: PathBuf,
    view: SandboxView,
    /// The setting, as `ProtectHome=yes`.
    by: String,
}

/// The rules of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sandbox {
    rules: Vec<SandboxRule>,
    /// `RootDirectory=` or `RootImage=`: no path is the same as here.
    moved: Option<String>,
}

/// Why something is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) path: PathBuf,
    /// What the service does with it.
    pub(crate) need: Need,
    /// The setting that denies it.
    pub(crate) by: String,
    is_hidden: bool,
    /// The lines of a drop-in that would allow it; none if something else has to change.
    pub(crate) settings: Option<Vec<String>>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let what = match self.need {
            _ if self.is_hidden => "is hidden",
            Need::Read => "is hidden",
            Need::Write => "cannot be written",
            Need::Run => "cannot be run",
        };
        write!(f, "{path} {what} ({})", self.by)
    }
}

impl Sandbox {
    /// As the unit and its drop-ins have it.
    pub(crate) fn from_unit(unit: &Unit) -> Sandbox {
        let mut rules = Vec::new();
        let mut add = |path: &str, view, by: String| {
            rules.push(SandboxRule {
                path: path.into(),
                view,
                by,
            });
        };
        let flag = |key: &str| unit.value(key).filter(|text| !off(text));
        if let Some(home) = flag("ProtectHome") {
            let view = match home {
                "read-only" => SandboxView::ReadOnly,
                "tmpfs" => SandboxView::Covered,
                _ => SandboxView::Inaccessible,
            };
            for path in ["/home", "/root", "/run/user"] {
                add(path, view, format!("ProtectHome={home}"));
            }
        }
        if let Some(system) = flag("ProtectSystem") {
            let by = || format!("ProtectSystem={system}");
            let paths: &[&str] = match system {
                "strict" => &["/"],
                "full" => &["/usr", "/boot", "/efi", "/etc"],
                _ => &["/usr", "/boot", "/efi"],
            };
            paths
                .iter()
                .for_each(|path| add(path, SandboxView::ReadOnly, by()));
            if system == "strict" {
                ["/dev", "/proc", "/sys"]
                    .iter()
                    .for_each(|path| add(path, SandboxView::Writable, by()));
            }
        }
        if let Some(private) = flag("PrivateTmp") {
            for path in ["/tmp", "/var/tmp"] {
                add(path, SandboxView::Covered, format!("PrivateTmp={private}"));
            }
        }
        for (key, below) in DIRECTORIES {
            for word in unit.words(key) {
                let name = word.split(':').next().unwrap_or(&word);
                add(
                    &format!("{below}/{name}"),
                    SandboxView::Writable,
                    format!("{key}={word}"),
                );
            }
        }
        for (key, view) in LISTS {
            for word in unit.words(key) {
                let path = word.trim_start_matches(['-', '+']);
                let mut parts = path.split(':');
                let source = parts.next().unwrap_or(path);
                let shown = match view {
                    SandboxView::Shown | SandboxView::ShownWritable => {
                        parts.next().unwrap_or(source)
                    }
                    _ => source,
                };
                add(&real(shown), view, format!("{key}={word}"));
            }
        }
        let moved = ["RootDirectory", "RootImage"].into_iter().find_map(|key| {
            let value = unit.value(key).filter(|line| *line != "/")?;
            Some(format!("{key}={value}"))
        });
        Sandbox { rules, moved }
    }

    /// Why the service cannot do that with a path, which is absolute and without links.
    pub(crate) fn denies(&self, path: &Path, need: Need) -> Option<Denial> {
        let denied = |by: &str, is_hidden, settings| {
            Some(Denial {
                path: path.to_owned(),
                need,
                by: by.to_owned(),
                is_hidden,
                settings,
            })
        };
        let hidden = |by: &str, settings| denied(by, true, settings);
        let seen = |by: &str, line: Option<String>| denied(by, false, line.map(|line| vec![line]));
        if let Some(moved) = &self.moved {
            return hidden(moved, None);
        }
        let inaccessible = self.innermost(path, &[SandboxView::Inaccessible]);
        if let Some(rule) = inaccessible {
            return hidden(&rule.by, reopened(rule, path, need));
        }
        if let Some(covered) = self.innermost(path, &[SandboxView::Covered]) {
            let shown = self.innermost(path, &[SandboxView::Shown, SandboxView::ShownWritable]);
            if shown.is_none_or(|shown| depth(shown) < depth(covered)) {
                let is_private = covered.by.starts_with("PrivateTmp");
                let line = Some(path)
                    .filter(|_| !is_private)
                    .and_then(|path| bind(path, need));
                return hidden(&covered.by, line.map(|line| vec![line]));
            }
        }
        let views: &[SandboxView] = match need {
            Need::Read => return None,
            Need::Write => &[
                SandboxView::ReadOnly,
                SandboxView::Writable,
                SandboxView::Shown,
                SandboxView::ShownWritable,
            ],
            Need::Run => &[SandboxView::NoRun, SandboxView::Run],
        };
        let rule = self.innermost(path, views)?;
        match rule.view {
            SandboxView::ReadOnly | SandboxView::Shown => seen(&rule.by, write(path)),
            SandboxView::NoRun => seen(&rule.by, listed("ExecPaths", path)),
            _ => None,
        }
    }

    /// The strictest of the innermost rules with one of these views.
    fn innermost(&self, path: &Path, views: &[SandboxView]) -> Option<&SandboxRule> {
        let mut rules: Vec<&SandboxRule> = self
            .rules
            .iter()
            .filter(|rule| views.contains(&rule.view) && path.starts_with(&rule.path))
            .collect();
        rules.sort_by_key(|rule| (std::cmp::Reverse(depth(rule)), rule.view));
        rules.first().copied()
    }
}

/// The lines that open a path that is inaccessible.
fn reopened(rule: &SandboxRule, path: &Path, need: Need) -> Option<Vec<String>> {
    // What the administrator hid by name stays hidden.
    if !rule.by.starts_with("ProtectHome") {
        return None;
    }
    let mut lines = vec!["ProtectHome=read-only".to_owned()];
    if need == Need::Write {
        lines.push(write(path)?);
    }
    Some(lines)
}

/// Settings that make a writable directory below another.
const DIRECTORIES: [(&str, &str); 4] = [
    ("StateDirectory", "/var/lib"),
    ("RuntimeDirectory", "/run"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// Settings that are lists of paths.
const LISTS: [(&str, SandboxView); 8] = [
    ("InaccessiblePaths", SandboxView::Inaccessible),
    ("TemporaryFileSystem", SandboxView::Covered),
    ("ReadOnlyPaths", SandboxView::ReadOnly),
    ("ReadWritePaths", SandboxView::Writable),
    ("BindReadOnlyPaths", SandboxView::Shown),
    ("BindPaths", SandboxView::ShownWritable),
    ("NoExecPaths", SandboxView::NoRun),
    ("ExecPaths", SandboxView::Run),
];

fn off(value: &str) -> bool {
    ["no", "false", "off", "0"].contains(&value)
}

fn depth(rule: &SandboxRule) -> usize {
    rule.path.components().count()
}

/// systemd follows links in the paths of these settings.
fn real(path: &str) -> String {
    let followed = std::fs::canonicalize(path).ok();
    followed.map_or_else(
        || path.to_owned(),
        |file| file.to_string_lossy().into_owned(),
    )
}

fn write(path: &Path) -> Option<String> {
    listed("ReadWritePaths", path)
}

fn bind(path: &Path, need: Need) -> Option<String> {
    let key = match need {
        Need::Write => "BindPaths",
        Need::Read | Need::Run => "BindReadOnlyPaths",
    };
    // A colon begins where it is shown.
    let is_plain = !path.as_os_str().as_encoded_bytes().contains(&b':');
    listed(key, path).filter(|_| is_plain)
}

/// A line with one path, which may be missing when the unit starts: if one instance's data directory is gone, the daemon
/// still serves the others. None if systemd would read another path from it.
fn listed(key: &str, path: &Path) -> Option<String> {
    Some(format!(
        "{key}={}",
        unit::word(&format!("-{}", path.to_str()?))?
    ))
}

#[cfg(test)]
mod tests;
