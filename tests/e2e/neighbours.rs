//! What stands beside PostgreSQL and shows the same certificate.

mod pgbouncer;
