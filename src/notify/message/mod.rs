//! What a notification says: JSON for a program, a line and a text for a person.
//!
//! The names in the JSON never change. Nothing in it is secret.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::ledger::{About, Batch, Lasting, NoticeSubject, StateChange};
use super::scene::NoticeScene;
use super::standing::StandingWord;
use crate::bundle::{Expiry, Piece, TrustFiles};
use crate::config::Occasion;
use crate::deploy::state::State;
use crate::problem::Problem;
use crate::report::host;
use crate::report::nearing::Nearing;
use crate::report::view::{CertificateView, CompanionPlaces, InstanceView, VERSION};
use crate::text::day;
use crate::text::{shown, wrapped};

/// How many changes the subject lists one by one.
const NAMED: usize = 3;

/// The width of the text.
const WIDTH: usize = 78;

/// The most characters that the subject may have.
const LONGEST_SUBJECT: usize = 400;

/// The most bytes that the text may have: the kernel accepts 128 KiB in one variable.
const LONGEST: usize = 64 * 1024;

/// The environment of the command, besides the JSON on its standard input.
pub(crate) const VARIABLES: [(&str, &str); 4] = [
    (
        "PGCERTD_SUBJECT",
        "One line for people, in ASCII, such as `pgcertd db7: 16-main not served`.",
    ),
    (
        "PGCERTD_TEXT",
        "A text for people: what is wrong, since when, why, and how to fix it.",
    ),
    (
        "PGCERTD_EVENT",
        "`failure`, `recovery`, `deployed`, `lasting` or `test`: the most serious of what is reported.",
    ),
    ("PGCERTD_HOST", "The name of this host."),
];

/// What kind of news it is; the most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoticeText {
    Failure,
    Recovery,
    /// A new certificate is served, or clients are checked against a new CA file.
    Deployed,
    /// A problem lasts.
    Lasting,
    Test,
}

impl NoticeText {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            NoticeText::Failure => "failure",
            NoticeText::Recovery => "recovery",
            NoticeText::Deployed => "deployed",
            NoticeText::Lasting => "lasting",
            NoticeText::Test => "test",
        }
    }
}

impl From<Occasion> for NoticeText {
    fn from(occasion: Occasion) -> NoticeText {
        match occasion {
            Occasion::Failure => NoticeText::Failure,
            Occasion::Recovery => NoticeText::Recovery,
            Occasion::Deployed => NoticeText::Deployed,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Notification {
    version: u32,
    /// The most serious of what is reported.
    pub(crate) event: NoticeText,
    pub(crate) host: String,
    pub(crate) time: Timestamp,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) changes: Vec<Item>,
    /// Other problems, which last.
    pub(crate) lasting: Vec<Item>,
}

/// One thing that is reported.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    event: NoticeText,
    about: About,
    /// The instance, or the data directory of a server without one.
    name: Option<String>,
    lineage: Option<String>,
    /// A state, or a level of expiry.
    state: String,
    old_state: Option<String>,
    /// When the problem was first seen.
    since: Option<Timestamp>,
    /// How often the problem has come within the last hour.
    times: usize,
    problem: Option<String>,
    mend: Option<String>,
    /// To run as root.
    command: Option<String>,
    changed: Vec<Piece>,
    expiry: Option<Expiry>,
    piece: Option<Piece>,
    place: Option<&'static str>,
    source: Option<CertificateView>,
    installed: Option<CertificateView>,
    served: Option<CertificateView>,
    #[serde(flatten)]
    trust_files: TrustFiles<CompanionPlaces>,
    /// The next expiry.
    #[serde(skip)]
    end: Option<Timestamp>,
    #[serde(skip)]
    headline: String,
}

impl Notification {
    /// Words a batch by what is seen now.
    pub(crate) fn for_batch(batch: &Batch, scene: &NoticeScene, now: Timestamp) -> Notification {
        let changes = batch
            .changes
            .iter()
            .map(|change| changed(change, scene, now));
        let lasting = batch
            .lasting
            .iter()
            .map(|lasting| lasts(lasting, scene, now));
        Notification::new(changes.collect(), lasting.collect(), now)
    }

    /// A test: it looks like a failure, but says that it isn't.
    pub(crate) fn test(now: Timestamp) -> Notification {
        let word = State::NotServed.as_str().to_owned();
        let item = Item {
            event: NoticeText::Test,
            about: About::Instance,
            name: Some("example".into()),
            lineage: Some("pg.example.com".into()),
            old_state: Some(State::InSync.as_str().to_owned()),
            since: Some(now),
            times: 1,
            problem: Some("this is a test; nothing is wrong".into()),
            mend: Some("no action needed".into()),
            headline: "a test of [notify]".into(),
            ..Item::bare(About::Instance, word)
        };
        Notification::new(vec![item], Vec::new(), now)
    }

