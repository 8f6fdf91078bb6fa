//! What pgcertd says: the journal (or standard error), and the view that `status` shows.
//!
//! An [`Event`](event::Event) says one thing once. It goes to the journal with an id and fields when pgcertd
//! runs under systemd, and as a plain line to standard error otherwise. Nothing else in pgcertd
//! logs above `debug`. [`view`] turns what was seen of an instance into what is shown of it;
//! nothing in it is secret.
//!
//! * [`kind`] and [`field`] are the tables of what may be said, which `docs/journal.md` and
//!   `systemd/pgcertd.catalog` explain.
//! * [`told`] decides what is new about an instance; [`deployment`] words what was done to it;
//!   [`nearing`] says what is near its end.
//! * [`latch`] keeps what was last said of one thing, so that each change is said once.
//! * [`notices`] are what the daemon says of itself and of the host.
//! * [`headline`] is the line for systemd's status; [`log`] is where events go.
//! * [`metrics`] is what is measured, for Prometheus.

pub(crate) mod deployment;
pub(crate) mod event;
pub(crate) mod field;
pub(crate) mod headline;
pub(crate) mod kind;
pub(crate) mod latch;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod nearing;
pub(crate) mod notices;
pub(crate) mod told;
pub(crate) mod view;

#[cfg(test)]
mod tests;

pub(crate) use deployment::DeploymentReport;
pub use field::Field;
pub use kind::EventKind;
pub(crate) use latch::{Latch, News};
pub(crate) use told::Announcer;

/// The name of this host.
pub(crate) fn host() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}
