//! What the three proofs that a process is a certain server have in common; each proof is in the module of its kind.
//!
//! The process is held first ([`HeldProcess`]), so what is proven is about that process; if it has ended meanwhile, a signal
//! through the handle reaches nobody.

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

/// Why a process is not the server that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Against {
    Gone,
    /// It is another process, by this evidence.
    Evidence(String),
    /// A check failed.
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

/// Checks that the process runs as `user`; `expected` is the end of the sentence if it doesn't.
pub(super) fn is_of_user(held: &HeldProcess, user: u32, expected: &str) -> Result<(), String> {
    if held.euid() == user {
        Ok(())
    } else {
        Err(format!("its user is {}, and {expected}", held.euid()))
    }
}

/// Checks that a SIGHUP does not kill it, and that it has this number in its own pid namespace if a pid file names one.
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
