//! What the manual says about a command beyond its options: `--help` shows it, and the man page is made from it.
//!
//! Options, arguments and the first line come from clap; a [`Manual`] is next to the command that it describes. It is plain
//! text, with code between backquotes.

use std::fmt::Write as _;

use clap::builder::Styles;

use super::exit::Exit;
use super::paint::WIDTH;
use crate::text::wrapped;

/// The widest term that is followed by its text on the same line.
const TERM: usize = 15;

pub(crate) struct Manual {
    /// The command, or empty for pgcertd itself.
    pub(crate) command: &'static str,
    /// Paragraphs: what it does.
    pub(crate) description: &'static [&'static str],
    /// What each exit status means.
    pub(crate) exit: &'static [(Exit, &'static str)],
    /// Further chapters of this command.
    pub(crate) chapters: fn() -> Vec<Chapter>,
    /// A command line, and what it is for.
    pub(crate) examples: &'static [(&'static str, &'static str)],
}

/// A titled part of the manual: a paragraph and a list of terms with their explanations.
pub(crate) struct Chapter {
    pub(crate) title: &'static str,
    pub(crate) intro: String,
    pub(crate) terms: Vec<(String, String)>,
}

impl Chapter {
    pub(crate) fn new(title: &'static str, intro: impl Into<String>) -> Chapter {
        Chapter {
            title,
            intro: intro.into(),
            terms: Vec::new(),
        }
    }

    /// The same with one more term.
    pub(crate) fn term(mut self, term: impl Into<String>, says: impl Into<String>) -> Chapter {
        self.terms.push((term.into(), says.into()));
        self
    }
}

impl Manual {
    /// Gives a command its long help.
    pub(crate) fn explain(&self, command: clap::Command) -> clap::Command {
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default() + ".";
        let long: Vec<&str> = std::iter::once(about.as_str())
            .chain(self.description.iter().copied())
            .collect();
        command
            .long_about(long.join("\n\n"))
            .after_long_help(self.after_options())
    }

    fn after_options(&self) -> String {
        let mut out = String::new();
        let exit = self.exit.iter().fold(
            Chapter::new("Exit status", ""),
            |chapter, (status, says)| chapter.term(status.code().to_string(), *says),
        );
        draw(&mut out, &exit);
        for chapter in (self.chapters)() {
            draw(&mut out, &chapter);
        }
        heading(&mut out, "Examples");
        for (line, does) in self.examples {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {line}");
            indented(&mut out, 6, does);
        }
        let page = match self.command {
            "" => "pgcertd".to_owned(),
            command => format!("pgcertd-{command}"),
        };
        let _ = write!(out, "\nMore: man {page}");
        out
    }
}

fn heading(out: &mut String, title: &str) {
    let styles = Styles::default();
    let style = styles.get_header();
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{style}{title}:{style:#}");
}

fn draw(out: &mut String, chapter: &Chapter) {
    heading(out, chapter.title);
    if !chapter.intro.is_empty() {
        indented(out, 2, &chapter.intro);
    }
    let width = chapter.terms.iter().map(|(term, _)| term.chars().count());
    let width = width.filter(|width| *width <= TERM).max().unwrap_or(0);
    for (term, says) in &chapter.terms {
        let lines = says
            .lines()
            .flat_map(|text| wrapped(text, WIDTH - width - 4));
        let lines: Vec<String> = lines.collect();
        let mut lines = lines.iter();
        if term.chars().count() <= width {
            let first = lines.next().map_or("", String::as_str);
            let _ = writeln!(out, "  {term:<width$}  {first}");
        } else {
            let _ = writeln!(out, "  {term}");
        }
        for line in lines {
            let _ = writeln!(out, "  {:width$}  {line}", "");
        }
    }
}

fn indented(out: &mut String, indent: usize, text: &str) {
    for line in wrapped(text, WIDTH - indent) {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{MANUALS, command};

    #[test]
    fn every_command_is_explained_and_its_help_fits_into_80_columns() {
        let mut all = command();
        all.build();
        let commands = all
            .get_subcommands()
            .filter(|command| command.get_name() != "help" && !command.is_hide_set());
        let commands: Vec<&str> = commands.map(clap::Command::get_name).collect();
        let explained: Vec<&str> = MANUALS.iter().map(|manual| manual.command).collect();
        assert_eq!(commands, explained, "see MANUALS in src/cli/mod.rs");
        for command in all.get_subcommands_mut() {
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                let wide = help.lines().find(|line| line.chars().count() > 80);
                assert_eq!(wide, None);
            }
        }
    }

    #[test]
    fn every_example_is_one_line_that_can_be_pasted() {
        for (line, _) in MANUALS.iter().flat_map(|manual| manual.examples) {
            assert!(line.chars().count() <= 78, "{line}");
        }
    }
}
