//! Metrics for Prometheus: the state of the servers, what was done, and what was logged.
//!
//! [`Metrics`] collects them while the daemon runs, and writes them as text. Each scrape builds every series from what is
//! known at that moment, so a server that was removed from the config leaves no trace. Nothing in them is secret, and no
//! label has an unbounded number of values: fingerprints, for example, are in the journal.
//!
//! * [`metric`] is the table of names, which `docs/metrics.md` explains.
//! * `tally` holds what was seen and counted; `exposition` turns it into text.
//!
//! The daemon handles the requests.

mod exposition;
pub(crate) mod metric;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use metric::Metric;
pub(crate) use tally::Compared;
use tally::Tally;

use super::event;
use crate::config::Config;

/// The text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format, version 0.0.4, which node_exporter's textfile collector reads.
    Prometheus,
}

impl Format {
    /// The best one that an `Accept` header asks for.
    pub(crate) fn accepted(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// As in the header `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        }
    }
}

/// A handle; clones share the same metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Mutex<Tally>>);

impl Metrics {
    pub(crate) fn new(now: Timestamp) -> Metrics {
        Metrics(Arc::new(Mutex::new(Tally::new(now))))
    }

    /// A config comes into force.
    pub(crate) fn configured(&self, config: &Config, now: Timestamp) {
        locked(&self.0).configured(config, now);
    }

    /// A server of the config was compared.
    pub(crate) fn compared(&self, compared: &Compared<'_>, now: Timestamp) {
        locked(&self.0).compared(compared, now);
    }

    /// The daemon has begun to compare everything.
    pub(crate) fn went_round(&self, now: Timestamp) {
        locked(&self.0).round = now;
    }

    /// This many servers on this host are not covered by any instance.
    pub(crate) fn uncovered(&self, count: usize) {
        locked(&self.0).uncovered = Some(count);
    }

    /// All of it, as it is now.
    ///
    /// # Errors
    /// None that is known: writing to memory doesn't fail.
    pub(crate) fn text(&self, format: Format) -> Result<String, fmt::Error> {
        exposition::text(&self.0, event::said, Timestamp::now(), format)
    }
}

/// The tally. A panic ends the process, so a poisoned lock doesn't matter.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
