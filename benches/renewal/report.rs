//! What was measured, as a table and as one line of JSON.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use serde_json::{Value, json};

use crate::contender::{Kind, Turn};

/// At most this many times what the least program takes.
const GOAL_LEAST_PROGRAM: f64 = 1.5;

/// Less than this many times what the hook takes.
const GOAL_DEPLOY_HOOK: f64 = 1.0;

/// The turns of one round, in [`Kind::ALL`]'s order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round([Turn; 3]);

impl Round {
    /// Sets one contender's turn.
    pub fn set(&mut self, kind: Kind, turn: Turn) {
        self.0[kind as usize] = turn;
    }

    fn taken(self, kind: Kind) -> Duration {
        self.0[kind as usize].taken
    }

    fn seconds(self, kind: Kind) -> f64 {
        self.taken(kind).as_secs_f64()
    }
}

/// The times of one contender.
struct Row {
    kind: Kind,
    /// Seconds, in ascending order.
    sorted: Vec<f64>,
    /// Microseconds, in the order of the rounds.
    samples: Vec<u64>,
}

impl Row {
    fn new(kind: Kind, rounds: &[Round]) -> Self {
        Self {
            kind,
            sorted: sorted(rounds.iter().map(|round| round.seconds(kind))),
            samples: rounds
                .iter()
                .map(|round| round.taken(kind).as_micros() as u64)
                .collect(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "median_ms": rounded(median(&self.sorted) * 1e3),
            "p90_ms": rounded(percentile(&self.sorted, 90) * 1e3),
            "samples_us": self.samples,
        })
    }
}

/// pgcertd against one other.
struct Ratio {
    other: Kind,
    of_medians: f64,
    /// The median of the rounds' ratios.
    by_round: f64,
    met: bool,
}

impl Ratio {
    fn new(other: Kind, rounds: &[Round]) -> Self {
        let all = |kind| median(&sorted(rounds.iter().map(|round| round.seconds(kind))));
        let of_medians = all(Kind::Pgcertd) / all(other);
        Self {
            other,
            of_medians,
            by_round: median(&sorted(
                rounds
                    .iter()
                    .map(|round| round.seconds(Kind::Pgcertd) / round.seconds(other)),
            )),
            met: match other {
                Kind::DeployHook => of_medians < GOAL_DEPLOY_HOOK,
                _ => of_medians <= GOAL_LEAST_PROGRAM,
            },
        }
    }

    fn goal(&self) -> &'static str {
        match self.other {
            Kind::DeployHook => "below 1.0",
            _ => "at most 1.5",
        }
    }
}

/// The whole.
pub struct Report {
    rounds: usize,
    /// Seconds that a connection of the probe takes.
    connection: f64,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

impl Report {
    /// The report on these rounds, of which there must be one at least.
    pub fn new(rounds: &[Round]) -> Self {
        Self {
            rounds: rounds.len(),
            connection: median(&sorted(
                rounds
                    .iter()
                    .flat_map(|round| round.0)
                    .map(|turn| turn.connection.as_secs_f64()),
            )),
            rows: Kind::ALL
                .iter()
                .map(|&kind| Row::new(kind, rounds))
                .collect(),
            ratios: [Kind::LeastProgram, Kind::DeployHook]
                .iter()
                .map(|&other| Ratio::new(other, rounds))
                .collect(),
        }
    }

    fn met(&self) -> bool {
        self.ratios.iter().all(|ratio| ratio.met)
    }

    fn json(&self) -> Value {
        let mut contenders = serde_json::Map::new();
        for row in &self.rows {
            contenders.insert(row.kind.word().to_owned(), row.json());
        }
        let mut ratios = serde_json::Map::new();
        for ratio in &self.ratios {
            ratios.insert(
                ratio.other.word().to_owned(),
                json!({
                    "of_medians": rounded(ratio.of_medians),
                    "median_by_round": rounded(ratio.by_round),
                    "goal": ratio.goal(),
                    "met": ratio.met,
                }),
            );
        }
        json!({
            "bench": "renewal",
            "rounds": self.rounds,
            "optimized": !cfg!(debug_assertions),
            "connection_ms": rounded(self.connection * 1e3),
            "contenders": contenders,
            "pgcertd_against": ratios,
            "goal_met": self.met(),
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let build = if cfg!(debug_assertions) {
            "\nnot an optimized build: its times say nothing"
        } else {
            ""
        };
        writeln!(
            f,
            "From the last link of a renewal to the first connection that sees it\n\
             {} rounds, turn by turn, one probe for all, {:.2} ms a connection{build}\n",
            self.rounds,
            self.connection * 1e3,
        )?;
        writeln!(f, "  {:<34}{:>10}{:>10}", "CONTENDER", "MEDIAN", "P90")?;
        for row in &self.rows {
            writeln!(
                f,
                "  {:<34}{:>7.2} ms{:>7.2} ms",
                row.kind.title(),
                median(&row.sorted) * 1e3,
                percentile(&row.sorted, 90) * 1e3,
            )?;
        }
        writeln!(
            f,
            "\n  {:<34}{:>10}{:>10}  GOAL",
            "PGCERTD AGAINST", "MEDIANS", "BY ROUND"
        )?;
        for ratio in &self.ratios {
            writeln!(
                f,
                "  {:<34}{:>10.2}{:>10.2}  {}, {}",
                ratio.other.title(),
                ratio.of_medians,
                ratio.by_round,
                ratio.goal(),
                if ratio.met { "met" } else { "not met" },
            )?;
        }
        writeln!(
            f,
            "\nMEDIANS: pgcertd's median by the other's. BY ROUND: the median of the\n\
             rounds' ratios. The goal counts for the first, and this run has {}.\n\n{}",
            if self.met() { "met it" } else { "not met it" },
            self.json()
        )
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of values in ascending order.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Of values in ascending order, by nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
