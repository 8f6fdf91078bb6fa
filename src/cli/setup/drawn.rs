//! What a person reads of a set-up, in 80 columns.

use jiff::Timestamp;

use super::Arguments;
use super::aftermath::{Connection, Daemon};
use super::document::{Document, Outcome};
use crate::bundle::Certificate;
use crate::cli::paint::{
    BAD, FAINT, GOOD, ODD, WIDTH, days_and_bar, hanging, labelled, styled, wrapped,
};
use crate::report::day;
use crate::setup::plan::{Change, Plan, Target};
use crate::setup::require_tls::Tightening;
use crate::setup::undo::Undo;
use crate::setup::{SetupError, Told};

/// What was found, and what will change.
pub(super) fn plan(
    plan: &Plan,
    tightening: Option<&Tightening>,
    version: i32,
    wanted: &Arguments,
) -> String {
    let mut out = found(plan, version);
    for note in &plan.notes {
        out.push_str(&labelled("note", &plain(note)));
    }
    if let Target::Own(Some(why)) = &plan.target {
        let note = format!(
            "{} stays as it is and is no longer used; it is not taken over: {why}",
            plan.current.cert_file
        );
        out.push_str(&labelled("note", &plain(&note)));
    }
    if plan.is_empty() && tightening.is_none() {
        return out;
    }
    let verb = if wanted.dry_run { "would" } else { "will" };
    out.push_str(&format!("\nThis {verb} change:\n"));
    out.push_str(&changes(plan, tightening));
    out.push_str(
        "Then new connections are looked at. Nothing is restarted, and no session ends.\n",
    );
    // One line, which can be pasted.
    let undo = plan.instance.command(&["setup", "--undo"]);
    out.push_str(&format!("  undo  {undo}\n"));
    out.push('\n');
    out
}

fn found(plan: &Plan, version: i32) -> String {
    let instance = &plan.instance;
    // 150018 is 15.18 (PG_VERSION_NUM).
    let (major, minor) = (version / 10_000, version % 10_000);
    let mut out = format!(
        "{}  PostgreSQL {major}.{minor}, port {}\n",
        instance.name,
        plan.server.port()
    );
    out.push_str(&labelled(
        "data",
        &plan.server.data_directory.display().to_string(),
    ));
    out.push_str(&labelled("user", &plan.server.user()));
    let now = match plan.current.ssl {
        false => "ssl = off".to_owned(),
        true => format!("ssl = on, ssl_cert_file = '{}'", plan.current.cert_file),
    };
    out.push_str(&labelled("now", &plain(&now)));
    if let Some(bundle) = plan.source.bundle() {
        out.push_str(&lineage(&instance.lineage.name, bundle.leaf()));
    }
    let names: Vec<_> = instance.server_names.iter().map(|it| it.to_str()).collect();
    if !names.is_empty() {
        out.push_str(&labelled("for", &names.join(", ")));
    }
    out
}

fn lineage(name: &str, leaf: &Certificate) -> String {
    let (begin, end) = (leaf.not_before(), leaf.not_after());
    let mut out = labelled(
        "new",
        &format!("lineage {name}, {}", leaf.fingerprint().short()),
    );
    out.push_str(&format!(
        "        {} until {}\n",
        days_and_bar(begin, end, Timestamp::now()).trim_start(),
        day(end)
    ));
    out.push_str(&labelled("by", leaf.issuer()));
    out
}

fn changes(plan: &Plan, tightening: Option<&Tightening>) -> String {
    let mut out = String::new();
    if let Some(fragment) = &plan.fragment {
        out.push_str(&format!(
            "  {} {}\n",
            styled(GOOD, "+"),
            fragment.path.display()
        ));
        let lines = fragment.text.lines().filter(|it| !it.starts_with('#'));
        for line in lines {
            out.push_str(&format!("      {line}\n"));
        }
    }
    out.push_str(&files(plan));
    if !plan.settings.is_empty() {
        let file = plan.server.data_directory.join("postgresql.auto.conf");
        out.push_str(&format!("  {} {}\n", styled(ODD, "~"), file.display()));
        out.push_str("      by ALTER SYSTEM, then a reload\n");
        for Change { setting, from, to } in &plan.settings {
            let name = setting.name();
            out.push_str(&format!(
                "      {}\n",
                styled(BAD, &plain(&format!("- {name} = '{from}'")))
            ));
            out.push_str(&format!(
                "      {}\n",
                styled(GOOD, &plain(&format!("+ {name} = '{to}'")))
            ));
        }
    }
    if let Some(tightening) = tightening {
        out.push_str(&hba(tightening));
    }
    out
}

/// The files that are written.
fn files(plan: &Plan) -> String {
    let instance = &plan.instance;
    let (cert, key) = (instance.cert_file.display(), instance.key_file.display());
    let (sign, what) = match &plan.target {
        Target::TakenOver => (
            styled(ODD, "~"),
            "taken over: the server uses it already, and pgcertd writes it from now on",
        ),
        _ if plan.install == crate::reconcile::SyncOutcome::WouldDeploy => (
            styled(GOOD, "+"),
            "chain and key; the server's user alone may read the key",
        ),
        _ => return String::new(),
    };
    let mut out = format!("  {sign} {cert}\n");
    if !instance.single_file() {
        out.push_str(&format!("  {sign} {key}\n"));
    }
    for line in wrapped(what, WIDTH - 6) {
        out.push_str(&format!("      {line}\n"));
    }
    out
}

