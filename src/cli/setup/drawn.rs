//! What a person reads of a set-up, in 80 columns.

use anstyle::Style;
use jiff::Timestamp;

use super::aftermath::{Connection, Daemon};
use super::document::{SetupJson, SetupOutcome};
use crate::bundle::{Certificate, Thresholds};
use crate::cli::page::Page;
use crate::cli::paint::{BAD, FAINT, GOOD, ODD};
use crate::setup::plan::SetupPlan;
use crate::setup::step::{StepLine, change_config};
use crate::setup::undo::Undo;
use crate::setup::{SetupError, SetupProgress};
use crate::text::CommandLine;
use crate::text::day;

/// What was found, and what will change.
pub(super) fn plan(plan: &SetupPlan, version: i32, is_dry_run: bool) -> Page {
    let mut out = found(plan, version);
    for note in &plan.notes {
        out.labelled("note", note);
    }
    if let Some(why) = &plan.not_taken_over {
        let note = format!(
            "{} stays as it is and is no longer used; it is not taken over: {why}",
            plan.current.cert_file
        );
        out.labelled("note", note);
    }
    for (why, _) in &plan.obstacles {
        out.labelled("note", why);
    }
    if plan.is_empty() {
        return out;
    }
    let verb = if is_dry_run { "would" } else { "will" };
    out.end().line(format_args!("This {verb} change:"));
    for line in plan.steps.iter().flat_map(|step| step.describe(&plan.site)) {
        out.add(step_line(&line));
    }
    out.line("Then new connections are looked at. No server is restarted, and no session ends.");
    let undo = CommandLine::checked(plan.site.instance.command(&["setup", "--undo"]));
    out.pasteable("undo", undo.as_ref()).end();
    out
}

fn found(plan: &SetupPlan, version: i32) -> Page {
    let instance = &plan.site.instance;
    // 150018 is 15.18 (PG_VERSION_NUM).
    let (major, minor) = (version / 10_000, version % 10_000);
    let mut out = Page::of_line(format_args!(
        "{}  PostgreSQL {major}.{minor}, port {}",
        instance.name,
        plan.site.server.port()
    ));
    out.labelled("user", plan.site.server.user());
    out.labelled("data", plan.site.server.data_directory.display());
    let now = if plan.current.ssl {
        format!("ssl = on, ssl_cert_file = '{}'", plan.current.cert_file)
    } else {
        "ssl = off".to_owned()
    };
    out.labelled("now", now);
    if let Some(bundle) = plan.source.bundle() {
        out.add(lineage(&instance.lineage.name, bundle.leaf()));
    }
    let names: Vec<_> = instance
        .server_names
        .iter()
        .map(|server_name| server_name.to_str())
        .collect();
    if !names.is_empty() {
        out.labelled("for", names.join(", "));
    }
    out
}

fn lineage(name: &str, leaf: &Certificate) -> Page {
    let (begin, end) = (leaf.not_before(), leaf.not_after());
    let now = Timestamp::now();
    let usual = leaf.expiry(now, Thresholds::default());
    let mut out = Page::default();
    let short = leaf.fingerprint().short();
    out.labelled("new", format_args!("lineage {name}, {short}"));
    out.put(" ".repeat(8))
        .days_and_bar(begin, end, usual, now)
        .line(format_args!(" until {}", day(end)));
    out.labelled("by", leaf.issuer());
    out
}

fn step_line(line: &StepLine) -> Page {
    let mut out = Page::default();
    match line {
        StepLine::NewFile(file) => out.put("  ").styled(GOOD, "+").put(" ").line(file),
        StepLine::ChangedFile(file) => out.put("  ").styled(ODD, "~").put(" ").line(file),
        StepLine::Note(note) => out.put(" ".repeat(6)).indented(Style::new(), 6, note),
        StepLine::Text(text) => {
            let style = match text.as_bytes().first() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => FAINT,
            };
            out.put(" ".repeat(6)).tabbed(style, text).end()
        }
    };
    out
}

