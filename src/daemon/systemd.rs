//! What systemd is told, from a thread of its own: a socket that nobody empties holds up who
//! writes to it (sd_notify(3)), and the loop waits for nothing.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::text::shown;

/// How many messages wait while systemd does not listen; more are dropped.
const WAITING: usize = 32;

/// Half of what systemd allows between two signs of life; without a watchdog, rarely.
pub(crate) fn watchdog_pause() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |limit| limit / 2)
}

struct SystemdMessage {
    states: Vec<NotifyState<'static>>,
    status: Option<String>,
}

/// Tells systemd; without one, nobody.
#[derive(Clone)]
pub(crate) struct Systemd {
    messages: SyncSender<SystemdMessage>,
}

impl Systemd {
    pub(crate) fn start() -> std::io::Result<Systemd> {
        let (messages, inbox) = sync_channel::<SystemdMessage>(WAITING);
        std::thread::Builder::new()
            .name("systemd".into())
            .spawn(move || {
                for SystemdMessage { mut states, status } in inbox {
                    // A line that ends in a status would begin an assignment of its own, such as MAINPID=.
                    let status = status.as_deref().map(shown);
                    states.extend(status.as_deref().map(NotifyState::Status));
                    if let Err(error) = sd_notify::notify(&states) {
                        tracing::debug!("systemd was not told: {error}");
                    }
                }
            })?;
        Ok(Systemd { messages })
    }

    /// It is up, and this is how it is.
    pub(crate) fn ready(&self, status: String) {
        self.tell(vec![NotifyState::Ready], Some(status));
    }

    pub(crate) fn status(&self, status: String) {
        self.tell(Vec::new(), Some(status));
    }

    pub(crate) fn alive(&self) {
        self.tell(vec![NotifyState::Watchdog], None);
    }

    /// It takes in a new config; ready follows.
    pub(crate) fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        self.tell(states, None);
    }

    /// It is about to end.
    pub(crate) fn stopping(&self) {
        self.tell(vec![NotifyState::Stopping], None);
    }

    fn tell(&self, states: Vec<NotifyState<'static>>, status: Option<String>) {
        if self
            .messages
            .try_send(SystemdMessage { states, status })
            .is_err()
        {
            tracing::debug!("systemd does not listen, and was not told");
        }
    }
}
