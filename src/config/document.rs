//! One file of the configuration: its text, and values that know their location in it.
//!
//! Errors of serde and of the TOML parser are translated here into the terms of a config: keys, tables and arrays.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;

use super::error::{ConfigError, line_column};
use super::paths;

/// In bytes; nothing larger is a configuration.
const LARGEST: u64 = 4 << 20;

/// How much of a value an error quotes, in characters.
const LONGEST_QUOTE: usize = 60;

/// A file that was read.
pub(super) struct TomlFile {
    file: PathBuf,
    directory: PathBuf,
    text: String,
}

/// A value, and where it was written.
pub(super) struct At<'a, T> {
    pub(super) value: &'a T,
    pub(super) location: Location<'a>,
}

/// Where a value was written.
#[derive(Clone)]
pub(super) struct Location<'a> {
    span: Range<usize>,
    pub(super) document: &'a TomlFile,
}

impl TomlFile {
    /// Reads a file, or a pipe, so that `--config /dev/stdin` works. `missing` is what to do if there is no such file.
    pub(super) fn read(file: &Path, missing: &str) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    ConfigError::of_file(file, "there is no such file", missing)
                }
                _ => unreadable(file, &error),
            })?;
        if bytes.len() as u64 > LARGEST {
            let message = format!("larger than {} MiB", LARGEST >> 20);
            return Err(ConfigError::of_file(
                file,
                &message,
                "expected a configuration in TOML",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| not_text(file, &error))?;
        Self::with_text(file, text)
    }

    /// A file with this text; it need not exist yet.
    pub(super) fn with_text(file: &Path, text: String) -> Result<Self, ConfigError> {
        let absolute = absolute(file)?;
        Ok(Self {
            file: file.to_owned(),
            directory: absolute.parent().unwrap_or(Path::new("/")).to_owned(),
            text,
        })
    }

    /// Parses the TOML.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let location = self.at(error.span().unwrap_or(0..0));
            let (message, note) = in_our_words(error.message(), &location.quoted());
            location.refuse(&message, &note)
        })
    }

    /// The absolute form of a path that is written in this file.
    pub(super) fn resolve(&self, written: impl AsRef<Path>) -> PathBuf {
        paths::normal(&self.directory.join(written))
    }

    pub(super) fn at(&self, span: Range<usize>) -> Location<'_> {
        Location {
            span,
            document: self,
        }
    }
}

impl Location<'_> {
    /// An error that points here.
    pub(super) fn refuse(&self, message: &str, note: &str) -> ConfigError {
        let document = self.document;
        ConfigError::at(
            &document.file,
            &document.text,
            self.span.clone(),
            message,
            note,
        )
    }

    /// An error that quotes the value as it was written, says what is wrong with it, and points at it.
    pub(super) fn refuse_value(&self, says: &str, note: &str) -> ConfigError {
        self.refuse(&format!("{} {says}", self.quoted()), note)
    }

    /// The text here.
    fn quoted(&self) -> String {
        let written = self
            .document
            .text
            .get(self.span.clone())
            .unwrap_or_default();
        let mut quoted: String = written.chars().take(LONGEST_QUOTE).collect();
        if quoted.len() < written.len() {
            quoted.push('…');
        }
        quoted
    }

    /// `FILE:LINE`, for an error about another value.
    pub(super) fn line(&self) -> String {
        let (line, _) = line_column(&self.document.text, self.span.start);
        format!("{}:{line}", self.document.file.display())
    }
}

impl<'a, T> At<'a, T> {
    pub(super) fn new(document: &'a TomlFile, written: &'a Spanned<T>) -> Self {
        Self {
            value: written.get_ref(),
            location: document.at(written.span()),
        }
    }
}

impl<T: AsRef<Path>> At<'_, T> {
    /// The path, made absolute.
    pub(super) fn resolved(&self) -> PathBuf {
        self.location.document.resolve(self.value)
    }
}

/// A path made absolute and normal.
pub(super) fn absolute(file: &Path) -> Result<PathBuf, ConfigError> {
    let absolute = std::path::absolute(file).map_err(|error| unreadable(file, &error))?;
    Ok(paths::normal(&absolute))
}

/// The error for a file or directory that could not be read.
pub(super) fn unreadable(file: &Path, error: &io::Error) -> ConfigError {
    let note = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the user that runs pgcertd must be able to read it: fix its permissions, or name another file with --config"
        }
        _ => "expected a readable file; --config names another",
    };
    ConfigError::of_file(file, &format!("cannot be read: {error}"), note)
}

fn not_text(file: &Path, error: &std::string::FromUtf8Error) -> ConfigError {
    // Up to the first bad byte, the lossy text has the same bytes as the file.
    let start = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    ConfigError::at(
        file,
        &text,
        start..start + 1,
        "this is not UTF-8",
        "expected UTF-8, as in every TOML file",
    )
}

/// An error of serde, of a value's type or of the TOML parser, as message and note. `quoted` is the text that it is about.
fn in_our_words(said: &str, quoted: &str) -> (String, String) {
    let (problem, expected) = match said.rsplit_once(", expected ") {
        Some((problem, expected)) => (problem, Some(expected)),
        None => (said, None),
    };
    let note = match expected {
        Some("a sequence") => "an array, in [ ]",
        Some(expected) => expected,
        None if problem == "duplicate key" => "each key and table only once",
        None => "TOML, see https://toml.io",
    };
    let (message, note) = if let Some(key) = problem.strip_prefix("unknown field ") {
        (format!("unknown key {key}"), names(note))
    } else if problem.starts_with("unknown variant ") {
        (format!("unknown value {quoted}"), names(note))
    } else if let Some(says) = problem.strip_prefix("invalid value: ") {
        (format!("{quoted} {says}"), note.to_owned())
    } else if let Some(found) = problem.strip_prefix("invalid type: ") {
        (format!("wrong type: {}", toml_type(found)), note.to_owned())
    } else {
        (problem.to_owned(), note.to_owned())
    };
    (message, format!("expected {note}"))
}

fn toml_type(found: &str) -> &str {
    match found {
        "map" => "a table",
        "sequence" => "an array",
        other => other,
    }
}

/// serde's list of keys or choices, "`a`", "`a` or `b`" or "one of `a`, `b`, `c`", without the quotes.
fn names(expected: &str) -> String {
    let list = expected.strip_prefix("one of ").unwrap_or(expected);
    let list = list.replace("` or `", "`, `").replace('`', "");
    match list.as_str() {
        // Only a fragment has this key alone.
        "instance" => "[[instance]] alone: fragments only add instances".to_owned(),
        one if !one.contains(',') => one.to_owned(),
        many => format!("one of: {many}"),
    }
}
