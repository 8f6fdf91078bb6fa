//! How long it takes from a renewal to the first connection that sees it.
//!
//! Three contenders, each with a PostgreSQL and a lineage of its own, take turns: pgcertd with its
//! default configuration; the least program, which does what no solution can leave out; and a
//! shell hook, as certbot would start it. In each turn one lineage is renewed as certbot does it
//! while one and the same probe opens connections back to back. The time runs from the moment when
//! `fullchain.pem`, the last link, is there to the end of the first handshake that shows the new
//! leaf. So a part of it is the probe's own: about one and a half connections on the average, the
//! same for all three.
//!
//! The order rotates from round to round, the renewal begins at another moment of the probe's
//! cycle in each, and before a turn the file system has written all that earlier ones left.
//!
//! `make bench` runs it. The exit status tells of malfunctions alone, never of times.

#![expect(
    clippy::unwrap_used,
    reason = "the world is the tests', where a panic says what could not be set up"
)]

mod contender;
mod least_program;
mod probe;
mod report;
#[path = "../../tests/e2e/world/mod.rs"]
mod world;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use contender::{Contender, Kind};
use report::{Report, Round};
use tokio::signal::unix::{SignalKind, signal};
use world::{World, ca::Ca};

/// Measures how long a renewed certificate takes to reach a client.
#[derive(Parser)]
struct Arguments {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Where to put the servers and lineages; it must lie on a real disk
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    /// Given by `cargo bench`, and without a meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = if arguments
        .next()
        .is_some_and(|text| text == least_program::WORD)
    {
        least_program::run(&arguments.collect::<Vec<OsString>>()).context("the least program")
    } else {
        measure(&Arguments::parse())
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    on_disk(&arguments.directory)?;
    take_signals()?;
    let world = match World::new_in(&arguments.directory) {
        Ok(world) => world,
        Err(skipped) => {
            // As the tests do where they cannot run; but who asked for a measurement gets none.
            ensure!(!arguments.bench, "nothing was measured: {skipped}");
            skipped.count();
            return Ok(());
        }
    };
    let ca = Ca::new(&world, "Bench Root");
    let mut contenders = Vec::new();
    for kind in Kind::ALL {
        contenders.push(Contender::start(&world, &ca, kind)?);
    }
    // A first turn of each, not counted, so that every program and file has been read once.
    round(&mut contenders, &ca, 0)?;
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        rounds.push(round(&mut contenders, &ca, number)?);
        if number.is_multiple_of(10) {
            eprintln!("{number} of {} rounds", arguments.rounds);
        }
    }
    for contender in contenders {
        contender.stop()?;
    }
    drop(world);
    print!("{}", Report::new(&rounds));
    Ok(())
}

/// One turn of each, beginning with another one each time.
fn round(contenders: &mut [Contender], ca: &Ca, number: u32) -> Result<Round> {
    let mut round = Round::default();
    for place in 0..contenders.len() {
        let index = (place + number as usize) % contenders.len();
        let contender = &mut contenders[index];
        let kind = contender.kind();
        let turn = contender.turn(ca, number);
        // The servers may have got the signal too, which fails the turn.
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        round.set(
            kind,
            turn.with_context(|| format!("{} in round {number}", kind.title()))?,
        );
    }
    Ok(round)
}

/// An fsync in memory costs nothing, so a measurement there would say nothing.
fn on_disk(directory: &Path) -> Result<()> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(directory)
        .with_context(|| format!("{}", directory.display()))?
        .f_type as u64;
    ensure!(
        ![TMPFS, RAMFS].contains(&kind),
        "{} lies in memory: name a directory on a disk with --directory",
        directory.display()
    );
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets SIGINT and SIGTERM end the measurement in order, so that nothing is left behind. The
/// handlers do not outlive an `execve`, so the servers have their own.
fn take_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}
