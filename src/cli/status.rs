//! `pgcertd status`: source, installed and served of every instance, live.
//!
//! Where the caller may not look, the daemon's last view is shown, with its age.

use anstyle::Style;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::manual::{Chapter, Manual};
use super::paint::{self, BAD, FAINT, GOOD, ODD, WIDTH, labelled, span, styled};
use super::{Exit, Failure, print, print_json, prober, sources};
use crate::bundle::Expiry;
use crate::config::Config;
use crate::instance::Instance;
use crate::instance::postmaster::uncovered;
use crate::reconcile::Keeper;
use crate::reconcile::state::{Problem, State};
use crate::report::nearing::{Nearing, Place};
use crate::report::view::{CertificateView, InstanceView, StatusView, VERSION};
use crate::report::{day, host};
use crate::source::Source;

pub(super) const MANUAL: Manual = Manual {
    command: "status",
    description: &[
        "Looks at each instance now: what its lineage holds, what is installed, and what a new TLS connection \
         gets. For each that is not well it says why, and what mends it.",
        "Every user may ask. Who may not look is shown what the daemon saw last, with its age; without a daemon \
         the instance is `unknown`.",
        "A certificate that was not renewed when it should have been is named with `?` while there is time: less than \
         a quarter of its lifetime or 21 days is left, whichever is less. From a tenth or 7 days on it is a problem \
         as any other. The worst of source, installed and served counts. A PostgreSQL server of this host that no \
         instance covers is named with `?` too.",
    ],
    exit: &[
        (
            Exit::Well,
            "every instance is `in_sync`, `not_running` or `waiting`, and no certificate is about to expire",
        ),
        (
            Exit::Problem,
            "some instance is in another state, or a certificate has less than a tenth of its lifetime or 7 days left",
        ),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: states,
    examples: &[
        ("pgcertd status", "The whole picture."),
        (
            "pgcertd status --json | jq -r '.instances[] | .name + \" \" + .state'",
            "For a machine: a line for each instance.",
        ),
    ],
};

fn states() -> Vec<Chapter> {
    let states = Chapter::new("States", "The first three are well.");
    let states = State::ALL.iter().fold(states, |chapter, state| {
        let says = format!("{}\nto do: {}", state.meaning(), state.remedy());
        chapter.term(state.as_str(), says)
    });
    let json = Chapter::new("JSON", "One document; a certificate that is not there is null.")
        .term("instances", "`name`, `lineage`, `state`, `problem` (a sentence, or null), `source`, `installed`, `served`")
        .term("a certificate", "`fingerprint` (SHA-256), `not_before`, `not_after`, `names`, `issuer`, `serial`, `expiry` (`fine`, `warning`, `critical` or `expired`)")
        .term("uncovered", "the data directories of servers that no instance covers")
        .term("checked", "when this was seen; times are in UTC, as in RFC 3339")
        .term("daemon", "since when it runs, or null");
    vec![states, json]
}

/// The daemon's view is too old to stand for what is, after so many `resync` periods.
const STALE_AFTER: u32 = 3;

pub(super) async fn status(config: &Config, json: bool) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    let daemon = StatusView::read(&config.runtime_directory).filter(StatusView::daemon_lives);
    let view = look(config, daemon.as_ref(), now).await?;
    if json {
        print_json(&view)?;
    } else {
        print(&drawn(&view, now))?;
    }
    Ok(if view.is_well(now) {
        Exit::Well
    } else {
        Exit::Problem
    })
}