/// Who is let in without TLS, and the difference.
fn hba(tightening: &Tightening) -> String {
    let mut out = String::new();
    for line in tightening.lines() {
        let place = format!("{}:{}", line.file.display(), line.line);
        out.push_str(&format!("  {} {place}\n", styled(ODD, "~")));
        let said = format!("lets in without TLS: {}", line.whom);
        let notes = line.notes.iter().map(|it| (*it).to_owned());
        for text in std::iter::once(said).chain(notes) {
            for line in wrapped(&plain(&text), WIDTH - 6) {
                out.push_str(&format!("      {line}\n"));
            }
        }
    }
    for line in tightening.diff().lines() {
        let line = &plain(line);
        let styled = match line.as_bytes().first() {
            Some(b'+') => styled(GOOD, line),
            Some(b'-') => styled(BAD, line),
            _ => styled(FAINT, line),
        };
        out.push_str(&format!("      {styled}\n"));
    }
    out
}

/// Text of the server's, which is not to command the terminal.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// A step, as it is done.
pub(super) fn step(told: &Told) -> String {
    match told {
        Told::Done(what) => marked(&styled(GOOD, "done"), what),
        Told::TakingBack(why) => {
            format!(
                "{}{}\n",
                marked(&styled(BAD, "fail"), why),
                "What was done is taken back:"
            )
        }
        Told::Left(what) => marked(&styled(ODD, "left"), what),
    }
}

fn marked(mark: &str, text: &str) -> String {
    let lines = wrapped(&plain(text), WIDTH - 8);
    format!("  {mark}  {}\n", lines.join("\n        "))
}

/// The end of a set-up that failed.
pub(super) fn failed(plan: &Plan, error: &SetupError, left: &[String]) -> String {
    let name = &plan.instance.name;
    let undo = plan.instance.command(&["setup", "--undo"]);
    match left {
        [] => format!(
            "\n{}",
            hanging(&plain(&format!("{name} is as it was before. {error}")))
        ),
        _ => format!(
            "\n{}",
            hanging(&format!(
                "{} {name}: not all could be taken back; mend what stands above, and then: {undo}",
                styled(BAD, "!")
            ))
        ),
    }
}

/// The end of one that did not.
pub(super) fn finished(
    plan: &Plan,
    connection: Option<&Connection>,
    daemon: Option<&Daemon>,
    document: &Document,
) -> String {
    let name = &plan.instance.name;
    let mut out = match document.outcome {
        Some(Outcome::Unchanged) => format!("\n{name} is set up: there is nothing to change.\n"),
        _ => format!("\n{name} is set up.\n"),
    };
    if let Some(connection) = connection {
        out.push_str(&format!("  psql  \"{}\"\n", connection.conninfo));
        out.push_str(&labelled("", &format!("({})", connection.note)));
    }
    for (why, command) in &document.obstacles {
        out.push_str(&labelled("note", why));
        // One line, which can be pasted.
        out.push_str(&format!("  mend  {command}\n"));
    }
    out.push_str(&daemon.map(next).unwrap_or_default());
    out
}

fn next(daemon: &Daemon) -> String {
    match daemon {
        Daemon::Took => labelled("", &daemon.sentence()),
        Daemon::Waits(_) | Daemon::Absent(_) => labelled("next", &daemon.sentence()),
    }
}

/// What an undo would do.
pub(super) fn undo(undo: &Undo) -> String {
    let began = undo.record.began;
    let mut out = format!(
        "{}  set up on {}\n\nTo take it back:\n",
        undo.instance.name,
        day(began)
    );
    for line in undo.lines() {
        out.push_str(&format!("  {} {line}\n", styled(ODD, "~")));
    }
    out
}

/// What an interrupted set-up left.
pub(super) fn interrupted(undo: &Undo) -> String {
    let mut out = hanging(&format!(
        "An earlier set-up of {} did not come to its end ({}). To take it back:",
        undo.instance.name,
        undo.record.began.strftime("%F %H:%M:%S UTC")
    ));
    for line in undo.lines() {
        out.push_str(&format!("  {} {line}\n", styled(ODD, "~")));
    }
    out
}

/// The end of an undo.
pub(super) fn undone(undo: &Undo, steps: &[Told], left: &[String], daemon: &Daemon) -> String {
    let name = &undo.instance.name;
    if !left.is_empty() {
        return format!(
            "\n{}",
            hanging(&format!(
                "{} not all could be taken back: mend what stands above, and do it again",
                styled(BAD, "!")
            ))
        );
    }
    let but = match steps.iter().any(|it| matches!(it, Told::Left(_))) {
        true => ", but for what stands above as left",
        false => "",
    };
    let mut out = format!("\n{name} is as before{but}.\n");
    let file = &undo.instance.cert_file;
    if undo.fragment.is_some() {
        out.push_str(&labelled(
            "left",
            &format!("{}, which may go once no server uses it", file.display()),
        ));
    }
    if !matches!(daemon, Daemon::Absent(_)) {
        out.push_str(&next(daemon));
    }
    out
}
