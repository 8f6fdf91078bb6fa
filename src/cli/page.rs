//! What a command prints: lines of text, with styles if there is a terminal.
//!
//! Whatever is put into a [`Page`] is escaped ([`crate::text::shown`]), so that nothing but our own styles and line ends
//! controls the terminal, and no command can forget it. A page is the only thing that [`Page::print`] and
//! [`Page::complain`], the two ways out, can write.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use anstyle::Style;
use jiff::Timestamp;

use super::paint::{BAD, GOOD, ODD, WIDTH, bar, span};
use crate::bundle::Expiry;
use crate::text::{CommandLine, UNPASTEABLE, shown, wrapped};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page(String);

impl Page {
    /// A page of one line.
    pub(crate) fn of_line(text: impl Display) -> Page {
        let mut page = Page::default();
        page.line(text);
        page
    }

    /// A page of one text, wrapped, with all but the first line indented.
    pub(crate) fn of_text(text: impl Display) -> Page {
        let mut page = Page::default();
        page.hanging(text);
        page
    }

    /// Adds text to the current line.
    pub(crate) fn put(&mut self, text: impl Display) -> &mut Page {
        self.0.push_str(&shown(&text.to_string()));
        self
    }

    /// The same, in a style.
    pub(crate) fn styled(&mut self, style: Style, text: impl Display) -> &mut Page {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{style}{}{style:#}", shown(&text.to_string()));
        self
    }

    /// The same for a line of somebody's file, where tabs stay tabs.
    pub(crate) fn tabbed(&mut self, style: Style, text: &str) -> &mut Page {
        let parts: Vec<_> = text.split('\t').map(shown).collect();
        let _ = write!(self.0, "{style}{}{style:#}", parts.join("\t"));
        self
    }

    /// Adds text, padded to `width` columns and two more.
    pub(crate) fn column(&mut self, style: Style, text: impl Display, width: usize) -> &mut Page {
        let text = text.to_string();
        let text = shown(&text);
        let gap = width.saturating_sub(text.chars().count()) + 2;
        let _ = write!(self.0, "{style}{text}{style:#}{:gap$}", "");
        self
    }

    pub(crate) fn end(&mut self) -> &mut Page {
        self.0.push('\n');
        self
    }

    /// Adds text and ends the line.
    pub(crate) fn line(&mut self, text: impl Display) -> &mut Page {
        self.put(text).end()
    }

    pub(crate) fn add(&mut self, other: Page) -> &mut Page {
        self.0.push_str(&other.0);
        self
    }

    /// Adds wrapped text, with all but the first line indented.
    pub(crate) fn hanging(&mut self, text: impl Display) -> &mut Page {
        self.indented(Style::new(), 2, text)
    }

    /// Adds wrapped text, with all but the first line indented by `indent` columns; as many are already used on the first.
    pub(crate) fn indented(
        &mut self,
        style: Style,
        indent: usize,
        text: impl Display,
    ) -> &mut Page {
        let text = text.to_string();
        for (number, line) in wrapped(&shown(&text), WIDTH - indent).iter().enumerate() {
            if number > 0 {
                let _ = write!(self.0, "{:indent$}", "");
            }
            self.styled(style, line).end();
        }
        self
    }

    /// `label  text`, wrapped in its own column; a label has up to four letters.
    pub(crate) fn labelled(&mut self, label: &str, text: impl Display) -> &mut Page {
        self.marked(Style::new(), label, text)
    }

    /// The same with a label in a style.
    pub(crate) fn marked(&mut self, style: Style, label: &str, text: impl Display) -> &mut Page {
        self.put("  ")
            .column(style, label, 4)
            .indented(Style::new(), 8, text)
    }

    /// A fix: `text`, and below it the command, whole on its own line, so that it can be pasted. Nothing if there is
    /// neither.
    pub(crate) fn remedy(&mut self, text: &str, command: Option<&CommandLine>) -> &mut Page {
        match (text, command) {
            ("", None) => self,
            (text, None) => self.labelled("fix", text),
            ("", Some(command)) => self.line(format_args!("  fix   {command}")),
            (text, Some(command)) => self
                .labelled("fix", format_args!("{text}:"))
                .line(format_args!("        {command}")),
        }
    }

    /// A command to paste, whole after its label; or why there is none.
    pub(crate) fn pasteable(&mut self, label: &str, command: Option<&CommandLine>) -> &mut Page {
        match command {
            Some(command) => self.put("  ").column(Style::new(), label, 4).line(command),
            None => self.labelled(label, UNPASTEABLE),
        }
    }

    /// The rest of a lifetime as a time and a bar, 16 columns, in the colour of its urgency.
    pub(crate) fn days_and_bar(
        &mut self,
        begin: Timestamp,
        end: Timestamp,
        expiry: Expiry,
        now: Timestamp,
    ) -> &mut Page {
        let style = match expiry {
            Expiry::Fine => GOOD,
            Expiry::Warning => ODD,
            Expiry::Critical | Expiry::Expired => BAD,
        };
        let remaining = end.duration_since(now);
        let text = if remaining.is_negative() {
            "gone".to_owned()
        } else {
            span(remaining)
        };
        self.put(format_args!("{text:>5} "))
            .styled(style, bar(begin, end, now))
    }

    /// Writes it to standard output, with styles if that is a terminal and `NO_COLOR` isn't set.
    ///
    /// # Errors
    /// Standard output cannot be written. A reader that stops early (`pgcertd status | head`) is not an error.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        match out.write_all(self.0.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Writes it to standard error. If that is closed, the exit status still says so.
    pub(crate) fn complain(&self) {
        let mut out = anstream::stderr().lock();
        drop(out.write_all(self.0.as_bytes()).and_then(|()| out.flush()));
    }

    #[cfg(test)]
    pub(crate) fn plain(&self) -> String {
        anstream::adapter::strip_str(&self.0).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b]52;c;AA\x07\n  fix   rm -rf /\u{202e}\u{9b}2J\t";

    #[test]
    fn whatever_is_put_into_a_page_ends_no_line_and_commands_nothing() {
        let mut page = Page::default();
        page.put(HOSTILE)
            .styled(BAD, HOSTILE)
            .column(GOOD, HOSTILE, 9)
            .line(HOSTILE);
        page.labelled(HOSTILE, HOSTILE)
            .marked(ODD, HOSTILE, HOSTILE)
            .remedy(HOSTILE, None);
        page.hanging(HOSTILE).indented(BAD, 4, HOSTILE);
        let Page(text) = page;
        let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
        let styles = text.matches("\x1b[").count();
        assert_eq!(controls.count(), styles, "{text:?}");
        assert!(text.lines().all(|line| !line.contains("\x1b]")));
        assert!(
            !text.lines().any(|line| line.starts_with("  fix   rm")),
            "{text:?}"
        );
        assert!(!text.contains(['\u{202e}', '\u{9b}', '\t']), "{text:?}");
    }

    #[test]
    fn in_a_line_of_a_file_tabs_stay_and_nothing_else_does() {
        let mut page = Page::default();
        page.tabbed(Style::new(), "+host\tall\tall\x1b[2J").end();
        assert_eq!(page.plain(), "+host\tall\tall\\u{1b}[2J\n");
    }

    #[test]
    fn a_command_that_would_not_be_seen_as_what_it_is_is_not_offered() {
        let mut page = Page::default();
        page.pasteable("undo", CommandLine::checked("rm '\u{202e}'").as_ref());
        page.pasteable("undo", CommandLine::checked("rm a").as_ref());
        let text = page.plain();
        assert!(
            text.starts_with("  undo  no command can be pasted"),
            "{text}"
        );
        assert!(text.ends_with("\n  undo  rm a\n"), "{text}");
    }

    #[test]
    fn a_label_in_a_style_takes_the_same_room() {
        let (mut plain, mut styled) = (Page::default(), Page::default());
        plain.labelled("ok", "ssl is on");
        styled.marked(GOOD, "ok", "ssl is on");
        assert_eq!(plain.plain(), "  ok    ssl is on\n");
        assert_eq!(styled.plain(), plain.plain());
    }

    /// The sources, but those of tests.
    fn sources(directory: &std::path::Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                sources(&path, found);
            } else if !["tests", "/reference/", "src/instructions.rs"]
                .iter()
                .any(|of_tests| name.contains(of_tests))
            {
                let text = std::fs::read_to_string(&path).expect("a text");
                let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
                found.push((name, code.to_owned()));
            }
        }
    }

    #[test]
    fn there_is_no_other_way_out() {
        let mut found = Vec::new();
        sources(
            &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.len() > 100);
        // What is written, and who may write it: pages, the log, what is read by pgcertd alone.
        let ways: &[(&[&str], &[&str])] = &[
            (&["println!", "print!(", "eprint!(", "dbg!("], &[]),
            (&["anstream::"], &["cli/page.rs"]),
            (
                &["io::stdout", "io::stderr"],
                &[
                    "cli/page.rs",
                    "report/log.rs",
                    "cli/outcomes.rs",
                    "host/command.rs",
                ],
            ),
            (
                &["serde_json::to_"],
                &[
                    "src/text.rs",
                    "setup/record.rs",
                    "files/memory.rs",
                    "notify/ledger/mod.rs",
                ],
            ),
            (
                &["sd_notify::notify"],
                &["daemon/systemd.rs", "notify/mod.rs"],
            ),
        ];
        for (name, code) in &found {
            for (words, files) in ways {
                let may = files.iter().any(|file| name.ends_with(file));
                let word = words.iter().find(|word| code.contains(**word));
                assert!(
                    may || word.is_none(),
                    "{name}: {word:?} passes text on as it is"
                );
            }
        }
    }
}
