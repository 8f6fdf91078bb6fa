//! From the keys as written to a [`Config`]: what they mean together.
//!
//! A value keeps its location until `conflicts` has compared the instances, so that every error can point at it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use super::companions::companions;
use super::conflicts::{self, CheckedInstance};
use super::document::{At, Location, TomlFile, absolute, unreadable};
use super::error::ConfigError;
use super::expected;
use super::keys::{
    OWN, WrittenConfig, WrittenExpiry, WrittenFiles, WrittenFragment, WrittenInstance,
    WrittenMetrics, WrittenWatch,
};
use super::paths::fragments_beside;
use super::table::{Instances, Keys, Table};
use super::values::{LineageName, PositiveDuration};
use super::{
    Config, DEFAULT_TARGET, Files, InstanceConfig, Lineage, Listen, MetricsConfig, Notify, Reload,
    ReloadBy, ServerHome, ServerKind, WatchConfig,
};
use crate::bundle::Thresholds;

/// What to do if the file does not exist.
const MISSING: &str =
    "copy the model config/pgcertd.toml there, or name another file with --config";

/// What to do if a fragment is listed in the directory, but does not exist.
const MISSING_FRAGMENT: &str = "expected a fragment; if this is a dangling link, remove it";

/// See [`Config::load`] and [`Config::load_with`], whose fragment is `more`.
pub(super) fn load(file: &Path, more: Option<(&Path, &str)>) -> Result<Config, ConfigError> {
    let document = TomlFile::read(file, MISSING)?;
    let written: WrittenConfig = document.parse()?;
    let mut documents = Vec::new();
    for file in fragment_files(file)? {
        documents.push(TomlFile::read(&file, MISSING_FRAGMENT)?);
    }
    if let Some((file, text)) = more {
        documents.push(TomlFile::with_text(file, text.to_owned())?);
    }
    let mut fragments: Vec<(TomlFile, WrittenFragment)> = Vec::new();
    for fragment in documents {
        let written = fragment.parse()?;
        fragments.push((fragment, written));
    }

    let watch = watch(&document, &written.watch.0);
    let keys = Keys::new(&written, &document);
    let state_directory = document.resolve(keys.state_directory());
    let absolute = absolute(file)?;
    let scope = InstanceScope {
        file: &absolute,
        watched: &watch.directories,
        state_directory: &state_directory,
        defaults: Keys::new(&written.defaults.0, &document),
    };
    check_defaults(&scope.defaults)?;
    let mut checked = scope.instances(&document, &written.instance)?;
    for (document, fragment) in &fragments {
        checked.extend(scope.instances(document, &fragment.instance)?);
    }
    conflicts::refuse(&checked, &watch.directories, &state_directory)?;
    Ok(Config {
        instances: checked.into_iter().map(|one| one.instance).collect(),
        watch,
        state_directory,
        runtime_directory: document.resolve(keys.runtime_directory()),
        metrics: metrics(&document, &written.metrics.0)?,
        notify: Notify::from_table(&document, &written.notify.0),
        file: absolute,
    })
}

