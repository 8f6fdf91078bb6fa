//! One set-up at a time.

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

use super::error::SetupError;
use crate::config::Config;

/// Keeps other set-ups with this config off, until it is dropped.
#[derive(Debug)]
pub(crate) struct SetupLock {
    _held: Flock<File>,
}

impl SetupLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another set-up has it.
    pub(crate) fn take(config: &Config) -> Result<SetupLock, SetupError> {
        let busy = || {
            let file = config.file.display();
            let what = format!("another `pgcertd setup` is at work on {file}");
            SetupError::new(what, "wait for it")
        };
        let file = File::open(&config.file).map_err(|_| busy())?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(SetupLock { _held: held }),
            Err(_) => Err(busy()),
        }
    }
}
