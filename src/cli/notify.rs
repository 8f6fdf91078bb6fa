//! `pgcertd notify`: tells people.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use super::manual::{Chapter, Manual};
use super::page::Page;
use super::{Exit, Failure, load, print, print_json};
use crate::notify::message::VARIABLES;
use crate::notify::{self, NotifyError, command, delivery, follow, scene, trial};
use crate::report::view::VERSION;

pub(super) const MANUAL: Manual = Manual {
    command: "notify",
    description: &[
        "Follows what the daemon sees, and runs the `command` of `[notify]` when an instance or a certificate is not \
         well, when that is over, and, if asked, when a new certificate is served. It tells as well that the daemon has \
         stopped or hangs, and of a server that no instance covers. It is for hosts that nobody watches by metrics.",
        "It stays in the foreground, and is made to be started by systemd, as pgcertd-notify.service, with a user of \
         its own. It needs no right but to read the config and the daemon's `status.json`. Without a `command` it ends \
         at once.",
        "What changes together is told together, in one run of the command. What was told is remembered, so that a \
         restart neither repeats nor loses it. An instance that has left the config is forgotten.",
        "What comes and goes is told of soon and then seldom: a trouble that comes for the fourth time within an hour is \
         told at once, and nothing is told of more than six times within an hour.",
    ],
    exit: &[
        (
            Exit::Well,
            "ended by SIGTERM or SIGINT, or there is no `command`; with `--test`, the command took it",
        ),
        (
            Exit::Problem,
            "it cannot start, or a part of it ended; with `--test`, the command failed",
        ),
        (
            Exit::Usage,
            "wrong usage or config; with `--test`, no `command`",
        ),
    ],
    chapters,
    examples: &[
        (
            "runuser -u pgcertd-notify -- pgcertd notify --test",
            "Does it arrive?",
        ),
        (
            "systemctl enable --now pgcertd-notify",
            "Tells from now on, and after every boot.",
        ),
        (
            "journalctl -t pgcertd PGCERTD_EVENT=notification_failed",
            "What could not be delivered, and why.",
        ),
    ],
};

fn chapters() -> Vec<Chapter> {
    let gets = Chapter::new(
        "The command",
        "No shell reads it. In its environment is what a person reads:",
    );
    let gets = VARIABLES
        .iter()
        .fold(gets, |chapter, (name, says)| chapter.term(*name, *says));
    let json = Chapter::new("JSON", "On its standard input is one document:")
        .term("version", "1")
        .term("event, host, subject, text", "as in the environment")
        .term("time", "when it was made")
        .term("changes", "what is new, a list of items")
        .term(
            "lasting",
            "what is not well beside that, and was told before: a list of items",
        );
    let item = Chapter::new("Items", "")
        .term("event", "`failure`, `recovery`, `deployed`, `lasting` or `test`")
        .term("about", "`instance`, `expiry`, `ca_expiry`, `crl_expiry`, `daemon` or `uncovered`")
        .term(
            "name, lineage",
            "of the instance; without one, the data directory of the server that no instance covers",
        )
        .term(
            "state, old_state",
            "now, and when it was last told: of an instance as in `status`; of an expiry `fine`, `warning`, \
             `critical` or `expired`; of the daemon `running`, `stopped`, `stale` or `unreadable`; of a server \
             `uncovered` or `covered`",
        )
        .term("since, times", "when the trouble was first seen, and how often within the last hour")
        .term("problem, mend, command", "what is wrong, what mends it in words, and what to type; null where there is nothing to say, or `problem` says it")
        .term(
            "changed",
            "what a deployment brought: of `certificate` and `ca` (the CAs of clients) those that are new. A new CRL alone \
             is not told",
        )
        .term(
            "expiry, piece, place",
            "how near to its end the nearest is, which that is, `certificate`, `ca` or `crl`, and where: `source`, \
             `installed` or `served`",
        )
        .term("source, installed, served, ca, crl", "the certificates and the files beside them, as in `status`");
    let delivery = format!(
        "It is delivered when the command ends with status 0. Otherwise the exit status and the end of its standard \
         error are logged, and it is tried again after {} s, then after twice as long each time, up to {} minutes; \
         what is told then is what is so then. After `timeout` its process group gets SIGTERM, and {} s later \
         SIGKILL. What it leaves running when it ends by itself is left alone, as a mail program that delivers in \
         the background.",
        notify::FIRST_PAUSE.as_secs(),
        notify::LONGEST_PAUSE.as_secs() / 60,
        command::GRACE.as_secs()
    );
    let daemon = format!(
        "The daemon has stopped when its process is gone, or `status.json`, which goes with the service. It hangs when it \
         has not written that file for {} times `resync`. Beside the events of the file, both are looked at every {} s.",
        scene::MISSED,
        follow::PAUSE.as_secs()
    );
    vec![
        gets,
        json,
        item,
        Chapter::new("Delivery", delivery),
        Chapter::new("The daemon", daemon),
        Chapter::new("Signals", "")
            .term(
                "SIGTERM, SIGINT",
                format!(
                    "end; a command in hand has {} s, and is made again at the next start if it did not end",
                    notify::FAREWELL.as_secs()
                ),
            )
            .term(
                "SIGHUP",
                "read the config again; a wrong one is not taken, the old one stays in force",
            ),
    ]
}

