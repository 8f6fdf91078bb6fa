//! Notifies people of what the daemon sees, by running a command of theirs: in a process of its own, with its own user, since
//! no mail program could work in the daemon's sandbox.
//!
//! It follows what the daemon writes for every user, `status.json`, and the daemon itself
//! ([`follow`]); works out how each instance, each certificate and the daemon stands ([`scene`], [`standing`]); keeps track
//! of what was reported and so of what to report next ([`ledger`], stored by [`memory`]); words it ([`message`]); and runs
//! the command ([`command`]).
//!
//! What is due is worked out again before each attempt, so a retry reports the current situation and leaves out what is over.
//! A restart repeats nothing and loses nothing; a delivery that it interrupts is made again.
//!
//! It is not for machines, which have the metrics and the journal.

pub(crate) mod command;
pub(crate) mod follow;
pub(crate) mod ledger;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod scene;
pub(crate) mod standing;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::{Config, ConfigError, Notify};
use crate::daemon::systemd::Systemd;
use crate::daemon::systemd::watchdog_pause;
use crate::report::notices;
use crate::text;
use command::{Delivery, DeliveryError};
use follow::Follower;
use ledger::{About, Batch, Ledger, NoticeMoment, NoticeSubject};
use memory::NoticeMemory;
use message::Notification;

/// The pause after the first failure; it doubles with each further one.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a running command may continue after SIGTERM.
pub(crate) const FAREWELL: Duration = Duration::from_secs(10);

