//! Runs the command that delivers: without a shell, in its own session, for a limited time.
//!
//! What it leaves running when it exits by itself is left alone: a mail program may deliver in the background. If it takes
//! too long, its whole process group is killed.

use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr};
use tokio::sync::oneshot;
use tokio::time::{Instant, interval, timeout};

use crate::host::command::{Launch, never_became};

pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How often to check whether a command has ended after SIGTERM.
const PAUSE: Duration = Duration::from_millis(20);

/// How long to wait for the end of standard error once the command has ended: what it left running may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How many bytes of standard error are kept.
const TAIL: usize = 1024;

/// A notification was not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The command did not start.
    #[error("{program} cannot be run: {source}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} ended with {status}: {said}")]
    Ended {
        program: String,
        status: ExitStatus,
        /// The end of its standard error.
        said: String,
    },
    /// It took too long, and was killed with everything it had started.
    #[error("{program} ran for more than {} s and was killed: {said}", .after.as_secs_f64())]
    TimedOut {
        program: String,
        after: Duration,
        /// The end of its standard error.
        said: String,
    },
    /// pgcertd is stopping, and the command didn't end in time.
    #[error("{program} did not end in time when pgcertd was stopped, and was killed")]
    Stopped { program: String },
}

/// A command, and what it gets.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    pub(crate) input: Vec<u8>,
    /// Added to our own environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long it may run.
    pub(crate) timeout: Duration,
}

impl Delivery {
    /// Runs it until it ends, or until `stop` is sent or dropped.
    ///
    /// # Errors
    /// It did not exit with status 0 in time.
    pub(crate) async fn run(self, stop: oneshot::Receiver<()>) -> Result<(), DeliveryError> {
        let program = self.words.first().cloned().unwrap_or_default();
        let mut child = self.start().map_err(|source| DeliveryError::Start {
            program: program.clone(),
            source,
        })?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let said = Tail::from_stderr(child.stderr.take());
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input;
            // The command may not read at all, so don't wait for it.
            tokio::spawn(async move { stdin.write_all(&input).await });
        }
        let ended = tokio::select! {
            ended = timeout(self.timeout, child.wait()) => ended.ok(),
            _ = stop => {
                end(&mut child, group).await;
                return Err(DeliveryError::Stopped { program });
            }
        };
        match ended {
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) if never_became(status) => Err(DeliveryError::Start {
                program,
                source: io::Error::other(said.last_words().await),
            }),
            Some(Ok(status)) => Err(DeliveryError::Ended {
                program,
                status,
                said: said.last_words().await,
            }),
            Some(Err(source)) => Err(DeliveryError::Start { program, source }),
            None => {
                end(&mut child, group).await;
                Err(DeliveryError::TimedOut {
                    program,
                    after: self.timeout,
                    said: said.last_words().await,
                })
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let (program, arguments) = self
            .words
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut launch = Launch::of_operator(program);
        launch.args(arguments);
        for (name, value) in &self.environment {
            launch.env(name, value);
        }
        launch.fed()
    }
}

/// Ends the command's whole group: SIGTERM first, then SIGKILL for what is left.
async fn end(child: &mut Child, group: Option<Pid>) {
    if let Some(group) = group {
        // ESRCH: the group is empty.
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        let mut pause = interval(PAUSE);
        // Don't reap it before the last signal, so that its number isn't reused.
        while !has_ended(group) && Instant::now() < deadline {
            pause.tick().await;
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
    if let Err(error) = child.wait().await {
        tracing::debug!("the command cannot be waited for: {error}");
    }
}

fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // An error: it is gone.
    waitid(WaitId::Pid(pid), options).map_or(true, |ended| ended.is_some())
}

/// Reads standard error to its end, however long it is, and keeps the last bytes.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: Option<tokio::task::JoinHandle<()>>,
}

impl Tail {
    fn from_stderr(stderr: Option<ChildStderr>) -> Tail {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reading = stderr.map(|stderr| tokio::spawn(read(stderr, Arc::clone(&kept))));
        Tail { kept, reading }
    }

    /// The last output, on one line.
    async fn last_words(self) -> String {
        if let Some(reading) = self.reading {
            // Whoever still holds it open may keep writing, so the task keeps reading.
            drop(timeout(LAST_WORDS, reading).await);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let said = lines.join(" | ");
        let said: String = said
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        match said.trim_matches([' ', '|']) {
            "" => "it said nothing".to_owned(),
            said => said.to_owned(),
        }
    }
}

async fn read(mut stderr: ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..length]);
        let excess = kept.len().saturating_sub(TAIL);
        kept.drain(..excess);
    }
}
