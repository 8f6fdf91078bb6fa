//! Where the metrics are to be had: a listener that answers scrapes, and a file for node_exporter.
//!
//! A task of its own opens and closes them; the loop only tells it what the config wants. It
//! outlives a config: a new `listen` is opened before the old one is closed, and where the new
//! one cannot be had, the old one stays. Nothing here delays a deployment: scrapes are bounded
//! in number and time, and file systems are waited for by threads of their own, which may
//! write in that one directory and nowhere else.

mod files;
mod listener;
mod scrapes;
mod textfile;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::{self, Config, Listen};
use crate::problem::Problem;
use crate::report::metrics::Metrics;
use crate::report::{Latch, notices};

use listener::Listening;
use textfile::Textfile;

/// How long the socket of a daemon that ends may take to be removed.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

enum ScrapeOrder {
    Open(config::MetricsConfig),
    /// Tries again what could not be had.
    Retry,
    /// Closes everything, and says when that is done.
    Close(oneshot::Sender<()>),
}

/// The loop's hold on them.
#[derive(Clone)]
pub(super) struct Outlets {
    metrics: Metrics,
    orders: mpsc::UnboundedSender<ScrapeOrder>,
    changed: Arc<Notify>,
}

impl Outlets {
    /// Starts the task; nothing is open yet.
    pub(crate) fn start(metrics: Metrics) -> Outlets {
        let (orders, inbox) = mpsc::unbounded_channel();
        let changed = Arc::new(Notify::new());
        let publisher = Publisher {
            textfile: Textfile::start(metrics.clone(), Arc::clone(&changed)),
            metrics: metrics.clone(),
            wanted: None,
            open: None,
            told: Latch::default(),
        };
        tokio::spawn(publisher.run(inbox));
        Outlets {
            metrics,
            orders,
            changed,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A config comes into force.
    pub(crate) fn configured(&self, config: &Config) {
        self.metrics.configured(config, Timestamp::now());
        self.order(ScrapeOrder::Open(config.metrics.clone()));
    }

    pub(crate) fn went_round(&self) {
        self.metrics.went_round(Timestamp::now());
        self.order(ScrapeOrder::Retry);
    }

    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Closes what is open. The file stays: what it says grows old, which an alert sees.
    pub(crate) async fn close(self) {
        let (closed, wait) = oneshot::channel();
        self.order(ScrapeOrder::Close(closed));
        if tokio::time::timeout(CLOSE_WITHIN, wait).await.is_err() {
            tracing::debug!("the socket for the metrics was not removed in time; it is replaced");
        }
    }

    fn order(&self, order: ScrapeOrder) {
        // The task ends when it is told to close, and after that nobody is served.
        drop(self.orders.send(order));
    }
}

struct Publisher {
    metrics: Metrics,
    textfile: Textfile,
    wanted: Option<Listen>,
    open: Option<Listening>,
    told: Latch<(Listen, Problem)>,
}

impl Publisher {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<ScrapeOrder>) {
        while let Some(order) = orders.recv().await {
            match order {
                ScrapeOrder::Open(wanted) => {
                    self.textfile.is_to_be(wanted.textfile);
                    self.wanted = wanted.listen;
                    self.listen().await;
                }
                ScrapeOrder::Retry => self.listen().await,
                ScrapeOrder::Close(closed) => {
                    self.wanted = None;
                    self.listen().await;
                    // The loop may have stopped waiting.
                    let _waited_for = closed.send(());
                    return;
                }
            }
        }
    }

    /// Opens what is wanted, and closes what was open before once that is had.
    async fn listen(&mut self) {
        let Some(wanted) = &self.wanted else {
            return self.replace(None).await;
        };
        if self
            .open
            .as_ref()
            .is_some_and(|listening| listening.is_at(wanted))
        {
            notices::listening(&mut self.told, wanted, None, None);
            return;
        }
        match listener::open(wanted, &self.metrics).await {
            Ok(open) => {
                notices::listening(&mut self.told, wanted, None, None);
                self.replace(Some(open)).await;
            }
            Err(problem) => {
                let still = self.open.as_ref().map(Listening::place);
                notices::listening(&mut self.told, wanted, Some(problem), still);
            }
        }
    }

    async fn replace(&mut self, new: Option<Listening>) {
        if let Some(old) = std::mem::replace(&mut self.open, new) {
            old.close().await;
        }
    }
}
