//! The set-up of one server: from what runs on this host and what lies in the watched directories to a
//! server that serves a lineage's certificate, and back.
//!
//! [`survey`] looks, [`proposal`] chooses (pure functions), [`plan`] says what exactly would change, as a list of
//! [`step`]s, and refuses what would not work. [`carry_out`] stores the list ([`record`]) and applies it; where a step
//! fails, those before it are undone. [`undo`] undoes all of it later, by what was stored.
//! [`require_tls`] knows how `pg_hba.conf` changes, [`service`] what the daemon's sandbox must allow.
//!
//! Everything is shown before it is done, and can be undone; the daemon has no part in it. It never touches
//! the shared pair of a distribution nor a file of a lineage, and never restarts a server. What a person reads
//! of it, and the question, are `cli`'s.

pub(crate) mod carry_out;
mod error;
mod lock;
pub(crate) mod managed;
pub(crate) mod plaintext;
pub(crate) mod plan;
pub(crate) mod proposal;
pub(crate) mod record;
pub(crate) mod require_tls;
mod scene;
mod server;
pub(crate) mod service;
pub(crate) mod step;
pub(crate) mod survey;
pub(crate) mod undo;

pub(crate) use error::SetupError;
pub(crate) use lock::SetupLock;
pub(crate) use scene::{SetupProgress, Site};
pub(crate) use server::SetupServer;
