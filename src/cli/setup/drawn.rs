//! What a person reads of a set-up, in 80 columns.

use anstyle::Style;
use jiff::Timestamp;

use super::SetupArguments;
use super::aftermath::{Connection, Daemon};
use super::document::{SetupJson, SetupOutcome};
use crate::bundle::{Certificate, Thresholds};
use crate::cli::page::Page;
use crate::cli::paint::{BAD, FAINT, GOOD, ODD};
use crate::report::day;
use crate::setup::fragment::Fragment;
use crate::setup::plan::{PlannedChange, PlannedTarget, SetupPlan};
use crate::setup::require_tls::Tightening;
use crate::setup::undo::Undo;
use crate::setup::{SetupError, SetupProgress};
use crate::text::CommandLine;

/// What was found, and what will change.
pub(super) fn plan(
    plan: &SetupPlan,
    tightening: Option<&Tightening>,
    version: i32,
    wanted: &SetupArguments,
) -> Page {
    let mut out = found(plan, version);
    for note in &plan.notes {
        out.labelled("note", note);
    }
    if let PlannedTarget::Own(Some(why)) = &plan.target {
        let note = format!(
            "{} stays as it is and is no longer used; it is not taken over: {why}",
            plan.current.cert_file
        );
        out.labelled("note", note);
    }
    for (why, _) in &plan.admission.obstacles {
        out.labelled("note", why);
    }
    if plan.is_empty() && tightening.is_none() {
        return out;
    }
    let verb = if wanted.dry_run { "would" } else { "will" };
    out.end().line(format_args!("This {verb} change:"));
    out.add(changes(plan, tightening));
    out.line("Then new connections are looked at. No server is restarted, and no session ends.");
    let undo = CommandLine::checked(plan.instance.command(&["setup", "--undo"]));
    out.pasteable("undo", undo.as_ref()).end();
    out
}

fn found(plan: &SetupPlan, version: i32) -> Page {
    let instance = &plan.instance;
    // 150018 is 15.18 (PG_VERSION_NUM).
    let (major, minor) = (version / 10_000, version % 10_000);
    let mut out = Page::of_line(format_args!(
        "{}  PostgreSQL {major}.{minor}, port {}",
        instance.name,
        plan.server.port()
    ));
    out.labelled("user", plan.server.user());
    out.labelled("data", plan.server.data_directory.display());
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

fn changes(plan: &SetupPlan, tightening: Option<&Tightening>) -> Page {
    let mut out = Page::default();
    if let Some(fragment) = &plan.fragment {
        out.add(new_file(fragment));
    }
    if let Some(drop_in) = &plan.admission.drop_in {
        out.add(new_file(drop_in));
        let what = "so that the service may get at these paths; a daemon that runs is restarted";
        out.put(" ".repeat(6)).indented(Style::new(), 6, what);
    }
    out.add(files(plan));
    if !plan.settings.is_empty() {
        let file = plan.server.data_directory.join("postgresql.auto.conf");
        out.put("  ").styled(ODD, "~").put(" ").line(file.display());
        out.line("      by ALTER SYSTEM, then a reload");
        for PlannedChange { setting, from, to } in &plan.settings {
            let name = setting.name();
            out.put("      ")
                .styled(BAD, format_args!("- {name} = '{from}'"))
                .end();
            out.put("      ")
                .styled(GOOD, format_args!("+ {name} = '{to}'"))
                .end();
        }
    }
    if let Some(to_add) = &plan.host_line {
        out.put("  ")
            .styled(ODD, "~")
            .put(" ")
            .line(to_add.file.display());
        let what = "a line for these names, then a reload; other names keep their certificate";
        out.put(" ".repeat(6)).indented(Style::new(), 6, what);
        out.add(diff(&to_add.diff()));
    }
    if let Some(tightening) = tightening {
        out.add(hba(tightening));
    }
    out
}

fn new_file(file: &Fragment) -> Page {
    let mut out = Page::default();
    out.put("  ")
        .styled(GOOD, "+")
        .put(" ")
        .line(file.path.display());
    for line in file.text.lines().filter(|name| !name.starts_with('#')) {
        out.line(format_args!("      {line}"));
    }
    out
}

/// The files that are written.
fn files(plan: &SetupPlan) -> Page {
    let instance = &plan.instance;
    let mut out = Page::default();
    let (style, sign, what) = match &plan.target {
        PlannedTarget::TakenOver => (
            ODD,
            "~",
            "taken over: the server uses it already, and pgcertd writes it from now on",
        ),
        _ if plan.install == crate::deploy::SyncOutcome::WouldDeploy => (
            GOOD,
            "+",
            "chain and key; the server's user alone may read the key",
        ),
        _ => return out,
    };
    let key = (!instance.single_file()).then_some(&instance.key_file);
    for file in std::iter::once(&instance.cert_file).chain(key) {
        out.put("  ")
            .styled(style, sign)
            .put(" ")
            .line(file.display());
    }
    out.put(" ".repeat(6)).indented(Style::new(), 6, what);
    out
}

/// Who is let in without TLS, and the difference.
fn hba(tightening: &Tightening) -> Page {
    let mut out = Page::default();
    for line in tightening.lines() {
        let place = format!("{}:{}", line.file.display(), line.line);
        out.put("  ").styled(ODD, "~").put(" ").line(place);
        let said = format!("lets in without TLS: {}", line.whom);
        let notes = line.notes.iter().map(|name| (*name).to_owned());
        for text in std::iter::once(said).chain(notes) {
            out.put(" ".repeat(6)).indented(Style::new(), 6, text);
        }
    }
    out.add(diff(&tightening.diff()));
    out
}

/// The difference between two texts.
fn diff(lines: &str) -> Page {
    let mut out = Page::default();
    for line in lines.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => GOOD,
            Some(b'-') => BAD,
            _ => FAINT,
        };
        out.put("      ").tabbed(style, line).end();
    }
    out
}

