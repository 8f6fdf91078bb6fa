//! What is measured, for Prometheus: how the servers are, what was done, what was said.
//!
//! [`Metrics`] collects it, for as long as the daemon runs, and writes it as text. Every series
//! is made anew of what is known at that moment, so that a server that has left the config
//! leaves no trace. Nothing in it is secret, and no label has values without number: a
//! fingerprint, for one, is in the journal.
//!
//! * [`metric`] is the table of names, which `docs/metrics.md` explains.
//! * `tally` holds what was seen and counted; `exposition` is its text.
//!
//! Who asks for it, and how, is the daemon's business.

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

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format, version 0.0.4: what node_exporter's textfile collector takes.
    Prometheus,
}

impl Format {
    /// The better one of those that an `Accept` header asks for.
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

/// What is measured; each handle is of the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Mutex<Tally>>);

impl Metrics {
    /// Those of a daemon that starts now.
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

    /// So many servers of this host are covered by no instance.
    pub(crate) fn uncovered(&self, count: usize) {
        locked(&self.0).uncovered = Some(count);
    }

    /// All of it, as it is now.
    ///
    /// # Errors
    /// None is known: writing to memory does not fail.
    pub(crate) fn text(&self, format: Format) -> Result<String, fmt::Error> {
        exposition::text(&self.0, event::said, Timestamp::now(), format)
    }
}

/// The tally; a panic, which ends the process, leaves it as it was.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