/// The fragments in `conf.d` next to the file, in alphabetical order.
fn fragment_files(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let directory = fragments_beside(file);
    let refused = |error: io::Error| unreadable(&directory, &error);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(refused)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn watch(document: &TomlFile, table: &WrittenWatch) -> WatchConfig {
    let keys = Keys::new(table, document);
    let mut directories = Vec::new();
    for directory in keys.directories() {
        let directory = document.resolve(directory);
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    WatchConfig {
        directories,
        debounce: keys.debounce().0,
        settle_timeout: keys.settle_timeout().0,
        resync: keys.resync().0,
        poll: keys.poll().map(|duration| duration.value.0),
    }
}

fn metrics(document: &TomlFile, table: &WrittenMetrics) -> Result<MetricsConfig, ConfigError> {
    let keys = Keys::new(table, document);
    let listen = keys.listen().map(|listen| match &listen.value.0 {
        Listen::Tcp(address) => Ok(Listen::Tcp(*address)),
        Listen::Unix(path) => Listen::at(document.resolve(path)).map_err(|error| {
            let note = format!("expected {}", expected::LISTEN);
            listen.location.refuse_value(&error.to_string(), &note)
        }),
    });
    Ok(MetricsConfig {
        listen: listen.transpose()?,
        textfile: keys.textfile().map(|path| path.resolved()),
    })
}

/// What an instance depends on besides its own table.
struct InstanceScope<'a> {
    file: &'a Path,
    watched: &'a [PathBuf],
    state_directory: &'a Path,
    defaults: Keys<'a, WrittenInstance>,
}

impl<'a> InstanceScope<'a> {
    fn instances(
        &self,
        document: &'a TomlFile,
        written: &'a Instances<WrittenInstance>,
    ) -> Result<Vec<CheckedInstance<'a>>, ConfigError> {
        let tables = written.0.iter();
        tables
            .map(|table| self.instance(At::new(document, table)))
            .collect()
    }

    fn instance(
        &self,
        table: At<'a, Table<WrittenInstance>>,
    ) -> Result<CheckedInstance<'a>, ConfigError> {
        let keys = table.keys().above(&self.defaults);
        let missing = |key: &str, example: &str| {
            let message = format!("an instance without `{key}`");
            let note = format!("expected {key} = {example}");
            table.location.refuse(&message, &note)
        };
        let name = keys
            .name()
            .ok_or_else(|| missing("name", "\"16-main\", or another name of your choice"))?;
        let lineage = keys.lineage().ok_or_else(|| {
            missing(
                "lineage",
                "\"postgres.example.com\", a subdirectory of a watched directory, or an absolute path",
            )
        })?;
        let kind = keys.kind();
        let (home, place) = place(&keys, kind, missing)?;
        let state = self.state_directory.join(&name.value.0);
        let cert_file = keys
            .cert_file()
            .map_or_else(|| state.join(DEFAULT_TARGET), |path| path.resolved());
        let key_file = keys
            .key_file()
            .map_or_else(|| cert_file.clone(), |path| path.resolved());
        let (ca, crl) = companions(&keys, kind, &state)?;
        let verify_timeout = keys.verify_timeout();
        let server_names = keys.server_names();
        let server_names = server_names.iter().flat_map(|names| names.value);
        let instance = InstanceConfig {
            name: name.value.0.clone(),
            lineage: self.lineage(&lineage)?,
            place,
            cert_file,
            key_file,
            ca,
            crl,
            server_names: server_names.map(|name| name.0.clone()).collect(),
            mode: keys.mode(),
            reload: reload(&keys, kind)?,
            owner: keys.owner().map(|account| account.value.clone()),
            group: keys.group().map(|account| account.value.clone()),
            address: keys.address().map(|address| address.value.0.clone()),
            verify: keys.verify(),
            verify_timeout: verify_timeout
                .map_or_else(|| kind.verify_timeout(), |duration| duration.value.0),
            delay: keys.delay().0,
            files: keys.files().map(files).transpose()?,
            expiry: keys.expiry().map(expiry).transpose()?.unwrap_or_default(),
            config_file: self.file.to_owned(),
        };
        Ok(CheckedInstance {
            instance,
            name: name.location,
            home,
            keys,
        })
    }

    fn lineage(&self, written: &At<'_, LineageName>) -> Result<Lineage, ConfigError> {
        let name = &written.value.0;
        let candidates = if name.starts_with('/') {
            vec![written.location.document.resolve(name)]
        } else if self.watched.is_empty() {
            return Err(written.location.refuse_value(
                "names a subdirectory of a watched directory, but no directory is watched",
                "expected an absolute path here, or a directory in `directories` of [watch]",
            ));
        } else {
            self.watched.iter().map(|dir| dir.join(name)).collect()
        };
        Ok(Lineage {
            name: name.clone(),
            candidates,
        })
    }
}

