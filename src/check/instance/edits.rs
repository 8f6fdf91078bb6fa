//! Edits of a server's configuration that do not count yet, and that the next deployment's reload
//! would apply.

use std::time::SystemTime;

use super::{ServerAnswers, ServerReader};
use crate::check::{Finding, FindingKind, quoted, user_name};
use crate::server::included::changed_after;
use crate::server::postmaster::Postmaster;
use crate::server::sql::{PendingEdits, Role, Sql, SqlError};
use crate::server::{InstanceSnapshot, Server};

#[derive(Default)]
pub(super) struct Edits {
    /// What is to be said of it; nothing of a server that is down.
    pub(crate) finding: Option<Finding>,
    /// When the configuration was last loaded, where the server tells.
    pub(crate) loaded: Option<SystemTime>,
    /// The command that has them count, where files were edited.
    reload: Option<String>,
}

impl Edits {
    /// Mends `finding` by a set-up, which changes what is in force: after what waits is in force,
    /// and not while the server is down.
    pub(super) fn set_up(
        &self,
        finding: Finding,
        sight: &InstanceSnapshot,
        set_up: String,
    ) -> Finding {
        match (&self.reload, &sight.server) {
            (_, Server::Down(_)) => finding.sentence(format!(
                "start the server and run `{set_up}`; should it not start, set ssl = off in its \
                 configuration for that start, which the set-up takes back"
            )),
            (Some(reload), _) => finding.command(format!("{reload} && {set_up}")),
            (None, _) => finding.command(set_up),
        }
    }
}

impl From<Finding> for Edits {
    fn from(finding: Finding) -> Edits {
        Edits {
            finding: Some(finding),
            loaded: None,
            reload: None,
        }
    }
}

pub(super) async fn edits(
    postmaster: &Postmaster,
    sight: &InstanceSnapshot,
    answers: &ServerAnswers,
    eyes: &ServerReader,
) -> Edits {
    let kind = FindingKind::PendingEdits;
    // Why the paths are not known is said by `restart`.
    let Ok(around) = &answers.around else {
        return Edits::default();
    };
    let (files, targets) = (around.files.clone(), &sight.targets);
    let pending = match pending(postmaster, sight).await {
        Ok(pending) => pending,
        Err(error) => return unasked(&error, sight).into(),
    };
    let loaded: SystemTime = pending.loaded.into();
    let data = targets.data.clone();
    let changed = eyes.see(move || changed_after(&files, &data, loaded)).await;
    let changed = match changed {
        Ok(changed) => changed,
        Err(error) => return Finding::problem(kind, error.to_string()).into(),
    };
    if !changed.is_empty() {
        let named: Vec<String> = changed
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let seen = format!("edited since the last reload: {}", named.join(", "));
        let finding = Finding::notice(kind, seen);
        let reload = reload(postmaster, sight);
        let finding = Some(match &reload {
            Some(reload) => finding.command(reload),
            None => finding.sentence("reload the server when you want those edits to count"),
        });
        return Edits {
            finding,
            loaded: Some(loaded),
            reload,
        };
    }
    let finding = match pending.restart.as_slice() {
        [] => Finding::good(kind, "no edit waits"),
        names => Finding::notice(
            kind,
            format!("these wait for a restart: {}", names.join(", ")),
        )
        .because("what a restart changes as well is better known before")
        .sentence("restart the server when it suits, or take the edits back"),
    };
    Edits {
        loaded: Some(loaded),
        ..finding.into()
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

/// A server that does not let us in is none that something is wrong with.
fn unasked(error: &SqlError, sight: &InstanceSnapshot) -> Finding {
    let seen = format!("whether edits wait is not known: {error}");
    super::unknowable(FindingKind::PendingEdits, sight, seen)
}

/// The command that has the server load its configuration, where its programs are to be had here.
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
