//! A man page: the manual's plain text as roff.
//!
//! What stands between backquotes is bold. The day in the title line is filled in later, see [`DAY`].

use roff::{Inline, Roff, bold, italic, roman};

use super::Made;
use crate::text::wrapped;

/// A line of the source has room for marks and escapes within 80 columns.
const SOURCE_WIDTH: usize = 62;

/// Stands for the day on which the page changed last.
pub(super) const DAY: &str = "@DAY@";

/// A page that is being written.
pub(super) struct Page {
    name: String,
    section: &'static str,
    roff: Roff,
    /// Nothing stands below the last heading yet.
    fresh: bool,
}

impl Page {
    pub(super) fn new(name: &str, section: &'static str, about: &str) -> Page {
        let mut roff = Roff::new();
        let version = concat!("pgcertd ", env!("CARGO_PKG_VERSION"));
        let manual = match section {
            "5" => "File Formats Manual",
            _ => "System Manager's Manual",
        };
        let title = name.to_uppercase();
        roff.control("TH", [title.as_str(), section, DAY, version, manual]);
        // No stretched lines, no broken words, and one space behind a full stop: it may be a file name's.
        roff.control("ss", ["12", "0"]);
        roff.control("nh", []);
        roff.control("ad", ["l"]);
        roff.control("SH", ["NAME"]);
        let mut page = Page {
            name: name.to_owned(),
            section,
            roff,
            fresh: true,
        };
        page.text(&format!("{name} - {about}"));
        page
    }

    fn text(&mut self, text: &str) {
        for line in marked(text) {
            self.roff.text(line);
        }
        self.fresh = false;
    }

    fn begin_paragraph(&mut self) {
        if !self.fresh {
            self.roff.control("PP", []);
        }
    }

    pub(super) fn heading(&mut self, title: &str) {
        // The name of a table stays as it is written.
        let title = if title.starts_with('[') {
            title.to_owned()
        } else {
            title.to_uppercase()
        };
        self.roff.control("SH", [title.as_str()]);
        self.fresh = true;
    }

    /// A line as it is.
    pub(super) fn line(&mut self, line: impl Into<Vec<Inline>>) {
        if !self.fresh {
            self.roff.control("br", []);
        }
        self.roff.text(line);
        self.fresh = false;
    }

    pub(super) fn paragraphs<'a>(&mut self, all: impl IntoIterator<Item = &'a str>) {
        for paragraph in all {
            self.begin_paragraph();
            self.text(paragraph);
        }
    }

    /// A term, and paragraphs to the right of it.
    pub(super) fn term<'a>(
        &mut self,
        term: impl Into<Vec<Inline>>,
        says: impl IntoIterator<Item = &'a str>,
    ) {
        self.roff.control("TP", []);
        self.roff.text(term);
        for (number, paragraph) in says.into_iter().enumerate() {
            if number > 0 {
                self.roff.control("IP", []);
            }
            for (number, line) in paragraph.lines().enumerate() {
                if number > 0 {
                    self.roff.control("br", []);
                }
                self.text(line);
            }
        }
    }

    /// What `inside` writes stands below the text of the last term.
    pub(super) fn nested(&mut self, inside: impl FnOnce(&mut Page)) {
        self.roff.control("RS", []);
        inside(self);
        self.roff.control("RE", []);
    }

    /// Lines as they are, and what they are for.
    pub(super) fn example(&mut self, lines: &str, does: &str) {
        self.begin_paragraph();
        self.text(does);
        self.roff.control("PP", []);
        self.roff.control("RS", ["4"]);
        self.roff.control("nf", []);
        for line in lines.lines() {
            self.roff.text([roman(line)]);
        }
        self.roff.control("fi", []);
        self.roff.control("RE", []);
    }

    /// Other pages, in order, as `name(8)`.
    pub(super) fn see_also(&mut self, pages: &[&str]) {
        self.heading("See also");
        let mut line = Vec::new();
        for (number, page) in pages.iter().enumerate() {
            if number > 0 {
                line.push(roman(", "));
            }
            line.extend(reference(page));
        }
        self.roff.text(line);
    }

    pub(super) fn made(self) -> Made {
        Made {
            path: format!("man/{}.{}", self.name, self.section),
            content: self.roff.render(),
        }
    }
}

/// `name(8)` with the name in bold.
pub(super) fn reference(page: &str) -> [Inline; 2] {
    let (name, section) = page.split_once('(').unwrap_or((page, ""));
    [bold(name), roman(format!("({section}"))]
}

/// Lines of the manual as sentences.
pub(super) fn sentences(lines: &str) -> String {
    let sentence = |line: &str| {
        let mut chars = line.chars();
        let first = chars.next().map(|character| character.to_ascii_uppercase());
        let stop = if line.ends_with(['.', '?']) { "" } else { "." };
        format!("{}{}{stop}", first.unwrap_or_default(), chars.as_str())
    };
    let all: Vec<String> = lines.lines().map(sentence).collect();
    all.join("\n")
}

/// Text as lines of the source, with what is between backquotes in bold.
fn marked(text: &str) -> Vec<Vec<Inline>> {
    let mut is_bold = false;
    let mut lines = Vec::new();
    for line in wrapped(text, SOURCE_WIDTH) {
        let mut inlines = Vec::new();
        for (number, part) in line.split('`').enumerate() {
            is_bold ^= number > 0;
            match (part.is_empty(), is_bold) {
                (true, _) => {}
                (false, true) => inlines.push(bold(part)),
                (false, false) => inlines.push(roman(part)),
            }
        }
        lines.push(inlines);
    }
    lines
}

/// An option or argument as it stands in the synopsis: `--config FILE`, `INSTANCE...`.
pub(super) fn usage(arg: &clap::Arg) -> Vec<Inline> {
    let values = arg.get_value_names().unwrap_or_default();
    let value = values.join(" ");
    let takes = arg.get_num_args().is_some_and(|range| range.takes_values());
    let mut line = Vec::new();
    if let Some(long) = arg.get_long() {
        if let Some(short) = arg.get_short() {
            line.push(bold(format!("-{short}")));
            line.push(roman(", "));
        }
        line.push(bold(format!("--{long}")));
        if takes {
            line.push(roman(" "));
        }
    }
    if takes {
        line.push(italic(value));
        if arg
            .get_num_args()
            .is_some_and(|value_range| value_range.max_values() > 1)
        {
            line.push(roman("..."));
        }
    }
    line
}
