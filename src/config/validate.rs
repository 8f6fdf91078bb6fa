//! From keys as written to values that are right, one value at a time.
//!
//! An instance's own keys go before those of `[defaults]`, each as a whole. A value keeps the place where it was
//! written until `conflicts` has compared the instances, so that every refusal can point at it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::companions::companions;
use super::conflicts;
use super::document::{At, TomlFile, absolute, unreadable};
use super::error::ConfigError;
use super::expected;
use super::layers::{Checked, CompanionAt, Layer, Layers, at, directory};
use super::notification::notify;
use super::values::{
    KINDS, MODES, RELOADS, VERIFIES, account, address, any_duration, check_name, choice, command,
    expiry, files, listen, positive, server_names, target, textfile,
};
use super::written::{self, Instances, Keys, Root, Table, WrittenFragment};
use super::{
    Config, DEFAULT_DEBOUNCE, DEFAULT_DELAY, DEFAULT_RESYNC, DEFAULT_RUNTIME_DIRECTORY,
    DEFAULT_SETTLE_TIMEOUT, DEFAULT_STATE_DIRECTORY, DEFAULT_TARGET, DEFAULT_WATCHED,
    InstanceConfig, Lineage, MetricsConfig, Mode, Reload, ServerHome, ServerKind, Verify,
    WatchConfig,
};
use crate::bundle::Thresholds;

/// What to do where the file does not exist.
const MISSING: &str =
    "copy the model config/pgcertd.toml there, or name another file with --config";

/// What to do where a fragment that the directory lists does not exist.
const MISSING_FRAGMENT: &str = "expected a fragment; a link that leads nowhere can be removed";

/// See [`Config::load`] and [`Config::load_with`], whose fragment is `more`.
pub(super) fn load(file: &Path, more: Option<(&Path, &str)>) -> Result<Config, ConfigError> {
    let document = TomlFile::read(file, MISSING)?;
    let root: Root = document.parse()?;
    let mut documents = Vec::new();
    for file in fragment_files(file)? {
        documents.push(TomlFile::read(&file, MISSING_FRAGMENT)?);
    }
    if let Some((file, text)) = more {
        documents.push(TomlFile::written(file, text)?);
    }
    let mut fragments: Vec<(TomlFile, WrittenFragment)> = Vec::new();
    for fragment in documents {
        let written = fragment.parse()?;
        fragments.push((fragment, written));
    }

    let watch = watch(&document, root.watch.as_ref().map(|table| &table.0))?;
    let state_directory = directory(
        &document,
        &root.state_directory,
        Path::new(DEFAULT_STATE_DIRECTORY),
    )?;
    let runtime_directory = directory(
        &document,
        &root.runtime_directory,
        Path::new(DEFAULT_RUNTIME_DIRECTORY),
    )?;
    let metrics = metrics(&document, root.metrics.as_ref().map(|table| &table.0))?;
    let notify = notify(&document, root.notify.as_ref().map(|table| &table.0))?;
    let none = Keys::default();
    let shared = Layer {
        keys: root.defaults.as_ref().map_or(&none, |table| &table.0),
        document: &document,
    };
    check_defaults(shared)?;

    let absolute = absolute(file)?;
    let world = World {
        file: &absolute,
        watched: &watch.directories,
        state_directory: &state_directory,
        shared,
    };
    let mut checked = world.instances(&document, &root.instance)?;
    for (document, fragment) in &fragments {
        checked.extend(world.instances(document, &fragment.instance)?);
    }
    conflicts::refuse(&checked, &watch.directories, &state_directory)?;
    Ok(Config {
        instances: checked.into_iter().map(|one| one.instance).collect(),
        watch,
        state_directory,
        runtime_directory,
        metrics,
        notify,
        file: absolute,
    })
}

/// `conf.d` beside the file.
pub(super) fn fragments_beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join("conf.d")
}

/// The files in `conf.d` beside the file, in name order.
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

