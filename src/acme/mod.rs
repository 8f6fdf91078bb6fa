//! ACME clients on this host: what runs them, and what they run after a renewal.
//!
//! Clients are recognized by the files they leave: certbot by `renewal/NAME.conf`, acme.sh by its `DOMAIN.conf`, dehydrated
//! and lego by where they keep certificates. An [`Area`] has cron jobs that renew ([`Schedule`]), and the [`Hook`]s that a
//! client runs at later renewals. A [`Judge`] says whether a hook still does what pgcertd does now, such as copying a
//! lineage's files for a server or restarting it, and how to remove it.
//!
//! Only files are read, below a [`Tree`] and with a size limit; nothing is run or written. What cannot be read is reported as
//! [`Unread`]. Timers, which only systemd knows, come from elsewhere.

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
pub(crate) use judge::{Deed, HookJudgement};
pub use judge::{Judge, Scope, Share};
pub(crate) use origin::{ClientHome, origin};
pub use removal::Removal;
pub(crate) use removal::deletion;
pub use tree::Tree;
pub(crate) use tree::Unread;
