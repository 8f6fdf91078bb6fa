//! Crontabs, as cron reads them (crontab(5) of Debian and of cronie).

use std::path::{Path, PathBuf};

use super::command::assignment;
use super::contents::AreaContents;
use super::tree::Tree;

pub(super) struct Crontab {
    pub(super) file: PathBuf,
    /// The owner, if it is a user's crontab.
    pub(super) user: Option<String>,
    pub(super) lines: Vec<CrontabLine>,
}

/// A line that runs a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CrontabLine {
    pub(super) text: String,
    pub(super) at: usize,
}

/// Whether a line names the user who runs it.
#[derive(Clone, Copy)]
enum CrontabForm {
    System,
    Users,
}

pub(super) fn all(tree: &Tree, contents: &mut AreaContents) -> Vec<Crontab> {
    let mut files = vec![(PathBuf::from("/etc/crontab"), None)];
    let system = contents.or_note(tree.list(Path::new("/etc/cron.d")));
    files.extend(
        system
            .into_iter()
            .filter(|path| is_run(path))
            .map(|file| (file, None)),
    );
    // Debian's, then that of cronie and dcron.
    for spool in ["/var/spool/cron/crontabs", "/var/spool/cron"] {
        let users = contents.or_note(tree.list(Path::new(spool)));
        let users = users.into_iter().filter(|path| !tree.is_directory(path));
        files.extend(users.map(|file| {
            let user = file
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            (file, user)
        }));
    }
    let mut crontabs = Vec::new();
    for (file, user) in files {
        let text = contents.or_note(tree.text(&file)).unwrap_or_default();
        let form = user
            .as_ref()
            .map_or(CrontabForm::System, |_| CrontabForm::Users);
        let lines = text.lines().filter_map(|row| line(row, form)).collect();
        crontabs.push(Crontab { file, user, lines });
    }
    crontabs
}

/// The directories whose programs cron runs.
const PERIODS: [&str; 4] = [
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
];

/// Whether cron runs a program because of the directory that it is in.
pub(super) fn is_program(file: &Path) -> bool {
    PERIODS.iter().any(|directory| file.starts_with(directory))
}

/// The programs in the directories whose programs cron runs.
pub(super) fn programs(tree: &Tree, contents: &mut AreaContents) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    for directory in PERIODS {
        let files = contents
            .or_note(tree.list(Path::new(directory)))
            .into_iter();
        programs.extend(files.filter(|path| is_run(path) && tree.executable(path)));
    }
    programs
}

/// cron and run-parts skip names with a dot, such as those that dpkg leaves behind.
fn is_run(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    name.iter().all(plain)
}

fn line(text: &str, form: CrontabForm) -> Option<CrontabLine> {
    let first = text.trim_start();
    if first.is_empty() || first.starts_with('#') {
        return None;
    }
    // `NAME = value`; a time begins with a digit, `*` or `@`.
    let assigned = first
        .split_once('=')
        .is_some_and(|(name, _)| assignment(&format!("{}=", name.trim_end())).is_some());
    if assigned {
        return None;
    }
    let times = if first.starts_with('@') { 1 } else { 5 };
    let fields = times
        + if matches!(form, CrontabForm::System) {
            1
        } else {
            0
        };
    let blank = [' ', '\t'];
    let mut at = text.len() - first.len();
    for _ in 0..fields {
        let rest = &text[at..];
        let end = rest.find(blank)?;
        at += end + rest[end..].find(|character| !blank.contains(&character))?;
    }
    Some(CrontabLine {
        text: text.to_owned(),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str, form: CrontabForm) -> Option<String> {
        line(text, form).map(|line| line.text[line.at..].to_owned())
    }

    #[test]
    fn the_command_begins_after_times_and_user() {
        let run = || Some("certbot renew".to_owned());
        assert_eq!(
            command("0 3 * * * certbot renew", CrontabForm::Users),
            run()
        );
        assert_eq!(
            command(" 0\t3 * *  * certbot renew", CrontabForm::Users),
            run()
        );
        assert_eq!(command("@daily certbot renew", CrontabForm::Users), run());
        assert_eq!(
            command("0 */12 * * * root certbot renew", CrontabForm::System),
            run()
        );
        assert_eq!(
            command("@daily root certbot renew", CrontabForm::System),
            run()
        );
    }

    #[test]
    fn comments_and_settings_are_no_commands() {
        for none in [
            "",
            "  ",
            "# 0 3 * * * x",
            "SHELL=/bin/sh",
            "PATH = /bin",
            "0 3 * * *",
            "x",
        ] {
            assert_eq!(command(none, CrontabForm::Users), None, "{none}");
        }
        assert!(command("0 3 * * * A=b certbot renew", CrontabForm::Users).is_some());
    }

    #[test]
    fn what_dpkg_leaves_is_not_run() {
        assert!(is_run(Path::new("/etc/cron.d/certbot-2")));
        assert!(!is_run(Path::new("/etc/cron.d/certbot.dpkg-old")));
        assert!(!is_run(Path::new("/etc/cron.d/certbot~")));
    }
}
