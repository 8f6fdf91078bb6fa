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
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

pub(crate) use exposition::Format;
pub use metric::Metric;
pub(crate) use tally::Compared;
use tally::{Tally, locked};

use super::event;
use crate::config::Config;

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
