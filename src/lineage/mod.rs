//! Where bundles come from: the files of a lineage, what to watch, when a burst has settled.
//!
//! ```text
//! Watcher - Hint -> Settler - due -> read::read - Reading -> Settler - Settled -> the bundle's checks
//!    ^                                                  |
//!    +----------------- Trail.directories --------------+
//! ```
//!
//! * [`watch`] arms inotify on directories and turns what it says into [`Hint`]s. A hint may be lost, doubled or late.
//! * [`settle`] decides when a lineage is read, and whether what was read is a finished renewal. It does no I/O and has no clock.
//! * [`read`] reads the files of one lineage once, and tells by which links and directories they were found.
//!
//! The one who drives these does, for each lineage: on a hint, [`Settler::event`] (or [`Settler::unknown`] for
//! [`Hint::Rescan`] and [`Hint::Disarmed`]); when [`Settler::due`] has come, notes both clocks, calls [`read::read`],
//! hands the reading to [`Settler::read`], **then** [`Watcher::watch`] with the trails of all lineages, and calls
//! [`Settler::unknown`] for those that lead through a directory which was newly armed: what happened there before the
//! watch raised no event.
//!
//! * [`tracked`] drives the last two for one lineage, on a reader thread, and hands what was read to the bundle's checks.
//! * [`current`] is how whoever holds an instance's lock asks what the lineage holds by then, and for the private key.
//!
//! Nothing here knows instances or the configuration.

#[cfg(test)]
mod tests;

pub(crate) mod current;
pub(crate) mod read;
pub(crate) mod settle;
mod source;
pub(crate) mod survey;
pub(crate) mod tracked;
pub(crate) mod watch;

pub(crate) use current::LineageReader;
pub(crate) use read::{
    FileNames, Layout, Parts, ReadError, ReadErrorClass, Reading, Spec, Stamp, StampKind, Trail,
};
pub(crate) use settle::{Change, Fit, Settled, Settler};
pub(crate) use source::{Opened, Source};
pub(crate) use survey::Surveyed;
pub(crate) use tracked::Tracked;
pub(crate) use watch::{Hint, WatchError, WatchedDirectory, Watcher};