async fn look(
    config: &Config,
    daemon: Option<&StatusView>,
    now: Timestamp,
) -> Result<StatusView, Failure> {
    let all: Vec<_> = config.instances.iter().collect();
    let mut sources = sources::read(config, &all).await?;
    let prober = prober()?;
    let mut looking = JoinSet::new();
    for (index, instance) in config.instances.iter().enumerate() {
        let source = sources.remove(&instance.name).unwrap_or(Source::Invalid {
            why: "the lineage was not read".into(),
            denied: false,
        });
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let settle = config.watch.settle_timeout;
        looking.spawn(async move {
            let seen = keeper.observe(&source, settle).await;
            let view = InstanceView::of(&keeper.instance.config, &seen);
            (index, view, seen.is_denied())
        });
    }
    let fresh = i64::from(STALE_AFTER)
        .checked_mul(i64::try_from(config.watch.resync.as_secs()).unwrap_or(i64::MAX))
        .map_or(SignedDuration::MAX, SignedDuration::from_secs);
    let lives = daemon.is_some();
    let daemon = daemon.filter(|view| now.duration_since(view.checked) <= fresh);
    let mut views = Vec::new();
    let mut borrowed = false;
    while let Some(seen) = looking.join_next().await {
        let (index, own, denied) = seen.map_err(|e| Failure::problem(&e))?;
        let told = daemon.and_then(|d| d.instances.iter().find(|i| i.name == own.name));
        let view = match told {
            Some(told) if denied => {
                borrowed = true;
                told.clone().as_of(now)
            }
            None if denied => unknown(own, lives),
            Some(told) => completed(own, told, now),
            None => own,
        };
        views.push((index, view));
    }
    prober.farewells().await;
    views.sort_by_key(|(index, _)| *index);
    let checked = match daemon {
        Some(daemon) if borrowed => daemon.checked,
        _ => now,
    };
    Ok(StatusView {
        version: VERSION,
        instances: views.into_iter().map(|(_, view)| view).collect(),
        uncovered: uncovered(config.instances.iter().map(|i| &i.data_directory)),
        checked,
        daemon: daemon.and_then(|d| d.daemon.clone()),
    })
}

/// The view of one who may not look, and whom no daemon tells.
fn unknown(mut own: InstanceView, daemon_lives: bool) -> InstanceView {
    let why = own.problem.take().unwrap_or_default();
    // The remedy in it is the daemon's.
    let why = why.split("; ").next().unwrap_or_default();
    let mend = if daemon_lives {
        "ask as root; the daemon's view is too old, see in its log what holds it up"
    } else {
        "ask as root, or start the daemon, whose view every user is shown"
    };
    let problem = Problem {
        why: format!("this user may not look: {why}"),
        mend: mend.into(),
    };
    own.state = State::Unknown;
    own.problem = Some(problem.sentence());
    own.details = Some(problem);
    own
}

/// An own view with what only the daemon can know: why its attempt failed, what it has seen
/// rewritten, and that the caller may read what it may not.
fn completed(mut own: InstanceView, told: &InstanceView, now: Timestamp) -> InstanceView {
    let blind = told.state == State::SourceInvalid && told.source.is_none();
    let leaf = |view: &InstanceView| view.source.as_ref().map(|it| it.fingerprint);
    if leaf(told) == leaf(&own) && told.state == own.state {
        own.problem.clone_from(&told.problem);
        own.details.clone_from(&told.details);
    } else if told.state == State::Contended && own.state == State::OutOfDate {
        return told.clone().as_of(now);
    } else if blind && own.source.is_some() {
        let told = told.problem.as_deref().unwrap_or_default();
        own.state = State::SourceInvalid;
        own.problem = Some(format!(
            "the daemon cannot use the lineage, although this user can: {told}"
        ));
        own.details = None;
    }
    own
}

/// The whole picture.
fn drawn(view: &StatusView, now: Timestamp) -> String {
    let mut out = header(view, now);
    out.push_str(&table(view, now));
    for instance in &view.instances {
        let nearing = Nearing::of(instance, now);
        if instance.problem.is_some() {
            out.push('\n');
            out.push_str(&explained(instance));
        }
        if let Some(nearing) = nearing {
            out.push_str(&ending(instance, &nearing));
        }
    }
    if view.instances.is_empty() {
        out.push_str("  no instance is configured; see the model config\n");
    }
    for directory in &view.uncovered {
        let line = format!(
            "{} belongs to a running PostgreSQL server that no instance covers.",
            directory.display()
        );
        let line = paint::hanging(&line);
        out.push_str(&format!("\n{} {line}", styled(ODD, "?")));
    }
    out
}