    fn new(changes: Vec<Item>, lasting: Vec<Item>, now: Timestamp) -> Notification {
        let host = clean(&host());
        let event = changes.iter().map(|item| item.event).min();
        let subject = subject(&host, &changes, &lasting);
        let text = text(&host, &changes, &lasting);
        Notification {
            version: VERSION,
            event: event.unwrap_or(NoticeText::Lasting),
            host,
            time: now,
            subject,
            text,
            changes,
            lasting,
        }
    }

    /// The variables of [`VARIABLES`].
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let [subject, text, event, host] = VARIABLES.map(|(name, _)| name);
        vec![
            (subject, self.subject.clone()),
            (text, self.text.clone()),
            (event, self.event.as_str().to_owned()),
            (host, self.host.clone()),
        ]
    }
}

impl Item {
    fn bare(about: About, state: String) -> Item {
        Item {
            event: NoticeText::Lasting,
            about,
            name: None,
            lineage: None,
            state,
            old_state: None,
            since: None,
            times: 0,
            problem: None,
            mend: None,
            command: None,
            changed: Vec::new(),
            expiry: None,
            piece: None,
            place: None,
            source: None,
            installed: None,
            served: None,
            trust_files: TrustFiles::default(),
            end: None,
            headline: String::new(),
        }
    }

    /// What is known about a subject that stands like this.
    fn for_subject(
        subject: &NoticeSubject,
        word: String,
        scene: &NoticeScene,
        now: Timestamp,
    ) -> Item {
        let name = clean(&subject.name);
        let mut item = Item::bare(subject.about, word);
        item.name = (subject.about != About::Daemon).then_some(name);
        match subject.about {
            About::Daemon => item.explained(scene.daemon_problem().as_ref()),
            About::Uncovered => item.explained(Some(&uncovered(Path::new(&subject.name)))),
            About::Instance
            | About::Expiry
            | About::CaExpiry
            | About::CrlExpiry
            | About::Deployment => {
                if let Some(view) = scene.instance(&subject.name) {
                    item.look_at(view, now);
                }
            }
        }
        item
    }

    fn look_at(&mut self, view: &InstanceView, now: Timestamp) {
        let nearing = match self.about.piece() {
            Some(piece) => Nearing::of_piece(view, piece, now),
            None => Nearing::from_view(view, now),
        };
        self.lineage = Some(clean(&view.lineage));
        self.expiry = Some(nearing.map_or(Expiry::Fine, |nearing| nearing.expiry));
        self.piece = nearing.map(|nearing| nearing.piece).or(self.about.piece());
        self.place = nearing.map(|nearing| nearing.place.as_str());
        self.end = nearing.map(|nearing| nearing.end.not_after);
        let view = view.clone().seen_at(now);
        match (self.about, nearing, &view.details, &view.problem) {
            (about, Some(nearing), ..) if about.piece().is_some() => {
                self.explained(Some(&nearing.problem()))
            }
            (About::Instance, _, Some(details), _) => self.explained(Some(details)),
            (About::Instance, _, None, Some(problem)) => self.problem = Some(clean(problem)),
            _ => {}
        }
        if self.about == About::Deployment {
            self.about = About::Instance;
            self.state = view.state.as_str().to_owned();
        }
        (self.source, self.installed, self.served) = (view.source, view.installed, view.served);
        self.trust_files = view.trust_files;
    }

    fn explained(&mut self, problem: Option<&Problem>) {
        self.problem = problem.map(|problem| clean(&problem.what));
        self.mend = problem
            .map(|problem| clean(&problem.fix))
            .filter(|fix| !fix.is_empty());
        self.command = problem
            .and_then(|problem| problem.command.as_deref())
            .map(clean);
    }

    fn write(&self, out: &mut String) {
        out.push_str(&self.headline);
        out.push('\n');
        let words = |word: &str| word.replace('_', " ");
        let before = self.old_state.as_deref().map(words);
        let since = self.since.map(|since| {
            let often = match self.times {
                0 | 1 => String::new(),
                times => format!(", {times} times within the last hour"),
            };
            format!("{}{often}", since.strftime("%Y-%m-%d %H:%M UTC"))
        });
        let left = self.served.as_ref().map(|view| {
            let short = view.fingerprint.short();
            format!(
                "clients get {short}, which expires on {}",
                day(view.term().1)
            )
        });
        // A command stays on one line, so that it can be pasted.
        let lines = |text: String| wrapped(&text, WIDTH - 9);
        for (label, says) in [
            ("was", before.map(lines)),
            ("since", since.map(lines)),
            ("why", self.problem.clone().map(lines)),
            ("fix", self.mend.clone().map(lines)),
            ("run", self.command.clone().map(|command| vec![command])),
            ("left", left.map(lines)),
        ] {
            for (number, line) in says.iter().flatten().enumerate() {
                let label = if number == 0 { label } else { "" };
                out.push_str(&format!("  {label:<5}  {line}\n"));
            }
        }
        out.push('\n');
    }
}