fn watch(
    document: &TomlFile,
    written: Option<&written::WrittenWatch>,
) -> Result<WatchConfig, ConfigError> {
    let none = written::WrittenWatch::default();
    let written = written.unwrap_or(&none);
    let time = |key, default| match at(document, key) {
        Some(value) => positive(&value),
        None => Ok(default),
    };
    let mut directories = Vec::new();
    match &written.directories {
        None => directories.push(PathBuf::from(DEFAULT_WATCHED)),
        Some(list) => {
            for directory in list {
                let directory = At::new(document, directory).path()?;
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
    }
    Ok(WatchConfig {
        directories,
        debounce: match at(document, &written.debounce) {
            Some(value) => any_duration(&value)?,
            None => DEFAULT_DEBOUNCE,
        },
        settle_timeout: time(&written.settle_timeout, DEFAULT_SETTLE_TIMEOUT)?,
        resync: time(&written.resync, DEFAULT_RESYNC)?,
        poll: at(document, &written.poll)
            .map(|value| positive(&value))
            .transpose()?,
    })
}

fn metrics(
    document: &TomlFile,
    written: Option<&written::WrittenMetrics>,
) -> Result<MetricsConfig, ConfigError> {
    let none = written::WrittenMetrics::default();
    let written = written.unwrap_or(&none);
    Ok(MetricsConfig {
        listen: at(document, &written.listen)
            .map(|value| listen(&value))
            .transpose()?,
        textfile: at(document, &written.textfile)
            .map(|value| textfile(&value))
            .transpose()?,
    })
}

/// What every instance is checked against.
struct World<'a> {
    file: &'a Path,
    watched: &'a [PathBuf],
    state_directory: &'a Path,
    shared: Layer<'a>,
}

impl<'a> World<'a> {
    fn instances(
        &self,
        document: &'a TomlFile,
        written: &'a Instances,
    ) -> Result<Vec<Checked<'a>>, ConfigError> {
        written
            .0
            .iter()
            .map(|table| self.instance(document, table))
            .collect()
    }

    fn instance(
        &self,
        document: &'a TomlFile,
        table: &'a Spanned<Table<Keys>>,
    ) -> Result<Checked<'a>, ConfigError> {
        let own = Layer {
            keys: &table.get_ref().0,
            document,
        };
        let missing = |key: &str, example: &str| {
            let message = format!("an instance without `{key}`");
            document.refuse(
                table.span(),
                &message,
                &format!("expected {key} = {example}"),
            )
        };
        let name = own
            .find(|keys| &keys.name)
            .ok_or_else(|| missing("name", "\"16-main\", or another name of your choice"))?;
        check_name(&name)?;
        let lineage = own.find(|keys| &keys.lineage).ok_or_else(|| {
            missing(
                "lineage",
                "\"postgres.example.com\", a subdirectory of a watched directory, or an absolute path",
            )
        })?;
        let layers = Layers {
            own,
            shared: Some(self.shared),
        };
        let kind = kind(layers)?;
        let (home, place) = place(own, kind, missing)?;
        let files = TargetFiles::read(layers)?;
        let state = self.state_directory.join(name.value);
        let cert_file = files.cert.unwrap_or_else(|| state.join(DEFAULT_TARGET));
        let (ca, crl) = companions(layers, kind, &state)?;
        let instance = InstanceConfig {
            name: name.value.clone(),
            lineage: self.lineage(&lineage)?,
            place,
            key_file: files.key.unwrap_or_else(|| cert_file.clone()),
            cert_file,
            ca,
            crl,
            config_file: self.file.to_owned(),
            ..settings(layers)?
        };
        Ok(Checked {
            instance,
            name,
            home,
            cert_file: layers.find(|keys| &keys.cert_file),
            key_file: layers.find(|keys| &keys.key_file),
            ca: CompanionAt {
                source: layers.find(|keys| &keys.ca_source),
                file: layers.find(|keys| &keys.ca_file),
            },
            crl: CompanionAt {
                source: layers.find(|keys| &keys.crl_source),
                file: layers.find(|keys| &keys.crl_file),
            },
        })
    }

    fn lineage(&self, written: &At<'_, String>) -> Result<Lineage, ConfigError> {
        let name = written.value;
        let candidates = if name.starts_with('/') {
            vec![written.path()?]
        } else if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(written.refuse_value(
                "is neither the name of a lineage nor an absolute path",
                &format!("expected {}", expected::LINEAGE),
            ));
        } else if self.watched.is_empty() {
            return Err(written.refuse_value(
                "names a subdirectory of a watched directory, and none is watched",
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

fn kind(layers: Layers<'_>) -> Result<ServerKind, ConfigError> {
    layers.read(
        |keys| &keys.kind,
        ServerKind::default(),
        |at| choice(at, KINDS),
    )
}

/// Where a server of this kind is: the one key that it needs, without the one of the other kinds.
fn place<'a>(
    own: Layer<'a>,
    kind: ServerKind,
    missing: impl Fn(&str, &str) -> ConfigError,
) -> Result<(At<'a, String>, ServerHome), ConfigError> {
    let data_directory = own.find(|keys| &keys.data_directory);
    let config_file = own.find(|keys| &keys.config_file);
    let unfit = |at: &At<'_, String>, key: &str, wanted: &str| {
        let message = format!("`{key}` does not go with an instance of {}", kind.name());
        Err(at.refuse(&message, &format!("expected {wanted}")))
    };
    match (kind, &config_file, &data_directory) {
        (ServerKind::Postgres, Some(config_file), _) => {
            let wanted = "data_directory, from which pgcertd finds the rest; config_file is for kind = \
                          \"pgbouncer\" and \"patroni\"";
            return unfit(config_file, "config_file", wanted);
        }
        (ServerKind::PgBouncer | ServerKind::Patroni, _, Some(data_directory)) => {
            let wanted = "config_file, the file that it is started with";
            return unfit(data_directory, "data_directory", wanted);
        }
        _ => {}
    }
    let (home, key, example) = match kind {
        ServerKind::Postgres => (
            data_directory,
            "data_directory",
            "\"/var/lib/postgresql/16/main\", or what SHOW data_directory gives in psql",
        ),
        ServerKind::PgBouncer => (
            config_file,
            "config_file",
            "\"/etc/pgbouncer/pgbouncer.ini\", or the file that PgBouncer is started with",
        ),
        ServerKind::Patroni => (
            config_file,
            "config_file",
            "\"/etc/patroni/config.yml\", or the file that Patroni is started with",
        ),
    };
    let home = home.ok_or_else(|| missing(key, example))?;
    let path = home.path()?;
    let place = match kind {
        ServerKind::Postgres => ServerHome::Postgres {
            data_directory: path,
        },
        ServerKind::PgBouncer => ServerHome::PgBouncer { config_file: path },
        ServerKind::Patroni => ServerHome::Patroni { config_file: path },
    };
    Ok((home, place))
}

/// The defaults hold what every instance may share, right even where no instance takes it.
fn check_defaults(shared: Layer<'_>) -> Result<(), ConfigError> {
    let own = [
        ("name", shared.find(|keys| &keys.name)),
        ("lineage", shared.find(|keys| &keys.lineage)),
        ("data_directory", shared.find(|keys| &keys.data_directory)),
        ("config_file", shared.find(|keys| &keys.config_file)),
    ];
    for (key, value) in own {
        if let Some(value) = value {
            let message = format!("`{key}` cannot have a default");
            return Err(value.refuse(
                &message,
                "expected any key of an instance but name, lineage, data_directory and config_file, \
                 which each [[instance]] has of its own",
            ));
        }
    }
    let layers = Layers {
        own: shared,
        shared: None,
    };
    TargetFiles::read(layers)?;
    companions(layers, ServerKind::Postgres, Path::new("/"))?;
    settings(layers)?;
    Ok(())
}

struct TargetFiles {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TargetFiles {
    fn read(layers: Layers<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            cert: layers.read(|keys| &keys.cert_file, None, |at| target(at).map(Some))?,
            key: layers.read(|keys| &keys.key_file, None, |at| target(at).map(Some))?,
        })
    }
}

