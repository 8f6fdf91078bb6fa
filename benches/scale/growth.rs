//! One lineage for N instances: system calls, time and memory, and what a burst of as many
//! lineages takes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    preparations::is_not_interrupted,
    rows::{Goal, Quantity, Row, median, rounded},
    side::{Sharing, Side, Turn},
    vitals::{self, Calls, Memory},
};

/// What was measured with N instances.
pub struct Size {
    pub count: usize,
    /// Seconds, in the order of the rounds.
    pub pgcertd: Vec<f64>,
    pub limit: Vec<f64>,
    /// Of one renewal, for all instances.
    pub calls: Calls,
    pub memory: Memory,
    pub threads: usize,
}

impl Size {
    /// System calls for each deployment.
    pub fn calls_each(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.count as f64
    }

    fn json(&self) -> Value {
        json!({
            "instances": self.count,
            "pgcertd_s": in_microseconds(&self.pgcertd),
            "limit_s": in_microseconds(&self.limit),
            "system_calls": self.calls,
            "anonymous_kib": self.memory.anonymous,
            "resident_kib": self.memory.resident,
            "threads": self.threads,
        })
    }
}

/// Measures with so many instances, and leaves pgcertd running with them.
pub fn measure(pgcertd: &mut Side, limit: &mut Side, count: usize, rounds: u32) -> Result<Size> {
    for side in [&mut *pgcertd, &mut *limit] {
        side.arrange(count, Sharing::OneForAll)?;
        side.start()?;
    }
    let turns = take_turns(pgcertd, limit, rounds)?;
    let calls = pgcertd.counted_turn()?;
    let pid = pgcertd.daemon()?.0.pid();
    Ok(Size {
        count,
        pgcertd: seconds(&turns.0),
        limit: seconds(&turns.1),
        calls,
        memory: vitals::memory(pid)?,
        threads: vitals::thread_count(pid)?,
    })
}

/// Measures a burst: a lineage for each instance, all renewed at once.
pub fn burst(pgcertd: &mut Side, limit: &mut Side, count: usize, rounds: u32) -> Result<Vec<Row>> {
    for side in [&mut *pgcertd, &mut *limit] {
        side.arrange(count, Sharing::OneEach)?;
        side.start()?;
    }
    let turns = take_turns(pgcertd, limit, rounds)?;
    // Whatever comes late counts as well.
    let before = pgcertd.hangups();
    pgcertd.turn()?;
    pgcertd.rest()?;
    let reloads: Vec<usize> = pgcertd
        .hangups()
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let log = pgcertd.log().to_owned();
    let deployed = pgcertd.names().into_iter().map(|name| {
        let begin = format!("{name}: ");
        let lines = log.lines().filter(|line| line.contains(" deployed "));
        lines.filter(|line| line.contains(&begin)).count()
    });
    let deployed: Vec<usize> = deployed.collect();
    let once = |counts: &[usize]| counts.iter().filter(|count| **count == 1).count();
    let all = Quantity::Count(count as f64);
    let about = "Burst: as many lineages as instances, renewed at once";
    let renewing: Vec<f64> = turns
        .0
        .iter()
        .map(|turn| turn.renewing.as_secs_f64())
        .collect();
    let rows = vec![
        against_limit(
            about,
            format!("{count} lineages, until all are verified"),
            &seconds(&turns.0),
            &seconds(&turns.1),
            json!({ "renewing_s": in_microseconds(&renewing) }),
        ),
        Row::new(
            about,
            format!("of {count} instances, deployed exactly once"),
            Quantity::Count(once(&deployed) as f64),
            None,
            Goal::Exactly(all),
        ),
        Row::new(
            about,
            format!("of {count} postmasters, told to reload exactly once"),
            Quantity::Count(once(&reloads) as f64),
            None,
            Goal::Exactly(all),
        ),
    ];
    // Not a matter of speed.
    ensure!(
        rows[1..].iter().all(Row::is_met),
        "an instance was not deployed exactly once: deployments {deployed:?}, reloads {reloads:?}\n{log}"
    );
    Ok(rows)
}

/// Turn by turn, beginning with another one each time; a first turn of each is not counted.
fn take_turns(pgcertd: &mut Side, limit: &mut Side, rounds: u32) -> Result<(Vec<Turn>, Vec<Turn>)> {
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut turn = |is_ours: bool| {
            let (side, turns) = if is_ours {
                (&mut *pgcertd, &mut ours)
            } else {
                (&mut *limit, &mut limits)
            };
            let taken = side.turn();
            is_not_interrupted()?;
            turns.push(taken?);
            anyhow::Ok(())
        };
        let begins = round.is_multiple_of(2);
        turn(begins)?;
        turn(!begins)?;
    }
    Ok((ours.split_off(1), limits.split_off(1)))
}

/// The rows over N.
pub fn rows(sizes: &[Size]) -> Vec<Row> {
    let mut rows = Vec::new();
    let (Some(least), Some(most)) = (sizes.first(), sizes.last()) else {
        return rows;
    };
    let about = "One lineage for N instances";
    for size in sizes {
        rows.push(against_limit(
            about,
            format!("N = {}, until all are verified", size.count),
            &size.pgcertd,
            &size.limit,
            size.json(),
        ));
    }
    for size in &sizes[1..] {
        rows.push(Row::new(
            about,
            format!(
                "N = {}, system calls a deployment, against N = {}",
                size.count, least.count
            ),
            Quantity::Count(size.calls_each()),
            Some(Quantity::Count(least.calls_each())),
            Goal::AtMostTimes(1.2),
        ));
    }
    let more = most.count - least.count;
    if more > 0 {
        let each = |of: fn(&Memory) -> u64| {
            (of(&most.memory) as f64 - of(&least.memory) as f64) / more as f64
        };
        type Figure = fn(&Memory) -> u64;
        let figures: [(&str, Figure); 2] = [
            ("VmRSS", |memory| memory.resident),
            ("RssAnon", |memory| memory.anonymous),
        ];
        for (name, of) in figures {
            rows.push(Row::new(
                about,
                format!("{name} an instance, N = {} to {}", least.count, most.count),
                Quantity::Kib(each(of)),
                None,
                Goal::Below(Quantity::Kib(40.0)),
            ));
        }
    }
    rows
}

fn against_limit(
    about: &'static str,
    what: String,
    pgcertd: &[f64],
    limit: &[f64],
    samples: Value,
) -> Row {
    let by_round: Vec<f64> = pgcertd
        .iter()
        .zip(limit)
        .map(|(ours, its)| ours / its)
        .collect();
    let mut all = json!({
        "pgcertd_s": in_microseconds(pgcertd),
        "limit_s": in_microseconds(limit),
        "median_of_the_rounds_ratios": rounded(median(&by_round)),
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), samples) {
        all.extend(more);
    }
    Row::new(
        about,
        what,
        Quantity::Seconds(median(pgcertd)),
        Some(Quantity::Seconds(median(limit))),
        Goal::AtMostTimes(1.3),
    )
    .samples(all)
}

fn seconds(turns: &[Turn]) -> Vec<f64> {
    turns.iter().map(|turn| turn.taken.as_secs_f64()).collect()
}

fn in_microseconds(seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|second| rounded(*second)).collect()
}