#[derive(Debug, Args)]
pub(super) struct NotifyArguments {
    /// Run the command once with a notification that says it is a test, and tell how it went.
    #[arg(long)]
    test: bool,
}

impl NotifyArguments {
    /// Whether it goes on until it is told to end.
    pub(super) fn stays(&self) -> bool {
        !self.test
    }
}

pub(super) async fn notify(
    config: &Path,
    wanted: &NotifyArguments,
    json: bool,
) -> Result<Exit, Failure> {
    if wanted.test {
        return test(config, json).await;
    }
    std::panic::set_hook(Box::new(|panic| {
        // The process ends right after this.
        crate::report::notices::fault(panic);
    }));
    match notify::run(config).await {
        Ok(()) => Ok(Exit::Well),
        Err(NotifyError::Config(error)) => Err(error.into()),
        Err(error) => Err(Failure::problem(&error)),
    }
}

/// How a trial went.
#[derive(Serialize)]
struct TrialMessage<'a> {
    version: u32,
    command: &'a [String],
    delivered: bool,
    problem: Option<String>,
    seconds: f64,
}

async fn test(file: &Path, json: bool) -> Result<Exit, Failure> {
    let config = load(file)?;
    let notification = trial();
    let made = delivery(&config.notify, &notification).map_err(|e| Failure::problem(&e))?;
    let Some(delivery) = made else {
        return Err(Failure::usage(&format!(
            "nobody is told: there is no command in [notify] of {}; write one, such as command = [\"/usr/lib/pgcertd/notify-mail\", \"root\"]",
            config.file.display()
        )));
    };
    let words = delivery.words.clone();
    // Nothing ends it early.
    let (_stop, stopped) = oneshot::channel();
    let begun = Instant::now();
    let problem = delivery.run(stopped).await.err().map(|e| e.to_string());
    let trial = TrialMessage {
        version: VERSION,
        command: &words,
        delivered: problem.is_none(),
        problem,
        seconds: begun.elapsed().as_secs_f64(),
    };
    if json {
        print_json(&trial)?
    } else {
        print(&trial.drawn(&notification.subject))?
    }
    Ok(if trial.delivered {
        Exit::Well
    } else {
        Exit::Problem
    })
}

impl TrialMessage<'_> {
    fn drawn(&self, subject: &str) -> Page {
        let program = self.command.first().map_or("", String::as_str);
        let mut out = Page::default();
        match &self.problem {
            None => out
                .line(format_args!(
                    "{program} took it, {:.1} s: {subject}",
                    self.seconds
                ))
                .line("See that it arrives."),
            Some(problem) => out.line(format_args!("not delivered: {problem}")),
        };
        if rustix::process::geteuid().is_root() {
            out.line("The service is no root: runuser -u pgcertd-notify -- pgcertd notify --test");
        }
        out
    }
}
