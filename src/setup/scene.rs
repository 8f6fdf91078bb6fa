//! What the steps of a set-up work on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::SetupError;
use super::server::SetupServer;
use crate::bundle::{Bundle, Fingerprint};
use crate::config::{Address, Config, InstanceConfig};
use crate::deploy::Keeper;
use crate::problem::Problem;
use crate::server::probe::{Prober, Served};
use crate::server::sql::{Sql, SqlError};
use crate::server::{Instance, Purpose};

/// How long a session may take to see a reload.
pub(super) const RELOAD: Duration = Duration::from_secs(10);

/// The pause between two looks at the server.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What is reported while steps are applied or undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SetupProgress {
    Done(String),
    /// A step failed, for this reason; the steps before it are about to be undone.
    RollingBack(String),
    Left(String),
}

/// The server, and its instance in the config.
#[derive(Debug)]
pub(crate) struct Site {
    /// The config as it will be.
    pub(crate) config: Config,
    pub(crate) instance: InstanceConfig,
    pub(crate) server: SetupServer,
}

impl Site {
    /// `conf.d/NAME.toml`.
    pub(crate) fn fragment_file(&self) -> PathBuf {
        let name = format!("{}.toml", self.instance.name);
        self.config.fragments().join(name)
    }

    /// The instance's state directory, where changed files are saved first.
    pub(super) fn state(&self) -> PathBuf {
        self.config.state_of(&self.instance)
    }
}

pub(super) struct Scene<'a> {
    pub(super) site: &'a Site,
    pub(super) sql: &'a Sql,
    pub(super) keeper: Keeper,
    pub(super) tell: &'a mut dyn FnMut(SetupProgress),
    /// What new clients should get once the certificate is installed.
    pub(super) wanted: Option<Fingerprint>,
    /// The bundle it is from.
    pub(super) bundle: Option<Arc<Bundle>>,
    /// What new clients got when that was verified.
    pub(super) served: Option<Served>,
    /// What could not be undone.
    pub(super) left: Vec<String>,
}

impl<'a> Scene<'a> {
    pub(super) async fn open(
        site: &'a Site,
        sql: &'a Sql,
        prober: &Prober,
        tell: &'a mut dyn FnMut(SetupProgress),
    ) -> Result<Scene<'a>, SetupError> {
        let mut instance = Instance::new(&site.config, &site.instance, prober.clone());
        instance.refresh(Purpose::Work).await?;
        Ok(Scene {
            site,
            sql,
            keeper: Keeper::new(instance),
            tell,
            wanted: None,
            bundle: None,
            served: None,
            left: Vec::new(),
        })
    }

    pub(super) fn done(&mut self, what: String) {
        (self.tell)(SetupProgress::Done(what));
    }

    /// Where new clients connect; or why nowhere.
    pub(super) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        let server = &self.site.server;
        self.keeper.instance.address_or(|| server.addresses())
    }

    /// The leaf that new clients get now, where that can be seen.
    pub(super) async fn leaf_served(&self) -> Option<Fingerprint> {
        let instance = &self.keeper.instance;
        let limit = instance.config.verify_timeout;
        let served = instance.served(&self.addresses().ok()?, limit).await;
        Some(served.ok()?.leaf.fingerprint())
    }

    /// Reloads the server, and waits until this session sees it.
    pub(super) async fn reload(&self) -> Result<(), SqlError> {
        let loaded = self.sql.server_settings().await?.loaded;
        self.sql.reload().await?;
        self.reloaded_since(loaded).await
    }

    /// Waits until this session sees a reload later than `loaded`.
    pub(super) async fn reloaded_since(&self, loaded: jiff::Timestamp) -> Result<(), SqlError> {
        let deadline = Instant::now() + RELOAD;
        while self.sql.server_settings().await?.loaded <= loaded {
            if Instant::now() >= deadline {
                return Err(SqlError::Silent {
                    what: "a reload",
                    seconds: RELOAD.as_secs(),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}
