//! `pg_hosts.conf` of PostgreSQL 19: which certificate and key a client gets by the name that it asks for (SNI), where
//! `ssl_sni` is on.
//!
//! It is read as the server reads it (`be-secure-openssl.c`, `load_hosts`; words and inclusion as in `pg_hba.conf`). The
//! server takes it as a whole or not at all: one line that it refuses, or one file that it cannot load, and a
//! reload changes no certificate and a start fails.

mod line;
mod pair;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::hba::{Dialect, HbaFiles, Lines, OnDisk};
use super::probe::AskedName;
use super::setting_names::FIX_FIRST;
use crate::host::look::{CannotLook, same_file};
use crate::host::patience::Questions;
use crate::host::privilege::Ids;
use crate::problem::Problem;

pub(crate) use line::{FIRST, HostLine};
use line::{For, host_line, twin};
use pair::pair_fault;

/// What a `pg_hosts.conf` says, with all that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// `hosts_file`.
    pub(crate) file: PathBuf,
    /// Every file of it that was read, or is not there.
    pub(crate) files: BTreeSet<PathBuf>,
    lines: Vec<HostLine>,
    /// Why the server refuses it, in whole sentences that begin with the place.
    faults: Vec<String>,
    /// As whom the server runs.
    server: Ids,
}

impl Hosts {
    /// Reads it, with the rights of the thread that asks. Blocks.
    pub fn read(file: &Path, data_directory: &Path, server: Ids) -> Hosts {
        Hosts::read_from(file, data_directory, server, &OnDisk)
    }

    /// The same, with `text` in place of what the file holds.
    pub(crate) fn read_as(file: &Path, text: &[u8], data_directory: &Path, server: Ids) -> Hosts {
        let files = InPlace { file, text };
        Hosts::read_from(file, data_directory, server, &files)
    }

    fn read_from(file: &Path, data_directory: &Path, server: Ids, files: &impl HbaFiles) -> Hosts {
        let mut hosts = Hosts {
            file: file.to_owned(),
            files: [file.to_owned()].into_iter().collect(),
            lines: Vec::new(),
            faults: Vec::new(),
            server,
        };
        let dialect = Dialect::from_version(FIRST);
        let mut reading = Lines::new(dialect, files);
        let mut found: Vec<HostLine> = Vec::new();
        let mut named = BTreeSet::new();
        let read = reading.read(file, &mut |file, line| {
            let line = host_line(file, line, data_directory, files, &mut named)?;
            if let Some(twin) = twin(&found, &line) {
                return Err(twin);
            }
            found.push(line);
            Ok(())
        });
        hosts.lines = found;
        hosts.files.extend(named);
        hosts.files.extend(reading.texts.into_keys());
        let faults = reading.faults.into_iter();
        hosts.faults.extend(
            faults.map(|(file, line, why)| format!("{} line {line}: {why}", file.display())),
        );
        match read {
            Ok(()) => {}
            // As an empty one: `ssl_cert_file` counts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // To the server a directory is as empty as that.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            Err(error) => hosts.faults.push(format!("{}: {error}", file.display())),
        }
        hosts
    }

