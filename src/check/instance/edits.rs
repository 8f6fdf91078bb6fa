//! Edits of a server's configuration that are not in force yet, and that the next deployment's reload
//! would apply.

use std::time::SystemTime;

use super::words::unknowable;
use crate::check::finding::Finding;
use crate::check::names::{quoted, user_name};
use crate::host::privilege::Worker;
use crate::server::InstanceSnapshot;
use crate::server::included::changed_after;
use crate::server::postmaster::Postmaster;
use crate::server::program::Surroundings;
use crate::server::settings::SettingsError;
use crate::server::sql::{PendingEdits, Role, Sql, SqlError};

#[derive(Default)]
pub(in crate::check) struct Edits {
    /// None for a server that is down.
    pub(in crate::check) finding: Option<Finding>,
    /// When the configuration was last loaded, if the server says so.
    pub(super) loaded: Option<SystemTime>,
    /// The command that applies them, if files were edited.
    reload: Option<String>,
}

impl Edits {
    /// A finding that a set-up fixes. Since that changes what is in force, waiting edits are applied first, and the
    /// server is started first.
    pub(super) fn set_up(&self, finding: Finding, is_up: bool, set_up: String) -> Finding {
        match &self.reload {
            _ if !is_up => finding.fix(format!(
                "start the server and run `{set_up}`; if it doesn't start, set ssl = off in its \
                 configuration for that start, which the set-up reverts"
            )),
            Some(reload) => finding.command(format!("{reload} && {set_up}")),
            None => finding.command(set_up),
        }
    }
}

impl From<Finding> for Edits {
    fn from(finding: Finding) -> Edits {
        Edits {
            finding: Some(finding),
            ..Edits::default()
        }
    }
}

pub(super) async fn edits(
    postmaster: &Postmaster,
    sight: &InstanceSnapshot,
    around: &Result<Surroundings, SettingsError>,
    reader: &Worker,
) -> Edits {
    // Why the paths are not known is said by `restart`.
    let Ok(around) = around else {
        return Edits::default();
    };
    let (files, data) = (around.files.clone(), sight.targets.data.clone());
    let pending = match pending(postmaster, sight).await {
        Ok(pending) => pending,
        // Nothing is wrong with a server that does not let us in.
        Err(error) => {
            let seen = format!("whether edits wait is not known: {error}");
            return unknowable(sight, seen).into();
        }
    };
    let loaded: SystemTime = pending.loaded.into();
    let changed = match reader
        .call(move || changed_after(&files, &data, loaded))
        .await
    {
        Ok(changed) => changed,
        Err(error) => return Finding::problem(error.to_string()).into(),
    };
    let loaded = Some(loaded);
    if changed.is_empty() {
        let finding = match pending.restart.as_slice() {
            [] => Finding::good("no edit is waiting"),
            names => Finding::notice(format!("waiting for a restart: {}", names.join(", ")))
                .because("it is better to know in advance what else a restart changes")
                .fix("restart the server when it suits you, or undo the edits"),
        };
        return Edits {
            loaded,
            ..finding.into()
        };
    }
    let named = changed.iter().map(|path| path.display().to_string());
    let named: Vec<String> = named.collect();
    let finding = Finding::notice(format!(
        "edited since the last reload: {}",
        named.join(", ")
    ));
    let reload = reload(postmaster, sight);
    Edits {
        finding: Some(match &reload {
            Some(reload) => finding.command(reload),
            None => finding.fix("reload the server when those edits should take effect"),
        }),
        loaded,
        reload,
    }
}

async fn pending(
    postmaster: &Postmaster,
    sight: &InstanceSnapshot,
) -> Result<PendingEdits, SqlError> {
    let targets = &sight.targets;
    let sql = Sql::login(postmaster, &targets.data, targets.server, &Role::OfUser).await?;
    let pending = sql.pending().await;
    sql.close().await;
    pending
}

/// The command that reloads the server, if its programs are on this host.
pub(super) fn reload(postmaster: &Postmaster, sight: &InstanceSnapshot) -> Option<String> {
    let executable = postmaster.executable.as_deref()?;
    let server = sight.targets.server;
    Some(format!(
        "setpriv --reuid {} --regid {} --clear-groups {} reload -D {}",
        user_name(server.uid),
        server.gid,
        quoted(executable.with_file_name("pg_ctl")),
        quoted(&sight.targets.data)
    ))
}
