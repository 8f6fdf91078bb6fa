//! The delays that were measured in one place.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    kind::{Kind, Milestone},
    plot,
};

/// All delays of all contenders that ran side by side.
#[derive(Default)]
pub struct Measurements {
    /// Seconds, in the order of the turns.
    delays: BTreeMap<(Milestone, Kind), Vec<f64>>,
    /// Seconds that a connection of the probe took on the average, turn by turn.
    connections: Vec<f64>,
}

impl Measurements {
    /// Adds a delay.
    pub fn add(&mut self, kind: Kind, milestone: Milestone, delay: Duration) {
        let delays = self.delays.entry((milestone, kind)).or_default();
        delays.push(delay.as_secs_f64());
    }

    /// Adds what a connection of the probe took.
    pub fn add_connection(&mut self, taken: Duration) {
        self.connections.push(taken.as_secs_f64());
    }

    /// What a connection of the probe took, in seconds, at the median.
    pub fn connection(&self) -> Option<f64> {
        percentile(&self.connections, 50)
    }

    /// A contender's delays in seconds, in the order of the turns; empty where there is none.
    pub fn delays(&self, milestone: Milestone, kind: Kind) -> &[f64] {
        self.delays
            .get(&(milestone, kind))
            .map_or(&[], Vec::as_slice)
    }

    /// A percentile of them.
    pub fn percentile(&self, milestone: Milestone, kind: Kind, percent: usize) -> Option<f64> {
        percentile(self.delays(milestone, kind), percent)
    }

    /// pgcertd's percentile by the other's.
    pub fn ratio(&self, milestone: Milestone, other: Kind, percent: usize) -> Option<f64> {
        let pgcertd = self.percentile(milestone, Kind::Pgcertd, percent)?;
        Some(pgcertd / self.percentile(milestone, other, percent)?)
    }
}

fn percentile(delays: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = delays.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| plot::percentile(&sorted, percent))
}
