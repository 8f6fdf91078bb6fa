//! Edits of a server's configuration that do not count yet, and that the next deployment's reload
//! would apply.

use std::path::Path;

use super::{Answers, Eyes};
use crate::doctor::{Finding, Kind, quoted, user_name};
use crate::instance::Sight;
use crate::instance::postmaster::Postmaster;
use crate::instance::settings::changed_after;
use crate::instance::sql::{Pending, Role, Sql, SqlError};

pub(super) async fn finding(
    postmaster: &Postmaster,
    sight: &Sight,
    answers: &Answers,
    eyes: &Eyes,
) -> Option<Finding> {
    let kind = Kind::PendingEdits;
    // Without the paths nothing can be said, as `restart` does.
    let files = answers.around.as_ref().ok()?.files.clone();
    let targets = &sight.targets;
    let pending = match pending(postmaster, sight).await {
        Ok(pending) => pending,
        Err(error) => return Some(unasked(&error, sight)),
    };
    let (data, loaded) = (targets.data.clone(), pending.loaded.into());
    let changed = eyes.see(move || changed_after(&files, &data, loaded)).await;
    let changed = match changed {
        Ok(changed) => changed,
        Err(error) => return Some(Finding::problem(kind, error.to_string())),
    };
    if !changed.is_empty() {
        let named: Vec<String> = changed.iter().map(|it| it.display().to_string()).collect();
        let seen = format!("edited since the last reload: {}", named.join(", "));
        let finding = Finding::notice(kind, seen);
        return Some(match postmaster.executable.as_deref() {
            Some(executable) => finding.command(reload(executable, sight)),
            None => finding.sentence("reload the server when you want those edits to count"),
        });
    }
    Some(match pending.restart.as_slice() {
        [] => Finding::good(kind, "no edit waits"),
        names => Finding::notice(
            kind,
            format!("these wait for a restart: {}", names.join(", ")),
        )
        .because("what a restart changes as well is better known before")
        .sentence("restart the server when it suits, or take the edits back"),
    })
}

async fn pending(postmaster: &Postmaster, sight: &Sight) -> Result<Pending, SqlError> {
    let targets = &sight.targets;
    let sql = Sql::login(postmaster, &targets.data, targets.server, &Role::OfUser).await?;
    let pending = sql.pending().await;
    sql.close().await;
    pending
}

/// A server that does not let us in is none that something is wrong with.
fn unasked(error: &SqlError, sight: &Sight) -> Finding {
    let seen = format!("whether edits wait is not known: {error}");
    super::unknown(Kind::PendingEdits, sight, seen)
}

/// The command that has the server load its configuration.
fn reload(executable: &Path, sight: &Sight) -> String {
    let server = sight.targets.server;
    format!(
        "setpriv --reuid {} --regid {} --clear-groups {} reload -D {}",
        user_name(server.uid),
        server.gid,
        quoted(executable.with_file_name("pg_ctl")),
        quoted(&sight.targets.data)
    )
}
