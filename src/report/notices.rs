//! What the daemon says of itself and of the host: the events that no instance is the owner of.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;

use super::event::Event;
use super::field::Field;
use super::kind::EventKind;
use super::latch::{Latch, News};
use crate::config::{self, Listen};
use crate::problem::Problem;

fn instances(count: usize) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}

/// The daemon begins with the config `file`.
pub(crate) fn started(count: usize, file: &Path) {
    Event::new(
        EventKind::Started,
        format!(
            "pgcertd {} keeps {} of {}",
            env!("CARGO_PKG_VERSION"),
            instances(count),
            file.display()
        ),
    )
    .with(Field::File, file.display())
    .emit();
}

/// An instance whose files were not looked at within `seconds` of the start.
pub(crate) fn files_unseen(instance: &config::InstanceConfig, seconds: u64) {
    let name = &instance.name;
    let problem = format!("its files could not be read within {seconds} s; started without it");
    let remedy = "see that the file systems of its lineage and its data directory answer";
    Event::new(
        EventKind::FilesUnseen,
        format!("{name}: {problem}, {remedy}"),
    )
    .with(Field::Instance, name)
    .with(Field::Lineage, &instance.lineage.name)
    .with(Field::Problem, problem)
    .with(Field::Remedy, remedy)
    .emit();
}

/// A changed config is in force.
pub(crate) fn config_taken(count: usize, file: &Path) {
    Event::new(
        EventKind::ConfigTaken,
        format!(
            "{}: reloaded; pgcertd now keeps {}",
            file.display(),
            instances(count)
        ),
    )
    .with(Field::File, file.display())
    .emit();
}

/// A changed config is wrong.
pub(crate) fn config_refused(file: &Path, problem: &str) {
    Event::new(
        EventKind::ConfigRefused,
        format!("the new config has an error, so the old one stays in force: {problem}"),
    )
    .with(Field::File, file.display())
    .with(Field::Problem, problem)
    .emit();
}

/// A command ends without a result; `kind` is one of those for that.
pub(crate) fn ended(kind: EventKind, config: &Path, problem: &str) {
    let event = Event::new(kind, problem).with(Field::Problem, problem);
    let of_config = kind.always().contains(&Field::File);
    event
        .with_some(Field::File, of_config.then(|| config.display()))
        .emit();
}

/// A panic, which ends the process.
pub(crate) fn fault(panic: &dyn Display) {
    Event::new(
        EventKind::Fault,
        format!("internal error; exiting: {panic}"),
    )
    .with(Field::Problem, panic)
    .emit();
}

/// Steps in hand did not end within `seconds`.
pub(crate) fn left_at_stop(tasks: usize, seconds: u64) {
    Event::new(
        EventKind::LeftAtStop,
        format!(
            "{tasks} tasks did not finish within {seconds} s and were abandoned; they are rechecked at the next start"
        ),
    )
    .emit();
}

/// The kernel's queue of file events overflowed.
pub(crate) fn events_overflowed() {
    Event::new(
        EventKind::EventsOverflowed,
        "the kernel's queue of file events overflowed; comparing everything",
    )
    .emit();
}

/// File events could not be received.
pub(crate) fn events_failed(problem: &dyn Display) {
    Event::new(
        EventKind::EventsFailed,
        format!("{problem}; comparing everything"),
    )
    .with(Field::Problem, problem)
    .emit();
}

/// A directory cannot be watched.
pub(crate) fn not_watched(directory: Option<&Path>, problem: &str) {
    Event::new(
        EventKind::NotWatched,
        format!("{problem}; until then changes there are only found at every `poll` and `resync`"),
    )
    .with_some(Field::File, directory.map(Path::display))
    .with(Field::Problem, problem)
    .emit();
}

/// A directory that could not be watched is, or need not be.
pub(crate) fn watched_again(directory: Option<&Path>) {
    let what = directory.map_or_else(
        || "file events".to_owned(),
        |directory| directory.display().to_string(),
    );
    Event::new(
        EventKind::WatchedAgain,
        format!("{what}: being watched again"),
    )
    .with_some(Field::File, directory.map(Path::display))
    .emit();
}

/// Which servers of this host no instance covers, now and when it was last looked.
pub(crate) fn uncovered(before: &[PathBuf], now: &[PathBuf]) {
    for directory in now.iter().filter(|path| !before.contains(path)) {
        let directory = directory.display();
        Event::new(
            EventKind::Uncovered,
            format!(
                "{directory}: a PostgreSQL server runs here that no instance covers; add an [[instance]] for it"
            ),
        )
        .with(Field::File, directory)
        .emit();
    }
    for directory in before.iter().filter(|file| !now.contains(file)) {
        let directory = directory.display();
        Event::new(
            EventKind::NoLongerUncovered,
            format!("{directory}: the PostgreSQL server that no instance covered has stopped"),
        )
        .with(Field::File, directory)
        .emit();
    }
}

/// Whether the processes of this host can be looked at.
pub(crate) fn servers_unseen(news: Option<News<'_, String>>) {
    match news {
        None => {}
        Some(News::Trouble(problem)) => {
            let says = "a PostgreSQL server that no instance covers may go unnoticed";
            Event::new(EventKind::ServersUnseen, format!("{says}: {problem}"))
                .with(Field::Problem, problem)
                .emit();
        }
        Some(News::Over(_)) => {
            let says = "the processes of this host can be looked at again";
            Event::new(EventKind::ServersSeen, says).emit();
        }
    }
}

