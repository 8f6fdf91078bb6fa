//! Who answers a question: a person at a terminal, `--yes`, or nobody.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::{Failure, paint};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// A person.
    Person,
    /// The command line has, to what can be agreed to; nothing is chosen for it.
    Agreed,
    /// Nobody.
    Nobody,
}

impl Answers {
    pub(super) fn of(yes: bool, json: bool) -> Answers {
        if yes {
            Answers::Agreed
        } else if !json && std::io::stdin().is_terminal() {
            Answers::Person
        } else {
            Answers::Nobody
        }
    }

    /// Whether a person can be asked.
    pub(super) fn is_person(self) -> bool {
        self == Answers::Person
    }

    /// Whether it may be done; `command` does it without a question.
    pub(super) fn agree(self, question: &str, command: &str) -> Result<bool, Failure> {
        match self {
            Answers::Agreed => Ok(true),
            Answers::Person => {
                let answer = asked(&format!("{question} [y/N] "))?;
                Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
            }
            Answers::Nobody => Err(Failure::usage(&format!(
                "nothing was changed, since nobody can be asked here: {command}"
            ))),
        }
    }

    /// The place of the one that was chosen; none where there is nobody to choose.
    pub(super) fn choose(self, question: &str, lines: &[String]) -> Result<Option<usize>, Failure> {
        if self != Answers::Person {
            return Ok(None);
        }
        let mut text = format!("{question}\n");
        for (index, line) in lines.iter().enumerate() {
            text.push_str(&paint::labelled(&(index + 1).to_string(), line));
        }
        loop {
            let answer = asked(&format!(
                "{text}Which? [1-{}, or nothing to stop] ",
                lines.len()
            ))?;
            if answer.is_empty() {
                return Err(Failure::problem(
                    &"nothing was chosen, and nothing was changed",
                ));
            }
            match answer.parse::<usize>() {
                Ok(number) if (1..=lines.len()).contains(&number) => return Ok(Some(number - 1)),
                _ => text = format!("{answer} is none of them.\n"),
            }
        }
    }
}

/// A line from the terminal; its end counts as an empty one.
fn asked(question: &str) -> Result<String, Failure> {
    let wrap = |e: std::io::Error| Failure::problem(&format!("cannot ask: {e}"));
    let mut out = anstream::stdout().lock();
    out.write_all(question.as_bytes()).map_err(wrap)?;
    out.flush().map_err(wrap)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(wrap)?;
    Ok(line.trim().to_owned())
}
