//! What is so of the host, whatever its instances.
//!
//! [`look`] sees what more than one check needs, once; the checks are in the other files, by what they are about.

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
