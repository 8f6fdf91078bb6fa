//! What was seen and counted so far, for each server; time is passed in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;

use crate::config::{self, Config};
use crate::deploy::SyncOutcome;
use crate::deploy::state::State;
use crate::report::EventKind;
use crate::report::view::InstanceView;

/// The buckets of the deployment histogram, in seconds: a renewal takes tens of milliseconds, and a proof at most
/// `verify_timeout`, 10 s by default.
const TOOK: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The result of comparing a server.
#[derive(Debug)]
pub(crate) struct Compared<'a> {
    pub(crate) view: &'a InstanceView,
    /// Whether Postgres could start with what is installed.
    pub(crate) loads: bool,
    /// The outcome and duration of the deployment, if there was one.
    pub(crate) deployment: Option<(SyncOutcome, Duration)>,
}

#[derive(Debug)]
pub(super) struct Tally {
    pub(super) started: Timestamp,
    /// When the daemon last compared everything, even if there was no server.
    pub(super) round: Timestamp,
    pub(super) resync: Duration,
    /// None before the first look.
    pub(super) uncovered: Option<usize>,
    pub(super) servers: BTreeMap<String, ServerCount>,
}

#[derive(Debug)]
pub(super) struct ServerCount {
    config: config::InstanceConfig,
    pub(super) reconciled: Timestamp,
    pub(super) last_success: Option<Timestamp>,
    /// What was seen of it under this config.
    pub(super) seen: Option<InstanceCount>,
    pub(super) deployments: BTreeMap<&'static str, u64>,
    pub(super) took: Histogram,
}

/// How a server was when it was last compared.
#[derive(Debug)]
pub(super) struct InstanceCount {
    pub(super) view: InstanceView,
    pub(super) loads: bool,
}

/// The possible outcomes of a deployment, in the order of the documentation.
pub(super) fn outcomes() -> impl Iterator<Item = SyncOutcome> {
    SyncOutcome::ALL
        .into_iter()
        .filter(|outcome| EventKind::of_outcome(*outcome).is_some())
}

impl Tally {
    pub(super) fn new(now: Timestamp) -> Tally {
        Tally {
            started: now,
            round: now,
            resync: config::DEFAULT_RESYNC,
            uncovered: None,
            servers: BTreeMap::new(),
        }
    }

    /// Takes over the servers of a config. An unchanged one keeps everything, a changed one only its counters, and a removed
    /// one nothing.
    pub(super) fn configured(&mut self, config: &Config, now: Timestamp) {
        self.resync = config.watch.resync;
        self.round = now;
        let mut before = std::mem::take(&mut self.servers);
        for instance in &config.instances {
            let server = match before.remove(&instance.name) {
                Some(same) if same.config == *instance => same,
                Some(other) => ServerCount {
                    config: instance.clone(),
                    reconciled: now,
                    seen: None,
                    ..other
                },
                None => ServerCount::new(instance.clone(), now),
            };
            self.servers.insert(instance.name.clone(), server);
        }
    }

    pub(super) fn compared(&mut self, compared: &Compared<'_>, now: Timestamp) {
        let Some(server) = self.servers.get_mut(&compared.view.name) else {
            return;
        };
        server.reconciled = now;
        if compared.view.state == State::InSync {
            server.last_success = Some(now);
        }
        if let Some((outcome, took)) = compared.deployment {
            *server.deployments.entry(outcome.as_str()).or_default() += 1;
            server.took.observe(took.as_secs_f64());
        }
        server.seen = Some(InstanceCount {
            view: compared.view.clone(),
            loads: compared.loads,
        });
    }

    /// The oldest of the servers' last comparisons.
    pub(super) fn oldest(&self) -> Timestamp {
        let compared = self.servers.values().map(|server| server.reconciled);
        compared.min().unwrap_or(self.round)
    }
}

impl ServerCount {
    fn new(config: config::InstanceConfig, now: Timestamp) -> ServerCount {
        ServerCount {
            config,
            reconciled: now,
            last_success: None,
            seen: None,
            deployments: outcomes().map(|outcome| (outcome.as_str(), 0)).collect(),
            took: Histogram::new(TOOK),
        }
    }
}

/// The tally. A panic ends the process, so a poisoned lock doesn't matter.
pub(super) fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
