//! What `pgcertd status` prints: a line for each instance, and below that the problems and their fixes.

use anstyle::Style;
use jiff::Timestamp;

use crate::bundle::{Expiry, Piece, Thresholds};
use crate::check::served_users::{self, ServedUsers};
use crate::check::user_name;
use crate::cli::page::Page;
use crate::cli::paint::{BAD, FAINT, GOOD, ODD, WIDTH, span};
use crate::config::Config;
use crate::deploy::state::State;
use crate::report::host;
use crate::report::nearing::{Holder, Nearing};
use crate::report::view::{CertificateView, InstanceView, StatusView};
use crate::text::CommandLine;
use crate::text::day;

pub(super) fn drawn(config: &Config, view: &StatusView, now: Timestamp) -> Page {
    let mut out = header(view, now);
    out.add(table(view, now));
    for instance in &view.instances {
        if instance.problem.is_some() {
            out.end().add(explained(instance));
        }
        for nearing in Nearing::all(instance, now) {
            out.add(ending(instance, &nearing));
        }
    }
    if view.instances.is_empty() {
        out.line("  no instance is configured; see the example config");
    }
    if let Some(why) = &view.uncovered_unknown {
        out.end().styled(BAD, "!").put(" ").hanging(format_args!(
            "Can't tell whether servers run here that no instance covers: {why}"
        ));
    }
    for directory in &view.uncovered {
        let user = served_users::user_of(directory);
        let directory = directory.display().to_string();
        let whose = user.map_or_else(String::new, |uid| format!(" of user {}", user_name(uid)));
        let warning = match user {
            Some(uid) if !ServedUsers::by(config).include(uid) => {
                " Setting it up gives that user a lineage's private key."
            }
            _ => "",
        };
        let setup = config.command(&["setup", "--data-directory", &directory]);
        out.end().styled(ODD, "?").put(" ").hanging(format_args!(
            "{directory} belongs to a running PostgreSQL server{whose} that no instance covers.{warning}"
        ));
        out.pasteable("fix", CommandLine::checked(setup).as_ref());
    }
    out
}

fn header(view: &StatusView, now: Timestamp) -> Page {
    let host = host();
    let daemon = match &view.daemon {
        Some(daemon) => format!("daemon up {}", span(now.duration_since(daemon.since))),
        None => "daemon not running".to_owned(),
    };
    let count = |wanted: char| {
        let marks = view.instances.iter().map(|view| mark(view, now).1);
        marks.filter(|character| *character == wanted).count()
    };
    let unknown = usize::from(view.uncovered_unknown.is_some());
    let (style, problems) = match (count('!') + unknown, count('?') + view.uncovered.len()) {
        (0, 0) => (GOOD, "all well".to_owned()),
        (0, 1) => (ODD, "1 warning".to_owned()),
        (0, n) => (ODD, format!("{n} warnings")),
        (1, _) => (BAD, "1 problem".to_owned()),
        (n, _) => (BAD, format!("{n} problems")),
    };
    let age = now.duration_since(view.checked);
    let checked = if age.as_secs() < 1 {
        "checked now".to_owned()
    } else {
        format!("checked {} ago", span(age))
    };
    let left = format!("{host}  pgcertd {}  {daemon}  ", env!("CARGO_PKG_VERSION"));
    let used = left.chars().count() + problems.chars().count() + checked.chars().count();
    let gap = " ".repeat(WIDTH.saturating_sub(used).max(2));
    let mut out = Page::default();
    out.put(left).styled(style, problems).put(gap);
    out.styled(FAINT, checked).end();
    out
}

fn table(view: &StatusView, now: Timestamp) -> Page {
    let widest = |title: &str, texts: &mut dyn Iterator<Item = usize>| {
        texts.max().unwrap_or(0).max(title.len())
    };
    let all = &view.instances;
    let name = widest("INSTANCE", &mut all.iter().map(|i| i.name.len()));
    let widest = widest("STATE", &mut all.iter().map(|i| i.state.as_str().len()));
    let mut out = Page::of_line(format_args!(
        "  {:<name$}  {:<widest$}  {:<16}  {:<7}  LINEAGE",
        "INSTANCE", "STATE", "LEFT", "SERVED"
    ));
    for instance in all {
        let shown = instance.served.as_ref().or(instance.installed.as_ref());
        let (style, mark) = mark(instance, now);
        let state = if instance.state.is_well() { GOOD } else { BAD };
        let served = instance
            .served
            .as_ref()
            .map_or_else(|| "-".to_owned(), |c| format!("{}…", c.fingerprint.short()));
        out.styled(style, mark)
            .put(" ")
            .column(Style::new(), &instance.name, name)
            .column(state, instance.state.as_str(), widest);
        left(&mut out, shown, instance.thresholds, now);
        out.line(format_args!("  {served:<7}  {}", instance.lineage));
    }
    out
}