    /// Whether it says nothing, so that all clients get what `ssl_cert_file` names.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.faults.is_empty()
    }

    /// The line by which a client that asks for `name` is served.
    fn line_for(&self, name: &AskedName) -> Option<&HostLine> {
        let own = self.lines.iter().find(|line| match (&line.whose, name) {
            (For::Names(names), AskedName::Host(name)) => {
                names.iter().any(|text| text.eq_ignore_ascii_case(name))
            }
            (For::Nameless, AskedName::Absent) => true,
            _ => false,
        });
        own.or_else(|| self.lines.iter().find(|line| line.whose == For::Others))
    }

    /// Whether clients that ask for `name` get these files, as far as that is known.
    pub fn gives(&self, name: &AskedName, cert_file: &Path, key_file: &Path) -> bool {
        self.line_for(name)
            .is_some_and(|line| line.names_other(cert_file, key_file) == Ok(None))
    }

    /// Why clients that ask for one of `names` get other files; `None` if all get these. Where the server refuses the
    /// file, it does not say what they get.
    ///
    /// # Errors
    /// Whether the files that it names are these is not known.
    pub(crate) fn not_used(
        &self,
        names: &[AskedName],
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Option<Problem>, CannotLook> {
        if !self.faults.is_empty() {
            return Ok(None);
        }
        for name in names {
            if let Some(not_used) = self.not_used_by(name, cert_file, key_file)? {
                return Ok(Some(not_used));
            }
        }
        Ok(None)
    }

    fn not_used_by(
        &self,
        name: &AskedName,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Option<Problem>, CannotLook> {
        let pair = pair_words(cert_file, key_file);
        let (word, file) = (name.word(), self.file.display());
        let Some(line) = self.line_for(name) else {
            let what = format!(
                "{file} has no line for clients that ask for {name}, nor one for *: they are turned away"
            );
            let fix = format!("add the line `{word} {pair}` to it and reload");
            return Ok(Some(Problem::new(what, fix)));
        };
        let Some(other) = line.names_other(cert_file, key_file)? else {
            return Ok(None);
        };
        let place = line.place();
        let what = format!(
            "{place} gives clients that ask for {name} {}, which pgcertd does not write",
            other.display()
        );
        let fix = match line.whose {
            For::Others => format!("add the line `{word} {pair}` to {file} and reload"),
            For::Names(_) | For::Nameless => format!("name {pair} in that line and reload"),
        };
        Ok(Some(Problem::new(what, fix)))
    }

    /// Those of `names` that need a line of their own to get these files. A name that has a line already is refused
    /// where that names other files: a second one would have the server refuse all. So is the absence of a name, whose
    /// line would take the certificate from clients that pgcertd knows nothing of.
    ///
    /// # Errors
    /// Whether the files that it names are these is not known.
    pub(crate) fn names_to_add(
        &self,
        names: &[AskedName],
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Result<Vec<String>, Problem>, CannotLook> {
        let mut missing: Vec<String> = Vec::new();
        for name in names {
            let Some(not_used) = self.not_used_by(name, cert_file, key_file)? else {
                continue;
            };
            let has_own = self
                .line_for(name)
                .is_some_and(|line| line.whose != For::Others);
            match name {
                AskedName::Host(host) if !has_own => {
                    // Case means nothing to the server, and no name may be there twice.
                    if !missing.iter().any(|added| added.eq_ignore_ascii_case(host)) {
                        missing.push(host.clone());
                    }
                }
                // Its files need not be there yet, so that they cannot be named in that line.
                AskedName::Host(host) => {
                    let fix = format!(
                        "take {host} out of that line, or the whole line if it has no other name"
                    );
                    return Ok(Err(Problem::new(not_used.what, fix)));
                }
                AskedName::Absent => return Ok(Err(not_used)),
            }
        }
        Ok(Ok(missing))
    }

    /// Whether a line names this file as its certificate or its key.
    ///
    /// # Errors
    /// Whether a file that it names is this one is not known.
    pub(crate) fn uses(&self, file: &Path) -> Result<bool, CannotLook> {
        for line in &self.lines {
            if same_file(&line.cert_file, file)? || same_file(&line.key_file, file)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The files that its lines give to all of these names, and to no others.
    pub(crate) fn own_pair(&self, names: &[AskedName]) -> Option<(&Path, &Path)> {
        let is_own = |line: &HostLine| match &line.whose {
            For::Names(of_line) => of_line.iter().all(|host| {
                names.iter().any(
                    |name| matches!(name, AskedName::Host(name) if name.eq_ignore_ascii_case(host)),
                )
            }),
            For::Others | For::Nameless => false,
        };
        let (cert, key) = self
            .line_for(names.first()?)
            .map(|line| (line.cert_file.as_path(), line.key_file.as_path()))?;
        let is_given = names.iter().all(|name| self.gives(name, cert, key));
        let touches = |line: &&HostLine| {
            let named = [&line.cert_file, &line.key_file];
            let ours = [cert, key];
            // What cannot be looked at may be one of them.
            named
                .into_iter()
                .any(|file| ours.iter().any(|own| same_file(file, own) != Ok(false)))
        };
        let is_alone = self.lines.iter().filter(touches).all(is_own);
        (is_given && is_alone).then_some((cert, key))
    }

    /// Whether this is `before` with one line more, at its end, which the server takes.
    pub(crate) fn is_one_line_more_than(&self, before: &Hosts) -> bool {
        let others = self.lines.split_last().map(|(_, others)| others);
        self.faults.is_empty() && others == Some(before.lines.as_slice())
    }

    /// Why clients that ask for one of `names` are not judged by the authorities in `ca_file`; `None` if all are.
    ///
    /// # Errors
    /// Whether the file that is named is that one is not known.
    pub(crate) fn ca_not_used(
        &self,
        names: &[AskedName],
        ca_file: &Path,
    ) -> Result<Option<Problem>, CannotLook> {
        for line in names.iter().filter_map(|name| self.line_for(name)) {
            let why = match &line.ca_file {
                Some(named) if same_file(named, ca_file)? => continue,
                Some(named) => format!(
                    "its CA file is {}, which pgcertd does not write",
                    named.display()
                ),
                None => "it has no CA file, and pgcertd keeps one".to_owned(),
            };
            return Ok(Some(Problem::new(
                format!("{}: {why}", line.place()),
                format!("name {} there after the key, and reload", ca_file.display()),
            )));
        }
        Ok(None)
    }

    /// The CA files that it names, each with the place of its line.
    pub(super) fn ca_files(&self) -> impl Iterator<Item = (String, PathBuf)> {
        self.lines
            .iter()
            .filter_map(|line| Some((line.place(), line.ca_file.clone()?)))
    }

    /// Every file that a reload reads by it, itself included.
    pub(super) fn all_files(&self) -> Vec<PathBuf> {
        let of_lines = self.lines.iter().flat_map(|line| {
            let ca = line.ca_file.iter();
            ca.chain([&line.cert_file, &line.key_file]).cloned()
        });
        self.files.iter().cloned().chain(of_lines).collect()
    }

    /// Why the server refuses the file itself.
    pub fn faults_of_file(&self) -> impl Iterator<Item = Problem> {
        self.faults
            .iter()
            .map(|fault| Problem::new(fault, FIX_FIRST))
    }

    /// What keeps the server from loading the certificate and key of another's line, as far as that shows here.
    /// Blocks, with the rights of the thread that asks.
    pub fn faults_of_pairs(&self, is_own: impl Fn(&Path) -> bool) -> Vec<Problem> {
        let server = self.server;
        let pair = |line: &HostLine| {
            (
                line.cert_file.clone(),
                line.key_file.clone(),
                line.opens_keys,
            )
        };
        let others = self.lines.iter().filter(|line| !is_own(&line.cert_file));
        let others: Vec<&HostLine> = others.collect();
        let asked = others.iter().map(|line| pair(line));
        let faults = Questions::default().ask(asked, move |(cert, key, opens_keys)| {
            pair_fault(cert, key, *opens_keys, server)
        });
        let told = others.into_iter().filter_map(|line| {
            let fault = match faults.get(&pair(line)) {
                None => "the file system of its files does not answer",
                Some(fault) => fault.as_deref()?,
            };
            let what = format!("{}: {fault}", line.place());
            Some(Problem::new(what, FIX_FIRST))
        });
        told.collect()
    }
}

impl AskedName {
    /// The word for it in the file.
    fn word(&self) -> &str {
        match self {
            AskedName::Host(name) => name,
            AskedName::Absent => "/no_sni/",
        }
    }
}

/// The line that gives these files to `names`.
pub(crate) fn line_text(names: &[String], cert_file: &Path, key_file: &Path) -> String {
    format!("{} {}", names.join(","), pair_words(cert_file, key_file))
}

/// Certificate and key as a line names them.
fn pair_words(cert_file: &Path, key_file: &Path) -> String {
    let word = |path: &Path| {
        let path = path.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=~".contains(c);
        if path.chars().all(is_plain) {
            path.into_owned()
        } else {
            format!("\"{}\"", path.replace('"', "\"\""))
        }
    };
    format!("{} {}", word(cert_file), word(key_file))
}

/// The files of this host, but for one.
struct InPlace<'t> {
    file: &'t Path,
    text: &'t [u8],
}

impl HbaFiles for InPlace<'_> {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        if file == self.file {
            Ok(self.text.to_owned())
        } else {
            OnDisk.read(file)
        }
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        OnDisk.names(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_written_is_read_as_it_was_meant() {
        let names = ["a.example".to_owned(), "B.example".to_owned()];
        for path in [
            "/t.pem",
            "/a b/t.pem",
            "/a,b#c/t.pem",
            "/a\"b\\",
            "/@t",
            "/t\\",
        ] {
            let path = Path::new(path);
            let text = line_text(&names, path, path) + "\n* o o\n";
            let (uid, gid) = (0, 0);
            let server = Ids { uid, gid };
            let (file, data) = (Path::new("/nowhere/hosts"), Path::new("/nowhere"));
            let hosts = Hosts::read_as(file, text.as_bytes(), data, server);
            assert!(hosts.faults.is_empty(), "{text}{:?}", hosts.faults);
            let lines: Vec<_> = hosts.lines.iter().map(|line| &line.whose).collect();
            assert_eq!(lines, [&For::Names(names.to_vec()), &For::Others]);
            let line = &hosts.lines[0];
            assert_eq!((&*line.cert_file, &*line.key_file), (path, path), "{text}");
        }
    }
}
