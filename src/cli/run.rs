//! `pgcertd run`: the daemon.

use std::path::Path;

use super::exit::{Exit, Failure};
use super::manual::{Chapter, Manual};
use crate::daemon::{self, DaemonError};

pub(super) const MANUAL: Manual = Manual {
    command: "run",
    description: &[
        "Keeps every instance in the config serving what its lineage holds. It runs in the foreground, to be started by \
         systemd. Instances are independent: one that is down, broken or slow doesn't delay the others.",
        "At startup it looks at the files first, without asking any server: whatever can't load, has expired or is \
         missing is replaced, so that Postgres, which is ordered after it, starts. If the installed files are sound, a \
         newer certificate waits until the server is up.",
        "It writes what it sees to `status.json` in the runtime directory, for users who aren't allowed to look for \
         themselves. For Prometheus, see `[metrics]` in pgcertd.toml(5).",
    ],
    exit: &[
        (Exit::Well, "stopped by SIGTERM or SIGINT"),
        (
            Exit::Problem,
            "it could not start, or a part of it ended unexpectedly",
        ),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: signals,
    examples: &[
        (
            "systemctl enable --now pgcertd",
            "Start it now and at every boot.",
        ),
        (
            "systemctl reload pgcertd",
            "Load a new config, if it is valid.",
        ),
        (
            "PGCERTD_LOG=debug pgcertd run --config ./pgcertd.toml",
            "In the foreground, with more output.",
        ),
    ],
};

fn signals() -> Vec<Chapter> {
    let stops = format!(
        "stop, after finishing the deployments under way, for at most {} s",
        daemon::FAREWELL.as_secs()
    );
    let ready = format!(
        "ready once the files have been checked, or after {} s; after that, how many instances are in which state, and \
         which certificate expires next",
        daemon::READY_WITHIN.as_secs()
    );
    vec![
        Chapter::new("Signals", "")
            .term("SIGTERM, SIGINT", stops)
            .term(
                "SIGHUP",
                "reload the config; if it is invalid, the old one stays in force, and the log says why",
            ),
        Chapter::new("Systemd", "Sent to the service manager if it asks for it:")
            .term("READY, STATUS", ready)
            .term("RELOADING", "during a SIGHUP")
            .term("STOPPING", "after SIGTERM")
            .term("WATCHDOG", "by the event loop itself, so that a hung one is restarted"),
    ]
}

pub(super) async fn run(config: &Path) -> Result<Exit, Failure> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    std::panic::set_hook(Box::new(|panic| {
        // The process ends right after this: a half-alive daemon would be silent.
        crate::report::notices::fault(panic);
    }));
    match daemon::run(config).await {
        Ok(()) => Ok(Exit::Well),
        Err(DaemonError::Config(error)) => Err(error.into()),
        Err(error) => Err(Failure::problem(&error)),
    }
}
