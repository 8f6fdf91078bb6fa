//! What the proofs have in common that a process is a server: one is in the module of each kind.
//!
//! The process is held first ([`HeldProcess`]): what is proven then is proven of this one, or, had it gone meanwhile, the
//! signal through the handle reaches nobody.

use rustix::process::Signal;

use crate::host::look::CannotLook;
use crate::host::process::HeldProcess;
use crate::problem::Problem;

/// That a server listens in another network.
pub(super) fn elsewhere() -> Problem {
    Problem::new(
        "the server listens in a network namespace of its own, as in a container",
        "set address to where it is reached from here",
    )
}

/// Why a process is not the server that it was looked at as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Against {
    Gone,
    /// It is another one: which piece of evidence is against it.
    Evidence(String),
    /// A look at it failed.
    NotKnown(CannotLook),
}

impl From<CannotLook> for Against {
    fn from(cannot: CannotLook) -> Against {
        Against::NotKnown(cannot)
    }
}

impl From<String> for Against {
    fn from(evidence: String) -> Against {
        Against::Evidence(evidence)
    }
}

/// Checks that the process is one of `user`; `expected` says whose it should be.
pub(super) fn is_of_user(held: &HeldProcess, user: u32, expected: &str) -> Result<(), String> {
    if held.euid() == user {
        Ok(())
    } else {
        Err(format!("its user is {}, and {expected}", held.euid()))
    }
}

/// Checks that a SIGHUP does not end it, and that it has this number in its own pid namespace, where a pid file tells one.
pub(super) fn takes_reload(held: &HeldProcess, number: Option<u32>) -> Result<(), String> {
    if !held.handles(Signal::HUP) {
        return Err("it does not handle SIGHUP".into());
    }
    match (number, held.own_number()) {
        (Some(number), Some(own)) if number != own => {
            Err(format!("it is number {own} in its own namespace"))
        }
        _ => Ok(()),
    }
}
