//! What lies in files and directories at one moment, so that a test can show that nothing was touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// By path, everything that an access for writing would change: with the time of the last change of
/// the inode (`ctime`), which no program can set back.
pub struct Inventory {
    of: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, String>,
}

impl Inventory {
    /// Of files, and of directories with all that is in them.
    #[track_caller]
    pub fn under<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let of: Vec<PathBuf> = paths
            .into_iter()
            .map(|path| path.as_ref().to_owned())
            .collect();
        let seen = seen(&of);
        Self { of, seen }
    }

    /// Fails where something is new, gone or touched; its content, which may be a key, is not told.
    #[track_caller]
    pub fn is_untouched(&self) {
        let now = seen(&self.of);
        let paths: BTreeSet<&PathBuf> = now.keys().chain(self.seen.keys()).collect();
        let differs = |path: &&PathBuf| now.get(*path) != self.seen.get(*path);
        let touched: Vec<_> = paths.into_iter().filter(differs).collect();
        assert!(touched.is_empty(), "touched: {touched:?}");
    }
}

#[track_caller]
fn seen(paths: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut left = paths.to_owned();
    while let Some(path) = left.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let content = if meta.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        };
        let told = format!(
            "{}:{} {:o} {}:{} {}.{} {}.{} {content}",
            meta.dev(),
            meta.ino(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        all.insert(path, told);
    }
    all
}
