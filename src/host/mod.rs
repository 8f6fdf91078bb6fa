//! What any Linux program asks of its host: files that somebody else names, directories, processes, commands.
//!
//! Each way to the host is one function or one type here, so that what makes it safe (no links that another user may
//! bend, bounds on size and time, no privileges to gain) cannot be forgotten by the next caller. Nothing here knows
//! PostgreSQL, a certificate or the config.

pub mod caller;
pub(crate) mod command;
pub mod directory;
pub mod file;
pub mod look;
pub mod process;
mod trusted;