/// The sign before an instance.
fn mark(instance: &InstanceView, now: Timestamp) -> (Style, char) {
    let nearing = Nearing::from_view(instance, now);
    if !instance.is_well(now) {
        (BAD, '!')
    } else if nearing.is_some() {
        (ODD, '?')
    } else {
        (GOOD, ' ')
    }
}

/// Time left and bar, 16 columns.
fn left(out: &mut Page, shown: Option<&CertificateView>, thresholds: Thresholds, now: Timestamp) {
    match shown {
        Some(shown) => {
            let (begin, end) = shown.term();
            let expiry = shown.expiry_at(now, thresholds);
            out.days_and_bar(begin, end, expiry, now)
        }
        None => out.put(format_args!("{:<16}", "-")),
    };
}

/// What is about to expire, and the fix. If the lineage has a newer one, the problem of the state says what to do.
fn ending(instance: &InstanceView, nearing: &Nearing<'_>) -> Page {
    let problem = nearing.problem();
    let mut out = Page::default();
    if nearing.place != Holder::Source && instance.problem.is_some() {
        out.labelled("left", &problem.what);
        return out;
    }
    let style = if nearing.is_urgent() { BAD } else { ODD };
    let mark = if nearing.is_urgent() { "!" } else { "?" };
    let name = &instance.name;
    let day = day(nearing.end.not_after);
    let what = match nearing.piece {
        Piece::Ca => "CA of its clients".to_owned(),
        other => other.to_string(),
    };
    let line = match nearing.expiry {
        Expiry::Expired => format!("{name} has a {what} that expired on {day}."),
        _ => format!("{name} needs a new {what} before {day}."),
    };
    out.end().styled(style, mark).put(" ").hanging(line);
    out.labelled("why", &problem.what);
    out.remedy(&problem.fix, problem.command.as_ref());
    out
}

/// The problem of one instance, and the fix.
fn explained(instance: &InstanceView) -> Page {
    let mut out = Page::default();
    if instance.state.is_well() {
        out.styled(FAINT, "-");
    } else {
        out.styled(BAD, "!");
    }
    out.put(" ").hanging(headline(instance));
    match &instance.details {
        Some(details) => {
            out.labelled("why", &details.what);
            out.remedy(&details.fix, details.command.as_ref());
        }
        None => {
            out.labelled("why", instance.problem.as_deref().unwrap_or_default());
        }
    }
    out
}

