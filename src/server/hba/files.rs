//! A `pg_hba.conf` with all that it includes, as one list of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::words::{self, HbaLine};
use super::{Dialect, Entry, Inclusion, Rule};

/// How deep inclusion goes before the server calls it a circle (`CONF_FILE_MAX_DEPTH`).
const DEEPEST: usize = 10;

/// Where the texts come from.
pub trait HbaFiles {
    /// The bytes of a file.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    fn names(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The files of this host, with the rights of the thread that asks.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk;

impl HbaFiles for OnDisk {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        crate::server::setting_names::read_bounded(file)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().into()))
            .collect()
    }
}

/// All rules in the order in which the server tries them; the first that fits a connection decides.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(crate) texts: BTreeMap<PathBuf, Vec<u8>>,
    /// The directories whose files are included.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// Each rule with the file that it is in.
    pub rules: Vec<(PathBuf, Rule)>,
    /// Lines that the server refuses: file, line and why. With one of them it loads nothing, and
    /// goes on with what it had.
    pub faults: Vec<(PathBuf, usize, String)>,
}

impl Rules {
    /// Reads `hba_file` and what it includes.
    ///
    /// # Errors
    /// That file cannot be read. What is wrong with one that is included is a fault.
    pub fn read(hba_file: &Path, dialect: Dialect, files: &impl HbaFiles) -> io::Result<Rules> {
        let mut rules = Vec::new();
        let mut lines = Lines::new(dialect, files);
        lines.read(hba_file, &mut |file, line| {
            rules.push((file.to_owned(), super::rule(line, dialect)?));
            Ok(())
        })?;
        let Lines {
            texts,
            directories,
            faults,
            ..
        } = lines;
        Ok(Rules {
            texts,
            directories,
            rules,
            faults,
        })
    }
}

/// The lines of a file of this form with those of the files that it includes, in the server's order.
pub(in crate::server) struct Lines<'f, F> {
    dialect: Dialect,
    files: &'f F,
    pub(crate) texts: BTreeMap<PathBuf, Vec<u8>>,
    /// The directories whose files are included.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// Lines that are refused: file, line and why.
    pub(crate) faults: Vec<(PathBuf, usize, String)>,
}

impl<'f, F: HbaFiles> Lines<'f, F> {
    pub(in crate::server) fn new(dialect: Dialect, files: &'f F) -> Self {
        Lines {
            dialect,
            files,
            texts: BTreeMap::new(),
            directories: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// Hands on each line of `file` and of what it includes, with the file that it is in; an error is a fault of
    /// that line.
    ///
    /// # Errors
    /// That file cannot be read. What is wrong with one that is included is a fault.
    pub(in crate::server) fn read(
        &mut self,
        file: &Path,
        take: &mut impl FnMut(&Path, HbaLine) -> Result<(), String>,
    ) -> io::Result<()> {
        let text = self.files.read(file)?;
        self.take_in(file, text, 0, take);
        Ok(())
    }

    fn take_in(
        &mut self,
        file: &Path,
        text: Vec<u8>,
        depth: usize,
        take: &mut impl FnMut(&Path, HbaLine) -> Result<(), String>,
    ) {
        let lines = words::lines(&text, self.dialect);
        self.texts.insert(file.to_owned(), text);
        for line in lines {
            let number = line.number;
            let taken = match super::include(&line, self.dialect) {
                Some(Entry::Include { how, path, .. }) => {
                    let path = beside(file, &path);
                    let included = included(&path, how, self.files);
                    if how == Inclusion::Directory {
                        self.directories.insert(path);
                    }
                    included.and_then(|included| {
                        if depth == DEEPEST && !included.is_empty() {
                            return Err("maximum nesting depth exceeded".into());
                        }
                        for (path, text) in included {
                            self.take_in(&path, text, depth + 1, take);
                        }
                        Ok(())
                    })
                }
                _ => take(file, line),
            };
            if let Err(why) = taken {
                self.faults.push((file.to_owned(), number, why));
            }
        }
    }
}

/// A path as it stands in `file`: one that is relative is so to the file's directory.
pub(in crate::server) fn beside(file: &Path, path: &Path) -> PathBuf {
    let base = file.parent().unwrap_or(Path::new("/"));
    straight(&base.join(path))
}

/// A path without the steps back in it, by its words alone as the server does it: so one file has
/// one name, however it was included.
fn straight(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for step in path.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            step => out.push(step),
        }
    }
    out
}

/// The files that are meant, each with its text.
fn included(
    path: &Path,
    how: Inclusion,
    files: &impl HbaFiles,
) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let fault = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let paths = match how {
        Inclusion::File | Inclusion::FileIfThere => vec![path.to_owned()],
        Inclusion::Directory => {
            let names = files.names(path).map_err(|e| fault(path, e))?;
            let mut names: Vec<PathBuf> = names.into_iter().filter(|n| is_conf(n)).collect();
            names.sort();
            names.into_iter().map(|name| path.join(name)).collect()
        }
    };
    let mut texts = Vec::new();
    for path in paths {
        match files.read(&path) {
            Ok(text) => texts.push((path, text)),
            Err(error)
                if how == Inclusion::FileIfThere && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(&path, error)),
        }
    }
    Ok(texts)
}

fn is_conf(name: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let name = name.as_os_str().as_bytes();
    name.len() > 5 && name.ends_with(b".conf") && !name.starts_with(b".")
}
