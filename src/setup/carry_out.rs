//! Applies the steps of a plan. Where one fails, those that were begun are undone, the last one first.
//!
//! All of them are stored before the first change, so that another process can undo them after a crash at any point.

use tokio::time::Instant;

use super::error::SetupError;
use super::plan::SetupPlan;
use super::record::Record;
use super::scene::{PAUSE, Scene, SetupProgress};
use super::step::{Step, undo_all};
use crate::bundle::Fingerprint;
use crate::server::probe::{Prober, Served};
use crate::server::sql::Sql;

/// A set-up that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: SetupError,
    /// What could not be undone; empty where all is as before.
    pub(crate) left: Vec<String>,
}

impl From<SetupError> for Failed {
    fn from(error: SetupError) -> Failed {
        let left = Vec::new();
        Failed { error, left }
    }
}

/// Does what `plan` says, and reports each step to `tell`; gives what new clients get then, none where nobody looked.
///
/// # Errors
/// A step failed: those before it are undone, as far as that could be done.
pub(crate) async fn carry_out(
    plan: &mut SetupPlan,
    earlier: Option<Record>,
    sql: &Sql,
    prober: &Prober,
    tell: &mut dyn FnMut(SetupProgress),
) -> Result<Option<Served>, Failed> {
    let SetupPlan { site, steps, .. } = plan;
    let mut scene = Scene::open(site, sql, prober, tell).await?;
    let before = scene.leaf_served().await;
    for step in &mut *steps {
        step.note_before(&mut scene).await?;
    }
    let mut record = Record::begun(&site.server.data_directory, steps, earlier.as_ref());
    record.write(&mut scene.keeper.instance).await?;
    let mut begun = 0;
    let mut applied = apply_all(steps, &mut begun, &mut scene).await;
    if applied.is_ok() {
        record.finish();
        applied = record.write(&mut scene.keeper.instance).await;
    }
    let Err(error) = applied else {
        return Ok(scene.served);
    };
    (scene.tell)(SetupProgress::RollingBack(error.to_string()));
    undo_all(&steps[..begun], &mut scene).await;
    let mut left = std::mem::take(&mut scene.left);
    if left.is_empty() {
        left.extend(serves_again(before, &scene).await.err());
    }
    // Where something is left, `--undo` goes on from the record.
    if left.is_empty() {
        let instance = &mut scene.keeper.instance;
        let remembered = match &earlier {
            Some(earlier) => earlier.write(instance).await,
            None => Record::forget(instance).await,
        };
        left.extend(remembered.err().map(|e| e.to_string()));
    }
    Err(Failed { error, left })
}

/// Counts the steps in `begun`.
async fn apply_all(
    steps: &[Step],
    begun: &mut usize,
    scene: &mut Scene<'_>,
) -> Result<(), SetupError> {
    #[cfg(feature = "failpoints")]
    planted("setup_remembered")?;
    for step in steps {
        *begun += 1;
        step.apply(scene).await?;
        #[cfg(feature = "failpoints")]
        planted(step.failpoint())?;
    }
    Ok(())
}

/// Waits until new clients get what they got before.
async fn serves_again(before: Option<Fingerprint>, scene: &Scene<'_>) -> Result<(), String> {
    let (Some(before), Ok(_)) = (before, scene.addresses()) else {
        return Ok(());
    };
    let deadline = Instant::now() + scene.site.instance.verify_timeout;
    while scene.leaf_served().await != Some(before) {
        if Instant::now() >= deadline {
            return Err(format!(
                "new clients do not get the previous certificate, {}, again; see the server's log",
                before.short()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Where a test plants a fault.
#[cfg(feature = "failpoints")]
fn planted(point: &str) -> Result<(), SetupError> {
    fail::fail_point!(point, |_| Err(SetupError::new(
        "a fault was planted after this step",
        ""
    )));
    Ok(())
}
