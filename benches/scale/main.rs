//! How pgcertd grows with the number of instances and lineages, and what it costs at rest.
//!
//! Real servers, a hundred of them, small and copied from one. Times are compared with the limit,
//! a program that does only what no solution can leave out, for as many servers and as many at
//! once; both take turns. What can be counted is counted instead: system calls, reloads, watches,
//! wake-ups, memory.
//!
//! `make bench-scale` runs it. The exit status tells of malfunctions alone, never of times: one
//! is a deployment that happens twice, and a watch on a lineage that no instance names.

#![expect(
    clippy::unwrap_used,
    reason = "the world is the tests', where a panic says what could not be set up"
)]

mod bystanders;
mod growth;
#[path = "../renewal/least_program.rs"]
#[expect(dead_code, reason = "the limit takes two of its steps")]
mod least_program;
mod limit;
mod pictures;
#[path = "../plot/mod.rs"]
mod plot;
#[path = "../renewal/preparations.rs"]
mod preparations;
#[path = "../renewal/probe.rs"]
#[expect(dead_code, reason = "nothing is watched here")]
mod probe;
mod rows;
mod side;
mod standing;
#[path = "../renewal/surroundings.rs"]
mod surroundings;
mod vitals;
#[path = "../../tests/e2e/world/mod.rs"]
mod world;
#[path = "../renewal/write_clock.rs"]
mod write_clock;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use growth::Size;
use rows::{Row, Table};
use serde_json::json;
use side::{Bringer, Side};
use world::surroundings::as_root_with_own_mounts;

/// Measures pgcertd with many instances and lineages, and at rest.
#[derive(Parser)]
struct Arguments {
    /// How many instances one lineage has, ascending
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100")]
    instances: Vec<usize>,
    /// How often each has its turn
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many lineages the watched directory holds of which one is named
    #[arg(long, default_value_t = 10_000)]
    lineages: usize,
    /// How long it is watched at rest, in seconds
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Where to put the servers and lineages; it must lie on a real disk
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    /// Writes a JSON document and pictures into this directory
    #[arg(long)]
    write: Option<PathBuf>,
    /// Given by `cargo bench`, and without a meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = if arguments.next().is_some_and(|text| text == limit::WORD) {
        limit::run(&arguments.collect::<Vec<OsString>>()).context("the limit")
    } else {
        measure(&Arguments::parse())
    };
    preparations::exit_status(result)
}

fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.instances.is_sorted_by(|one, next| one < next) && arguments.instances[0] > 0,
        "--instances takes ascending numbers above 0"
    );
    preparations::on_disk(&arguments.directory)?;
    if let Err(skipped) = as_root_with_own_mounts() {
        // As the tests do where they cannot run; but who asked for a measurement gets none.
        ensure!(!arguments.bench, "nothing was measured: {skipped}");
        skipped.count();
        return Ok(());
    }
    preparations::take_signals()?;
    let (sizes, mut rows, surroundings) = with_servers(arguments)?;
    eprintln!("{} lineages, one of them named", arguments.lineages);
    rows.extend(bystanders::measure(
        &arguments.directory,
        arguments.lineages,
        arguments.rounds,
    )?);
    if cfg!(debug_assertions) {
        println!("not an optimized build: its times say nothing");
    }
    println!(
        "{} rounds, turn by turn, medians\n{}",
        arguments.rounds,
        Table(&rows)
    );
    // They are drawn in any case, so that the short form shows that they can be.
    let mut files = pictures::pictures(&sizes)?;
    let document = json!({
        "bench": "scale",
        "rounds": arguments.rounds,
        "optimized": !cfg!(debug_assertions),
        "surroundings": surroundings,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    files.push(("scale.json".to_owned(), format!("{document:#}\n")));
    if let Some(directory) = &arguments.write {
        preparations::write_files(directory, &files)?;
    }
    Ok(())
}

/// All that takes as many servers.
fn with_servers(arguments: &Arguments) -> Result<(Vec<Size>, Vec<Row>, serde_json::Value)> {
    let rounds = arguments.rounds;
    let mut pgcertd = Side::new(Bringer::Pgcertd, &arguments.directory)?;
    let mut limit = Side::new(Bringer::Limit, &arguments.directory)?;
    let surroundings = surroundings::surroundings(pgcertd.server());
    let mut sizes = Vec::new();
    let (mut starts, mut looks, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let most = arguments.instances.last().copied();
    for (index, &count) in arguments.instances.iter().enumerate() {
        eprintln!("N = {count}");
        sizes.push(growth::measure(&mut pgcertd, &mut limit, count, rounds)?);
        limit.stop()?;
        if index == 0 {
            let goal = Duration::from_millis(30);
            starts.push(standing::start_to_ready(&mut pgcertd, goal, rounds)?);
            rest = standing::idle(&mut pgcertd, Duration::from_secs(arguments.idle))?;
        }
        if Some(count) == most {
            let goal = Duration::from_millis(500);
            starts.push(standing::start_to_ready(&mut pgcertd, goal, rounds)?);
            looks.push(standing::status(&mut pgcertd, rounds)?);
        }
    }
    let mut rows = growth::rows(&sizes);
    if let Some(count) = most {
        eprintln!("{count} lineages at once");
        rows.extend(growth::burst(&mut pgcertd, &mut limit, count, rounds)?);
    }
    rows.extend(starts);
    rows.extend(looks);
    rows.extend(rest);
    Ok((sizes, rows, surroundings))
}
