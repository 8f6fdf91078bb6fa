//! `pgcertd run`: the daemon.

use std::path::Path;

use super::{Exit, Failure};
use crate::daemon::{self, DaemonError};

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
