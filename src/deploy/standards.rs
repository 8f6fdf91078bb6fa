//! What a bundle is judged by beside the instance's rules: the time, the roots that are known, what
//! else the files are for, and whether a person insists.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::bundle::Bundle;
use crate::trust::{Needed, Roots};

/// The time, and the config's say on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Timestamp,
    /// How long files may stay unmatched; no time at all where the writer is known to be done.
    pub(crate) settle_timeout: Duration,
}

impl Clock {
    pub(super) fn after(&self, start: Timestamp, wait: Duration) -> Timestamp {
        // A change time in the future (a clock was set back) counts as now.
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        start
            .min(self.now)
            .saturating_add(wait)
            .unwrap_or(Timestamp::MAX)
    }
}

/// How long the system's roots may take to read: they may lie on a file system that does not answer.
const ANSWER: Duration = Duration::from_secs(3);

/// How long what was read of them counts.
const KEPT: Duration = Duration::from_secs(60);

/// What a bundle is judged by.
#[derive(Debug, Clone)]
pub(crate) struct Standards {
    pub(crate) clock: Clock,
    /// The roots that are known here; none where nothing depends on them.
    pub(crate) roots: Arc<Roots>,
    /// Whether a person insists: what is only a risk does not count then.
    pub(crate) forced: bool,
    /// What makes the certificate a client's as well, in words; none where nothing does.
    pub(crate) client_use: Option<String>,
}

/// The roots of this host as they were last read, and when: the same for every instance.
static SYSTEM: Mutex<Option<(Instant, Arc<Roots>)>> = Mutex::const_new(None);

/// The roots of this host that are known, where something depends on them.
pub(super) async fn roots_where_they_matter(they_matter: bool) -> Arc<Roots> {
    if !they_matter {
        return Arc::new(Roots::none());
    }
    // Whoever comes while they are being read waits for the same answer.
    let mut system = SYSTEM.lock().await;
    if let Some((at, roots)) = &*system
        && at.elapsed() < KEPT
    {
        return Arc::clone(roots);
    }
    let reading = tokio::task::spawn_blocking(Roots::system);
    let roots = match tokio::time::timeout(ANSWER, reading).await {
        Ok(Ok(roots)) => Arc::new(roots),
        // What lies behind a root that is not known is needed, as with a private CA.
        Ok(Err(_)) | Err(_) => Arc::new(Roots::none()),
    };
    *system = Some((Instant::now(), Arc::clone(&roots)));
    roots
}

/// Whether what is said of one of these bundles at `now` depends on the roots that are known.
pub(super) fn depends_on_roots<'a>(
    bundles: impl IntoIterator<Item = &'a Arc<Bundle>>,
    now: Timestamp,
) -> bool {
    let depends =
        |bundle: &Bundle| Needed::depends_on_roots(bundle.leaf(), bundle.intermediates(), now);
    bundles.into_iter().any(|bundle| depends(bundle))
}
