//! Whether two paths are the same.
//!
//! Paths are compared twice: as written, without `.` and `..`, and with links followed, as far as the path exists and this
//! process can see it. They are the same if either is equal.
//!
//! A file system that doesn't answer in time is not waited for: its paths are compared as written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::host::file::same_but_for_numbers;
use crate::host::patience::Questions;

/// An absolute path without `.`, `..` and double slashes, from its text alone.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Where directories really are, as far as their file systems answered in time.
pub(super) struct Real(BTreeMap<PathBuf, PathBuf>);

impl Real {
    /// Follows the links of these directories, and of the directories of these files.
    pub(super) fn from_directories<'a>(
        directories: impl IntoIterator<Item = &'a Path>,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Self {
        let parents = files.into_iter().map(normal);
        let parents = parents.filter_map(|file| file.parent().map(Path::to_owned));
        let directories = directories.into_iter().map(Path::to_owned);
        let paths = directories.chain(parents);
        Self(Questions::default().ask(paths, |path: &PathBuf| real(path)))
    }

    /// A directory; links to it are followed.
    pub(super) fn directory(&self, path: &Path) -> Twin {
        Twin {
            written: normal(path),
            real: self.place(path),
        }
    }

    /// A file that is replaced by a rename; so is a link in its place, instead of being followed.
    pub(super) fn target(&self, path: &Path) -> Twin {
        let written = normal(path);
        let real = match (written.parent(), written.file_name()) {
            (Some(parent), Some(name)) => self.place(parent).join(name),
            _ => written.clone(),
        };
        Twin { written, real }
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.0.get(path).cloned().unwrap_or_else(|| normal(path))
    }
}

/// A path, as written and with its links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Twin {
    written: PathBuf,
    real: PathBuf,
}

impl Twin {
    pub(super) fn same(&self, other: &Self) -> bool {
        self.written == other.written || self.real == other.real
    }

    pub(super) fn inside(&self, directory: &Self) -> bool {
        self.written.starts_with(&directory.written) || self.real.starts_with(&directory.real)
    }
}

/// Where the links of lineages lead, step by step, as far as this process can see.
pub(super) struct LinkPolicy(BTreeSet<PathBuf>);

impl LinkPolicy {
    /// The links in these lineages, and in those in the `watched` directories.
    pub(super) fn from_lineages<'a>(
        lineages: impl IntoIterator<Item = &'a Path>,
        watched: &[PathBuf],
    ) -> LinkPolicy {
        let watched: BTreeSet<PathBuf> = watched.iter().cloned().collect();
        let lineages = lineages.into_iter().map(Path::to_owned);
        let asked = lineages.chain(watched.clone());
        let told = Questions::default().ask(asked, move |directory: &PathBuf| {
            let below = if watched.contains(directory) {
                entries(directory)
            } else {
                Vec::new()
            };
            let lineages = below.iter().chain([directory]);
            let links = lineages.flat_map(|lineage| entries(lineage));
            links.flat_map(|link| steps(&link)).collect::<Vec<_>>()
        });
        LinkPolicy(told.into_values().flatten().collect())
    }

    /// Whether a link leads through this file, or through another generation of it.
    pub(super) fn lead_through(&self, file: &Twin) -> bool {
        let forms = [&file.written, &file.real];
        let mut steps = self.0.iter();
        steps.any(|step| forms.iter().any(|form| same_but_for_numbers(step, form)))
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The paths that a link leads to, one after another; empty if it is not a link.
fn steps(link: &Path) -> Vec<PathBuf> {
    const MOST: usize = 40;
    let mut steps = Vec::new();
    let mut at = link.to_owned();
    while let (Ok(target), true) = (fs::read_link(&at), steps.len() < MOST) {
        let next = at.parent().unwrap_or(Path::new("/")).join(target);
        let (Some(parent), Some(name)) = (next.parent(), next.file_name()) else {
            break;
        };
        at = real(parent).join(name);
        steps.push(at.clone());
    }
    steps
}

/// The path with links followed, as far as this process can see.
fn real(path: &Path) -> PathBuf {
    let mut seen = path.to_owned();
    let mut rest: Vec<OsString> = Vec::new();
    loop {
        if let Ok(canonical) = fs::canonicalize(&seen) {
            return rest
                .iter()
                .rev()
                .fold(canonical, |path, name| path.join(name));
        }
        let Some(name) = seen.file_name().map(OsString::from) else {
            return normal(path);
        };
        rest.push(name);
        seen.pop();
    }
}

/// `conf.d` next to the file.
pub(super) fn fragments_beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join("conf.d")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_followed_step_by_step() {
        let ground = tempfile::tempdir().unwrap();
        let ground = ground.path().canonicalize().unwrap();
        let at = |name: &str| ground.join(name);
        for directory in ["live/a", "archive/a", "elsewhere"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        symlink("../../archive/a/chain1.pem", at("live/a/chain.pem")).unwrap();
        symlink(at("elsewhere/next.pem"), at("archive/a/chain1.pem")).unwrap();
        fs::write(at("elsewhere/end.pem"), "").unwrap();
        symlink("end.pem", at("elsewhere/next.pem")).unwrap();
        let links = LinkPolicy::from_lineages([], &[at("live")]);
        let leads =
            |name: &str| links.lead_through(&Real::from_directories([], []).target(&at(name)));
        for on_the_way in [
            "archive/a/chain1.pem",
            "archive/a/chain2.pem",
            "elsewhere/next.pem",
            "elsewhere/end.pem",
        ] {
            assert!(leads(on_the_way), "{on_the_way}");
        }
        assert!(!leads("elsewhere/server.pem"));
    }
}
