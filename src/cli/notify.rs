//! `pgcertd notify`: notifies people.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use super::exit::{Exit, Failure, load, print, print_json};
use super::manual::{Chapter, Manual};
use super::page::Page;
use crate::notify::message::VARIABLES;
use crate::notify::{self, NotifyError, command, delivery, follow, scene, trial};
use crate::report::view::VERSION;

pub(super) const MANUAL: Manual = Manual {
    command: "notify",
    description: &[
        "Follows what the daemon sees, and runs the `command` in `[notify]` when there is a problem with an instance or \
         a certificate, when that is over, and, if you want, when a new certificate is served. It also reports a daemon \
         that has stopped or hangs, and a server that no instance covers. It is for hosts without metrics monitoring.",
        "It runs in the foreground, to be started by systemd as pgcertd-notify.service, under its own user. All it \
         needs is to read the config and the daemon's `status.json`. Without a `command` it exits at once.",
        "Changes that happen together are reported together, in one run of the command. What was reported is \
         remembered, so a restart neither repeats nor loses it. An instance that is removed from the config is forgotten.",
        "A problem that comes and goes is reported early and then rarely: when it comes for the fourth time within an \
         hour, it is reported at once, and nothing is reported more than six times an hour.",
    ],
    exit: &[
        (
            Exit::Well,
            "stopped by SIGTERM or SIGINT, or there is no `command`; with `--test`, the command succeeded",
        ),
        (
            Exit::Problem,
            "it could not start, or a part of it ended; with `--test`, the command failed",
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
            "Start it now and at every boot.",
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
        "It runs without a shell. Its environment has the text for people:",
    );
    let gets = VARIABLES
        .iter()
        .fold(gets, |chapter, (name, says)| chapter.term(*name, *says));
    let json = Chapter::new("JSON", "Its standard input is one document:")
        .term("version", "1")
        .term("event, host, subject, text", "as in the environment")
        .term("time", "when it was written")
        .term("changes", "what is new: a list of items")
        .term(
            "lasting",
            "other problems, which were reported before and last: a list of items",
        );
    let item = Chapter::new("Items", "")
        .term("event", "`failure`, `recovery`, `deployed`, `lasting` or `test`")
        .term("about", "`instance`, `expiry`, `ca_expiry`, `crl_expiry`, `daemon` or `uncovered`")
        .term(
            "name, lineage",
            "of the instance; for a server that no instance covers, `name` is its data directory",
        )
        .term(
            "state, old_state",
            "now, and when last reported: for an instance as in `status`; for an expiry `fine`, `warning`, \
             `critical` or `expired`; for the daemon `running`, `stopped`, `stale` or `unreadable`; for a server \
             `uncovered` or `covered`",
        )
        .term("since, times", "when the problem was first seen, and how often it came within the last hour")
        .term("problem, mend, command", "what is wrong, how to fix it in words, and the command to run; null if there is none, or if `problem` includes it")
        .term(
            "changed",
            "what a deployment changed: `certificate`, `ca` (the CAs of clients), or both. A new CRL alone is not reported",
        )
        .term(
            "expiry, piece, place",
            "how close the next expiry is, of which piece (`certificate`, `ca` or `crl`), and where: `source`, `installed` \
             or `served`",
        )
        .term("source, installed, served, ca, crl", "the certificates, CA files and CRL files, as in `status`");
    let delivery = format!(
        "A notification is delivered when the command exits with status 0. Otherwise the exit status and the end of its \
         standard error are logged, and pgcertd retries after {} s, then after twice as long each time, up to {} minutes; \
         a retry reports the situation at that time. After `timeout` the command's process group gets SIGTERM, and \
         SIGKILL {} s later. What it leaves running when it exits by itself is left alone, such as a mail program that \
         delivers in the background.",
        notify::FIRST_PAUSE.as_secs(),
        notify::LONGEST_PAUSE.as_secs() / 60,
        command::GRACE.as_secs()
    );
    let daemon = format!(
        "The daemon counts as stopped if its process is gone, or `status.json`, which is removed with the service. It \
         counts as hung if it hasn't written that file for {} times `resync`. Both are checked when the file changes, and \
         every {} s.",
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
                    "stop; a running command gets {} s, and is run again at the next start if it didn't finish",
                    notify::FAREWELL.as_secs()
                ),
            )
            .term(
                "SIGHUP",
                "reload the config; if it is invalid, the old one stays in force",
            ),
    ]
}

#[derive(Debug, Args)]
pub(super) struct NotifyArguments {
    /// Run the command once with a test notification, and say how it went.
    #[arg(long)]
    test: bool,
}

impl NotifyArguments {
    /// Whether it runs until it is stopped.
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
            "nobody is notified: [notify] in {} has no command; set one, such as command = [\"/usr/lib/pgcertd/notify-mail\", \"root\"]",
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
                    "{program} succeeded after {:.1} s: {subject}",
                    self.seconds
                ))
                .line("Check that it arrived."),
            Some(problem) => out.line(format_args!("not delivered: {problem}")),
        };
        if rustix::process::geteuid().is_root() {
            out.line("As the service's user: runuser -u pgcertd-notify -- pgcertd notify --test");
        }
        out
    }
}
