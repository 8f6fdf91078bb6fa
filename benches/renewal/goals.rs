//! How fast pgcertd is to be, against whom; never by the clock alone.

use serde_json::{Value, json};

use crate::{
    kind::{Kind, Milestone},
    measurements::Measurements,
};

/// A bound on pgcertd's percentile by the other's.
#[derive(Clone, Copy)]
struct Bound {
    percent: usize,
    most: f64,
}

impl Bound {
    /// 1 means faster, and equal is not.
    fn is_met(self, ratio: f64) -> bool {
        ratio < self.most || (ratio <= self.most && self.most != FASTER)
    }
}

/// Any ratio below it is faster.
const FASTER: f64 = 1.0;

/// What pgcertd is to reach against one other.
pub struct Goal {
    milestone: Milestone,
    other: Kind,
    bounds: Vec<Bound>,
}

/// A goal, and whether it was met.
pub struct Comparison {
    /// What is compared.
    pub milestone: Milestone,
    /// With whom.
    pub other: Kind,
    bounds: Vec<(Bound, f64)>,
}

/// The goals against these contenders.
pub fn goals(kinds: &[Kind]) -> Vec<Goal> {
    let goals = Milestone::ALL.into_iter().flat_map(|milestone| {
        kinds.iter().map(move |&other| Goal {
            milestone,
            other,
            bounds: bounds(milestone, other),
        })
    });
    goals.filter(|goal| !goal.bounds.is_empty()).collect()
}

fn bounds(milestone: Milestone, other: Kind) -> Vec<Bound> {
    use {Kind as K, Milestone as M};
    let percents_and_most: &[(usize, f64)] = match (milestone, other) {
        (_, K::Pgcertd) => &[],
        (M::Signalled, K::LeastProgram) => &[(50, 4.0), (95, 8.0)],
        (M::Served, K::LeastProgram) => &[(50, 1.15), (99, 2.0)],
        (M::Verified, K::LeastProgram) => &[(50, 1.4)],
        (M::Signalled, K::DeployHook | K::InotifywaitLoop) => &[(50, 0.3), (99, FASTER)],
        (M::Verified, other) if !other.verifies() => &[],
        _ => &[(50, FASTER), (99, FASTER)],
    };
    let bound = |&(percent, most)| Bound { percent, most };
    percents_and_most.iter().map(bound).collect()
}

impl Goal {
    /// Compares; none where one of the two was not measured.
    pub fn compare(&self, measured: &Measurements) -> Option<Comparison> {
        let ratio = |bound: &Bound| measured.ratio(self.milestone, self.other, bound.percent);
        let bounds = self.bounds.iter();
        Some(Comparison {
            milestone: self.milestone,
            other: self.other,
            bounds: bounds
                .map(|bound| Some((*bound, ratio(bound)?)))
                .collect::<Option<_>>()?,
        })
    }
}

impl Comparison {
    /// Whether every ratio is within its bound.
    pub fn is_met(&self) -> bool {
        self.bounds
            .iter()
            .all(|(bound, ratio)| *ratio <= bound.most)
    }

    /// `p50 3.10 of 4, p95 6.02 of 8`.
    pub fn text(&self) -> String {
        let bounds = self
            .bounds
            .iter()
            .map(|(bound, ratio)| format!("p{} {ratio:.2} of {}", bound.percent, bound.most));
        bounds.collect::<Vec<_>>().join(", ")
    }

    /// For the JSON document.
    pub fn json(&self) -> Value {
        let bounds = self.bounds.iter().map(|(bound, ratio)| {
            json!({
                "percentile": bound.percent,
                "ratio": (ratio * 1e3).round() / 1e3,
                "at_most": bound.most,
                "met": bound.is_met(*ratio),
            })
        });
        json!({
            "milestone": self.milestone.word(),
            "pgcertd_against": self.other.word(),
            "bounds": bounds.collect::<Vec<_>>(),
            "met": self.is_met(),
        })
    }
}
