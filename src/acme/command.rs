//! Parses shell commands, as far as needed to see what a hook does.
//!
//! It splits a text into simple commands and their words, with their positions, and says if it has met something that it
//! doesn't understand, so that nothing is decided on a partial view.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) simple: Vec<Simple>,
    /// The variables that it sets, as written.
    pub(super) variables: BTreeMap<String, String>,
    /// Whether all of it was understood.
    pub(super) whole: bool,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Simple {
    /// The words, beginning with the program's name, without assignments before it and without redirections.
    pub(super) words: Vec<ShellWord>,
    /// The files that its redirections write.
    pub(super) writes: Vec<ShellWord>,
    /// Its position in the text.
    pub(super) span: Range<usize>,
}

/// A word without its quotes. Variables are not expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ShellWord {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// Keywords that are followed by a command.
const KEYWORDS: [&str; 14] = [
    "if", "then", "elif", "else", "fi", "do", "done", "while", "until", "!", "{", "}", "exec",
    "command",
];

impl Simple {
    /// The words from the program's name on, without a wrapper (`sudo -u postgres`).
    pub(super) fn command(&self) -> &[ShellWord] {
        let mut words = &self.words[..];
        while let Some((first, rest)) = words.split_first() {
            if !RUNNERS.contains(&name(&first.text)) {
                break;
            }
            words = rest;
            while let Some((option, rest)) = words.split_first() {
                let valued = VALUED.contains(&&*option.text);
                let skipped = option.text.starts_with('-')
                    || assignment(&option.text).is_some()
                    || option
                        .text
                        .starts_with(|character: char| character.is_ascii_digit());
                if !skipped {
                    break;
                }
                words = if valued {
                    rest.get(1..).unwrap_or(&[])
                } else {
                    rest
                };
            }
        }
        words
    }

    /// Where it ends in the text, redirections included.
    pub(super) fn end(&self) -> usize {
        self.span.end
    }

    /// The name of the program, without its directory.
    pub(super) fn program(&self) -> &str {
        self.command().first().map_or("", |word| name(&word.text))
    }

    pub(super) fn arguments(&self) -> impl DoubleEndedIterator<Item = &str> {
        let words = self.command().iter().skip(1);
        words.map(|word| word.text.as_str())
    }

    /// The arguments that are not options.
    pub(super) fn operands(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.arguments().filter(|word| !word.starts_with('-'))
    }
}

/// Programs that run another one.
const RUNNERS: [&str; 9] = [
    "sudo", "doas", "env", "nice", "ionice", "timeout", "nohup", "time", "runuser",
];

/// Their options that take the next word as a value.
const VALUED: [&str; 6] = ["-u", "-g", "-n", "-c", "-k", "-s"];

/// A program's name, without its directory.
fn name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

pub(super) fn parse(text: &str) -> Commands {
    let mut reader = ShellReader {
        text,
        at: 0,
        done: Commands {
            simple: Vec::new(),
            variables: BTreeMap::new(),
            whole: true,
        },
        now: Simple::default(),
        redirected: None,
    };
    reader.run();
    reader.done
}

/// Where the next word goes.
#[derive(Clone, Copy, PartialEq)]
enum Redirection {
    Write,
    Read,
}

struct ShellReader<'t> {
    text: &'t str,
    at: usize,
    done: Commands,
    now: Simple,
    redirected: Option<Redirection>,
}

