//! The words of a `pg_hba.conf`, and where in the text each is (PostgreSQL's `hba.c`,
//! `tokenize_auth_file` and `next_token`).

use std::ops::Range;

use super::Dialect;

/// A word: what it means, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaWord {
    /// Without quotes. It need be no UTF-8: Postgres compares bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether it began with a quote: it then is a name, and no keyword nor file.
    pub(crate) quoted: bool,
    /// Where it is in the text, its quotes included.
    pub(crate) place: Range<usize>,
}

impl HbaWord {
    /// Whether it is this keyword, rather than the name that looks like it.
    pub(crate) fn is_keyword(&self, keyword: &str) -> bool {
        !self.quoted && self.bytes == keyword.as_bytes()
    }

    /// What is written, as a person reads it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether both mean the same wherever they stand.
    pub(crate) fn means(&self, other: &HbaWord) -> bool {
        self.bytes == other.bytes && self.quoted == other.quoted
    }
}

/// A line with its continuations: its fields, each one or more words with commas between.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct HbaLine {
    /// The number of its first line in the text, from 1.
    pub(crate) number: usize,
    /// Where it is in the text, with its end.
    pub(crate) span: Range<usize>,
    pub(crate) fields: Vec<Vec<HbaWord>>,
}

/// The lines of a text that hold any word.
pub(in crate::server) fn lines(text: &[u8], dialect: Dialect) -> Vec<HbaLine> {
    let mut found = Vec::new();
    let mut rest = Physical {
        text,
        at: 0,
        number: 0,
    };
    loop {
        let begin = rest.at;
        let Some((number, letters)) = rest.whole_line(dialect) else {
            return found;
        };
        let mut scanner = Scanner {
            letters: &letters,
            at: 0,
        };
        let mut fields = Vec::new();
        while scanner.at < letters.len() {
            let field = scanner.field();
            if !field.is_empty() {
                fields.push(field);
            }
        }
        if !fields.is_empty() {
            let span = begin..rest.at;
            found.push(HbaLine {
                number,
                span,
                fields,
            });
        }
    }
}

/// A byte and its place in the text.
type Letter = (u8, usize);

struct Physical<'t> {
    text: &'t [u8],
    at: usize,
    number: usize,
}

impl Physical<'_> {
    /// The next line with those that continue it, and its number.
    fn whole_line(&mut self, dialect: Dialect) -> Option<(usize, Vec<Letter>)> {
        let mut letters: Vec<Letter> = Vec::new();
        let mut first = None;
        let mut continued_at = 0;
        while self.at < self.text.len() {
            self.number += 1;
            first.get_or_insert(self.number);
            let end = self.text[self.at..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(self.text.len(), |length| self.at + length + 1);
            letters.extend((self.at..end).map(|at| (self.text[at], at)));
            self.at = end;
            while letters
                .last()
                .is_some_and(|pair| matches!(pair.0, b'\r' | b'\n'))
            {
                letters.pop();
            }
            let continues =
                letters.len() > continued_at && letters.last().is_some_and(|both| both.0 == b'\\');
            if !(continues && dialect.continues_lines()) {
                break;
            }
            letters.pop();
            continued_at = letters.len();
        }
        // The server's strings end at a NUL.
        if let Some(end) = letters.iter().position(|pair| pair.0 == 0) {
            letters.truncate(end);
        }
        first.map(|number| (number, letters))
    }
}

struct Scanner<'l> {
    letters: &'l [Letter],
    at: usize,
}

impl Scanner<'_> {
    /// The words up to one that no comma follows; none at the end of the line.
    fn field(&mut self) -> Vec<HbaWord> {
        let mut words = Vec::new();
        while let Some((word, comma)) = self.word() {
            words.push(word);
            if !comma {
                break;
            }
        }
        words
    }

    /// The next word, and whether a comma follows it at once.
    fn word(&mut self) -> Option<(HbaWord, bool)> {
        while let Some((byte, _)) = self.letters.get(self.at)
            && (is_blank(*byte) || *byte == b',')
        {
            self.at += 1;
        }
        let begin = self.at;
        let mut bytes = Vec::new();
        let (mut in_quote, mut was_quote, mut saw_quote) = (false, false, false);
        let mut quoted = false;
        let mut comma = false;
        let mut end = begin;
        while let Some(&(byte, _)) = self.letters.get(self.at) {
            if is_blank(byte) && !in_quote {
                break;
            }
            if byte == b'#' && !in_quote {
                self.at = self.letters.len();
                break;
            }
            self.at += 1;
            if byte == b',' && !in_quote {
                comma = true;
                break;
            }
            end = self.at;
            if byte != b'"' || was_quote {
                bytes.push(byte);
            }
            // Within quotes, two of them are one that is meant.
            was_quote = in_quote && byte == b'"' && !was_quote;
            if byte == b'"' {
                in_quote = !in_quote;
                saw_quote = true;
                quoted |= bytes.is_empty();
            }
        }
        if !saw_quote && bytes.is_empty() {
            return None;
        }
        let place = self.letters[begin].1..self.letters[end - 1].1 + 1;
        let word = HbaWord {
            bytes,
            quoted,
            place,
        };
        Some((word, comma))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}
