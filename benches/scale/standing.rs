//! What pgcertd costs while nothing is renewed: its start, `status`, and its rest.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    limit::{self, Task},
    preparations::is_not_interrupted,
    rows::{Goal, Quantity, Row, median, rounded},
    side::Side,
    vitals,
    world::{SOON, process::run},
};

/// From the start of the process to READY, for instances in sync, and beside it what a process
/// takes that only reads the configuration. pgcertd runs before and after it.
pub fn start_to_ready(side: &mut Side, goal: Duration, rounds: u32) -> Result<Row> {
    let config = side.config();
    let launch = side.launch()?;
    let (mut ready, mut config_only) = (Vec::new(), Vec::new());
    side.stop()?;
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut daemon = launch.daemon(&config);
        while !daemon.notified().iter().any(|line| line == "READY=1") {
            ensure!(daemon.is_running(), "pgcertd has ended:\n{}", side.log());
            ensure!(
                begun.elapsed() < SOON,
                "pgcertd is not ready:\n{}",
                side.log()
            );
            thread::sleep(Duration::from_micros(100));
        }
        ready.push(begun.elapsed().as_secs_f64());
        // What it looks at after that goes on; the next start is not to compete with it.
        thread::sleep(Duration::from_secs(1));
        let status = daemon.stop();
        ensure!(status.success(), "pgcertd has ended with {status}");

        let begun = Instant::now();
        let told = launch.run(&config, &["check", "--config-only"]);
        config_only.push(begun.elapsed().as_secs_f64());
        ensure!(told.code() == 0, "the configuration is wrong: {told:?}");
        is_not_interrupted()?;
    }
    side.start()?;
    let count = side.names().len();
    Ok(Row::new(
        "Start to READY, all in sync; beside it `check --config-only`",
        instances(count),
        Quantity::Seconds(median(&ready)),
        Some(Quantity::Seconds(median(&config_only))),
        Goal::Below(Quantity::Seconds(goal.as_secs_f64())),
    )
    .samples(json!({ "ready_s": ready, "config_only_s": config_only })))
}

/// `pgcertd status` beside a program that only shakes hands with the same servers, all at once as
/// `status` does.
pub fn status(side: &mut Side, rounds: u32) -> Result<Row> {
    side.rest()?;
    let config = side.config();
    let launch = side.launch()?;
    let count = side.names().len();
    let file = side.path().join("handshakes.json");
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let begun = Instant::now();
        let told = launch.run(&config, &["status"]);
        ours.push(begun.elapsed().as_secs_f64());
        ensure!(told.code() == 0, "not all are in sync: {told:?}");

        let mut command = limit::command_for(Task::ShakeHands, &side.errands(count), &file)?;
        let begun = Instant::now();
        let done = run(&mut command, SOON);
        limits.push(begun.elapsed().as_secs_f64());
        done.result().map_err(anyhow::Error::msg)?;
        is_not_interrupted()?;
    }
    // The first of each is not counted.
    let (ours, limits) = (&ours[1..], &limits[1..]);
    Ok(Row::new(
        "`pgcertd status`, all in sync, against the handshakes alone, all at once",
        instances(count),
        Quantity::Seconds(median(ours)),
        Some(Quantity::Seconds(median(limits))),
        Goal::AtMostTimes(2.0),
    )
    .samples(json!({ "status_s": ours, "handshakes_s": limits })))
}

/// pgcertd at rest.
pub fn idle(side: &mut Side, window: Duration) -> Result<Vec<Row>> {
    side.rest()?;
    let (daemon, _) = side.daemon()?;
    let pid = daemon.pid();
    // On a busy machine it may not have come to all yet; if it never rests, that is what is measured.
    let begun = Instant::now();
    let mut before = vitals::sleeps(pid)?;
    while begun.elapsed() < SOON {
        thread::sleep(Duration::from_secs(2));
        let after = vitals::sleeps(pid)?;
        if after == std::mem::replace(&mut before, after.clone()) {
            break;
        }
    }
    let signs = |lines: &[String]| lines.iter().filter(|line| *line == "WATCHDOG=1").count();
    let signs_before = signs(daemon.notified());
    let before = (vitals::sleeps(pid)?, vitals::processor_time(pid)?);
    let begun = Instant::now();
    while begun.elapsed() < window {
        thread::sleep(Duration::from_millis(500).min(window));
        is_not_interrupted()?;
    }
    let after = (vitals::sleeps(pid)?, vitals::processor_time(pid)?);
    let passed = begun.elapsed();
    let signs = signs(daemon.notified()) - signs_before;
    let mut by_thread = serde_json::Map::new();
    let mut woken = 0;
    for ((number, name), count) in &after.0 {
        let more = count - before.0.get(&(*number, name.clone())).unwrap_or(&0);
        if more > 0 {
            woken += more;
            by_thread.insert(format!("{name} {number}"), more.into());
        }
    }
    // The loop has two threads awake for a sign: itself, and the one that writes to systemd.
    let others = woken.saturating_sub(2 * signs as u64);
    // A thread that ended meanwhile had run for a moment at most.
    let more = after.1.iter().map(|(number, ran)| {
        let ran_before = before.1.get(number).copied().unwrap_or_default();
        ran.saturating_sub(ran_before)
    });
    let ran: Duration = more.sum();
    let share = 100.0 * ran.as_secs_f64() / passed.as_secs_f64();
    let about = "Idle, one instance";
    Ok(vec![
        Row::new(
            about,
            format!("wake-ups in {} s but for the watchdog's", passed.as_secs()),
            Quantity::Count(others as f64),
            None,
            Goal::Exactly(Quantity::Count(0.0)),
        )
        .samples(json!({ "watchdog": signs, "by_thread": by_thread })),
        Row::new(
            about,
            "processor time",
            Quantity::Percent(share),
            None,
            Goal::Below(Quantity::Percent(0.01)),
        )
        .samples(json!({ "ran_s": ran.as_secs_f64(), "of_s": rounded(passed.as_secs_f64()) })),
        Row::new(
            about,
            "RssAnon",
            Quantity::Kib(vitals::memory(pid)?.anonymous as f64),
            None,
            Goal::AtMost(Quantity::Kib(3072.0)),
        ),
    ])
}

fn instances(count: usize) -> String {
    match count {
        1 => "1 instance".to_owned(),
        _ => format!("{count} instances"),
    }
}