fn header(view: &StatusView, now: Timestamp) -> String {
    let host = host();
    let daemon = match &view.daemon {
        Some(daemon) => format!("daemon up {}", span(now.duration_since(daemon.since))),
        None => "daemon not running".to_owned(),
    };
    let count = |wanted: char| {
        let marks = view.instances.iter().map(|it| mark(it, now).1);
        marks.filter(|it| *it == wanted).count()
    };
    let (style, problems) = match (count('!'), count('?')) {
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
    format!(
        "{left}{}{gap}{}\n",
        styled(style, &problems),
        styled(FAINT, &checked)
    )
}

fn table(view: &StatusView, now: Timestamp) -> String {
    let widest = |title: &str, texts: &mut dyn Iterator<Item = usize>| {
        texts.max().unwrap_or(0).max(title.len())
    };
    let all = &view.instances;
    let name = widest("INSTANCE", &mut all.iter().map(|i| i.name.len()));
    let widest = widest("STATE", &mut all.iter().map(|i| i.state.as_str().len()));
    let mut out = format!(
        "  {:<name$}  {:<widest$}  {:<16}  {:<7}  LINEAGE\n",
        "INSTANCE", "STATE", "LEFT", "SERVED"
    );
    for instance in all {
        let shown = instance.served.as_ref().or(instance.installed.as_ref());
        let (style, mark) = mark(instance, now);
        let state = if instance.state.is_well() { GOOD } else { BAD };
        let served = instance
            .served
            .as_ref()
            .map_or_else(|| "-".to_owned(), |c| format!("{}…", c.fingerprint.short()));
        out.push_str(&format!(
            "{} {:<name$}  {}  {}  {served:<7}  {}\n",
            styled(style, &mark.to_string()),
            instance.name,
            styled(state, &format!("{:<widest$}", instance.state.as_str())),
            left(shown, now),
            instance.lineage,
        ));
    }
    out
}

/// How an instance is, in one sign.
fn mark(instance: &InstanceView, now: Timestamp) -> (Style, char) {
    let nearing = Nearing::of(instance, now);
    if !instance.is_well(now) {
        (BAD, '!')
    } else if nearing.is_some() {
        (ODD, '?')
    } else {
        (GOOD, ' ')
    }
}

/// Days and bar, 16 columns.
fn left(shown: Option<&CertificateView>, now: Timestamp) -> String {
    match shown {
        Some(shown) => paint::days_and_bar(shown.not_before, shown.not_after, now),
        None => format!("{:<16}", "-"),
    }
}

/// Which certificate of an instance is near its end, and what mends it. Where the lineage's own
/// is not, what was said of the state is the remedy.
fn ending(instance: &InstanceView, nearing: &Nearing<'_>) -> String {
    let Problem { why, mend } = nearing.problem();
    if nearing.place != Place::Source && instance.problem.is_some() {
        return labelled("left", &why);
    }
    let style = if nearing.is_urgent() { BAD } else { ODD };
    let mark = if nearing.is_urgent() { "!" } else { "?" };
    let name = &instance.name;
    let day = day(nearing.certificate.not_after);
    let line = match nearing.expiry {
        Expiry::Expired => format!("{name} has a certificate that expired on {day}."),
        _ => format!("{name} needs another certificate before {day}."),
    };
    let line = paint::hanging(&line);
    let (why, mend) = (labelled("why", &why), labelled("mend", &mend));
    format!("\n{} {line}{why}{mend}", styled(style, mark))
}

/// What is wrong with one instance, and what mends it.
fn explained(instance: &InstanceView) -> String {
    let mark = if instance.state.is_well() {
        styled(FAINT, "-")
    } else {
        styled(BAD, "!")
    };
    let mut out = String::new();
    for (number, line) in paint::wrapped(&headline(instance), WIDTH - 2)
        .iter()
        .enumerate()
    {
        let mark = if number == 0 { mark.as_str() } else { " " };
        out.push_str(&format!("{mark} {line}\n"));
    }
    match &instance.details {
        Some(details) => {
            out.push_str(&labelled("why", &details.why));
            if !details.mend.is_empty() {
                out.push_str(&labelled("mend", &details.mend));
            }
        }
        None => out.push_str(&labelled(
            "why",
            instance.problem.as_deref().unwrap_or_default(),
        )),
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
        return format!("{name} is not known.");
    }
    let now_served = match (served, installed) {
        (Some(served), _) => {
            format!(
                "{name} serves {} until {}",
                short(served),
                day(served.not_after)
            )
        }
        (None, Some(installed)) => format!(
            "{name} has {} installed, until {}",
            short(installed),
            day(installed.not_after)
        ),
        (None, None) => format!("{name} has no certificate installed that could be seen"),
    };
    match source {
        Some(source) if served.as_ref().or(installed.as_ref()) != Some(source) => {
            format!("{now_served}; its lineage holds {}.", short(source))
        }
        Some(_) => format!("{now_served}, as its lineage does."),
        None if instance.state == State::Unknown => {
            format!("{now_served}; its lineage may not be looked at by this user.")
        }
        None => format!("{now_served}; its lineage holds nothing usable."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Fingerprint;

    fn now() -> Timestamp {
        "2026-11-25T00:00:00Z".parse().expect("a time")
    }

    /// A certificate of 90 days with so many left.
    fn with_days(left: i64) -> Option<CertificateView> {
        let day = |count: i64| now() + SignedDuration::from_hours(24 * count);
        let (not_before, not_after) = (day(left - 90), day(left));
        Some(CertificateView {
            fingerprint: Fingerprint::of(&left.to_le_bytes()),
            not_before,
            not_after,
            names: Vec::new(),
            issuer: String::new(),
            serial: String::new(),
            expiry: Expiry::of(not_before, not_after, now()),
        })
    }

    /// One instance whose lineage has so many days, and what clients get so many.
    fn view(state: State, source: i64, served: i64) -> StatusView {
        let details = (state != State::InSync).then(|| Problem {
            why: "what is".into(),
            mend: "what to do".into(),
        });
        StatusView {
            version: VERSION,
            instances: vec![InstanceView {
                name: "16-main".into(),
                lineage: "pg.example.com".into(),
                state,
                problem: details.as_ref().map(Problem::sentence),
                details,
                source: with_days(source),
                installed: with_days(source),
                served: with_days(served),
            }],
            uncovered: Vec::new(),
            checked: now(),
            daemon: None,
        }
    }

    /// What is drawn, without colours, the first line cut to what it says of the whole.
    fn shown(view: &StatusView) -> (String, Vec<String>) {
        let text = anstream::adapter::strip_str(&drawn(view, now())).to_string();
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
    fn one_that_is_near_its_end_is_marked_and_explained_although_it_is_in_sync() {
        for (left, head, mark, well, first) in [
            (21, "all well", " ", true, None),
            (
                20,
                "1 warning",
                "?",
                true,
                Some("needs another certificate before 2026-12-15."),
            ),
            (
                6,
                "1 problem",
                "!",
                false,
                Some("needs another certificate before 2026-12-01."),
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
            assert!(lines[4].starts_with("  why   lineage pg.example.com is not renewed: "));
            assert!(
                lines
                    .iter()
                    .any(|it| it.starts_with("  mend  see why the ACME client"))
            );
            assert!(
                lines.iter().all(|it| it.chars().count() <= WIDTH),
                "{lines:#?}"
            );
        }
    }

    #[test]
    fn where_a_state_keeps_the_renewal_away_its_remedy_is_enough() {
        let (head, lines) = shown(&view(State::NotServed, 80, 9));
        assert_eq!(head, "1 problem");
        let mut last = lines.iter().rev();
        let left = last.next().expect("a line");
        assert!(
            left.starts_with("  left  the certificate that clients get, "),
            "{left}"
        );
        assert!(left.ends_with("expires in 9 days"), "{left}");
        assert_eq!(last.next().expect("a line"), "  mend  what to do");

        // A state that is well does not hide what cannot wait.
        let view = view(State::Waiting, 80, 6);
        assert_eq!(shown(&view).0, "1 problem");
        assert!(!view.is_well(now()));
    }
}
