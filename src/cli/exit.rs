//! How a command ends, and what all of them start from and print by.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::page::Page;
use crate::config::{self, Config, ConfigError};
use crate::report::{EventKind, log, notices};
use crate::server::probe::Prober;
use crate::text;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// No problems.
    Well,
    /// There is a problem.
    Problem,
    /// Wrong usage or config.
    Usage,
}

impl Exit {
    /// The exit status.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Well => 0,
            Exit::Problem => 1,
            Exit::Usage => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command failed.
pub(super) struct Failure {
    /// For the terminal.
    pub(super) page: Page,
    /// The same on one line, for JSON and the journal.
    pub(super) one_line: String,
    pub(super) exit: Exit,
    /// Whether the config is at fault.
    pub(super) of_config: bool,
}

impl Failure {
    pub(super) fn problem(error: &dyn std::fmt::Display) -> Failure {
        Failure::new(error, Exit::Problem)
    }

    pub(super) fn usage(error: &dyn std::fmt::Display) -> Failure {
        Failure::new(error, Exit::Usage)
    }

    pub(super) fn new(error: &dyn std::fmt::Display, exit: Exit) -> Failure {
        Failure {
            page: Page::of_line(format_args!("pgcertd: {error}")),
            one_line: error.to_string(),
            exit,
            of_config: false,
        }
    }

    /// With more lines below the first.
    pub(super) fn with_lines(mut self, lines: &[String]) -> Failure {
        for line in lines {
            self.page.line(line);
            self.one_line.push('\n');
            self.one_line.push_str(line);
        }
        self
    }

    /// Reports it on the terminal, or in the journal if there is none: `unattended` is the event that a command without a
    /// terminal ends with.
    pub(super) fn tell(&self, unattended: Option<EventKind>, config: &Path) {
        match unattended.filter(|_| log::start()) {
            None => self.page.complain(),
            Some(_) if self.of_config => {
                notices::ended(EventKind::ConfigInvalid, config, &self.one_line);
            }
            Some(kind) => notices::ended(kind, config, &self.one_line),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let drawn = error.to_string();
        let mut page = Page::default();
        page.put("pgcertd: ");
        // The lines that it quotes from the file contain no line ends.
        for line in drawn.lines() {
            page.line(line);
        }
        Failure {
            page,
            one_line: error.one_line(),
            exit: Exit::Usage,
            of_config: true,
        }
    }
}

pub(super) fn load(file: &Path) -> Result<Config, Failure> {
    Ok(Config::load(file)?)
}

/// The named instances, or all if none is named.
pub(super) fn named<'a>(
    config: &'a Config,
    names: &[String],
) -> Result<Vec<&'a config::InstanceConfig>, Failure> {
    if names.is_empty() {
        return Ok(config.instances.iter().collect());
    }
    let known = || {
        let names: Vec<&str> = config.instances.iter().map(|i| i.name.as_str()).collect();
        names.join(", ")
    };
    names
        .iter()
        .map(|name| {
            config.instance(name).ok_or_else(|| {
                Failure::usage(&format!(
                    "no instance {name} in {}; it has: {}",
                    config.file.display(),
                    known()
                ))
            })
        })
        .collect()
}

pub(super) fn prober() -> Result<Prober, Failure> {
    Prober::new().map_err(|e| Failure::problem(&e))
}

/// Writes one document and a newline.
pub(super) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let document = text::json(document, true).map_err(|e| Failure::problem(&e))?;
    let mut page = Page::default();
    for line in document.lines() {
        page.line(line);
    }
    print(&page)
}

/// Writes a result to standard output.
pub(super) fn print(page: &Page) -> Result<(), Failure> {
    let written = page.print();
    written.map_err(|e| Failure::problem(&format!("cannot write the result: {e}")))
}
