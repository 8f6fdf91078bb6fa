//! A digest of what was found at the targets, by which a later look tells whether anything is different: content, owner or
//! mode. Times would not tell: two writes within a tick of the kernel's clock have the same.

use std::os::unix::ffi::OsStrExt;

use super::Found;
use super::parsed::{Digest, digest};

/// A digest of content, owner and mode of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal(Digest);

impl Seal {
    pub(crate) fn of_targets(found: &[Found]) -> Seal {
        let parts: Vec<(String, &[u8])> = found.iter().map(parts).collect();
        let parts = parts.iter();
        Seal(digest(
            parts.flat_map(|(what, content)| [what.as_bytes(), *content]),
        ))
    }
}

/// What is at one target, and its content or where it leads.
fn parts(found: &Found) -> (String, &[u8]) {
    match found {
        Found::Absent => ("absent".into(), &[]),
        Found::Link(target) => ("link".into(), target.as_os_str().as_bytes()),
        Found::File { bytes, ids, mode } => {
            (format!("file {} {} {mode:o}", ids.uid, ids.gid), bytes)
        }
        Found::Odd(what) => ((*what).into(), &[]),
    }
}