impl ShellReader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn run(&mut self) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' => {
                    self.next();
                }
                '\\' if self.text[self.at..].starts_with("\\\n") => self.at += 2,
                '#' => self.skip_comment(),
                '\n' | ';' | '&' | '|' | '(' | ')' => self.operator(next),
                '>' | '<' => self.redirection(next),
                _ => self.word(),
            }
        }
        self.end();
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn operator(&mut self, operator: char) {
        self.next();
        // `&>` writes, and doesn't end a command.
        if operator == '&' && self.peek() == Some('>') {
            return;
        }
        // A function, a case's pattern, `;;`: the commands in it are seen, but not when they run.
        let twice = self.peek() == Some(operator);
        if matches!(operator, '(' | ')') || (operator == ';' && twice) {
            self.done.whole = false;
        }
        self.end();
    }

    fn redirection(&mut self, kind: char) {
        self.next();
        // A number before it is a descriptor.
        let descriptor = self
            .now
            .words
            .pop_if(|word| word.span.end + 1 == self.at && word.text.parse::<u8>().is_ok());
        drop(descriptor);
        let mut write = kind == '>';
        while let Some(next @ ('>' | '<' | '&' | '|')) = self.peek() {
            // A here-document.
            self.done.whole &= !(kind == '<' && next == '<');
            // To an open descriptor.
            write &= next != '&';
            self.next();
        }
        self.redirected = Some(if write {
            Redirection::Write
        } else {
            Redirection::Read
        });
    }

    fn word(&mut self) {
        let start = self.at;
        let mut text = String::new();
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '>' | '<' => break,
                '\'' => self.quoted(&mut text),
                '"' => self.double_quoted(&mut text),
                '\\' => {
                    self.next();
                    text.extend(self.next().filter(|character| *character != '\n'));
                }
                _ => self.plain(&mut text),
            }
        }
        let word = ShellWord {
            text,
            span: start..self.at,
        };
        self.take(word);
    }

    fn plain(&mut self, text: &mut String) {
        let rest = &self.text[self.at..];
        // The output of another command is unknown.
        if rest.starts_with('`') || rest.starts_with("$(") {
            self.done.whole = false;
        }
        if rest.starts_with("${") {
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            text.push_str(&rest[..end]);
            self.at += end;
        } else {
            text.extend(self.next());
        }
    }

    fn quoted(&mut self, text: &mut String) {
        self.next();
        let rest = &self.text[self.at..];
        match rest.find('\'') {
            Some(end) => {
                text.push_str(&rest[..end]);
                self.at += end + 1;
            }
            None => {
                text.push_str(rest);
                self.at = self.text.len();
                self.done.whole = false;
            }
        }
    }

    fn double_quoted(&mut self, text: &mut String) {
        self.next();
        loop {
            match self.peek() {
                None => {
                    self.done.whole = false;
                    return;
                }
                Some('"') => {
                    self.next();
                    return;
                }
                Some('\\') => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(escaped @ ('"' | '\\' | '$' | '`')) => text.push(escaped),
                        Some(other) => text.extend(['\\', other]),
                    }
                }
                Some(_) => self.plain(text),
            }
        }
    }

    fn take(&mut self, word: ShellWord) {
        match self.redirected.take() {
            Some(Redirection::Write) => self.now.writes.push(word.clone()),
            Some(Redirection::Read) => {}
            None => {
                let first = self.now.words.is_empty();
                let plain = self.text[word.span.clone()] == word.text;
                if first && plain && KEYWORDS.contains(&&*word.text) {
                    return;
                }
                if first && let Some((name, value)) = assignment(&word.text) {
                    self.done.variables.insert(name.into(), value.into());
                    return;
                }
                self.now.words.push(word.clone());
            }
        }
        if self.now.span.is_empty() {
            self.now.span = word.span;
        } else {
            self.now.span.end = word.span.end;
        }
    }

    fn end(&mut self) {
        self.redirected = None;
        let command = std::mem::take(&mut self.now);
        if !command.words.is_empty() || !command.writes.is_empty() {
            self.done.simple.push(command);
        }
    }
}

/// Name and value of `NAME=value`.
pub(super) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let named = !name.is_empty()
        && !name.starts_with(|character: char| character.is_ascii_digit())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_');
    named.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let commands = parse(text).simple;
        let of = |simple: Simple| simple.words.into_iter().map(|word| word.text).collect();
        commands.into_iter().map(of).collect()
    }

    #[test]
    fn operators_end_commands_and_quotes_hold_words_together() {
        assert_eq!(
            words("cp 'a b' \"$X/c\" && chmod 600 d\\ e; systemctl restart \"postgresql\" || true"),
            [
                vec!["cp", "a b", "$X/c"],
                vec!["chmod", "600", "d e"],
                vec!["systemctl", "restart", "postgresql"],
                vec!["true"],
            ]
        );
    }

    #[test]
    fn redirections_are_no_arguments_and_written_files_are_kept() {
        let commands = parse("cat a b >/out 2>&1 </in; echo x 2>>/log");
        let writes = |at: usize| -> Vec<&str> {
            let writes = commands.simple[at].writes.iter();
            writes.map(|word| word.text.as_str()).collect()
        };
        assert_eq!(words("cat a b >/out 2>&1 </in")[0], ["cat", "a", "b"]);
        assert_eq!(writes(0), ["/out"]);
        assert_eq!(writes(1), ["/log"]);
        assert!(commands.whole);
    }

    #[test]
    fn spans_lie_where_the_text_does() {
        let text = "certbot renew --post-hook \"cp a b\" -q && reboot";
        let commands = parse(text);
        let hook = &commands.simple[0].words[3];
        assert_eq!(&text[hook.span.clone()], "\"cp a b\"");
        assert_eq!(hook.text, "cp a b");
        assert_eq!(
            &text[commands.simple[0].span.clone()],
            "certbot renew --post-hook \"cp a b\" -q"
        );
    }

    #[test]
    fn a_script_is_read_through_its_conditions() {
        let script =
            "#!/bin/sh\nset -eu\n# cp x y\nif [ \"$A\" = b ]; then\n\tLC_ALL=C cp a b\nfi\n";
        assert_eq!(
            words(script),
            [
                vec!["set", "-eu"],
                vec!["[", "$A", "=", "b", "]"],
                vec!["cp", "a", "b"]
            ]
        );
        assert!(parse(script).whole);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for beyond in [
            "cp $(ls) b",
            "cp `ls` b",
            "cat <<END\nx\nEND",
            "f() { cp a b; }",
            "cp 'a b",
            "cp \"a b",
            "case x in x) cp a b;; esac",
        ] {
            assert!(!parse(beyond).whole, "{beyond}");
        }
    }
}
