//! `pgbouncer.ini`, read as PgBouncer reads it (`parse_ini_file` and `cf_load_file` of its libusual).
//!
//! What differs from other INI files: a value goes to the end of its line, with no comment behind it
//! and no quotes around it; names are compared with their case; `%include` reads another file in
//! its place; and each `[pgbouncer]` begins anew with the defaults.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::file;

/// The most that one file may hold.
const LARGEST: u64 = 1 << 20;

/// How deep files may include each other (`MAX_INCLUDE`).
const DEEPEST: usize = 10;

/// How many files are read in all. PgBouncer has no such bound; it reads nobody else's files.
const MOST: usize = 256;

/// The section that is looked at.
const SECTION: &str = "pgbouncer";

/// What `[pgbouncer]` sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ini {
    values: BTreeMap<String, String>,
    /// Every file that was read, in order.
    pub(crate) files: Vec<PathBuf>,
}

/// A configuration that PgBouncer would not take whole, or that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IniError {
    /// A file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A line is none that PgBouncer takes. What stands there is not quoted: it may be a password.
    #[error("{}:{line}: PgBouncer takes no such line, and nothing after it", file.display())]
    Syntax { file: PathBuf, line: usize },
    /// Files include each other too deep, or are too many.
    #[error("{}: it includes too many files", file.display())]
    Endless { file: PathBuf },
}

/// A statement of the file.
#[derive(Debug, PartialEq, Eq)]
enum IniLine<'a> {
    Include(&'a str),
    Section(&'a str),
    Value(&'a str, &'a str),
}

impl Ini {
    /// Reads a file and those that it includes, whose relative paths begin in `directory`, that in
    /// which PgBouncer works. Blocks.
    ///
    /// # Errors
    /// A file cannot be read, or is none that PgBouncer takes.
    pub(crate) fn read(file: &Path, directory: &Path) -> Result<Ini, IniError> {
        let mut reading = IniReading {
            directory,
            ini: Ini::default(),
            section: None,
        };
        reading.file(file, 0)?;
        Ok(reading.ini)
    }

    /// The value of a key; none where it is not set, or set to nothing.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let value = self.values.get(key)?;
        (!value.is_empty()).then_some(value)
    }
}

struct IniReading<'a> {
    directory: &'a Path,
    ini: Ini,
    /// A section goes on behind an included file, and out of it.
    section: Option<String>,
}

impl IniReading<'_> {
    fn file(&mut self, file: &Path, depth: usize) -> Result<(), IniError> {
        if depth > DEEPEST || self.ini.files.len() >= MOST {
            let file = file.to_owned();
            return Err(IniError::Endless { file });
        }
        let bytes = file::read(file, LARGEST).map_err(|source| IniError::Read {
            file: file.to_owned(),
            source,
        })?;
        self.ini.files.push(file.to_owned());
        let text = String::from_utf8_lossy(&bytes);
        let mut rest: &str = &text;
        while let Some((line, behind)) = next(rest).map_err(|left| IniError::Syntax {
            file: file.to_owned(),
            line: 1 + text[..text.len() - left].matches('\n').count(),
        })? {
            rest = behind;
            match line {
                IniLine::Include(path) => self.file(&self.directory.join(path), depth + 1)?,
                IniLine::Section(name) => {
                    if name == SECTION {
                        self.ini.values.clear();
                    }
                    self.section = Some(name.to_owned());
                }
                IniLine::Value(key, value) if self.section.as_deref() == Some(SECTION) => {
                    self.ini.values.insert(key.to_owned(), value.to_owned());
                }
                IniLine::Value(..) => {}
            }
        }
        Ok(())
    }
}

