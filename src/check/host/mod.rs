//! The checks of the host, whatever its instances.
//!
//! [`look`] collects, once, what more than one check needs; the checks themselves are in the other files by topic.

mod asked;
pub(super) mod clock;
mod cron;
mod facts;
pub(super) mod hooks;
pub(super) mod inotify;
pub(super) mod look;
pub(super) mod renewal;
pub(super) mod sandbox;
pub(super) mod service;
mod survey;
mod timers;
pub(super) mod uncovered;
