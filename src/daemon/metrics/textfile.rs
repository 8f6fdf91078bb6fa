//! The file for node_exporter's textfile collector, written anew whenever something was measured.
//!
//! A task of its own waits for it, so that a file system that does not answer holds up no scrape.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::files::{self, MetricsFileError};
use crate::problem::Problem;
use crate::report::metrics::{Format, Metrics};
use crate::report::{Latch, notices};

/// The key that names it.
const KEY: &str = "`textfile` in [metrics]";

/// The hold on the task, which ends when this is dropped.
pub(super) struct Textfile(watch::Sender<Option<PathBuf>>);

impl Textfile {
    pub(crate) fn start(metrics: Metrics, changed: Arc<Notify>) -> Textfile {
        let (wanted, paths) = watch::channel(None);
        let writer = Writer {
            metrics,
            written: None,
            told: Latch::default(),
        };
        tokio::spawn(writer.run(paths, changed));
        Textfile(wanted)
    }

    /// Which file is wanted from now on; one that is wanted no longer goes.
    pub(crate) fn is_to_be(&self, wanted: Option<PathBuf>) {
        self.0.send_replace(wanted);
    }
}

struct Writer {
    metrics: Metrics,
    written: Option<PathBuf>,
    told: Latch<(PathBuf, Problem)>,
}

impl Writer {
    async fn run(mut self, mut paths: watch::Receiver<Option<PathBuf>>, changed: Arc<Notify>) {
        loop {
            tokio::select! {
                () = changed.notified() => {}
                wanted = paths.changed() => if wanted.is_err() {
                    return;
                },
            }
            let wanted = paths.borrow_and_update().clone();
            if self.written != wanted
                && let Some(old) = self.written.take()
            {
                self.removed(old).await;
            }
            if let Some(wanted) = wanted {
                self.write(wanted).await;
            }
        }
    }

    async fn write(&mut self, path: PathBuf) {
        let written = match self.metrics.text(Format::Prometheus) {
            Ok(text) => files::beside("textfile", &path, move |place| place.write(&text)).await,
            Err(error) => return tracing::debug!("the metrics cannot be written: {error}"),
        };
        let written = written.map_err(|error: MetricsFileError| error.problem(KEY));
        notices::textfile_written(&mut self.told, &path, written);
        self.written = Some(path);
    }

    /// What is not written any more would be read for ever.
    async fn removed(&mut self, old: PathBuf) {
        let removed = files::beside("textfile", &old, |place| place.clear()).await;
        self.told = Latch::default();
        if let Err(error) = removed {
            notices::textfile_left(&old, &error.problem(KEY));
        }
    }
}
