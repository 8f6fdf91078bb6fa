//! What stands beside PostgreSQL and shows the same certificate.

mod pgbouncer;
mod restarts;
mod shared_port;
pub mod stage;
mod trial;
