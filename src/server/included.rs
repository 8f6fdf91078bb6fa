//! The files of a Postgres configuration, with those that they include.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::host::file;

/// Which of these configuration files, of those that they include, and of
/// `postgresql.auto.conf` changed after `loaded`. Blocks.
pub(crate) fn changed_after(
    files: &[PathBuf],
    data_directory: &Path,
    loaded: SystemTime,
) -> Vec<PathBuf> {
    with_included(files, data_directory)
        .into_iter()
        .filter(|file| {
            std::fs::metadata(file)
                .and_then(|meta| meta.modified())
                .is_ok_and(|modified| modified > loaded)
        })
        .collect()
}

/// These configuration files, those that they include, and `postgresql.auto.conf`. Blocks.
pub(super) fn with_included(files: &[PathBuf], data_directory: &Path) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![data_directory.join("postgresql.auto.conf")];
    waiting.extend(files.iter().cloned());
    while let Some(file) = waiting.pop() {
        // The count bounds a chain of includes that leads back into itself through links.
        if seen.len() < 256 && seen.insert(file.clone()) && file.extension().is_some() {
            waiting.extend(included(&file));
        }
    }
    seen
}

/// The files that a configuration file includes, by `include`, `include_if_exists` and
/// `include_dir` (PostgreSQL's `guc-file.l`). What cannot be read includes nothing.
fn included(file: &Path) -> Vec<PathBuf> {
    const LARGEST: u64 = 1 << 20;
    let base = file.parent().unwrap_or(Path::new("/"));
    let bytes = file::read(file, LARGEST).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let (word, rest) = line.split_once(|c: char| c.is_whitespace() || c == '=')?;
            let name = rest
                .trim_start_matches(|c: char| c.is_whitespace() || c == '=')
                .split('#')
                .next()?
                .trim()
                .trim_matches('\'');
            match word.to_ascii_lowercase().as_str() {
                "include" | "include_if_exists" => Some(vec![base.join(name)]),
                "include_dir" => Some(configuration_files(&base.join(name))),
                _ => None,
            }
        })
        .flatten()
        .collect()
}

fn configuration_files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name: OsString = entry.file_name();
            let name = name.as_bytes();
            name.ends_with(b".conf") && !name.starts_with(b".")
        })
        .map(|entry| entry.path())
        .collect()
}
