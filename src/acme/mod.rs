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
mod crontab;
mod judge;
mod removal;
mod schedule;
mod service;
mod tree;

pub use area::{Area, Found, Hook, Place, areas, homes};
pub use client::{Client, Origin, origin};
pub use judge::{Deed, Judge, Judgement, Scope, Share};
pub use removal::{Removal, deletion};
pub use schedule::Schedule;
pub use tree::{Tree, Unread};
