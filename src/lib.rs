//! pgcertd keeps PostgreSQL serving the newest TLS certificate.
//!
//! Data goes one way:
//!
//! ```text
//! directories - watch - settle - lineage - bundle - reconcile - deploy ( install, reload, verify ) - report
//! ```

pub mod bundle;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod deploy;
pub mod instance;
pub mod privilege;
pub mod reconcile;
pub mod report;
pub mod source;

/// Every allocation is zeroed when it is freed, so that no copy of a private key that a
/// library made on its way (a PEM decoder's base64 buffer, for one) stays on the heap.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
