//! Who answers a question: a person at a terminal, `--yes`, or nobody.

use std::io::{BufRead, IsTerminal};

use crate::cli::exit::{Failure, print};
use crate::cli::page::Page;
use crate::problem::Problem;
use crate::setup::SetupError;
use crate::text::{CommandLine, UNPASTEABLE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetupAnswers {
    Person,
    /// The command line has, to what can be agreed to; nothing is chosen for it.
    Agreed,
    Nobody,
}

impl SetupAnswers {
    pub(super) fn by_flags(yes: bool, json: bool) -> SetupAnswers {
        if yes {
            SetupAnswers::Agreed
        } else if !json && std::io::stdin().is_terminal() {
            SetupAnswers::Person
        } else {
            SetupAnswers::Nobody
        }
    }

    /// Whether a person can be asked.
    pub(super) fn is_person(self) -> bool {
        self == SetupAnswers::Person
    }

    /// Whether it may be done; `command` does it without a question.
    pub(super) fn agree(self, question: &str, command: &str) -> Result<bool, Failure> {
        match self {
            SetupAnswers::Agreed => Ok(true),
            SetupAnswers::Person => {
                let mut page = Page::default();
                page.put(format_args!("{question} [y/N] "));
                let answer = asked(&page)?;
                Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
            }
            SetupAnswers::Nobody => {
                let command = CommandLine::checked(command);
                let says = command.as_deref().unwrap_or(UNPASTEABLE);
                Err(Failure::usage(&format!(
                    "nothing was changed, since nobody can be asked here: {says}"
                )))
            }
        }
    }

    /// The one of `all` that a person chooses by its line.
    ///
    /// # Errors
    /// Nobody can be asked: what there is to choose between, and a command for each.
    pub(super) fn choose<T>(
        self,
        problem: Problem,
        mut all: Vec<T>,
        line: impl Fn(&T) -> String,
        command: impl Fn(&T) -> String,
    ) -> Result<T, Failure> {
        if self != SetupAnswers::Person {
            let choices = all.iter().map(command).collect();
            return Err(SetupError::Unchosen { problem, choices }.into());
        }
        let mut page = Page::of_text(format_args!("Choose one: {}.", problem.what));
        for (index, choice) in all.iter().enumerate() {
            page.labelled(&(index + 1).to_string(), line(choice));
        }
        loop {
            page.put(format_args!(
                "Which? [1-{}, or nothing to stop] ",
                all.len()
            ));
            let answer = asked(&page)?;
            if answer.is_empty() {
                return Err(Failure::problem(
                    &"nothing was chosen, and nothing was changed",
                ));
            }
            match answer.parse::<usize>() {
                Ok(number) if (1..=all.len()).contains(&number) => {
                    return Ok(all.swap_remove(number - 1));
                }
                _ => page = Page::of_line(format_args!("{answer} is none of them.")),
            }
        }
    }
}

/// A line from the terminal; its end counts as an empty one.
fn asked(question: &Page) -> Result<String, Failure> {
    print(question)?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Failure::problem(&format!("cannot ask: {e}")))?;
    Ok(line.trim().to_owned())
}
