//! What any Linux program asks of its host: files that somebody else names, directories, processes, commands.
//!
//! Each way to the host is one function or one type here, so that what makes it safe (no links that another user may
//! bend, bounds on size and time, no privileges to gain) cannot be forgotten by the next caller. Nothing here knows
//! PostgreSQL, a certificate or the config.

pub(crate) mod caller;
pub(crate) mod command;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod look;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod patience;
pub(crate) mod privilege;
pub(crate) mod process;
pub(crate) mod slot;
mod trusted;