fn headline(instance: &InstanceView) -> String {
    let InstanceView {
        name,
        source,
        installed,
        served,
        ..
    } = instance;
    let short = |c: &CertificateView| format!("{}…", c.fingerprint.short());
    if instance.state == State::Unknown {
        return format!("The state of {name} is unknown.");
    }
    let now_served = match (served, installed) {
        (Some(served), _) => {
            format!(
                "{name} serves {} until {}",
                short(served),
                day(served.term().1)
            )
        }
        (None, Some(installed)) => format!(
            "{name} has {} installed, until {}",
            short(installed),
            day(installed.term().1)
        ),
        (None, None) => format!("{name} has no certificate that pgcertd can see"),
    };
    match source {
        Some(source) if served.as_ref().or(installed.as_ref()) != Some(source) => {
            format!("{now_served}; its lineage holds {}.", short(source))
        }
        Some(_) => format!("{now_served}, the same as its lineage."),
        None => format!("{now_served}; its lineage holds nothing usable."),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::bundle::Fingerprint;
    use crate::bundle::TrustFiles;
    use crate::problem::Problem;
    use crate::report::view::{CompanionView, EndView, VERSION};

    /// A config with nothing in it, where it usually is.
    fn config() -> Config {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").expect("a file");
        let loaded = Config::load(&file).expect("an empty config");
        Config {
            file: crate::config::DEFAULT_FILE.into(),
            ..loaded
        }
    }

    fn now() -> Timestamp {
        "2026-11-25T00:00:00Z".parse().expect("a time")
    }

    /// A certificate of 90 days with so many left.
    fn with_days(left: i64) -> Option<CertificateView> {
        let day = |count: i64| now() + SignedDuration::from_hours(24 * count);
        let (not_before, not_after) = (day(left - 90), day(left));
        Some(CertificateView {
            fingerprint: Fingerprint::from_der(&left.to_le_bytes()),
            not_before,
            not_after,
            chain_end: None,
            names: Vec::new(),
            issuer: String::new(),
            serial: String::new(),
            expiry: Expiry::from_validity(not_before, not_after, now(), Thresholds::default()),
        })
    }

    /// One instance whose lineage has so many days, and what clients get so many.
    fn view(state: State, source: i64, served: i64) -> StatusView {
        let details = (state != State::InSync).then(|| Problem::new("what is", "what to do"));
        StatusView {
            version: VERSION,
            instances: vec![InstanceView {
                name: "16-main".into(),
                lineage: "pg.example.com".into(),
                state,
                problem: details.as_ref().map(Problem::to_string),
                details,
                source: with_days(source),
                installed: with_days(source),
                served: with_days(served),
                trust_files: TrustFiles::default(),
                thresholds: Thresholds::default(),
            }],
            uncovered: Vec::new(),
            uncovered_unknown: None,
            checked: now(),
            daemon: None,
        }
    }

    /// What is drawn, without colours, the first line cut to what it says of the whole.
    fn shown(view: &StatusView) -> (String, Vec<String>) {
        let text = drawn(&config(), view, now()).plain();
        let mut lines = text.lines().map(str::to_owned);
        let head = lines.next().unwrap_or_default();
        let (_, head) = head.split_once("daemon not running").expect("a header");
        let head = head
            .trim()
            .trim_end_matches("checked now")
            .trim()
            .to_owned();
        (head, lines.collect())
    }

    #[test]
    fn a_certificate_that_is_about_to_expire_is_marked_and_explained_even_if_in_sync() {
        for (left, head, mark, well, first) in [
            (21, "all well", " ", true, None),
            (
                20,
                "1 warning",
                "?",
                true,
                Some("needs a new certificate before 2026-12-15."),
            ),
            (
                6,
                "1 problem",
                "!",
                false,
                Some("needs a new certificate before 2026-12-01."),
            ),
            (
                -2,
                "1 problem",
                "!",
                false,
                Some("has a certificate that expired on 2026-11-23."),
            ),
        ] {
            let view = view(State::InSync, left, left);
            let (of_all, lines) = shown(&view);
            assert_eq!(of_all, head, "{left} days");
            assert!(
                lines[1].starts_with(&format!("{mark} 16-main   in_sync")),
                "{lines:#?}"
            );
            assert_eq!(view.is_well(now()), well, "{left} days");
            let Some(first) = first else {
                assert_eq!(lines.len(), 2, "{lines:#?}");
                continue;
            };
            assert_eq!(lines[3], format!("{mark} 16-main {first}"));
            assert!(lines[4].starts_with("  why   lineage pg.example.com has not been renewed: "));
            assert!(
                lines
                    .iter()
                    .any(|line| line.starts_with("  fix   find out why the ACME client"))
            );
            assert!(
                lines.iter().all(|line| line.chars().count() <= WIDTH),
                "{lines:#?}"
            );
        }
    }

    #[test]
    fn a_crl_that_is_about_to_expire_is_explained_besides_the_certificate() {
        let mut view = view(State::InSync, 20, 20);
        let hours = |count: i64| now() + SignedDuration::from_hours(count);
        let crl = CompanionView {
            digest: Fingerprint::from_der(b"a CRL"),
            first_end: Some(EndView {
                name: "CN=Clients".into(),
                fingerprint: Fingerprint::from_der(b"a CRL"),
                not_before: hours(20 - 10 * 24),
                not_after: hours(20),
                expiry: Expiry::Critical,
            }),
        };
        view.instances[0].trust_files.crl.source = Some(crl.clone());
        view.instances[0].trust_files.crl.installed = Some(crl);
        let (head, lines) = shown(&view);
        assert_eq!(head, "1 problem");
        let has = |wanted: &str| lines.iter().any(|line| line == wanted);
        assert!(
            has("? 16-main needs a new certificate before 2026-12-15."),
            "{lines:#?}"
        );
        assert!(
            has("! 16-main needs a new CRL before 2026-11-25."),
            "{lines:#?}"
        );
        assert!(!view.is_well(now()));
    }

    #[test]
    fn if_a_state_holds_the_renewal_up_its_fix_is_enough() {
        let (head, lines) = shown(&view(State::NotServed, 80, 9));
        assert_eq!(head, "1 problem");
        let mut last = lines.iter().rev();
        let left = last.next().expect("a line");
        assert!(
            left.starts_with("  left  the certificate that clients get, "),
            "{left}"
        );
        assert!(left.ends_with("expires in 9 days"), "{left}");
        assert_eq!(last.next().expect("a line"), "  fix   what to do");

        // A state that is well does not hide what cannot wait.
        let view = view(State::Waiting, 80, 6);
        assert_eq!(shown(&view).0, "1 problem");
        assert!(!view.is_well(now()));
    }

    #[test]
    fn a_command_that_fixes_it_is_whole_on_its_own_line() {
        let long = format!("pgcertd setup --data-directory /{}", "d".repeat(90));
        for (fix, command, drawn) in [
            ("", None, String::new()),
            ("do it", None, "  fix   do it\n".to_owned()),
            ("", Some(long.as_str()), format!("  fix   {long}\n")),
            (
                "at once",
                Some("pgcertd sync a"),
                "  fix   at once:\n        pgcertd sync a\n".to_owned(),
            ),
        ] {
            let mut page = Page::default();
            page.remedy(fix, command.and_then(CommandLine::checked).as_ref());
            assert_eq!(page.plain(), drawn);
        }
        let mut view = view(State::InSync, 80, 80);
        view.uncovered = vec!["/srv/pg data".into()];
        let (head, lines) = shown(&view);
        assert_eq!(head, "1 warning");
        assert_eq!(
            lines.last().expect("a line"),
            "  fix   pgcertd setup --data-directory '/srv/pg data'"
        );
    }
}
