//! Text that others chose, on its way to a person: paths, names in certificates, a server's messages.
//!
//! Whoever may create a directory, request a certificate or name a client chooses text that root reads later. A
//! character that a terminal obeys, or that nobody sees, is replaced by the way it is written in Rust: `\u{1b}`, `\n`,
//! `\u{202e}`. What remains is one line that looks like what it is.
//!
//! [`shown`] is for a person, [`json`] for a document, which still means the same to whoever parses it, and a
//! [`CommandLine`] is a command that holds no such character at all, since it is there to be pasted.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

/// What a person is told in place of a command that would hold a character that cannot be shown.
pub(crate) const UNPASTEABLE: &str = "no command can be pasted for this, since a name in it holds characters that a terminal obeys or hides; rename it first";

/// Whether a character is seen as what it is: no control (C0, DEL, C1), no change of the writing direction, no
/// line or paragraph separator, nothing invisible, and no space but the common one.
pub(crate) fn is_shown(c: char) -> bool {
    match c {
        ' ' | '"' | '\'' | '\\' => true,
        // A mark that combines with the letter before it is seen.
        _ if c.is_ascii() => !c.is_control(),
        _ => !is_obeyed(c) && is_visible(c),
    }
}

/// What must never pass, whatever the Unicode tables of the standard library say.
fn is_obeyed(c: char) -> bool {
    matches!(
        c,
        '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Whether the standard library would write it as it is in the midst of a text.
fn is_visible(c: char) -> bool {
    let mut bytes = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut bytes[1..]).len();
    // Only the first character of a text is escaped where it is a combining mark.
    let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
    text.escape_debug().eq(text.chars())
}

/// A date as a person reads it, UTC.
pub(crate) fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// A length of time in its largest unit of which there are two or more, down to seconds.
pub(crate) fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "day"),
        7_200.. => (seconds / 3_600, "hour"),
        120.. => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// A duration as a person reads it.
pub(crate) fn rounded(lasted: Duration) -> String {
    match lasted.as_secs() {
        0 => format!("{} ms", lasted.as_millis()),
        seconds => format!("{:#}", SignedDuration::from_secs(seconds.cast_signed())),
    }
}

/// One line in which every character is seen as what it is.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_shown(c) => out.push(c),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// The bytes of a text that need not be UTF-8, on one line.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes)).into_owned()
}

/// Breaks `text` at spaces into lines of at most `width` characters. A longer word stays whole: it is a path that someone
/// will paste.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

/// A document whose text is the same to a parser and harmless on a terminal; over several lines where `is_pretty`.
///
/// # Errors
/// The value cannot be written as JSON.
pub(crate) fn json(document: &impl Serialize, is_pretty: bool) -> serde_json::Result<String> {
    let text = if is_pretty {
        serde_json::to_string_pretty(document)?
    } else {
        serde_json::to_string(document)?
    };
    // Between the strings of a document there is nothing but ASCII, and JSON escapes C0 itself.
    if text.chars().all(|c| c == '\n' || is_shown(c)) {
        return Ok(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || is_shown(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(out)
}

/// A command for a shell, on one line, in which every character is seen as what it is: what is pasted is what was
/// read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct CommandLine(String);

impl CommandLine {
    /// None where a character of it would not be seen as what it is; [`UNPASTEABLE`] is then to be said.
    pub(crate) fn checked(text: impl Into<String>) -> Option<CommandLine> {
        let text = text.into();
        text.chars().all(is_shown).then_some(CommandLine(text))
    }
}

impl Deref for CommandLine {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CommandLine, D::Error> {
        let text = String::deserialize(deserializer)?;
        CommandLine::checked(text).ok_or_else(|| serde::de::Error::custom(UNPASTEABLE))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    /// Text that would do something to who reads it, and how it is shown.
    const HOSTILE: &[(&str, &str)] = &[
        ("\x1b]52;c;AAAA\x07", "\\u{1b}]52;c;AAAA\\u{7}"),
        ("\x1b[2J\x1b[1;1H", "\\u{1b}[2J\\u{1b}[1;1H"),
        ("\u{9b}2J", "\\u{9b}2J"),
        ("\u{9d}52;c;AAAA\u{9c}", "\\u{9d}52;c;AAAA\\u{9c}"),
        ("a\n  fix: rm -rf /", "a\\n  fix: rm -rf /"),
        (
            "a\r\x0b\x0c\x08\x7f\0\t",
            "a\\r\\u{b}\\u{c}\\u{8}\\u{7f}\\u{0}\\t",
        ),
        (
            "a\u{85}b\u{2028}c\u{2029}d",
            "a\\u{85}b\\u{2028}c\\u{2029}d",
        ),
        ("\u{202e}cod.exe\u{202c}", "\\u{202e}cod.exe\\u{202c}"),
        (
            "\u{2066}x\u{2069}\u{61c}\u{200e}\u{200f}",
            "\\u{2066}x\\u{2069}\\u{61c}\\u{200e}\\u{200f}",
        ),
        (
            "post\u{200b}gres\u{feff}\u{ad}",
            "post\\u{200b}gres\\u{feff}\\u{ad}",
        ),
        ("a\u{a0}b\u{3000}c", "a\\u{a0}b\\u{3000}c"),
        ("\u{e0041}", "\\u{e0041}"),
    ];

    #[test]
    fn what_a_terminal_obeys_or_hides_is_written_out() {
        for (text, expected) in HOSTILE {
            assert_eq!(shown(text), *expected);
            assert!(shown(text).chars().all(is_shown), "{text:?}");
        }
        let controls: String = (0..0xa0).filter_map(char::from_u32).collect();
        let shown = shown(&controls).into_owned();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in [
            "/var/lib/postgresql/16/main",
            "it's \"quoted\" \\ and $HOME",
            "Müller & Söhne, Zürich",
            "e\u{301}",
            "東京 日本語",
            "हिन्दी",
            "ไทย",
            "שלום",
            "█░…—→",
            "🐘",
        ] {
            assert!(
                matches!(shown(text), Cow::Borrowed(_)),
                "{text}: {}",
                shown(text)
            );
        }
    }

    #[test]
    fn a_document_means_the_same_and_commands_no_terminal() {
        for (text, _) in HOSTILE {
            for is_pretty in [false, true] {
                let written = json(&[text, "🐘"], is_pretty).unwrap();
                let harmless = |c: char| c == '\n' && is_pretty || is_shown(c);
                assert!(written.chars().all(harmless), "{written:?}");
                let read: Vec<String> = serde_json::from_str(&written).unwrap();
                assert_eq!(read, [*text, "🐘"]);
            }
        }
    }

    #[test]
    fn a_command_to_be_pasted_never_holds_what_is_not_seen() {
        for (text, _) in HOSTILE {
            assert_eq!(
                CommandLine::checked(format!("rm '{text}'")),
                None,
                "{text:?}"
            );
            let forged = serde_json::to_string(&format!("rm '{text}'")).unwrap();
            assert!(serde_json::from_str::<CommandLine>(&forged).is_err());
        }
        let command = CommandLine::checked("rm '/a b'").unwrap();
        assert_eq!(json(&command, false).unwrap(), "\"rm '/a b'\"");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(shown_bytes(b"a\xff\x1b"), "a\u{fffd}\\u{1b}");
    }

    #[test]
    fn a_long_path_is_never_broken() {
        let path = "/".repeat(90);
        assert_eq!(
            wrapped(&format!("set {path} now"), 20),
            ["set", &path, "now"]
        );
    }
}
