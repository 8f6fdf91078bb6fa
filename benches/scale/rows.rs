//! The table: what was measured, against what, and whether the goal is met.

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

use crate::plot::{count, duration};

/// A number and what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    Seconds(f64),
    Kib(f64),
    Percent(f64),
    Count(f64),
}

impl Quantity {
    fn value(self) -> f64 {
        match self {
            Self::Seconds(value) | Self::Kib(value) | Self::Percent(value) | Self::Count(value) => {
                value
            }
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Seconds(_) => "s",
            Self::Kib(_) => "KiB",
            Self::Percent(_) => "%",
            Self::Count(_) => "",
        }
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Seconds(value) => duration(value),
            Self::Kib(value) => format!("{} KiB", count(value)),
            Self::Percent(value) => format!("{value:.4} %"),
            Self::Count(value) => count(value),
        };
        f.pad(&text)
    }
}

/// What it is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so many times what it is measured against.
    AtMostTimes(f64),
    Below(Quantity),
    AtMost(Quantity),
    Exactly(Quantity),
}

impl Display for Goal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMostTimes(times) => write!(f, "at most {times} times"),
            Self::Below(quantity) => write!(f, "below {quantity}"),
            Self::AtMost(quantity) => write!(f, "at most {quantity}"),
            Self::Exactly(quantity) => write!(f, "{quantity}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about: the rows of one thing stand together.
    pub about: &'static str,
    /// What was measured.
    pub what: String,
    pub measured: Quantity,
    /// What it is measured against, of the same run.
    pub against: Option<Quantity>,
    pub goal: Goal,
    /// What was counted or timed for it.
    pub samples: Value,
}

impl Row {
    /// A row without samples.
    pub fn new(
        about: &'static str,
        what: impl Into<String>,
        measured: Quantity,
        against: Option<Quantity>,
        goal: Goal,
    ) -> Self {
        Self {
            about,
            what: what.into(),
            measured,
            against,
            goal,
            samples: Value::Null,
        }
    }

    /// With these.
    pub fn samples(mut self, samples: Value) -> Self {
        self.samples = samples;
        self
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.measured.value() / self.against?.value())
    }

    /// Whether the goal is met.
    pub fn is_met(&self) -> bool {
        let measured = self.measured.value();
        match self.goal {
            Goal::AtMostTimes(times) => self.ratio().is_some_and(|ratio| ratio <= times),
            Goal::Below(quantity) => measured < quantity.value(),
            Goal::AtMost(quantity) => measured <= quantity.value(),
            Goal::Exactly(quantity) => measured == quantity.value(),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "about": self.about,
            "what": self.what,
            "unit": self.measured.unit(),
            "measured": rounded(self.measured.value()),
            "against": self.against.map(|against| rounded(against.value())),
            "ratio": self.ratio().map(rounded),
            "goal": self.goal.to_string(),
            "met": self.is_met(),
            "samples": self.samples,
        })
    }
}

/// The rows as a table.
pub struct Table<'a>(pub &'a [Row]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut about = "";
        for row in self.0 {
            if row.about != about {
                about = row.about;
                writeln!(
                    f,
                    "\n{about}\n  {:<58}{:>12}{:>12}{:>8}   GOAL",
                    "", "MEASURED", "AGAINST", "RATIO"
                )?;
            }
            let against = row.against.map(|against| against.to_string());
            let ratio = row.ratio().map(|ratio| format!("{ratio:.2}"));
            let met = if row.is_met() { "met" } else { "not met" };
            let line = format!(
                "  {:<58}{:>12}{:>12}{:>8}   {}, {met}",
                row.what,
                row.measured,
                against.unwrap_or_default(),
                ratio.unwrap_or_default(),
                row.goal,
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Of values in any order, of which there is one at least.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Six decimals: microseconds.
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
