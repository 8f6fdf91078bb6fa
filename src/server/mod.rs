//! One server: its process, its files, how it is reloaded and what it serves.
//!
//! [`Instance`] is the handle that the rest of the program uses. It owns the instance's writer
//! thread, and hides which step runs where: files are touched on the writer thread with the
//! owner's rights, processes and sockets are looked at from the main thread.
//!
//! Nothing here decides what should be; that is for `reconcile` and `deploy`.

pub(crate) mod ciphers;
pub(crate) mod configuration;
mod deployment;
pub(crate) mod dry_start;
mod error;
pub(crate) mod files;
pub(crate) mod hba;
pub(crate) mod hosts;
mod identity;
pub(crate) mod included;
mod instance;
mod kinds;
mod lockout;
pub(crate) mod mounts;
pub(crate) mod patroni;
pub(crate) mod pgbouncer;
mod placement;
mod plain;
pub(crate) mod postmaster;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod reload;
pub(crate) mod running;
mod served;
pub(crate) mod setting_names;
pub(crate) mod settings;
mod snapshot;
pub(crate) mod sql;
mod unseen;

pub(crate) use error::InstanceError;
pub(crate) use instance::{Instance, Purpose};
pub(crate) use lockout::Lockout;
pub(crate) use snapshot::{InstanceSnapshot, Server};
pub(crate) use unseen::Unseen;
