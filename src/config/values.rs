//! The types of values. What exists is right, but for a path, which is still relative to the directory of the file
//! that it was written in: see [`At::resolved`](super::document::At::resolved).

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::from_text::{FromText, deserialize_from_text, wrong};
use super::{Account, Address, Listen, duration, expected};

deserialize_from_text!(
    AnyPath,
    FilePath,
    TextfilePath,
    CompanionSource,
    LineageFile,
    InstanceName,
    LineageName,
    HostName,
    Address,
    Listen,
    AnyDuration,
    PositiveDuration,
);

/// The path of a file or a directory.
#[derive(Clone)]
pub(super) struct AnyPath(PathBuf);

/// The path of a file.
pub(super) struct FilePath(PathBuf);

/// The path of a file that node_exporter's textfile collector reads.
pub(super) struct TextfilePath(PathBuf);

/// Where a CA or CRL file comes from: a path inside the lineage, or an absolute one.
pub(super) struct CompanionSource(pub(super) PathBuf);

/// The path of a file of the lineage, relative to it and inside.
pub(super) struct LineageFile(pub(super) String);

pub(super) struct InstanceName(pub(super) String);

/// The name of a subdirectory, or an absolute path.
pub(super) struct LineageName(pub(super) String);

pub(super) struct HostName(pub(super) ServerName<'static>);

/// What the system can start: a program that has a name, and its arguments.
pub(super) struct ProgramWords(pub(super) Vec<String>);

#[derive(Clone)]
pub(super) struct AnyDuration(pub(super) Duration);

/// A duration longer than zero.
#[derive(Clone)]
pub(super) struct PositiveDuration(pub(super) Duration);

impl AnyPath {
    pub(super) fn new(path: &str) -> Self {
        Self(path.into())
    }
}

impl FromText for AnyPath {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        if text.is_empty() || text.contains('\0') {
            return Err(wrong("is not a path", expected::PATH));
        }
        Ok(Self::new(text))
    }
}

impl FromText for FilePath {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let AnyPath(path) = AnyPath::from_text(text)?;
        let last = path.components().next_back();
        if text.ends_with('/') || !matches!(last, Some(Component::Normal(_))) {
            return Err(wrong("names a directory", expected::TARGET));
        }
        Ok(Self(path))
    }
}

impl FromText for TextfilePath {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let FilePath(path) = FilePath::from_text(text)?;
        // A name that is an extension alone has none.
        if path.extension().is_some_and(|name| name == "prom") {
            return Ok(Self(path));
        }
        Err(wrong(
            "is no file that node_exporter reads",
            expected::TEXTFILE,
        ))
    }
}

impl FromText for CompanionSource {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        if Path::new(text).is_absolute() {
            let FilePath(path) = FilePath::from_text(text)?;
            return Ok(Self(path));
        }
        if is_inside(text) {
            return Ok(Self(text.into()));
        }
        let says = "is neither a file inside the lineage nor an absolute path";
        Err(wrong(says, expected::SOURCE))
    }
}

impl FromText for LineageFile {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        if is_inside(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(wrong("is not a file inside the lineage", expected::INSIDE))
    }
}

fn is_inside(name: &str) -> bool {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain && !name.is_empty() && !name.ends_with('/') && !name.contains('\0')
}

impl FromText for InstanceName {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.starts_with(['-', '.']) || !text.bytes().all(allowed) {
            return Err(wrong("cannot be the name of an instance", expected::NAME));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for LineageName {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let is_name = !["", ".", ".."].contains(&text) && !text.contains('/');
        if text.contains('\0') || !(is_name || text.starts_with('/')) {
            let says = "is neither the name of a lineage nor an absolute path";
            return Err(wrong(says, expected::LINEAGE));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for HostName {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let says = if text.starts_with("*.") {
            "is a wildcard, and clients verify hosts, not wildcards"
        } else if text.ends_with('.') {
            "ends with a dot, and libpq compares names as text: no certificate has such a name"
        } else if let Ok(name) = ServerName::try_from(text.to_owned()) {
            return Ok(Self(name));
        } else {
            "is not a host name"
        };
        Err(wrong(says, expected::HOSTS))
    }
}

impl FromText for Address {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        text.parse().map_err(|error| {
            wrong(
                format_args!("is not an address: {error}"),
                expected::ADDRESS,
            )
        })
    }
}

impl FromText for Listen {
    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        Listen::parse(text).map_err(|error| wrong(error, expected::LISTEN))
    }
}

impl FromText for AnyDuration {
    const TYPE: &'static str = expected::DURATION;

    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        duration::parse(text)
            .map(Self)
            .map_err(|error| wrong(error, expected::DURATION))
    }
}

impl FromText for PositiveDuration {
    const TYPE: &'static str = expected::DURATION;

    fn from_text<E: Error>(text: &str) -> Result<Self, E> {
        let AnyDuration(duration) = AnyDuration::from_text(text)?;
        if duration.is_zero() {
            return Err(wrong("is not longer than zero", expected::LONGER));
        }
        Ok(Self(duration))
    }
}

impl<'de> Deserialize<'de> for ProgramWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let named = words.first().is_some_and(|program| !program.is_empty());
        if named && words.iter().all(|word| !word.contains('\0')) {
            return Ok(Self(words));
        }
        Err(wrong("is not a command", expected::COMMAND))
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;
        impl Visitor<'_> for NameOrNumber {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes or a number")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Account, E> {
                let odd = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/';
                if name.is_empty() || name.contains(odd) {
                    let says = "is not the name of a user or group";
                    return Err(wrong(says, expected::ACCOUNT));
                }
                Ok(Account::Name(name.to_owned()))
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<Account, E> {
                match u32::try_from(id) {
                    Ok(id) if id != u32::MAX => Ok(Account::Id(id)),
                    _ => Err(wrong(
                        "is not the number of a user or group",
                        expected::ACCOUNT,
                    )),
                }
            }
        }
        deserializer.deserialize_any(NameOrNumber)
    }
}

macro_rules! as_path {
    ($($path:ty),+) => {$(
        impl AsRef<Path> for $path {
            fn as_ref(&self) -> &Path {
                &self.0
            }
        }
    )+};
}

as_path!(AnyPath, FilePath, TextfilePath);
