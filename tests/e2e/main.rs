//! The end-to-end tests: given a cluster, a lineage and a fault, what a client then sees.
//!
//! They run the real `pgcertd` against a real PostgreSQL, with real ACME clients, and wait on
//! conditions, never on sleeps. `world` holds the builders; every other module is tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world has failed, and a panic says where"
)]

#[macro_use]
mod world;

mod attacks;
mod bad_source;
mod burst;
mod cases;
mod certbot;
mod check;
mod clients;
mod companions;
mod configs;
mod configuration;
mod containers;
mod counts;
mod crashes;
mod denied;
mod deploy;
mod deploy_hook;
mod disks;
mod expiry;
mod faults;
mod first_install;
mod harness;
mod hba;
mod hooks;
mod host;
mod journal;
mod layouts;
mod locked_out;
mod mends;
mod metrics;
mod modes;
mod namespaces;
mod neighbours;
mod notify;
mod packaged;
mod patroni;
mod pid_files;
mod probes;
mod quiet;
mod refusals;
mod reloads;
mod require_tls;
mod rollback;
mod servers;
mod sessions;
mod setup;
mod sql;
mod stage;
mod starting;
mod targets;
mod threads;
mod timing;
mod unseen;
mod upgraded;
mod writers;
