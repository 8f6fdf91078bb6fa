//! Setting up: what pgcertd changes of a server's own configuration, when it is asked to.
//!
//! Everything here is shown before it is done, and can be taken back. The daemon has no part in it.

pub mod require_tls;
