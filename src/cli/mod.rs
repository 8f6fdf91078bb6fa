//! The commands, one file each, and everything that people read on a terminal.
//!
//! Results go to standard output, as text or, with `--json`, as one document; log lines and errors go to standard error.
//! Nothing here ends the process: the exit status is returned.

mod check;
mod exit;
pub(crate) mod manual;
mod notify;
mod outcomes;
mod page;
mod paint;
mod probe;
mod removal;
mod rollback;
mod run;
mod sessions;
mod setup;
mod sources;
mod status;
mod sync;
mod upgraded;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self};
use crate::host::privilege;
use crate::host::{caller, command};
use crate::report::view::VERSION;
use crate::report::{EventKind, log};
use crate::text;
pub(crate) use exit::Exit;
use exit::{Failure, load, print_json};
use manual::{Chapter, Manual};

pub(crate) const MANUAL: Manual = Manual {
    command: "",
    description: &[
        "It watches the directories where ACME clients put certificates. When one is renewed, pgcertd installs it in \
         each PostgreSQL server that uses it, reloads the server without a restart, and opens a new TLS connection to \
         check what clients now get. If Postgres rejects the certificate, pgcertd rolls back to the previous one.",
        "Every decision compares three things: what the lineage holds (source), what is in the server's files \
         (installed), and what new clients get (served). A lost event costs time and nothing else. Restarting pgcertd \
         is always safe.",
        "It never restarts a server, ends a session, or writes to a lineage. It only changes Postgres's configuration \
         in `pgcertd setup`, and only if you agree.",
    ],
    exit: &[
        (Exit::Well, "no problems"),
        (Exit::Problem, "there is a problem; the output says which"),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: words,
    examples: &[
        (
            "pgcertd setup",
            "Set up a server: shows what it would do, and asks.",
        ),
        ("pgcertd status", "Is there a problem, and how do I fix it?"),
        ("pgcertd check", "Would a renewal get through?"),
        (
            "pgcertd sync --force",
            "The drill: install, reload and verify even though nothing changed.",
        ),
        ("journalctl -u pgcertd", "What pgcertd did."),
    ],
};

/// The manuals of the commands, in order. A new command needs a line here and one in [`Command`]; commands that are hidden
/// from `--help` have none.
pub(crate) const MANUALS: &[Manual] = &[
    setup::MANUAL,
    run::MANUAL,
    sync::MANUAL,
    rollback::MANUAL,
    status::MANUAL,
    check::MANUAL,
    sessions::MANUAL,
    probe::MANUAL,
    notify::MANUAL,
];

fn words() -> Vec<Chapter> {
    vec![
        Chapter::new("Words", "")
            .term(
                "lineage",
                "one certificate across all its renewals, in its own directory",
            )
            .term(
                "bundle",
                "what a lineage holds at one moment: leaf, intermediates and private key",
            )
            .term(
                "instance",
                "one PostgreSQL server: a data directory and its postmaster",
            )
            .term(
                "deployment",
                "install, reload, verify, and roll back if Postgres rejects it",
            ),
    ]
}

/// The command line: clap's definitions, with the manuals as the long help.
pub(crate) fn command() -> clap::Command {
    MANUALS
        .iter()
        .fold(MANUAL.explain(Arguments::command()), |command, manual| {
            command.mut_subcommand(manual.command, |command| manual.explain(command))
        })
}

fn understood(given: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(given)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Keeps PostgreSQL serving the newest TLS certificate, and proves it on the wire.
#[derive(Debug, Parser)]
#[command(name = "pgcertd", version, max_term_width = 80)]
struct Arguments {
    /// The config file; the fragments in conf.d next to it belong to it.
    #[arg(
        long, global = true, value_name = "FILE", display_order = 90,
        default_value = config::DEFAULT_FILE, value_hint = clap::ValueHint::FilePath
    )]
    config: PathBuf,
    /// Print one JSON document instead of text.
    #[arg(long, global = true, display_order = 91)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a server: certificate, config and settings in one step, which can be undone.
    Setup(setup::SetupArguments),
    /// Run the daemon: watch, install, reload, verify, until SIGTERM.
    Run,
    /// Reconcile once, for deploy hooks and cron.
    Sync(sync::SyncArguments),
    /// Go back to the previous bundle, and hold back the current one until the lineage changes.
    Rollback(rollback::RollbackArguments),
    /// Show the source, installed and served certificate of every instance, live.
    Status,
    /// Check the config and everything a deployment needs, without changing anything.
    Check(check::CheckArguments),
    /// Show who is connected, how it is encrypted, and which sessions predate the last deployment.
    Sessions(sessions::SessionsArguments),
    /// Show the certificate that a PostgreSQL server serves.
    Probe(probe::ProbeArguments),
    /// Run a command to notify people of problems, and of their end.
    Notify(notify::NotifyArguments),
    /// Say what servers are left with when the package is removed; for its scripts.
    #[command(hide = true)]
    Removal(removal::RemovalArguments),
    /// Say how the certificate of a cluster that was just upgraded is renewed; for a hook of pg_upgradecluster.
    #[command(hide = true)]
    Upgraded(upgraded::UpgradedArguments),
}

