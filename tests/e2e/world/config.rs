//! pgcertd's configuration file, written into the world.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{World, cluster::Cluster};

/// A configuration whose state, runtime directory and lineages lie in the world.
///
/// Each method gives the configuration back, and [`Config::write`] writes it: a change after that
/// counts once it is written again.
pub struct Config {
    path: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
    top: Table,
    watch: Table,
    metrics: Table,
    notify: Table,
    defaults: Table,
    instances: Vec<Table>,
}

/// One `[[instance]]`.
#[must_use]
pub struct Instance(Table);

impl Instance {
    /// The cluster's name and data directory; the lineage is a name or an absolute directory.
    pub fn for_cluster(cluster: &Cluster, lineage: impl AsRef<Path>) -> Self {
        Self::new(cluster.name(), lineage, cluster.data_directory())
    }

    /// An instance by its three words.
    pub fn new(name: &str, lineage: impl AsRef<Path>, data_directory: &Path) -> Self {
        Self(Table::new())
            .set("name", name)
            .set("lineage", path(lineage.as_ref()))
            .set("data_directory", path(data_directory))
    }

    /// The pooler that was started with this file.
    pub fn of_pgbouncer(name: &str, lineage: impl AsRef<Path>, config_file: &Path) -> Self {
        Self::of_kind("pgbouncer", name, lineage, config_file)
    }

    /// The REST API of the Patroni that was started with this file.
    pub fn of_patroni(name: &str, lineage: impl AsRef<Path>, config_file: &Path) -> Self {
        Self::of_kind("patroni", name, lineage, config_file)
    }

    fn of_kind(kind: &str, name: &str, lineage: impl AsRef<Path>, config_file: &Path) -> Self {
        Self(Table::new())
            .set("name", name)
            .set("lineage", path(lineage.as_ref()))
            .set("kind", kind)
            .set("config_file", path(config_file))
    }

    /// Sets any key.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}

impl Config {
    /// A configuration that watches the world's `letsencrypt/live`, with no instance yet. The
    /// state and runtime directories belong to the user postgres, as the packages make them.
    pub fn new(world: &World) -> Self {
        let state = world.postgres_directory("state", 0o755);
        let runtime = world.postgres_directory("run", 0o755);
        let mut top = Table::new();
        top.insert("state_directory".to_owned(), path(&state));
        top.insert("runtime_directory".to_owned(), path(&runtime));
        let config = Self {
            path: world.directory("etc").join("pgcertd.toml"),
            state,
            runtime,
            top,
            watch: Table::new(),
            metrics: Table::new(),
            notify: Table::new(),
            defaults: Table::new(),
            instances: Vec::new(),
        };
        config.watch(
            "directories",
            vec![path(&world.path().join("letsencrypt/live"))],
        )
    }

    /// Sets a key at the top.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.top.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of `[watch]`.
    pub fn watch(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.watch.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of `[metrics]`.
    pub fn metrics(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metrics.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of `[notify]`.
    pub fn notify(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.notify.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of `[defaults]`.
    pub fn defaults(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.defaults.insert(key.to_owned(), value.into());
        self
    }

    /// Adds an instance.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instances.push(instance.0);
        self
    }

    /// Writes the file.
    pub fn write(self) -> Self {
        self.replace(&self.text());
        self
    }

    /// Puts other text into the file.
    pub fn replace(&self, text: &str) {
        let beside = self.path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &self.path).unwrap();
    }

    /// The configuration as TOML.
    pub fn text(&self) -> String {
        let mut file = self.top.clone();
        file.insert("watch".to_owned(), self.watch.clone().into());
        if !self.metrics.is_empty() {
            file.insert("metrics".to_owned(), self.metrics.clone().into());
        }
        if !self.notify.is_empty() {
            file.insert("notify".to_owned(), self.notify.clone().into());
        }
        if !self.defaults.is_empty() {
            file.insert("defaults".to_owned(), self.defaults.clone().into());
        }
        if !self.instances.is_empty() {
            let instances: Vec<Value> = self.instances.iter().cloned().map(Value::from).collect();
            file.insert("instance".to_owned(), instances.into());
        }
        toml::to_string(&file).unwrap()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state directory.
    pub fn state_directory(&self) -> &Path {
        &self.state
    }

    /// The runtime directory.
    pub fn runtime_directory(&self) -> &Path {
        &self.runtime
    }
}

/// A path as a value.
pub fn path(path: &Path) -> Value {
    Value::from(path.to_str().unwrap())
}
