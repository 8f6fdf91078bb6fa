//! The command line, and what every part of the command needs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::answers::SetupAnswers;
use super::document::SetupJson;
use super::drawn;
use crate::cli::exit::{Exit, Failure, print, print_json};
use crate::report::view::VERSION;
use crate::server::probe::Prober;
use crate::setup::SetupProgress;

#[derive(Debug, Args)]
pub(in crate::cli) struct SetupArguments {
    /// The instance: one that the config has, or the name of the new one.
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<String>,
    /// The data directory of the server.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(super) data_directory: Option<PathBuf>,
    /// The lineage, by name or directory.
    #[arg(long, value_name = "NAME|DIR", value_hint = clap::ValueHint::DirPath)]
    pub(super) lineage: Option<PathBuf>,
    /// What clients connect to; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(super) server_name: Vec<String>,
    /// Make pg_hba.conf require TLS of clients of other hosts.
    #[arg(long)]
    pub(super) require_tls: bool,
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
    /// Show what would change, and change nothing, with `--yes` too.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the lines for a configuration that others keep, and change nothing, with `--yes` too.
    #[arg(long, conflicts_with = "require_tls")]
    pub(super) print: bool,
    /// Undo the set-up of this instance.
    #[arg(
        long, value_name = "NAME",
        conflicts_with_all = ["instance", "data_directory", "lineage", "server_name", "require_tls", "print"]
    )]
    pub(super) undo: Option<String>,
}

/// What every part of the command needs.
pub(super) struct Desk<'a> {
    pub(super) file: &'a Path,
    pub(super) wanted: &'a SetupArguments,
    pub(super) answers: SetupAnswers,
    pub(super) prober: Prober,
    pub(super) json: bool,
}

impl Desk<'_> {
    pub(super) fn step(&self, told: &SetupProgress) {
        if !self.json {
            // Where standard output is closed, the work is done all the same.
            drop(print(&drawn::step(told)));
        }
    }

    pub(super) fn told(&self, mut document: SetupJson, exit: Exit) -> Result<Exit, Failure> {
        if self.json {
            document.version = VERSION;
            print_json(&document)?;
        }
        Ok(exit)
    }
}
