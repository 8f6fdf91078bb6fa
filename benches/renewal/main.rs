//! How long it takes from a renewal to the server, to its clients and to the proof that they get it.
//!
//! The contenders, each with a PostgreSQL and a lineage of its own, take turns: pgcertd with its
//! default configuration; the least program, which does what no solution can leave out; and what
//! people use. A turn renews one lineage as certbot does it; the time runs from the moment when
//! `fullchain.pem`, the last link, is there.
//!
//! In a quiet turn nobody but the contender connects. It ends when the postmaster logs that it
//! received SIGHUP, and for those who verify when they say so; both times are the kernel's, of the
//! write of the line. In a probed turn one and the same probe opens connections back to back, and
//! the turn ends with the first handshake that shows the new leaf. So a part of that is the
//! probe's own: about one and a half connections on the average, the same for all.
//!
//! The order rotates from round to round, the renewal begins at another moment of the probe's
//! cycle in each, and before a turn the file system has written all that earlier ones left.
//!
//! At the end renewals go on under a pgbench, whose lost sessions are counted.
//!
//! `make bench` runs it. The exit status tells of malfunctions alone, never of times.

#![expect(
    clippy::unwrap_used,
    reason = "the world is the tests', where a panic says what could not be set up"
)]

mod contender;
mod goals;
mod in_machine;
mod kind;
mod least_program;
#[path = "../../tests/machine/machine/mod.rs"]
mod machine;
mod measurements;
mod peers;
#[path = "../plot/mod.rs"]
mod plot;
mod preparations;
mod probe;
mod report;
mod sessions;
mod surroundings;
#[path = "../../tests/e2e/world/mod.rs"]
mod world;
mod write_clock;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use contender::Contender;
use kind::{Kind, Milestone};
use measurements::Measurements;
use preparations::{exit_status, is_not_interrupted, on_disk, take_signals, write_files};
use report::{Report, Side};
use world::{World, ca::Ca};

/// Measures how long a renewed certificate takes to reach a client.
#[derive(Parser)]
struct Arguments {
    /// How often each contender has its turns, and how often a certificate is renewed under load
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Where to put the servers and lineages; it must lie on a real disk
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    /// Measures in a booted Debian as well, where systemd-nspawn can boot one
    #[arg(long)]
    machine: bool,
    /// Writes a JSON document and pictures into this directory
    #[arg(long)]
    write: Option<PathBuf>,
    /// Given by `cargo bench`, and without a meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // It executes itself: as the least program, and in the machine.
    let word = arguments.next().unwrap_or_default();
    let rest = arguments.collect::<Vec<OsString>>();
    let result = if word == least_program::WORD {
        least_program::run(&rest).context("the least program")
    } else if word == in_machine::WORD {
        in_machine::run_inside(&rest).context("in the machine")
    } else {
        measure(&Arguments::parse())
    };
    exit_status(result)
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
    for kind in Kind::HERE {
        contenders.push(Contender::start(&world, &ca, kind).with_context(|| kind.title())?);
    }
    let measured = take_turns(&mut contenders, &ca, arguments.rounds)?;
    let mut sessions = Vec::new();
    for contender in &mut contenders {
        let renewals = match contender.kind() {
            Kind::Pgcertd => arguments.rounds,
            // One restart is enough to see what it does.
            Kind::ArticleRestart => 1,
            _ => continue,
        };
        for is_reconnecting in [false, true] {
            eprintln!(
                "{renewals} renewals of {} under load",
                contender.kind().word()
            );
            let kept = sessions::under_load(contender, &ca, is_reconnecting, renewals);
            is_not_interrupted()?;
            sessions.push(kept?);
        }
    }
    let surroundings = surroundings::surroundings(contenders[0].cluster());
    for contender in contenders {
        contender.stop()?;
    }
    drop(world);
    let in_machine = if arguments.machine {
        eprintln!("booting a machine");
        in_machine::measure(arguments.rounds)?
    } else {
        Err("not asked for".to_owned())
    };
    let report = Report {
        rounds: arguments.rounds,
        surroundings,
        here: Side {
            name: "here",
            kinds: Kind::HERE.to_vec(),
            measured,
        },
        in_machine,
        sessions,
    };
    print!("{report}");
    // The pictures are drawn in any case, so that the short form shows that they can be.
    let files = report.files()?;
    if let Some(directory) = &arguments.write {
        write_files(directory, &files)?;
    }
    Ok(())
}

/// A first turn of each that is not counted, so that every program and file has been read once,
/// then the rounds.
fn take_turns(contenders: &mut [Contender], ca: &Ca, rounds: u32) -> Result<Measurements> {
    let mut measured = Measurements::default();
    for number in 0..=rounds {
        for is_probed in [false, true] {
            for place in 0..contenders.len() {
                // Another one begins each time.
                let index = (place + number as usize) % contenders.len();
                let contender = &mut contenders[index];
                let kind = contender.kind();
                if number % kind.turn_every() != 1 % kind.turn_every() && number != 0 {
                    continue;
                }
                let turn = take_turn(contender, ca, number, is_probed, &mut measured);
                // The servers may have got the signal too, which fails the turn.
                is_not_interrupted()?;
                turn.with_context(|| format!("{} in round {number}", kind.title()))?;
            }
        }
        if number == 0 {
            measured = Measurements::default();
        } else if number.is_multiple_of(10) {
            eprintln!("{number} of {rounds} rounds");
        }
    }
    Ok(measured)
}

fn take_turn(
    contender: &mut Contender,
    ca: &Ca,
    round: u32,
    is_probed: bool,
    measured: &mut Measurements,
) -> Result<()> {
    let kind = contender.kind();
    if is_probed {
        let (delay, connection) = contender.probed_turn(ca, round)?;
        measured.add(kind, Milestone::Served, delay);
        // One that is refused says nothing of what a connection takes.
        if kind != Kind::ArticleRestart {
            measured.add_connection(connection);
        }
        return Ok(());
    }
    for (milestone, delay) in contender.quiet_turn(ca)? {
        measured.add(kind, milestone, delay);
    }
    Ok(())
}
