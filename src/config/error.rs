//! What is wrong with a configuration, drawn for the person who wrote it.
//!
//! All errors look the same, whether the TOML, a type or a value is wrong: location and message, the line, carets below
//! the offending text, and what was expected. Characters that a terminal obeys or hides are drawn as spaces, so that a
//! file cannot control the terminal and every caret is below its character.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::text;

/// The widest part of a line that is drawn, in characters.
const WIDEST: usize = 120;

/// Why a configuration was refused.
///
/// Its `Display` is what a person reads on standard error:
///
/// ```text
/// /etc/pgcertd/pgcertd.toml:14:1: unknown key `debouce`
///   |
/// 14| debouce = "200ms"
///   | ^^^^^^^
///   = expected one of: directories, debounce, settle_timeout, resync, poll
/// ```
///
/// It has no `source`: if a file could not be read, the reason is part of the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", drawn(.0))]
pub(crate) struct ConfigError(Box<KeyRefusal>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyRefusal {
    file: PathBuf,
    place: Option<SourceSpan>,
    message: String,
    note: String,
}

/// The offending text and its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SourceSpan {
    line: usize,
    column: usize,
    /// The line itself, without control characters.
    text: String,
    /// How many characters to underline; at least one.
    width: usize,
}

impl ConfigError {
    /// An error about the file as a whole.
    pub(super) fn of_file(file: &Path, message: &str, note: &str) -> Self {
        Self(Box::new(KeyRefusal {
            file: file.to_owned(),
            place: None,
            message: plain(message),
            note: plain(note),
        }))
    }

    /// An error about a span of bytes in the file's text.
    pub(super) fn at(
        file: &Path,
        text: &str,
        span: Range<usize>,
        message: &str,
        note: &str,
    ) -> Self {
        Self(Box::new(KeyRefusal {
            file: file.to_owned(),
            place: Some(SourceSpan::from_span(text, span)),
            message: plain(message),
            note: plain(note),
        }))
    }

    /// The file with the error: the configuration or one of its fragments.
    #[cfg(test)]
    pub(crate) fn file(&self) -> &Path {
        &self.0.file
    }

    /// The line and the column of the offending text, from one; the column counts characters. None if the file could not
    /// be read.
    #[cfg(test)]
    pub(crate) fn line_column(&self) -> Option<(usize, usize)> {
        self.0
            .place
            .as_ref()
            .map(|place| (place.line, place.column))
    }

    /// What is wrong, on one line, without the location.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What was expected, or what to do, on one line.
    #[cfg(test)]
    pub(crate) fn note(&self) -> &str {
        &self.0.note
    }

    /// Everything on one line, for JSON and the journal: location, message and note.
    pub(crate) fn one_line(&self) -> String {
        let KeyRefusal { message, note, .. } = &*self.0;
        format!("{}: {message}: {note}", located(&self.0))
    }
}

impl SourceSpan {
    fn from_span(text: &str, span: Range<usize>) -> Self {
        let start = boundary(text, span.start);
        let end = boundary(text, span.end).max(start);
        let (line, column) = line_column(text, start);
        let line_start = start_of_line(text, start);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |length| start + length);
        let width = text[start..end.min(line_end)].chars().count().max(1);
        Self {
            line,
            column,
            text: plain(text[line_start..line_end].trim_end()),
            width,
        }
    }
}

/// The line and column of a byte in a text, from one; the column counts characters.
pub(super) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let at = boundary(text, at);
    let line_start = start_of_line(text, at);
    let line = 1 + text[..line_start].matches('\n').count();
    (line, 1 + text[line_start..at].chars().count())
}

/// Where the line of a byte starts; in the first line, after a byte order mark.
fn start_of_line(text: &str, at: usize) -> usize {
    let first = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    text[..at]
        .rfind('\n')
        .map_or(first.min(at), |newline| newline + 1)
}

/// The nearest character boundary at or before a byte.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

fn plain(text: &str) -> String {
    text.replace(|c: char| !text::is_shown(c), " ")
}

fn located(refusal: &KeyRefusal) -> String {
    let file = refusal.file.to_string_lossy();
    let file = text::shown(&file);
    match &refusal.place {
        Some(SourceSpan { line, column, .. }) => format!("{file}:{line}:{column}"),
        None => file.to_string(),
    }
}

fn drawn(refusal: &KeyRefusal) -> String {
    let mut out = format!("{}: {}", located(refusal), refusal.message);
    let mut gutter = String::from(" ");
    if let Some(place) = &refusal.place {
        gutter = " ".repeat(place.line.to_string().len());
        let (text, before, width) = window(place);
        let line = place.line;
        let (blank, carets) = (" ".repeat(before), "^".repeat(width));
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n{gutter}|\n{line}| {text}\n{gutter}| {blank}{carets}"
        );
    }
    let _ = write!(out, "\n{gutter}= {}", refusal.note);
    out
}

/// The part of the line that is drawn, the characters before the carets, and the number of carets.
fn window(place: &SourceSpan) -> (String, usize, usize) {
    let before = place.column - 1;
    let length = place.text.chars().count();
    if length <= WIDEST {
        return (place.text.clone(), before, place.width);
    }
    let skipped = before.saturating_sub(WIDEST / 3);
    let text = place.text.chars().skip(skipped).take(WIDEST).collect();
    let before = before - skipped;
    (text, before, place.width.min(WIDEST - before))
}
