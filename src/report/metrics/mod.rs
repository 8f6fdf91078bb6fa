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
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

pub(crate) use exposition::Format;
pub use metric::Metric;
pub(crate) use tally::Compared;
use tally::{Tally, locked};

use super::event;
use crate::config::Config;

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