/// Why it ended, other than by a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error("cannot start a thread: {0}; see the limits on tasks and memory")]
    Thread(#[source] std::io::Error),
    /// The notification cannot be written as JSON.
    #[error("internal error: cannot write the notification: {0}")]
    Made(#[from] serde_json::Error),
    /// A task ended that never should.
    #[error("internal error: the delivery ended unexpectedly: {0}")]
    Task(#[from] JoinError),
}

/// Runs until SIGTERM or SIGINT, or until there is no command.
///
/// # Errors
/// It cannot start, or a part of it ended unexpectedly.
pub(crate) async fn run(file: &Path) -> Result<(), NotifyError> {
    let listen = |kind| signal(kind).map_err(NotifyError::Signals);
    let signals = NotifySignals {
        terminate: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
        hangup: listen(SignalKind::hangup())?,
    };
    let config = Config::load(file)?;
    let Some(words) = config.notify.command.clone() else {
        idle(file);
        return Ok(());
    };
    let systemd = Systemd::start().map_err(NotifyError::Thread)?;
    notices::notifier_started(file, words.first().map(String::as_str));
    systemd.ready(status(&config.notify));
    Notifier::new(file, config, words, systemd)
        .serve(signals)
        .await
}

/// The delivery of a notification by the command of `notify`, if there is one.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn delivery(
    notify: &Notify,
    notification: &Notification,
) -> Result<Option<Delivery>, serde_json::Error> {
    let input = text::json(notification, false)?.into_bytes();
    let words = notify.command.clone();
    Ok(words.map(|words| Delivery {
        words,
        input,
        environment: notification.environment(),
        timeout: notify.timeout,
    }))
}

struct NotifySignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

struct Notifier {
    file: PathBuf,
    config: Config,
    program: String,
    follower: Follower,
    ledger: Ledger,
    memory: NoticeMemory,
    in_hand: Option<InHand>,
    /// How often it has failed since the last success.
    failures: u32,
    not_before: Option<Instant>,
    systemd: Systemd,
}

struct InHand {
    batch: Batch,
    subject: String,
    begun: Instant,
    /// Sent or dropped, it ends the command.
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DeliveryError>>,
}

impl Notifier {
    fn new(file: &Path, config: Config, words: Vec<String>, systemd: Systemd) -> Notifier {
        let (memory, ledger) = NoticeMemory::open(&config.notify.state_directory);
        Notifier {
            file: file.to_owned(),
            follower: Follower::from_config(&config),
            program: words.into_iter().next().unwrap_or_default(),
            config,
            ledger,
            memory,
            in_hand: None,
            failures: 0,
            not_before: None,
            systemd,
        }
    }

    async fn serve(mut self, mut signals: NotifySignals) -> Result<(), NotifyError> {
        let mut poll = interval(follow::PAUSE);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = interval(watchdog_pause());
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = NoticeMoment::now();
            let wake = self.ledger.wake(self.config.notify.after, now);
            let due = async {
                match wake {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            let delivered = async {
                match &mut self.in_hand {
                    Some(in_hand) => (&mut in_hand.task).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signals.terminate.recv() => return self.stop().await,
                _ = signals.interrupt.recv() => return self.stop().await,
                _ = signals.hangup.recv() => {
                    if !self.reload() {
                        idle(&self.file);
                        return self.stop().await;
                    }
                }
                _ = watchdog.tick() => {
                    self.systemd.alive();
                    continue;
                }
                ended = delivered => self.ended(ended?),
                () = self.follower.hinted() => {}
                _ = poll.tick() => {}
                () = due => {}
            }
            self.consider()?;
        }
    }

    /// Looks, and reports what is due.
    fn consider(&mut self) -> Result<(), NotifyError> {
        let now = NoticeMoment::now();
        let scene = self.follower.look(now);
        let seen = scene.standings(self.ledger.subjects(), now.wall);
        self.ledger.see(&seen, now);
        let config = &self.config;
        self.ledger.keep(|subject, open| match subject.about {
            About::Daemon => true,
            About::Uncovered => open,
            // The daemon only shows an instance once it has looked at it, which may take some time.
            About::Instance | About::Expiry | About::Deployment => {
                config.instance(&subject.name).is_some() || seen.contains_key(&instance(subject))
            }
            About::CaExpiry => config
                .instance(&subject.name)
                .is_some_and(|instance| instance.ca.is_some()),
            About::CrlExpiry => config
                .instance(&subject.name)
                .is_some_and(|instance| instance.crl.is_some()),
        });
        let paused = self.not_before.is_some_and(|time| now.at < time);
        if self.in_hand.is_none()
            && !paused
            && let Some(batch) = self.ledger.due(&self.config.notify, now)
        {
            let notification = Notification::for_batch(&batch, &scene, now.wall);
            self.begin(batch, notification)?;
        }
        self.memory.keep(&self.ledger);
        Ok(())
    }

    fn begin(&mut self, batch: Batch, notification: Notification) -> Result<(), NotifyError> {
        if let Some(delivery) = delivery(&self.config.notify, &notification)? {
            let (stop, stopped) = oneshot::channel();
            self.in_hand = Some(InHand {
                batch,
                subject: notification.subject,
                begun: Instant::now(),
                stop,
                task: tokio::spawn(delivery.run(stopped)),
            });
        }
        Ok(())
    }

    fn ended(&mut self, result: Result<(), DeliveryError>) {
        let Some(done) = self.in_hand.take() else {
            return;
        };
        let took = done.begun.elapsed();
        match result {
            Ok(()) => {
                notices::notification_sent(&self.program, &done.subject, took);
                self.ledger.delivered(&done.batch, NoticeMoment::now());
                self.failures = 0;
                self.not_before = None;
            }
            Err(error) => {
                let pause = pause(self.failures);
                notices::notification_failed(&self.program, &done.subject, &error, took, pause);
                self.failures = self.failures.saturating_add(1);
                self.not_before = Some(Instant::now() + pause);
            }
        }
    }

    /// Loads a changed config, if it is valid; false if it no longer has a command.
    fn reload(&mut self) -> bool {
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(error) => {
                notices::config_refused(&self.file, &error.one_line());
                return true;
            }
        };
        let words = config.notify.command.as_ref();
        let Some(program) = words.and_then(|words| words.first()) else {
            return false;
        };
        self.systemd.reloading();
        self.program.clone_from(program);
        if !self.memory.is_in(&config.notify.state_directory) {
            (self.memory, self.ledger) = NoticeMemory::open(&config.notify.state_directory);
        }
        self.follower = Follower::from_config(&config);
        // A new command may do better.
        self.failures = 0;
        self.not_before = None;
        self.config = config;
        notices::notifier_started(&self.file, Some(&self.program));
        self.systemd.ready(status(&self.config.notify));
        true
    }

    /// Waits a while for a running command.
    async fn stop(mut self) -> Result<(), NotifyError> {
        self.systemd.stopping();
        if let Some(mut in_hand) = self.in_hand.take() {
            let ended = match timeout(FAREWELL, &mut in_hand.task).await {
                Ok(ended) => ended?,
                Err(_) => {
                    let InHand { stop, task, .. } = in_hand;
                    // If nobody listens, it has just ended.
                    let _ended = stop.send(());
                    drop(task.await?);
                    return Ok(());
                }
            };
            self.in_hand = Some(in_hand);
            self.ended(ended);
            self.memory.keep(&self.ledger);
        }
        Ok(())
    }
}

/// The instance that a subject is about.
fn instance(subject: &NoticeSubject) -> NoticeSubject {
    NoticeSubject::new(About::Instance, &subject.name)
}

fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

fn status(notify: &Notify) -> String {
    let program = notify.command.iter().flatten().next();
    format!(
        "notifications go through {}",
        program.map_or("", String::as_str)
    )
}

/// There is no command. To systemd, a service that ends without having been ready has failed.
fn idle(file: &Path) {
    notices::notifier_started(file, None);
    let states = [
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status("nobody is notified: no command in [notify]"),
    ];
    if let Err(error) = sd_notify::notify(&states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// A test notification.
pub(crate) fn trial() -> Notification {
    Notification::test(Timestamp::now())
}