/// Where a server of this kind is: it needs one key, and must not have that of the other kinds.
fn place<'a>(
    keys: &Keys<'a, WrittenInstance>,
    kind: ServerKind,
    missing: impl Fn(&str, &str) -> ConfigError,
) -> Result<(Location<'a>, ServerHome), ConfigError> {
    let (key, unfit, wanted, example) = match kind {
        ServerKind::Postgres => (
            "data_directory",
            "config_file",
            "data_directory, from which pgcertd finds the rest; config_file is for kind = \"pgbouncer\" and \
             \"patroni\"",
            "\"/var/lib/postgresql/16/main\", or what SHOW data_directory gives in psql",
        ),
        ServerKind::PgBouncer => (
            "config_file",
            "data_directory",
            "config_file, the file that it is started with",
            "\"/etc/pgbouncer/pgbouncer.ini\", or the file that PgBouncer is started with",
        ),
        ServerKind::Patroni => (
            "config_file",
            "data_directory",
            "config_file, the file that it is started with",
            "\"/etc/patroni/config.yml\", or the file that Patroni is started with",
        ),
    };
    if let Some(location) = keys.location(unfit) {
        let message = format!("`{unfit}` does not apply to {}", kind.name());
        return Err(location.refuse(&message, &format!("expected {wanted}")));
    }
    let home = keys.data_directory().or(keys.config_file());
    let home = home.ok_or_else(|| missing(key, example))?;
    let path = home.resolved();
    Ok((home.location, ServerHome { kind, path }))
}

/// Checks that the defaults only hold what instances can share, and that they fit together even if no instance uses them.
fn check_defaults(defaults: &Keys<'_, WrittenInstance>) -> Result<(), ConfigError> {
    if let Some((key, location)) = defaults.first_of(OWN) {
        return Err(location.refuse(
            &format!("`{key}` cannot have a default"),
            "expected any key of an instance except name, lineage, data_directory and config_file, \
             which each [[instance]] sets for itself",
        ));
    }
    companions(defaults, ServerKind::Postgres, Path::new("/"))?;
    reload(defaults, defaults.kind())?;
    defaults.files().map(files).transpose()?;
    defaults.expiry().map(expiry).transpose()?;
    Ok(())
}

/// `reload` with its command. An unused `reload_command` is refused, unless it comes from the defaults.
fn reload(keys: &Keys<'_, WrittenInstance>, kind: ServerKind) -> Result<Reload, ConfigError> {
    let written = keys.reload();
    let reload = match &written {
        Some(by) if *by.value == ReloadBy::Command => {
            let command = keys.reload_command().ok_or_else(|| {
                let message = "reload = \"command\" without `reload_command`";
                let note = format!("expected reload_command = {}", expected::COMMAND);
                by.location.refuse(message, &note)
            })?;
            return Ok(Reload::Command(command.value.0.clone()));
        }
        Some(by) if *by.value == ReloadBy::PgCtl => {
            if kind != ServerKind::Postgres {
                let message = format!("pg_ctl does not reload {}", kind.name());
                let note = "expected one of: signal, command";
                return Err(by.location.refuse(&message, note));
            }
            Reload::PgCtl
        }
        _ => Reload::Signal,
    };
    match keys.own().location("reload_command") {
        Some(unused) => Err(unused.refuse(
            "`reload_command` is not used",
            "expected reload = \"command\" with it",
        )),
        None => Ok(reload),
    }
}

fn files(table: At<'_, Table<WrittenFiles>>) -> Result<Files, ConfigError> {
    let keys = table.keys();
    let missing = |key| {
        let message = format!("missing key `{key}`");
        table
            .location
            .refuse(&message, &format!("expected `{key}` here as well"))
    };
    let chain = keys.chain().ok_or_else(|| missing("chain"))?;
    let key = keys.key().ok_or_else(|| missing("key"))?;
    Ok(Files {
        chain: chain.value.0.clone(),
        key: key.value.0.clone(),
    })
}

fn expiry(table: At<'_, Table<WrittenExpiry>>) -> Result<Thresholds, ConfigError> {
    let (warn, critical) = (table.keys().warn(), table.keys().critical());
    if let (Some(warn), Some(critical)) = (&warn, &critical)
        && critical.value.0 > warn.value.0
    {
        return Err(critical.location.refuse_value(
            "is more than `warn`",
            "expected at most `warn`, since the warning comes first",
        ));
    }
    let left = |key: Option<At<'_, PositiveDuration>>| {
        key.map(|left| SignedDuration::try_from(left.value.0).unwrap_or(SignedDuration::MAX))
    };
    Ok(Thresholds {
        warn: left(warn),
        critical: left(critical),
    })
}
