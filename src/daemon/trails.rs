//! Where the files of each lineage lie, and which lineages an event may be about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::lineage::Trail;

/// The directories that lead to each lineage's files, by lineage and by directory.
#[derive(Debug)]
pub(super) struct Trails {
    by_lineage: Vec<BTreeSet<PathBuf>>,
    by_directory: BTreeMap<PathBuf, BTreeSet<usize>>,
}

impl Trails {
    /// Of so many lineages, none of which was read yet.
    pub(crate) fn of_unread(count: usize) -> Trails {
        Trails {
            by_lineage: vec![BTreeSet::new(); count],
            by_directory: BTreeMap::new(),
        }
    }

    /// Takes in the trail of a lineage that was read; whether it leads through other directories than before. A renewal leads
    /// to new files, in most cases in the directories of the old ones.
    pub(crate) fn take(&mut self, lineage: usize, trail: Trail) -> bool {
        let before = &mut self.by_lineage[lineage];
        if *before == trail.directories {
            return false;
        }
        for directory in std::mem::replace(before, trail.directories) {
            if let Some(lineages) = self.by_directory.get_mut(&directory) {
                lineages.remove(&lineage);
            }
        }
        self.by_directory.retain(|_, lineages| !lineages.is_empty());
        for directory in &self.by_lineage[lineage] {
            let lineages = self.by_directory.entry(directory.clone()).or_default();
            lineages.insert(lineage);
        }
        true
    }

    /// All directories.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        self.by_directory.keys().cloned().collect()
    }

    /// The lineages that an event on `path` may be about: what lies in a directory of theirs, or is one. Which path matters is
    /// for each of them to say, since what is written before they lead to it does too.
    pub(crate) fn concerned(&self, path: &Path) -> BTreeSet<usize> {
        let places = [Some(path), path.parent()];
        let lineages = places.into_iter().flatten();
        let lineages = lineages.filter_map(|directory| self.by_directory.get(directory));
        lineages.flatten().copied().collect()
    }

    /// The lineages whose files one of `directories` leads to.
    pub(crate) fn through(&self, directories: &BTreeSet<PathBuf>) -> BTreeSet<usize> {
        let lineages = directories
            .iter()
            .filter_map(|directory| self.by_directory.get(directory));
        lineages.flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(directories: &[&str]) -> Trail {
        Trail {
            directories: directories.iter().map(PathBuf::from).collect(),
            ..Trail::default()
        }
    }

    #[test]
    fn an_event_is_about_the_lineages_in_whose_directories_it_happens() {
        let mut trails = Trails::of_unread(3);
        assert!(trails.concerned(Path::new("/live/a/x")).is_empty());
        assert!(trails.take(0, trail(&["/live", "/live/a", "/archive/a"])));
        assert!(trails.take(1, trail(&["/live", "/live/b"])));
        assert!(!trails.take(1, trail(&["/live/b", "/live"])));
        let concerned = |trails: &Trails, path: &str| {
            let lineages = trails.concerned(Path::new(path));
            lineages.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(concerned(&trails, "/archive/a/new.pem"), [0]);
        assert_eq!(concerned(&trails, "/live/b"), [0, 1]);
        assert_eq!(concerned(&trails, "/live/b/privkey.pem"), [1]);
        assert!(concerned(&trails, "/live/b/below/deep.pem").is_empty());
        assert_eq!(
            trails.through(&[PathBuf::from("/live")].into()),
            [0, 1].into()
        );

        assert!(trails.take(0, trail(&["/elsewhere"])));
        assert!(concerned(&trails, "/live/a/x").is_empty());
        assert_eq!(concerned(&trails, "/live/c"), [1]);
        assert_eq!(trails.directories().len(), 3);
    }
}
