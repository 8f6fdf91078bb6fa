//! What is odd and no reason to stop.

use std::fmt;

use jiff::Timestamp;

use crate::bundle::Fingerprint;
use crate::lineage::Source;
use crate::server::InstanceSnapshot;

/// Something that a person should know, and that changes nothing about what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remark {
    /// What a bundle that goes in differs in from what it replaces.
    Odd {
        fingerprint: Fingerprint,
        what: String,
    },
    /// What was refused earlier is not known.
    MemoryUnreadable(String),
    /// What was refused earlier stays remembered, though it is out of date.
    NotForgotten(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::Odd { what, .. } => f.write_str(what),
            Remark::MemoryUnreadable(why) | Remark::NotForgotten(why) => f.write_str(why),
        }
    }
}

/// What a bundle that goes in differs in from what it replaces.
pub(super) fn oddities(source: &Source, sight: &InstanceSnapshot) -> Vec<Remark> {
    let (Some(new), Some(old)) = (source.bundle(), sight.look.installed.bundle()) else {
        return Vec::new();
    };
    let warnings = new.warnings(old, Timestamp::now());
    let mut told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    if new.shorter_than(old) {
        told.push("its chain is shorter than the installed one of the same issuer".into());
    }
    let fingerprint = new.fingerprint();
    told.into_iter()
        .map(|what| Remark::Odd { fingerprint, what })
        .collect()
}
