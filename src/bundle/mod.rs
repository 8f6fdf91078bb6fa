//! PEM and X.509: parse, check, compare.
//!
//! A [`Bundle`] that exists is one that Postgres can load: its key fits its leaf, its chain is in
//! order, each signature is good, and nothing in it is below what OpenSSL accepts at its default
//! security level. Whether it should be installed now, on this instance, is for
//! [`Bundle::check`] to say.
//!
//! A bundle knows which key belongs to it, and does not hold it: it can be compared and kept for
//! months. The key itself is in a [`KeyedBundle`], which lives as long as it takes to write it.
//!
//! No file is opened here; the bytes that come in are the bytes that were checked, and what goes
//! out is encoded anew from them. No error and no `Debug` shows what a file holds.

mod certificate;
mod chain;
mod client_trust;
mod ends;
mod error;
mod expiry;
mod facts;
mod fingerprint;
mod key;
mod keyed;
mod keyless;
mod names;
mod pem;
mod piece;
mod set_right;
mod signature;
#[cfg(test)]
mod tests;

pub(crate) use certificate::Certificate;
pub(crate) use chain::leaf_of;
pub(crate) use client_trust::ClientTrust;
pub(crate) use error::{BundleError, LinkError, MAX_CERTIFICATES, Refusal};
pub(crate) use expiry::{Expiry, Thresholds};
pub(crate) use facts::Authority;
pub use fingerprint::Fingerprint;
pub use keyed::KeyedBundle;
pub(crate) use keyless::{Bundle, Identity};
pub(crate) use names::Ground;
pub use piece::Piece;
pub(crate) use piece::{Pieces, TrustFiles};
