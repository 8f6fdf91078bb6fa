//! The check of each value, one function a key or kind of key.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use rustls::pki_types::ServerName;
use toml::Spanned;

use super::document::At;
use super::duration;
use super::error::ConfigError;
use super::expected;
use super::written::{self, Key, Table, Text};
use super::{Account, Address, Files, Listen, ListenError, Mode, Reload, ServerKind, Verify};
use crate::bundle::Thresholds;

pub(super) const KINDS: &[(&str, ServerKind)] = &[
    ("postgres", ServerKind::Postgres),
    ("pgbouncer", ServerKind::PgBouncer),
    ("patroni", ServerKind::Patroni),
];

pub(super) const MODES: &[(&str, Mode)] = &[
    ("manage", Mode::Manage),
    ("reload", Mode::Reload),
    ("observe", Mode::Observe),
];

pub(super) const VERIFIES: &[(&str, Verify)] =
    &[("handshake", Verify::Handshake), ("none", Verify::None)];

pub(super) const RELOADS: &[(&str, Reload)] = &[
    ("signal", Reload::Signal),
    ("pg_ctl", Reload::PgCtl),
    ("command", Reload::Command(Vec::new())),
];

fn expected_is(what: &str) -> String {
    format!("expected {what}")
}

pub(super) fn choice<T: Clone>(
    written: &At<'_, String>,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let chosen = choices.iter().find(|(name, _)| name == written.value);
    chosen.map(|(_, choice)| choice.clone()).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        written.refuse(
            &format!("unknown value \"{}\"", written.value),
            &format!("expected one of: {}", names.join(", ")),
        )
    })
}

/// What the system can start: a program that has a name, and no byte that ends a string for the kernel.
pub(super) fn command(written: &At<'_, Vec<Spanned<String>>>) -> Result<Vec<String>, ConfigError> {
    let words: Vec<String> = written
        .value
        .iter()
        .map(|word| word.get_ref().clone())
        .collect();
    let named = words.first().is_some_and(|program| !program.is_empty());
    if named && words.iter().all(|word| !word.contains('\0')) {
        return Ok(words);
    }
    Err(written.refuse_value("is not a command", &expected_is(expected::COMMAND)))
}

pub(super) fn check_name(written: &At<'_, String>) -> Result<(), ConfigError> {
    let name = written.value;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.is_empty() && !name.starts_with(['-', '.']) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(written.refuse_value(
        "cannot be the name of an instance",
        &expected_is(expected::NAME),
    ))
}

pub(super) fn target(written: &At<'_, String>) -> Result<PathBuf, ConfigError> {
    let path = written.path()?;
    let last = Path::new(written.value).components().next_back();
    if written.value.ends_with('/') || !matches!(last, Some(Component::Normal(_))) {
        return Err(written.refuse_value("names a directory", &expected_is(expected::TARGET)));
    }
    Ok(path)
}

/// Where a CA or CRL file comes from: a file inside the lineage, or an absolute path.
pub(super) fn source(written: &At<'_, String>) -> Result<PathBuf, ConfigError> {
    let path = Path::new(written.value);
    if path.is_absolute() {
        return target(written);
    }
    if is_inside(written.value) {
        return Ok(path.to_owned());
    }
    Err(written.refuse_value(
        "is neither a file inside the lineage nor an absolute path",
        &expected_is(expected::SOURCE),
    ))
}

fn is_inside(name: &str) -> bool {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain && !name.is_empty() && !name.ends_with('/') && !name.contains('\0')
}

pub(super) fn server_names(
    written: &At<'_, Vec<Spanned<String>>>,
) -> Result<Vec<ServerName<'static>>, ConfigError> {
    let example = &expected_is(expected::HOSTS);
    let one = |name: &Spanned<String>| {
        let name = written.part(name);
        if name.value.starts_with("*.") {
            let message = "is a wildcard, and clients verify hosts, not wildcards";
            return Err(name.refuse_value(message, example));
        }
        if name.value.ends_with('.') {
            let message =
                "ends with a dot, and libpq compares names as text: no certificate has such a name";
            return Err(name.refuse_value(message, example));
        }
        ServerName::try_from(name.value.clone())
            .map_err(|_| name.refuse_value("is not a host name", example))
    };
    written.value.iter().map(one).collect()
}

