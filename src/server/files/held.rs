//! What is remembered of a bundle that is not to be installed again as things are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bundle::{Fingerprint, Identity};

/// Who rejected a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeldBy {
    /// Postgres would not load it.
    Postgres,
    /// The operator rolled it back.
    Operator,
}

/// `held.json`: a bundle that is not to be installed again as things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) fingerprint: Fingerprint,
    /// The digest of its CA and CRL files, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) companions: Option<Fingerprint>,
    pub(crate) by: HeldBy,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    /// Line 3 of the pid file of the postmaster that refused it; another one is asked again.
    pub(crate) postmaster_start: Option<i64>,
}

impl Held {
    /// Whether it is about this bundle.
    pub(crate) fn is_of(&self, bundle: Identity) -> bool {
        let companions = self.companions;
        let leaf = self.fingerprint;
        bundle == Identity { leaf, companions }
    }
}

/// The content of `held.json`.
pub(super) enum FilesMemory {
    Nothing,
    Held(Held),
    Damaged(String),
}
