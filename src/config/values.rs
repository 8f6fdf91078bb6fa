//! The types of values. A value that exists is valid; only a path is still relative to the directory of the file that it
//! was written in, see [`At::resolved`](super::document::At::resolved).

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::from_text::{STRING, ValueError, text_values, wrong};
use super::{Account, Address, Listen, duration, expected};

text_values! {
    /// The path of a file or a directory.
    AnyPath(PathBuf) = any_path, STRING;
    /// The path of a file.
    FilePath(PathBuf) = file_path, STRING;
    /// The path of a file that node_exporter's textfile collector reads.
    TextfilePath(PathBuf) = textfile_path, STRING;
    /// Where a CA or CRL file comes from: a path inside the lineage, or an absolute one.
    CompanionSource(PathBuf) = companion_source, STRING;
    /// The path of a file inside the lineage, relative to it.
    LineageFile(String) = lineage_file, STRING;
    /// The name of an instance.
    InstanceName(String) = instance_name, STRING;
    /// The name of a subdirectory, or an absolute path.
    LineageName(String) = lineage_name, STRING;
    /// A name that clients verify.
    HostName(ServerName<'static>) = host_name, STRING;
    /// A host and a port.
    HostAndPort(Address) = address, STRING;
    /// An address of this host, or a path.
    ListenAt(Listen) = listen, STRING;
    /// A duration, which may be zero.
    AnyDuration(Duration) = any_duration, expected::DURATION;
    /// A duration longer than zero.
    PositiveDuration(Duration) = positive_duration, expected::DURATION;
}

fn any_path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() || text.contains('\0') {
        return Err(wrong("is not a path", expected::PATH));
    }
    Ok(text.into())
}

fn file_path(text: &str) -> Result<PathBuf, ValueError> {
    let path = any_path(text)?;
    let last = path.components().next_back();
    if text.ends_with('/') || !matches!(last, Some(Component::Normal(_))) {
        return Err(wrong("names a directory", expected::TARGET));
    }
    Ok(path)
}

fn textfile_path(text: &str) -> Result<PathBuf, ValueError> {
    let path = file_path(text)?;
    // ".prom" by itself has no extension.
    if path.extension().is_none_or(|name| name != "prom") {
        return Err(wrong(
            "is not a file that node_exporter reads",
            expected::TEXTFILE,
        ));
    }
    Ok(path)
}

fn companion_source(text: &str) -> Result<PathBuf, ValueError> {
    if Path::new(text).is_absolute() {
        file_path(text)
    } else if is_inside(text) {
        Ok(text.into())
    } else {
        let says = "is neither a file inside the lineage nor an absolute path";
        Err(wrong(says, expected::SOURCE))
    }
}

fn lineage_file(text: &str) -> Result<String, ValueError> {
    if !is_inside(text) {
        return Err(wrong("is not a file inside the lineage", expected::INSIDE));
    }
    Ok(text.to_owned())
}

fn is_inside(name: &str) -> bool {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain && !name.is_empty() && !name.ends_with('/') && !name.contains('\0')
}

fn instance_name(text: &str) -> Result<String, ValueError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.starts_with(['-', '.']) || !text.bytes().all(allowed) {
        return Err(wrong("is not a valid name for an instance", expected::NAME));
    }
    Ok(text.to_owned())
}

fn lineage_name(text: &str) -> Result<String, ValueError> {
    let is_name = !["", ".", ".."].contains(&text) && !text.contains('/');
    if text.contains('\0') || !(is_name || text.starts_with('/')) {
        let says = "is neither the name of a lineage nor an absolute path";
        return Err(wrong(says, expected::LINEAGE));
    }
    Ok(text.to_owned())
}

fn host_name(text: &str) -> Result<ServerName<'static>, ValueError> {
    if text.starts_with("*.") {
        let says = "is a wildcard; clients verify host names, not wildcards";
        return Err(wrong(says, expected::HOSTS));
    }
    if text.ends_with('.') {
        let says =
            "ends with a dot; libpq compares names as text, and no certificate has such a name";
        return Err(wrong(says, expected::HOSTS));
    }
    ServerName::try_from(text.to_owned()).map_err(|_| wrong("is not a host name", expected::HOSTS))
}

fn address(text: &str) -> Result<Address, ValueError> {
    let refused = |error| {
        wrong(
            format_args!("is not an address: {error}"),
            expected::ADDRESS,
        )
    };
    text.parse().map_err(refused)
}

fn listen(text: &str) -> Result<Listen, ValueError> {
    Listen::parse(text).map_err(|error| wrong(error, expected::LISTEN))
}

fn any_duration(text: &str) -> Result<Duration, ValueError> {
    duration::parse(text).map_err(|error| wrong(error, expected::DURATION))
}

fn positive_duration(text: &str) -> Result<Duration, ValueError> {
    let duration = any_duration(text)?;
    if duration.is_zero() {
        return Err(wrong("is not longer than zero", expected::LONGER));
    }
    Ok(duration)
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

/// A command that the system can start: a program and its arguments.
pub(super) struct ProgramWords(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for ProgramWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let named = words.first().is_some_and(|program| !program.is_empty());
        if !named || words.iter().any(|word| word.contains('\0')) {
            return Err(wrong("is not a command", expected::COMMAND));
        }
        Ok(Self(words))
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
                    return Err(wrong(
                        "is not a valid user or group name",
                        expected::ACCOUNT,
                    ));
                }
                Ok(Account::Name(name.to_owned()))
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<Account, E> {
                match u32::try_from(id) {
                    Ok(id) if id != u32::MAX => Ok(Account::Id(id)),
                    _ => Err(wrong("is not a valid user or group ID", expected::ACCOUNT)),
                }
            }
        }
        deserializer.deserialize_any(NameOrNumber)
    }
}