pub(super) fn account(
    written: &At<'_, written::WrittenAccount>,
) -> Result<Option<Account>, ConfigError> {
    let wrong = |message| Err(written.refuse_value(message, &expected_is(expected::ACCOUNT)));
    match written.value {
        written::WrittenAccount::Id(id) => match u32::try_from(*id) {
            Ok(id) if id != u32::MAX => Ok(Some(Account::Id(id))),
            _ => wrong("is not the number of a user or group"),
        },
        written::WrittenAccount::Name(name) => {
            let odd = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/';
            if name.is_empty() || name.contains(odd) {
                return wrong("is not the name of a user or group");
            }
            Ok(Some(Account::Name(name.clone())))
        }
    }
}

pub(super) fn address(written: &At<'_, String>) -> Result<Option<Address>, ConfigError> {
    written.value.parse().map(Some).map_err(|error| {
        written.refuse_value(
            &format!("is not an address: {error}"),
            &expected_is(expected::ADDRESS),
        )
    })
}

pub(super) fn listen(written: &At<'_, String>) -> Result<Listen, ConfigError> {
    let refused = |error: ListenError| {
        written.refuse_value(&error.to_string(), &expected_is(expected::LISTEN))
    };
    match Listen::parse(written.value).map_err(refused)? {
        Listen::Tcp(address) => Ok(Listen::Tcp(address)),
        Listen::Unix(path) => Listen::at(written.resolved(&path)).map_err(refused),
    }
}

pub(super) fn textfile(written: &At<'_, String>) -> Result<PathBuf, ConfigError> {
    let path = target(written)?;
    // node_exporter reads no other, and a name that is an extension alone has none.
    if path.extension().is_some_and(|name| name == "prom") {
        return Ok(path);
    }
    Err(written.refuse_value(
        "is no file that node_exporter reads",
        &expected_is(expected::TEXTFILE),
    ))
}

pub(super) fn files(
    written: &At<'_, Table<written::WrittenFiles>>,
) -> Result<Option<Files>, ConfigError> {
    let inside = |name: &Spanned<String>| {
        let name = written.part(name);
        if is_inside(name.value) {
            return Ok(name.value.clone());
        }
        Err(name.refuse_value(
            "is not a file inside the lineage",
            &expected_is(expected::INSIDE),
        ))
    };
    Ok(Some(Files {
        chain: inside(&written.value.0.chain)?,
        key: inside(&written.value.0.key)?,
    }))
}

pub(super) fn expiry(
    written: &At<'_, Table<written::WrittenExpiry>>,
) -> Result<Thresholds, ConfigError> {
    let written::WrittenExpiry { warn, critical } = &written.value.0;
    let left = |key: &Key<Text>| -> Result<Option<SignedDuration>, ConfigError> {
        let Some(text) = key else { return Ok(None) };
        let text = written.part(text);
        let left = SignedDuration::try_from(positive(&text)?);
        let note = expected_is(expected::LONGER);
        left.map(Some)
            .map_err(|_| text.refuse_value("is too long", &note))
    };
    let thresholds = Thresholds {
        warn: left(warn)?,
        critical: left(critical)?,
    };
    match (critical, thresholds.warn, thresholds.critical) {
        (Some(text), Some(before), Some(after)) if after > before => {
            let expected = "expected as much as `warn` or less, since a warning comes first";
            Err(written
                .part(text)
                .refuse_value("comes before `warn`", expected))
        }
        _ => Ok(thresholds),
    }
}

pub(super) fn any_duration(written: &At<'_, Text>) -> Result<Duration, ConfigError> {
    duration::parse(&written.value.0)
        .map_err(|error| written.refuse_value(&error.to_string(), &expected_is(expected::DURATION)))
}

pub(super) fn positive(written: &At<'_, Text>) -> Result<Duration, ConfigError> {
    let duration = any_duration(written)?;
    if duration.is_zero() {
        let note = expected_is(expected::LONGER);
        return Err(written.refuse_value("is not longer than zero", &note));
    }
    Ok(duration)
}
