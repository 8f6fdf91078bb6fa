//! The set-up of one server: from what runs on this host and what lies in the watched directories to a
//! server that serves a lineage's certificate, and back.
//!
//! [`survey`] looks, [`proposal`] chooses (pure functions), [`plan`] says what exactly would change and refuses
//! what would not work, [`carry_out`] does it step by step and takes back what it did where a step fails,
//! [`undo`] takes all of it back later. What that needs is in [`record`], written before the first change.
//! [`require_tls`] is the part that concerns `pg_hba.conf`, [`host_line`] the one that concerns `pg_hosts.conf`, [`service`]
//! the part that lets the daemon keep it so.
//!
//! Everything is shown before it is done, and can be taken back; the daemon has no part in it. It never touches
//! the shared pair of a distribution nor a file of a lineage, and never restarts a server. What a person reads
//! of it, and the question, are `cli`'s.

pub(crate) mod carry_out;
mod error;
pub(crate) mod fragment;
pub(crate) mod host_line;
pub(crate) mod managed;
pub(crate) mod plaintext;
pub(crate) mod plan;
pub(crate) mod proposal;
pub(crate) mod record;
pub(crate) mod require_tls;
mod server;
pub(crate) mod service;
pub(crate) mod survey;
pub(crate) mod undo;

use std::fs::File;

use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
pub(crate) use error::SetupError;
pub(crate) use server::SetupServer;

/// What is told while something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SetupProgress {
    Done(String),
    /// A step failed, for this reason, and what was done is taken back.
    TakingBack(String),
    Left(String),
}

/// Keeps other set-ups with this config off, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alone {
    _held: Flock<File>,
}

impl Alone {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another set-up has it.
    pub(crate) fn with(config: &Config) -> Result<Alone, SetupError> {
        let busy = || SetupError::Busy(config.file.clone());
        let file = File::open(&config.file).map_err(|_| busy())?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Alone { _held: held }),
            Err(_) => Err(busy()),
        }
    }
}
