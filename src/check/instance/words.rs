//! What several checks say: the command that sets up, what is not known, and why.

use crate::check::finding::Finding;
use crate::check::names::user_name;
use crate::config::InstanceConfig;
use crate::host::privilege::{Ids, is_root};
use crate::server::InstanceSnapshot;
use crate::server::settings::SettingsError;

/// The command that sets a server up for an instance.
pub(super) fn setup(config: &InstanceConfig, more: &[&str]) -> String {
    config.command(&[&["setup"], more, &["--yes", "--instance"]].concat())
}

/// What is not known, and why: because of a missing right, or because a look failed, which is a problem if the caller has
/// the right.
pub(super) fn unknown(sight: &InstanceSnapshot, seen: String) -> Finding {
    let server = sight.targets.server.uid;
    if is_root() || Ids::own().uid == server {
        Finding::problem(seen).fix("fix the cause, then run check again")
    } else {
        Finding::unseen(seen, format!("root, or user {}", user_name(server)))
    }
}

/// What nobody can know about this server from here, whatever their rights: worth knowing, and nothing to fix.
pub(super) fn unknowable(sight: &InstanceSnapshot, seen: String) -> Finding {
    let finding = unknown(sight, seen);
    if finding.lacks.is_some() {
        return finding;
    }
    Finding::notice(finding.problem.what)
}

/// What is not known since the server's configuration could not be read: the program of a server in a container can't
/// be run from here, and any other reason is a look that failed.
pub(super) fn unanswered(sight: &InstanceSnapshot, what: &str, error: &SettingsError) -> Finding {
    let seen = format!("{what}: {error}");
    if matches!(error, SettingsError::NoExecutable { .. }) {
        unknowable(sight, seen)
    } else {
        unknown(sight, seen)
    }
}