/// Runs the command in `arguments`, which begin with the program's name. pgcertd also starts itself as a child process for
/// work of its own.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    match command::become_another(&given).or_else(|| caller::answer(&given)) {
        Some(status) => ExitCode::from(status),
        None => answered(&given).into(),
    }
}

fn answered(given: &[OsString]) -> Exit {
    let arguments = match understood(given) {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(error, given),
    };
    let json = arguments.json;
    let config = arguments.config.clone();
    let unattended = match &arguments.command {
        Command::Run => Some(EventKind::DaemonFailed),
        Command::Sync(_) => Some(EventKind::SyncFailed),
        Command::Notify(wanted) if wanted.stays() => Some(EventKind::NotifierFailed),
        Command::Setup(_)
        | Command::Rollback(_)
        | Command::Status
        | Command::Check(_)
        | Command::Sessions(_)
        | Command::Probe(_)
        | Command::Notify(_)
        | Command::Removal(_)
        | Command::Upgraded(_) => None,
    };
    match carry_out(arguments) {
        Ok(exit) => exit,
        Err(failure) => {
            if json {
                tell_error(&failure.one_line);
            }
            failure.tell(unattended, &config);
            failure.exit
        }
    }
}

/// Shows help, the version, or what is wrong with the arguments.
fn misunderstood(error: clap::Error, given: &[OsString]) -> Exit {
    // Help and version are not errors; their text goes to standard output.
    let exit = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Well
    };
    let error = quoting_what_is_shown(error, given);
    if exit == Exit::Usage && given.iter().any(|a| a == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        tell_error(first.trim_start_matches("error: "));
    }
    match error.print() {
        Ok(()) => exit,
        Err(_) => Exit::Problem,
    }
}

/// The same error with escaped arguments: it quotes them, and a script may have got them from anywhere.
fn quoting_what_is_shown(error: clap::Error, given: &[OsString]) -> clap::Error {
    let (program, rest) = given.split_at(given.len().min(1));
    let rest = rest
        .iter()
        .map(|word| text::shown_bytes(word.as_encoded_bytes()).into());
    let shown: Vec<OsString> = program.iter().cloned().chain(rest).collect();
    if shown == given {
        return error;
    }
    understood(&shown).err().unwrap_or_else(|| {
        let problem = "an argument contains characters that a terminal obeys or hides";
        command().error(clap::error::ErrorKind::InvalidValue, problem)
    })
}

/// Prints the error of a failed command as JSON.
fn tell_error(error: &str) {
    let document = ErrorDocument {
        version: VERSION,
        error,
    };
    // If standard output is closed, the exit status still says so.
    drop(print_json(&document));
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    version: u32,
    error: &'a str,
}

fn carry_out(arguments: Arguments) -> Result<Exit, Failure> {
    privilege::enter_main().map_err(|e| Failure::problem(&e))?;
    let journal = log::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::problem(&format!("cannot start the runtime: {e}")))?;
    let Arguments {
        config,
        json,
        command,
    } = arguments;
    let exit = runtime.block_on(async {
        match command {
            Command::Setup(wanted) => setup::setup(&config, &wanted, json).await,
            Command::Run => run::run(&config).await,
            Command::Sync(wanted) => sync::sync(&load(&config)?, &wanted, json, journal).await,
            Command::Rollback(wanted) => {
                rollback::rollback(&load(&config)?, &wanted, json, journal).await
            }
            Command::Status => status::status(&load(&config)?, json).await,
            Command::Check(wanted) => check::check(&load(&config)?, &wanted, json).await,
            Command::Sessions(wanted) => sessions::sessions(&load(&config)?, &wanted, json).await,
            Command::Probe(wanted) => probe::probe(&wanted, json).await,
            Command::Notify(wanted) => notify::notify(&config, &wanted, json).await,
            Command::Removal(wanted) => removal::removal(&config, &wanted, json).await,
            Command::Upgraded(wanted) => upgraded::upgraded(&config, &wanted).await,
        }
    });
    // Don't wait: a file system that doesn't respond may block a thread forever.
    runtime.shutdown_background();
    exit
}