/// A step, as it is done.
pub(super) fn step(told: &SetupProgress) -> Page {
    let mut out = Page::default();
    match told {
        SetupProgress::Done(what) => out.marked(GOOD, "done", what),
        SetupProgress::TakingBack(why) => out
            .marked(BAD, "fail", why)
            .line("What was done is taken back:"),
        SetupProgress::Left(what) => out.marked(ODD, "left", what),
    };
    out
}

/// The end of a set-up that failed.
pub(super) fn failed(plan: &SetupPlan, error: &SetupError, left: &[String]) -> Page {
    let name = &plan.instance.name;
    let undo = plan.instance.command(&["setup", "--undo"]);
    let mut out = Page::default();
    out.end();
    match left {
        [] => out.hanging(format_args!("{name} is as it was before. {error}")),
        _ => out.styled(BAD, "!").put(" ").hanging(format_args!(
            "{name}: not all could be taken back; mend what stands above, and then: {undo}"
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
    let name = &plan.instance.name;
    let mut out = Page::default();
    out.end();
    let is_kept = document.obstacles.is_empty();
    match document.outcome {
        Some(SetupOutcome::Unchanged) if is_kept => out.line(format_args!(
            "{name} is set up: there is nothing to change."
        )),
        _ if is_kept => out.line(format_args!("{name} is set up.")),
        _ => out.hanging(format_args!(
            "{name} is set up, but the service will not get renewals in until what stands below as a note is mended."
        )),
    };
    if let Some(connection) = connection {
        out.line(format_args!("  psql  \"{}\"", connection.conninfo));
        out.labelled("", format_args!("({})", connection.note));
    }
    for (why, command) in &document.obstacles {
        out.labelled("note", why);
        out.mended("", command.as_ref());
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
    let mut out = Page::of_line(format_args!("{}  set up on {began}", undo.instance.name));
    out.end().line("To take it back:");
    steps_of(undo, &mut out);
    out
}

/// What an interrupted set-up left.
pub(super) fn interrupted(undo: &Undo) -> Page {
    let mut out = Page::of_text(format_args!(
        "An earlier set-up of {} did not come to its end ({}). To take it back:",
        undo.instance.name,
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
pub(super) fn undone(
    undo: &Undo,
    steps: &[SetupProgress],
    left: &[String],
    daemon: &Daemon,
) -> Page {
    let name = &undo.instance.name;
    let mut out = Page::default();
    out.end();
    if !left.is_empty() {
        out.styled(BAD, "!")
            .put(" ")
            .hanging("not all could be taken back: mend what stands above, and do it again");
        return out;
    }
    let but = if steps
        .iter()
        .any(|progress| matches!(progress, SetupProgress::Left(_)))
    {
        ", but for what stands above as left"
    } else {
        ""
    };
    out.line(format_args!("{name} is as before{but}."));
    let file = &undo.instance.cert_file;
    if undo.fragment.is_some() {
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
