//! Desired against actual: what to do.
