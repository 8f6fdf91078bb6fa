//! `pgcertd setup`: from a server on a shared pair to one that clients verify, and back.

pub mod bench;
mod choice;
mod faults;
mod refused;
mod service;
mod taken_over;
mod whole;
