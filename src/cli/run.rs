//! `pgcertd run`: the daemon.

use std::path::Path;

use super::manual::{Chapter, Manual};
use super::{Exit, Failure};
use crate::daemon::{self, DaemonError};

pub(super) const MANUAL: Manual = Manual {
    command: "run",
    description: &[
        "Keeps every instance of the config serving what its lineage holds. It stays in the foreground, and is made \
         to be started by systemd. Each instance is worked on alone: one that is down, broken or slow delays no \
         other.",
        "At start the files come first, with no server asked: what cannot load, has expired or is missing is \
         replaced, so that Postgres, which is ordered after it, starts. A sound pair waits until its server runs.",
        "What it sees is in `status.json` in the runtime directory, for those who may not look themselves. \
         What it measures, `[metrics]` of pgcertd.toml(5) gives to Prometheus.",
    ],
    exit: &[
        (Exit::Well, "ended by SIGTERM or SIGINT"),
        (
            Exit::Problem,
            "it cannot start, or a part of it ended unexpectedly",
        ),
        (Exit::Usage, "wrong usage or config"),
    ],
    chapters: signals,
    examples: &[
        (
            "systemctl enable --now pgcertd",
            "Starts it now and at every boot.",
        ),
        (
            "systemctl reload pgcertd",
            "Takes a new config, if it is right.",
        ),
        (
            "PGCERTD_LOG=debug pgcertd run --config ./pgcertd.toml",
            "In the foreground, with more to read.",
        ),
    ],
};

fn signals() -> Vec<Chapter> {
    let stops = format!(
        "end; deployments in hand are finished first, which takes {} s at most",
        daemon::FAREWELL.as_secs()
    );
    let ready = format!(
        "ready, when the files have been looked at, or after {} s; then how many instances are in which state, \
         and which certificate expires next",
        daemon::READY_WITHIN.as_secs()
    );
    vec![
        Chapter::new("Signals", "")
            .term("SIGTERM, SIGINT", stops)
            .term(
                "SIGHUP",
                "read the config again; a wrong one is not taken, the old one stays in force, and the log says why",
            ),
        Chapter::new("Systemd", "Where the service manager asks for it, it is told:")
            .term("READY, STATUS", ready)
            .term("RELOADING", "around SIGHUP")
            .term("STOPPING", "from SIGTERM on")
            .term("WATCHDOG", "by the event loop itself, so that a stuck one is restarted"),
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
