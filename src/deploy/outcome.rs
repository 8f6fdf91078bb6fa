//! How `sync` tells what has come of an instance.

/// How a reconcile of one instance came out, as `sync` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum SyncOutcome {
    /// Nothing was to be done.
    Unchanged,
    /// New clients get the bundle.
    Deployed,
    /// The files are right, and Postgres is down or does not use them.
    Installed,
    /// The files are right, and serving could not be seen.
    Unverified,
    /// Without `--dry-run` something would be done.
    WouldDeploy,
    /// The lineage is not ready, or a delay runs.
    Waiting,
    /// The source was refused by pgcertd's checks, or is held.
    Refused,
    /// Postgres refused; the previous files are back.
    RolledBack,
    /// The server is down and was not seen to serve what was installed; the previous files are back.
    TakenBack,
    Failed,
}

impl SyncOutcome {
    pub const ALL: [SyncOutcome; 10] = [
        SyncOutcome::Unchanged,
        SyncOutcome::Deployed,
        SyncOutcome::Installed,
        SyncOutcome::Unverified,
        SyncOutcome::WouldDeploy,
        SyncOutcome::Waiting,
        SyncOutcome::Refused,
        SyncOutcome::RolledBack,
        SyncOutcome::TakenBack,
        SyncOutcome::Failed,
    ];

    /// What has come of it, in words for the manual.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            SyncOutcome::Unchanged => "nothing needed doing",
            SyncOutcome::Deployed => "new clients get the lineage's certificate",
            SyncOutcome::Installed => {
                "the files are in place, but the server is down or does not use them"
            }
            SyncOutcome::Unverified => {
                "the files are in place, but what the server serves cannot be checked"
            }
            SyncOutcome::WouldDeploy => "without `--dry-run` it would be deployed",
            SyncOutcome::Waiting => "the lineage is not ready yet, or a `delay` is running",
            SyncOutcome::Refused => "the lineage's certificate failed the checks, or is held",
            SyncOutcome::RolledBack => "the server rejected it; the previous one is back",
            SyncOutcome::TakenBack => {
                "the server is down and was never seen to serve what was installed; the previous one is back"
            }
            SyncOutcome::Failed => "a step failed; `problem` says which",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            SyncOutcome::Unchanged => "unchanged",
            SyncOutcome::Deployed => "deployed",
            SyncOutcome::Installed => "installed",
            SyncOutcome::Unverified => "unverified",
            SyncOutcome::WouldDeploy => "would_deploy",
            SyncOutcome::Waiting => "waiting",
            SyncOutcome::Refused => "refused",
            SyncOutcome::RolledBack => "rolled_back",
            SyncOutcome::TakenBack => "taken_back",
            SyncOutcome::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SyncOutcome;

    #[test]
    fn all_outcomes_are_told() {
        let known = serde_json::from_str::<SyncOutcome>("\"none\"").map_err(|e| e.to_string());
        let told = SyncOutcome::ALL.map(|outcome| format!("`{}`", outcome.as_str()));
        let expected = format!("one of {}", told.join(", "));
        assert!(
            known.is_err_and(|error| error.contains(&expected)),
            "{expected}"
        );
    }
}