fn changed(change: &StateChange, scene: &NoticeScene, now: Timestamp) -> Item {
    let mut item = Item::for_subject(&change.subject, change.new.word.to_string(), scene, now);
    item.event = change.occasion.into();
    item.since = change.since;
    item.times = change.times;
    let old = change.old.as_ref().map(|standing| &standing.word);
    match &change.new.word {
        StandingWord::Deployed(files) => item.changed = files.changed_since(old),
        StandingWord::Name(_) => item.old_state = old.map(StandingWord::to_string),
    }
    if change.occasion == Occasion::Recovery && change.subject.about != About::Instance {
        item.explained(None);
    }
    item.headline = headline(&item, &change.subject, change.new.well);
    item
}

fn lasts(lasting: &Lasting, scene: &NoticeScene, now: Timestamp) -> Item {
    let word = lasting.standing.word.to_string();
    let mut item = Item::for_subject(&lasting.subject, word, scene, now);
    item.since = lasting.since;
    item.headline = headline(&item, &lasting.subject, false);
    item
}

fn headline(item: &Item, subject: &NoticeSubject, well: bool) -> String {
    let name = item.name.as_deref().unwrap_or("pgcertd");
    let state = item.state.replace('_', " ");
    match (subject.about, well) {
        (About::Daemon, true) => "pgcertd is running again".to_owned(),
        (About::Daemon, false) => match item.state.as_str() {
            "stopped" => "pgcertd is not running".to_owned(),
            "stale" => "pgcertd hangs".to_owned(),
            _ => "pgcertd's view cannot be read".to_owned(),
        },
        (About::Instance, true) if item.state == State::InSync.as_str() => {
            format!("{name} in sync again")
        }
        (About::Instance, true) => format!("{name} recovered ({state})"),
        (About::Instance, false) => format!("{name} {state}"),
        (About::Deployment, _) => {
            let short = item.served.as_ref().map(|view| view.fingerprint.short());
            let serves = format!("{name} serves {}", short.unwrap_or(state));
            match item.changed.as_slice() {
                [Piece::Ca] => format!("{name} checks clients against a new CA file"),
                [Piece::Certificate, Piece::Ca] => format!("{serves}, with a new CA file"),
                _ => serves,
            }
        }
        (About::Expiry, true) => format!("{name} certificate no longer about to expire"),
        (About::CaExpiry, true) => format!("{name} CA no longer about to expire"),
        (About::CrlExpiry, true) => format!("{name} CRL no longer about to expire"),
        (About::Expiry | About::CaExpiry | About::CrlExpiry, false) => {
            let what = item.piece.unwrap_or(Piece::Certificate);
            let what = format!("{name} {} {what}", item.place.unwrap_or("source"));
            let end = item.end.map_or_else(|| "soon".to_owned(), day);
            match item.expiry {
                Some(Expiry::Expired) => format!("{what} expired {end}"),
                _ => format!("{what} expires {end}"),
            }
        }
        (About::Uncovered, true) => format!("{name} is covered now, or its server has stopped"),
        (About::Uncovered, false) => format!("{name} is not covered by any instance"),
    }
}

fn uncovered(directory: &Path) -> Problem {
    Problem::new(
        format!(
            "a PostgreSQL server is running in {}, and no instance covers it: nothing renews its certificate",
            directory.display()
        ),
        "add an [[instance]] for it to the config",
    )
    .with("systemctl reload pgcertd")
}

fn subject(host: &str, changes: &[Item], lasting: &[Item]) -> String {
    let (items, still) = match changes {
        [] => (lasting, "still: "),
        changes => (changes, ""),
    };
    let named: Vec<&str> = items
        .iter()
        .take(NAMED)
        .map(|item| item.headline.as_str())
        .collect();
    let more = match items.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    // It becomes the header of a mail.
    let ascii = |character: char| if character.is_ascii() { character } else { '?' };
    let subject = format!("pgcertd {host}: {still}{}{more}", named.join(", "));
    subject.chars().take(LONGEST_SUBJECT).map(ascii).collect()
}

fn text(host: &str, changes: &[Item], lasting: &[Item]) -> String {
    let mut text = String::new();
    for item in changes {
        item.write(&mut text);
    }
    if !lasting.is_empty() {
        text.push_str("Problems that last:\n\n");
    }
    for item in lasting {
        item.write(&mut text);
    }
    if text.len() > LONGEST {
        let starts = text.char_indices().map(|(at, _)| at);
        text.truncate(starts.take_while(|at| *at <= LONGEST).last().unwrap_or(0));
        text.push_str("…\n\n");
    }
    text.push_str(&format!("`pgcertd status` on {host} shows everything.\n"));
    text
}

/// Without anything that could end a line, a header or a variable.
fn clean(text: &str) -> String {
    shown(text).into_owned()
}

#[cfg(test)]
mod tests;