/// An instance that has everything but what is its own: name, lineage, data directory and files.
fn settings(layers: Layers<'_>) -> Result<InstanceConfig, ConfigError> {
    let kind = kind(layers)?;
    Ok(InstanceConfig {
        name: String::new(),
        lineage: Lineage {
            name: String::new(),
            candidates: Vec::new(),
        },
        place: ServerHome::Postgres {
            data_directory: PathBuf::new(),
        },
        cert_file: PathBuf::new(),
        key_file: PathBuf::new(),
        ca: None,
        crl: None,
        config_file: PathBuf::new(),
        server_names: layers.read(|keys| &keys.server_names, Vec::new(), server_names)?,
        mode: layers.read(|keys| &keys.mode, Mode::default(), |at| choice(at, MODES))?,
        reload: reload(layers, kind)?,
        owner: layers.read(|keys| &keys.owner, None, account)?,
        group: layers.read(|keys| &keys.group, None, account)?,
        address: layers.read(|keys| &keys.address, None, address)?,
        verify: layers.read(
            |keys| &keys.verify,
            Verify::default(),
            |at| choice(at, VERIFIES),
        )?,
        verify_timeout: layers.read(
            |keys| &keys.verify_timeout,
            kind.verify_timeout(),
            positive,
        )?,
        delay: layers.read(|keys| &keys.delay, DEFAULT_DELAY, any_duration)?,
        files: layers.read(|keys| &keys.files, None, files)?,
        expiry: layers.read(|keys| &keys.expiry, Thresholds::default(), expiry)?,
    })
}

/// `reload` with its command. A `reload_command` that its own table's `reload` would leave unused is refused;
/// one from the defaults may go unused in an instance that reloads otherwise.
fn reload(layers: Layers<'_>, kind: ServerKind) -> Result<Reload, ConfigError> {
    let reload = layers.read(
        |keys| &keys.reload,
        Reload::default(),
        |at| match choice(at, RELOADS)? {
            Reload::PgCtl if kind != ServerKind::Postgres => Err(at.refuse(
                &format!("pg_ctl does not reload {}", kind.name()),
                "expected one of: signal, command",
            )),
            reload => Ok(reload),
        },
    )?;
    let Reload::Command(_) = reload else {
        return match layers.own.find(|keys| &keys.reload_command) {
            Some(unused) => Err(unused.refuse(
                "`reload_command` is not used",
                "expected reload = \"command\" with it",
            )),
            None => Ok(reload),
        };
    };
    match layers.find(|keys| &keys.reload_command) {
        Some(written) => command(&written).map(Reload::Command),
        None => {
            let example = &format!("expected reload_command = {}", expected::COMMAND);
            let message = "reload = \"command\" without `reload_command`";
            let at = layers.find(|keys| &keys.reload);
            // Without `reload` the way is "signal", and this is not reached.
            Err(at.map_or_else(
                || layers.own.document.refuse(0..0, message, example),
                |at| at.refuse(message, example),
            ))
        }
    }
}
