//! The tests in a whole Debian 12: systemd as process 1, journald, PostgreSQL under its own unit.
//!
//! Each test boots a machine of its own, as the user of a fresh server would find it, and does in it
//! what that user does. `machine` holds the machine; every other module is tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world has failed, and a panic says where"
)]

#[macro_use]
#[path = "../e2e/world/mod.rs"]
mod world;

mod acme;
mod boots;
mod clusters;
mod core;
mod drop_ins;
mod duty;
mod findings;
mod guide;
mod harness;
mod journey;
mod machine;
mod metrics;
mod notify;
mod package;
mod package_life;
mod pooler;
mod postgres;
mod probe;
mod readme;
mod rights;
mod sandbox;
mod server;
mod setup;
mod stand;
mod threads;
mod trixie;