/// A step, as it is done.
pub(super) fn step(told: &SetupProgress) -> Page {
    let mut out = Page::default();
    match told {
        SetupProgress::Done(what) => out.marked(GOOD, "done", what),
        SetupProgress::RollingBack(why) => out
            .marked(BAD, "fail", why)
            .line("What was done is undone:"),
        SetupProgress::Left(what) => out.marked(ODD, "left", what),
    };
    out
}

/// The end of a set-up that failed.
pub(super) fn failed(plan: &SetupPlan, error: &SetupError, left: &[String]) -> Page {
    let name = &plan.site.instance.name;
    let undo = plan.site.instance.command(&["setup", "--undo"]);
    let mut out = Page::default();
    out.end();
    match left {
        [] => out.hanging(format_args!("{name} is as it was before. {error}")),
        _ => out.styled(BAD, "!").put(" ").hanging(format_args!(
            "{name}: not everything could be undone; fix what is listed above, and then: {undo}"
        )),
    };
    out
}

/// The end of one that did not.
pub(super) fn finished(
    plan: &SetupPlan,
    connection: Option<&Connection>,
    daemon: Option<&Daemon>,
    document: &SetupJson,
) -> Page {
    let name = &plan.site.instance.name;
    let mut out = Page::default();
    out.end();
    let is_kept = document.obstacles.is_empty();
    match document.outcome {
        Some(SetupOutcome::Unchanged) if is_kept => out.line(format_args!(
            "{name} is set up: there is nothing to change."
        )),
        _ if is_kept => out.line(format_args!("{name} is set up.")),
        _ => out.hanging(format_args!(
            "{name} is set up, but the service cannot install renewals until what is noted below is fixed."
        )),
    };
    if let Some(connection) = connection {
        out.line(format_args!("  psql  \"{}\"", connection.conninfo));
        out.labelled("", format_args!("({})", connection.note));
    }
    for (why, command) in &document.obstacles {
        out.labelled("note", why);
        out.remedy("", command.as_ref());
    }
    if let Some(daemon) = daemon {
        next(&mut out, daemon);
    }
    out
}

fn next(out: &mut Page, daemon: &Daemon) {
    match daemon {
        Daemon::Took | Daemon::Restarted => out.labelled("", daemon.sentence()),
        Daemon::Waits(_) | Daemon::Absent(_) => out.labelled("next", daemon.sentence()),
    };
}

/// What an undo would do.
pub(super) fn undo(undo: &Undo) -> Page {
    let began = day(undo.record.began);
    let mut out = Page::of_line(format_args!(
        "{}  set up on {began}",
        undo.site.instance.name
    ));
    out.end().line("To undo it:");
    steps_of(undo, &mut out);
    out
}

/// What an interrupted set-up left.
pub(super) fn interrupted(undo: &Undo) -> Page {
    let mut out = Page::of_text(format_args!(
        "An earlier set-up of {} was interrupted ({}). To undo it:",
        undo.site.instance.name,
        undo.record.began.strftime("%F %H:%M:%S UTC")
    ));
    steps_of(undo, &mut out);
    out
}

fn steps_of(undo: &Undo, out: &mut Page) {
    for line in undo.lines() {
        out.put("  ").styled(ODD, "~").put(" ").line(line);
    }
}

/// The end of an undo.
pub(super) fn undone(undo: &Undo, is_whole: bool, stays: bool, daemon: &Daemon) -> Page {
    let name = &undo.site.instance.name;
    let mut out = Page::default();
    out.end();
    if !is_whole {
        out.styled(BAD, "!")
            .put(" ")
            .hanging("not everything could be undone: fix what is listed above, and run it again");
        return out;
    }
    let but = if stays {
        ", except for what is listed above as left"
    } else {
        ""
    };
    out.line(format_args!("{name} is as before{but}."));
    let file = &undo.site.instance.cert_file;
    if change_config(&undo.record.steps) {
        out.labelled(
            "left",
            format_args!("{}, which may go once no server uses it", file.display()),
        );
    }
    if !matches!(daemon, Daemon::Absent(_)) {
        next(&mut out, daemon);
    }
    out
}
