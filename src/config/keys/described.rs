//! What the man page, the schema and the tests know about each key, from `table!` and `choices!`. Only compiled for tests.

use std::time::Duration;

use jiff::fmt::friendly::SpanPrinter;

use crate::config::expected;

/// A table that is declared by [`table!`](crate::config::table::table).
pub(crate) trait Described {
    /// Its keys, in the order of the manual.
    fn keys() -> Vec<Key>;
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) holds: Holds,
    pub(crate) unless: Unless,
    /// What it does, a paragraph each.
    pub(crate) what: Vec<String>,
    /// A valid value, as it is written.
    pub(crate) example: &'static str,
}

/// What applies if the key is not written.
pub(crate) enum Unless {
    Required,
    /// This value, as it would be written; `NAME` stands for the instance's name.
    Is(String),
    /// Something that cannot be written.
    Else(&'static str),
}

impl Unless {
    pub(crate) fn is(value: &impl DefaultValue) -> Unless {
        Unless::Is(value.written())
    }
}

/// What a key may hold.
pub(crate) enum Holds {
    Path,
    Paths,
    Target,
    Name,
    Lineage,
    Duration,
    Longer,
    /// One of these, each explained.
    Choice(Vec<(&'static str, String)>),
    /// Any of these, each explained.
    Choices(Vec<(&'static str, String)>),
    Hosts,
    Command,
    Account,
    Address,
    Inside,
    /// A file inside the lineage, or an absolute path.
    Source,
    Listen,
    Textfile,
    Table(Vec<Key>),
}

impl Holds {
    /// In one or two words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Holds::Path => "path",
            Holds::Paths => "array of paths",
            Holds::Target => "path of a file",
            Holds::Name | Holds::Lineage => "string",
            Holds::Duration => "duration",
            Holds::Longer => "duration longer than zero",
            Holds::Choice(_) => "one of several strings",
            Holds::Choices(_) => "array of strings",
            Holds::Hosts => "array of host names",
            Holds::Command => "array of strings",
            Holds::Account => "string or number",
            Holds::Address => "host and port",
            Holds::Inside => "file name",
            Holds::Source => "file name or path",
            Holds::Listen => "address or path",
            Holds::Textfile => "path of a file",
            Holds::Table(_) => "table",
        }
    }

    /// What an error says was expected, if there is one rule for the whole value.
    pub(crate) fn expected(&self) -> Option<String> {
        let expected = match self {
            Holds::Path | Holds::Paths => expected::PATH,
            Holds::Target => expected::TARGET,
            Holds::Name => expected::NAME,
            Holds::Lineage => expected::LINEAGE,
            Holds::Duration => expected::DURATION,
            Holds::Longer => expected::LONGER,
            Holds::Choice(choices) | Holds::Choices(choices) => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                return Some(format!("one of: {}", names.join(", ")));
            }
            Holds::Hosts => expected::HOSTS,
            Holds::Command => expected::COMMAND,
            Holds::Account => expected::ACCOUNT,
            Holds::Address => expected::ADDRESS,
            Holds::Inside => expected::INSIDE,
            Holds::Source => expected::SOURCE,
            Holds::Listen => expected::LISTEN,
            Holds::Textfile => expected::TEXTFILE,
            Holds::Table(_) => return None,
        };
        Some(expected.to_owned())
    }
}

/// A type of values.
pub(crate) trait Value {
    fn holds() -> Holds;
}

/// An enum that is declared by `choices!`.
pub(crate) trait Choice: PartialEq + Sized + 'static {
    /// Each with its name and the lines of its doc comment.
    const ALL: &'static [(Self, &'static str, &'static [&'static str])];
}

pub(super) fn explained<T: Choice>() -> Vec<(&'static str, String)> {
    let explained = T::ALL.iter();
    explained
        .map(|(_, name, lines)| (*name, paragraphs(lines).join("\n")))
        .collect()
}

impl<T: Choice> Value for T {
    fn holds() -> Holds {
        Holds::Choice(explained::<T>())
    }
}

/// A value that can be a default.
pub(crate) trait DefaultValue {
    /// As it is written.
    fn written(&self) -> String;
}

impl DefaultValue for Duration {
    fn written(&self) -> String {
        let text = SpanPrinter::new().unsigned_duration_to_string(self);
        format!("\"{text}\"")
    }
}

impl<T: Choice> DefaultValue for T {
    fn written(&self) -> String {
        let own = T::ALL.iter().find(|(choice, ..)| choice == self);
        own.map_or_else(String::new, |(_, name, _)| format!("\"{name}\""))
    }
}

impl<T: DefaultValue> DefaultValue for Vec<T> {
    fn written(&self) -> String {
        let all: Vec<_> = self.iter().map(DefaultValue::written).collect();
        format!("[{}]", all.join(", "))
    }
}

/// The lines of a doc comment as paragraphs.
pub(crate) fn paragraphs(lines: &[&str]) -> Vec<String> {
    let paragraphs = lines.split(|line| line.trim().is_empty());
    paragraphs
        .map(|lines| {
            lines
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}
