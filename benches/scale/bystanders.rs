//! A watched directory with many lineages, one of them named, beside one with that one alone.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    preparations::is_not_interrupted,
    rows::{Goal, Quantity, Row, median},
    side::{Bringer, Sharing, Side},
    vitals,
};

/// Measures both, turn by turn.
pub fn measure(directory: &Path, count: usize, rounds: u32) -> Result<Vec<Row>> {
    let mut among_many = Side::new(Bringer::Pgcertd, directory)?;
    among_many.add_bystanders(count.saturating_sub(1))?;
    let mut alone = Side::new(Bringer::Pgcertd, directory)?;
    let mut delays = [Vec::new(), Vec::new()];
    let mut sides = [&mut among_many, &mut alone];
    for side in &mut sides {
        side.arrange(1, Sharing::OneForAll)?;
    }
    for side in &mut sides {
        side.start()?;
    }
    for round in 0..=rounds {
        for place in 0..2 {
            let index = (place + round as usize) % 2;
            let turn = sides[index].turn();
            is_not_interrupted()?;
            delays[index].push(turn?.taken.as_secs_f64());
        }
    }
    // A first turn is not counted.
    let delays = delays.map(|delays| delays[1..].to_vec());
    let mut facts = Vec::new();
    for side in &mut sides {
        let calls = side.counted_turn()?;
        let pid = side.daemon()?.0.pid();
        let memory = vitals::memory(pid)?.anonymous;
        facts.push((calls.values().sum::<u64>(), vitals::watches(pid)?, memory));
    }
    let (many, one) = (facts[0], facts[1]);
    let about = "Many lineages in the watched directory, one of them named; against that one alone";
    let named = |what: &str| format!("{count} lineages, {what}");
    let number = |value: u64| Quantity::Count(value as f64);
    let watches = Row::new(
        about,
        named("inotify watches"),
        number(many.1 as u64),
        Some(number(one.1 as u64)),
        Goal::Exactly(number(one.1 as u64)),
    );
    ensure!(
        watches.is_met(),
        "{} watches with {count} lineages, {} with one",
        many.1,
        one.1
    );
    Ok(vec![
        Row::new(
            about,
            named("until it is verified"),
            Quantity::Seconds(median(&delays[0])),
            Some(Quantity::Seconds(median(&delays[1]))),
            Goal::AtMostTimes(1.1),
        )
        .samples(json!({ "many_s": delays[0], "one_s": delays[1] })),
        Row::new(
            about,
            named("system calls of a deployment"),
            number(many.0),
            Some(number(one.0)),
            Goal::AtMostTimes(1.1),
        ),
        watches,
        Row::new(
            about,
            named("RssAnon"),
            Quantity::Kib(many.2 as f64),
            Some(Quantity::Kib(one.2 as f64)),
            Goal::AtMostTimes(1.1),
        ),
    ])
}
