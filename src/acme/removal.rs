//! How to remove a hook, and nothing else.

use super::certbot::RENEW;
use super::contents::{Hook, HookPlace};
use super::judge::{Deed, HookJudgement, Judge, Share};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A line for a root shell.
    Command(String),
    /// What to do by hand, if it cannot be separated from the rest.
    Sentence(String),
}

impl Hook {
    /// How to remove what is obsolete in this hook, by this judgement.
    pub fn removal(&self, judge: &Judge, judgement: &HookJudgement) -> Removal {
        let whole = judgement.share == Share::All;
        let command = match &self.place {
            HookPlace::Setting { line, .. } if whole && !self.commands.contains('\n') => {
                Some(format!("sed -i {} {}", deletion(line), self.file()))
            }
            // A variable for a unit, whose value is a part of certbot's command line.
            HookPlace::Setting { line, .. }
                if judge.without(&self.commands).as_deref() == Some(RENEW) =>
            {
                Some(format!("sed -i {} {}", deletion(line), self.file()))
            }
            HookPlace::Program { link: None, .. } if whole => {
                Some(format!("chmod -x {}", self.file()))
            }
            HookPlace::Program { link: Some(_), .. } if whole => {
                Some(format!("rm {}", self.file()))
            }
            HookPlace::Crontab { user, line, at, .. } => {
                let rest = judge.without(&self.commands);
                rest.map(|rest| self.of_crontab(user.as_deref(), line, *at, &rest))
            }
            _ => None,
        };
        match command {
            Some(command) => Removal::Command(command),
            None => {
                let deeds: Vec<String> = judgement.deeds.iter().map(Deed::to_string).collect();
                Removal::Sentence(format!(
                    "edit {} and remove what {}; keep the rest",
                    self.place.file().display(),
                    deeds.join(" and ")
                ))
            }
        }
    }

    fn of_crontab(&self, user: Option<&str>, line: &str, at: usize, rest: &str) -> String {
        let edit = match rest {
            "" => deletion(line),
            rest => replacement(line, &format!("{}{rest}", &line[..at])),
        };
        match user {
            Some(user) => {
                let user = quoted(user);
                format!("crontab -u {user} -l | sed {edit} | crontab -u {user} -")
            }
            None => format!("sed -i {edit} {}", self.file()),
        }
    }

    fn file(&self) -> String {
        quoted(&self.place.file().to_string_lossy())
    }
}

/// The sed script that deletes exactly this line, quoted for a shell.
pub(crate) fn deletion(line: &str) -> String {
    quoted(&format!("\\#^{}$#d", pattern(line)))
}

fn replacement(line: &str, new: &str) -> String {
    let new: String = new
        .chars()
        .flat_map(|character| {
            let escape = matches!(character, '\\' | '&' | '#').then_some('\\');
            escape.into_iter().chain([character])
        })
        .collect();
    quoted(&format!("s#^{}$#{new}#", pattern(line)))
}

/// A line as a basic regular expression between two `#`.
fn pattern(line: &str) -> String {
    line.chars()
        .flat_map(|character| {
            let escape = "\\.*[]^$#".contains(character).then_some('\\');
            escape.into_iter().chain([character])
        })
        .collect()
}

fn quoted(word: &str) -> String {
    shell_words::quote(word).into_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Lines that sed, a shell or both might misread.
    const LINES: [&str; 5] = [
        "post_hook = cp /a/* /b && echo \"it's $HOME\" [x] ^y$ \\n #1 ~ a+b?",
        "post_hook = cp /aXb /b",
        "post_hook = cp /a.b /b",
        "post_hook = cp /a.b /b # and more",
        "# post_hook = cp /a.b /b",
    ];

    /// What the real sed makes of all lines.
    fn edited(edit: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, LINES.join("\n") + "\n").unwrap();
        let command = format!("sed -i {edit} {}", file.display());
        let status = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success(), "{command}");
        let text = fs::read_to_string(&file).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_deletion_takes_its_own_line_alone() {
        for line in LINES {
            let others: Vec<&str> = LINES.into_iter().filter(|other| *other != line).collect();
            assert_eq!(edited(&deletion(line)), others, "{line}");
        }
    }

    #[test]
    fn a_replacement_changes_its_own_line_alone() {
        let new = "a & b \\ #c 'd' \"e\" $f";
        for line in LINES {
            let expected: Vec<&str> = LINES
                .into_iter()
                .map(|other| if other == line { new } else { other })
                .collect();
            assert_eq!(edited(&replacement(line, new)), expected, "{line}");
        }
    }
}
