//! The end-to-end tests: given a cluster, a lineage and a fault, what a client then sees.
//!
//! They run the real `pgcertd` against a real PostgreSQL, with real ACME clients, and wait on
//! conditions, never on sleeps. `world` holds the builders; every other module is tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world has failed, and a panic says where"
)]

mod bad_source;
mod certbot;
mod crashes;
mod deploy;
mod faults;
mod formats;
mod harness;
mod stage;
mod world;
