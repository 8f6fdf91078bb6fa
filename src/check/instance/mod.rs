//! The checks of one instance: everything between its lineage and its clients.
//!
//! [`look`] collects, once, what more than one check needs; the checks themselves are in the other files by topic.

pub(super) mod client_ca;
mod edits;
pub(super) mod files;
pub(super) mod labels;
mod listeners;
pub(super) mod look;
mod owners;
pub(super) mod plaintext;
pub(super) mod restart;
pub(super) mod served;
pub(super) mod server;
pub(super) mod source;
pub(super) mod version;
mod words;
