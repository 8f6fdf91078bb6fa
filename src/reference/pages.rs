//! The man pages of the commands.

use clap::{Arg, ArgAction, Command};
use roff::{Inline, bold, roman};

use super::files::files;
use super::page::{Page, reference, sentences, usage};
use super::{Made, config_page};
use crate::cli::manual::{Chapter, Manual};
use crate::cli::{MANUAL, MANUALS, command};

/// Each environment variable, the commands that it is for (all of them where none is named), and what it does.
const ENVIRONMENT: &[(&str, &[&str], &str)] = &[
    (
        "PGCERTD_LOG",
        &[],
        "What is logged: `error`, `warn`, `info` (the default), `debug` or `trace`; or a filter such as \
         `info,pgcertd::lineage=debug`.",
    ),
    (
        "JOURNAL_STREAM",
        &[],
        "Set by systemd. Where it says that standard error is the journal, log lines go there with their fields; \
         elsewhere they are plain lines on standard error.",
    ),
    (
        "NO_COLOR",
        &["", "sync", "status", "check", "sessions", "probe"],
        "Set to anything, it keeps colours out of what a terminal shows. Elsewhere there are none.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        &["run", "notify"],
        "Set by systemd, see sd_notify(3).",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        &["check", "probe"],
        "A file or directory of trusted roots, in place of the system's.",
    ),
];

/// Every page.
pub(super) fn all() -> Vec<Made> {
    let mut root = command();
    root.build();
    let mut pages = vec![overview(&root)];
    for manual in MANUALS {
        let command = root.find_subcommand(manual.command);
        pages.push(of_command(command.unwrap_or(&root), manual));
    }
    pages.push(config_page::page());
    pages
}

fn overview(root: &Command) -> Made {
    let mut page = begun(root, &MANUAL);
    page.heading("Commands");
    for manual in MANUALS {
        let about = root.find_subcommand(manual.command).map(about);
        let name = format!("pgcertd-{}(8)", manual.command);
        page.term(reference(&name), [about.unwrap_or_default().as_str()]);
    }
    options(&mut page, root);
    rest(&mut page, &MANUAL);
    let pages: Vec<String> = MANUALS
        .iter()
        .map(|manual| format!("pgcertd-{}(8)", manual.command))
        .collect();
    let mut pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    pages.sort_unstable();
    pages.extend(["pgcertd.toml(5)", "journalctl(1)", "systemctl(1)"]);
    page.see_also(&pages);
    page.made()
}

fn of_command(command: &Command, manual: &Manual) -> Made {
    let mut page = begun(command, manual);
    options(&mut page, command);
    rest(&mut page, manual);
    page.see_also(&["pgcertd(8)", "pgcertd.toml(5)"]);
    page.made()
}

/// Name, synopsis and description.
fn begun(command: &Command, manual: &Manual) -> Page {
    let name = match manual.command {
        "" => "pgcertd".to_owned(),
        command => format!("pgcertd-{command}"),
    };
    let mut about = about(command);
    about.pop();
    if let Some(first) = about.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let mut page = Page::new(&name, "8", &about);
    page.heading("Synopsis");
    page.line(synopsis(command));
    page.heading("Description");
    page.paragraphs(manual.description.iter().copied());
    page
}

/// The first line of a command's help, as a sentence.
fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_default() + "."
}

fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(command.get_bin_name().unwrap_or("pgcertd"))];
    for arg in arguments(command) {
        // Help and version are for themselves.
        if matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpLong | ArgAction::Version
        ) {
            continue;
        }
        let (open, close) = if arg.is_required_set() {
            ("", "")
        } else {
            ("[", "]")
        };
        line.push(roman(format!(" {open}")));
        line.extend(usage(arg));
        line.push(roman(close));
    }
    if command.has_subcommands() {
        line.push(roman(" "));
        line.push(roff::italic("COMMAND"));
    }
    line
}

/// Options in the order of the help, then arguments.
fn arguments(command: &Command) -> Vec<&Arg> {
    let mut all: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .collect();
    all.sort_by_key(|arg| (arg.is_positional(), arg.get_display_order()));
    all
}

fn options(page: &mut Page, command: &Command) {
    page.heading("Options");
    let (arguments, options): (Vec<&Arg>, Vec<&Arg>) = arguments(command)
        .into_iter()
        .partition(|arg| arg.is_positional());
    for arg in arguments.into_iter().chain(options) {
        let says = match arg.get_action() {
            ArgAction::Help | ArgAction::HelpLong => "Print help; `-h` is shorter.".to_owned(),
            _ => {
                let help = arg.get_long_help().or_else(|| arg.get_help());
                let help = help.map(ToString::to_string).unwrap_or_default();
                let takes = arg.get_num_args().is_some_and(|range| range.takes_values());
                let default = arg.get_default_values().first().filter(|_| takes);
                let default =
                    default.map(|name| format!(" The default is `{}`.", name.to_string_lossy()));
                format!("{help}.{}", default.unwrap_or_default())
            }
        };
        page.term(usage(arg), [says.as_str()]);
    }
}

/// What comes behind the options.
fn rest(page: &mut Page, manual: &Manual) {
    for chapter in (manual.chapters)() {
        draw(page, &chapter);
    }
    page.heading("Exit status");
    for (status, says) in manual.exit {
        page.term(
            [bold(status.code().to_string())],
            [sentences(says).as_str()],
        );
    }
    page.heading("Environment");
    for (name, commands, says) in ENVIRONMENT {
        if commands.is_empty() || commands.contains(&manual.command) {
            page.term([bold(*name)], [*says]);
        }
    }
    let files = files(manual.command);
    if !files.is_empty() {
        page.heading("Files");
    }
    for (file, says) in files {
        page.term([bold(file)], [says]);
    }
    page.heading("Examples");
    for (line, does) in manual.examples {
        page.example(line, does);
    }
}

fn draw(page: &mut Page, chapter: &Chapter) {
    page.heading(chapter.title);
    if !chapter.intro.is_empty() {
        page.paragraphs([chapter.intro.as_str()]);
    }
    for (term, says) in &chapter.terms {
        page.term([bold(term)], [sentences(says).as_str()]);
    }
}
