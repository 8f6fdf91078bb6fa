//! What the unit's sandbox allows, and what instances need of it.

mod needs;
mod rules;

pub(crate) use needs::{Needs, Shortfall, command, needs};
pub(crate) use rules::{Need, Sandbox};