/// `pgcertd notify` follows the daemon of the config `file`, and tells by `program`, if by any.
pub(crate) fn notifier_started(file: &Path, program: Option<&str>) {
    let file = file.display();
    let message = match program {
        Some(program) => {
            format!("following the daemon of {file}; notifications go through {program}")
        }
        None => format!(
            "nobody is notified: [notify] in {file} has no command; set one and restart pgcertd-notify"
        ),
    };
    Event::new(EventKind::NotifierStarted, message)
        .with(Field::File, file)
        .emit();
}

/// A notification was delivered by `program`.
pub(crate) fn notification_sent(program: &str, subject: &str, took: Duration) {
    Event::new(
        EventKind::NotificationSent,
        format!("sent through {program}: {subject}"),
    )
    .with(Field::File, program)
    .with(Field::Milliseconds, took.as_millis())
    .emit();
}

/// A notification was not delivered by `program`; tried again after `pause`.
pub(crate) fn notification_failed(
    program: &str,
    subject: &str,
    problem: &dyn Display,
    took: Duration,
    pause: Duration,
) {
    let remedy = "try it: runuser -u pgcertd-notify -- pgcertd notify --test";
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    Event::new(
        EventKind::NotificationFailed,
        format!("not delivered: {subject}: {problem}; next try in {pause:#}; {remedy}"),
    )
    .with(Field::File, program)
    .with(Field::Problem, problem)
    .with(Field::Remedy, remedy)
    .with(Field::Milliseconds, took.as_millis())
    .emit();
}

/// What was sent cannot be recorded.
pub(crate) fn notifications_not_kept(file: &Path, problem: &str) {
    let shown = file.display();
    Event::new(
        EventKind::NotificationsNotKept,
        format!(
            "{shown}: what was sent cannot be recorded: {problem}; create the directory for pgcertd-notify, or set state_directory in [notify]"
        ),
    )
    .with(Field::File, shown)
    .with(Field::Problem, problem)
    .emit();
}

/// The record of what was sent cannot be read.
pub(crate) fn notifications_forgotten(file: &Path, problem: &str) {
    let shown = file.display();
    Event::new(
        EventKind::NotificationsForgotten,
        format!("{shown}: not readable: {problem}; open problems are sent again"),
    )
    .with(Field::File, shown)
    .with(Field::Problem, problem)
    .emit();
}

/// Whether the view for `status` could be written in `directory`.
pub(crate) fn status_file(
    latch: &mut Latch<String>,
    directory: &Path,
    result: std::io::Result<()>,
) {
    let shown = directory.display();
    let event = match latch.set(result.err().map(|error| error.to_string())) {
        None => return,
        Some(News::Trouble(error)) => Event::new(
            EventKind::StatusNotWritten,
            format!(
                "{shown}: the view for `status` cannot be written: {error}; create the directory for pgcertd's user, or set runtime_directory"
            ),
        )
        .with(Field::Problem, error),
        Some(News::Over(_)) => Event::new(
            EventKind::StatusWritten,
            format!("{shown}: the view for `status` is written again"),
        ),
    };
    event.with(Field::File, shown).emit();
}

/// Whether scrapes are answered at `place`, or because of a problem `still` at another one.
pub(crate) fn listening(
    latch: &mut Latch<(Listen, Problem)>,
    place: &Listen,
    problem: Option<Problem>,
    still: Option<&Listen>,
) {
    let event = match latch.set(problem.map(|problem| (place.clone(), problem))) {
        None => return,
        Some(News::Trouble((_, problem))) => {
            let still = still.map_or_else(
                || "retrying at every `resync`".to_owned(),
                |still| format!("they stay at {still}; retrying at every `resync`"),
            );
            Event::new(
                EventKind::MetricsNotServed,
                format!("the metrics cannot be served: {problem}; {still}"),
            )
            .with(Field::Problem, &problem.what)
            .with(Field::Remedy, problem.remedy())
        }
        Some(News::Over(_)) => Event::new(
            EventKind::MetricsServed,
            format!("{place}: the metrics are served there now"),
        ),
    };
    let file = match place {
        Listen::Unix(path) => Some(path.display()),
        Listen::Tcp(_) => None,
    };
    event.with_some(Field::File, file).emit();
}

/// Whether the file for node_exporter could be written.
pub(crate) fn textfile_written(
    latch: &mut Latch<(PathBuf, Problem)>,
    path: &Path,
    result: Result<(), Problem>,
) {
    match latch.set(result.err().map(|problem| (path.to_owned(), problem))) {
        None => {}
        Some(News::Trouble((_, problem))) => {
            unwritten(path, "the metrics cannot be written", problem);
        }
        Some(News::Over(_)) => {
            let shown = path.display();
            let message = format!("{shown}: the metrics are written there now");
            Event::new(EventKind::MetricsWritten, message)
                .with(Field::File, shown)
                .emit();
        }
    }
}

/// An earlier file for node_exporter could not be removed.
pub(crate) fn textfile_left(path: &Path, problem: &Problem) {
    let what = "the previous metrics file cannot be removed, and node_exporter keeps reading it";
    unwritten(path, what, problem);
}

fn unwritten(path: &Path, what: &str, problem: &Problem) {
    Event::new(EventKind::MetricsNotWritten, format!("{what}: {problem}"))
        .with(Field::File, path.display())
        .with(Field::Problem, &problem.what)
        .with(Field::Remedy, problem.remedy())
        .emit();
}
