//! ACME clients on this host: what will run them, and what they will run after a renewal.
//!
//! Clients are known by what they leave behind: certbot by `renewal/NAME.conf`, acme.sh by its `DOMAIN.conf`,
//! dehydrated and lego by where they keep certificates. An [`Area`] holds crontabs that renew, as [`Schedule`]s, and the
//! [`Hook`]s that a client keeps for later renewals; a [`Judge`] says whether a hook still does what pgcertd does now,
//! copies a lineage's files for a server or restarts it, and what takes it away.
//!
//! Files alone are read, below a [`Tree`], and each with a bound; nothing is run and nothing written. What may not be read
//! is told as [`Unread`]. What systemd has to say comes from elsewhere.

mod acme_sh;
mod area;
mod certbot;
mod client;
mod command;
mod contents;
mod crontab;
mod judge;
mod origin;
mod removal;
mod schedule;
mod service;
mod tree;

pub use area::Area;
pub(crate) use area::{areas, homes};
pub(crate) use client::Client;
pub use contents::Hook;
pub(crate) use contents::{AreaContents, HookPlace, Schedule};
pub use judge::Judge;
pub use judge::Scope;
pub use judge::Share;
pub(crate) use judge::{Deed, HookJudgement};
pub(crate) use origin::{ClientHome, origin};
pub use removal::Removal;
pub(crate) use removal::deletion;
pub use tree::Tree;
pub(crate) use tree::Unread;