/// The next statement of a text, and what comes behind it.
///
/// # Errors
/// There is none that PgBouncer takes; how many bytes are left there.
fn next(text: &str) -> Result<Option<(IniLine<'_>, &str)>, usize> {
    let mut text = text.trim_start();
    while text.starts_with(['#', ';']) {
        text = after_line(text).1.trim_start();
    }
    let wrong = Err(text.len());
    if text.is_empty() {
        return Ok(None);
    }
    let include = text.strip_prefix("%include");
    if let Some(path) = include.filter(|word| word.starts_with([' ', '\t'])) {
        let (path, rest) = after_line(path);
        return Ok(Some((IniLine::Include(path.trim()), rest)));
    }
    if let Some(name) = text.strip_prefix('[') {
        let end = name.find([']', '\n']);
        return match end {
            Some(end) if name[end..].starts_with(']') => {
                Ok(Some((IniLine::Section(&name[..end]), &name[end + 1..])))
            }
            _ => wrong,
        };
    }
    let (key, rest) = match text.strip_prefix('\'') {
        Some(quoted) => match quoted.split_once('\'') {
            Some(("", _)) | None => return wrong,
            Some(parts) => parts,
        },
        None => {
            let in_key = |c: char| c.is_ascii_alphanumeric() || "_.-*".contains(c);
            text.split_at(text.find(|c| !in_key(c)).unwrap_or(text.len()))
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let Some(value) = rest.strip_prefix('=') else {
        return wrong;
    };
    let (value, rest) = after_line(value);
    Ok(Some((IniLine::Value(key, value.trim()), rest)))
}

/// The rest of the line, and what comes behind it.
fn after_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    /// Reads `text` as a file, beside one `more.ini`.
    fn read(text: &str, more: &str) -> Result<Ini, IniError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        std::fs::write(directory.path().join("more.ini"), more).unwrap();
        Ini::read(&file, directory.path())
    }

    fn port(text: &str, more: &str) -> Option<String> {
        let ini = read(text, more).unwrap();
        ini.value("listen_port").map(str::to_owned)
    }

    #[test]
    fn a_value_goes_to_the_end_of_its_line_and_is_of_its_section() {
        let text = "; a comment\n# another\n[databases]\nlisten_port = 1\n* = host=/tmp\n\
                    'odd name' = host=/tmp\n\n[pgbouncer]\r\nlisten_port = 6432 ; no comment \r\n\
                    listen_addr =\n[users]\nlisten_port = 2\n";
        let ini = read(text, "").unwrap();
        assert_eq!(ini.value("listen_port"), Some("6432 ; no comment"));
        assert_eq!(ini.value("listen_addr"), None);
        assert_eq!(ini.value("Listen_Port"), None);
    }

    #[test]
    fn an_included_file_stands_in_its_place_whatever_section_it_leaves() {
        let within = port("[pgbouncer]\n%include more.ini\n", "listen_port = 7");
        assert_eq!(within.as_deref(), Some("7"));
        let later = port(
            "%include more.ini\nlisten_port = 8\n",
            "[pgbouncer]\nlisten_port = 7\n",
        );
        assert_eq!(later.as_deref(), Some("8"));
        let left = port(
            "[pgbouncer]\n%include more.ini\nlisten_port = 8\n",
            "[users]\n",
        );
        assert_eq!(left, None);
    }

    #[test]
    fn each_main_section_begins_with_the_defaults() {
        assert_eq!(
            port("[pgbouncer]\nlisten_port = 7\n[pgbouncer]\n", ""),
            None
        );
    }

    #[test]
    fn what_pgbouncer_stops_at_is_told_with_its_line_and_without_its_text() {
        for text in [
            "[pgbouncer]\nsecret\n",
            "[pgbouncer]\n[secret\n",
            "[pgbouncer]\n'secret = 1\n",
            "[pgbouncer]\n%includesecret\n",
        ] {
            let error = read(text, "").unwrap_err().to_string();
            assert!(error.contains("pgbouncer.ini:2: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn files_that_include_each_other_come_to_an_end() {
        let error = read("%include more.ini\n", "%include more.ini\n").unwrap_err();
        assert!(matches!(error, IniError::Endless { .. }), "{error}");
    }
}
