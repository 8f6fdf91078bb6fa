//! One lineage over time: when it is read, by which thread, and what it holds.
//!
//! It is read on its own thread, with Landlock rules for the directories of its files. When its links lead elsewhere, a new
//! thread with new rules takes over.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::read::Users;
use super::{
    Change, Fit, Layout, Opened, Parts, ReadError, Reading, Settled, Settler, Source, Spec, Stamp,
    Trail,
};
use super::{read, settle};
use crate::bundle::{Bundle, BundleError, ClientTrust, KeyedBundle};
use crate::host::privilege::{PrivilegeError, Rights, Worker};
use crate::problem::Problem;

/// How long a command waits for files that keep changing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long whoever holds an instance's lock waits for files that keep changing: meanwhile others wait for the lock.
pub(crate) const PATIENCE_UNDER_LOCK: Duration = Duration::from_secs(5);

/// Why a reading holds no bundle.
enum LineageFault {
    Read(ReadError),
    Bundle(BundleError),
}

impl LineageFault {
    /// Whether a later event may fix it by itself.
    fn may_pass(&self) -> bool {
        match self {
            LineageFault::Read(error) => error.class() == super::ReadErrorClass::Incomplete,
            LineageFault::Bundle(error) => error.may_pass(),
        }
    }

    fn fit(&self) -> Fit {
        if self.may_pass() {
            Fit::Incomplete
        } else {
            Fit::Unfit
        }
    }
}

/// A reading, and the bundle in it.
struct Parsed {
    reading: Reading,
    bundle: Result<KeyedBundle, LineageFault>,
}

/// A lineage that is followed.
#[derive(Debug)]
pub(crate) struct Tracked {
    spec: Spec,
    layout: Option<Layout>,
    /// The users that were asked about.
    users: Arc<Users>,
    reader: Option<Worker>,
    settler: Settler,
    source: Option<Source>,
    /// The stamps of the last reading; none while no reading counts.
    stamps: Option<Vec<Stamp>>,
    trail: Trail,
}

impl Tracked {
    /// Starts without any history: the first reading is judged only by its change times.
    pub(crate) fn new(spec: Spec, debounce: Duration, settle_timeout: Duration) -> Tracked {
        let mut settler = Settler::new(debounce, settle_timeout);
        settler.unknown(Instant::now());
        Tracked {
            spec,
            layout: None,
            users: Arc::default(),
            reader: None,
            settler,
            source: None,
            stamps: None,
            trail: Trail::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// What the lineage holds, once that is known.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Where a change would matter, as of the last reading.
    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Something happened to a path.
    pub(crate) fn event(&mut self, path: &Path, change: Change, at: Instant) {
        self.settler.event(path, change, at);
    }

    /// Something may have happened without an event.
    pub(crate) fn unknown(&mut self) {
        self.settler.unknown(Instant::now());
    }

    /// When to read next; `None` is: when an event comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.settler.due()
    }

    /// Reads the lineage and decides whether the reading counts; returns what was read if it does.
    ///
    /// # Errors
    /// The reader thread could not be started.
    pub(crate) async fn read(&mut self) -> Result<Option<Opened>, PrivilegeError> {
        let (at, wall) = (Instant::now(), Timestamp::now());
        let Parsed { reading, bundle } = self.parsed().await?;
        let fit = bundle
            .as_ref()
            .map_or_else(LineageFault::fit, |_| Fit::Fits);
        let verdict = self.settler.read(&reading, fit, at, wall);
        if bundle.is_ok() && verdict == Settled::Taken {
            self.layout.clone_from(&reading.layout);
        }
        let counts = !matches!(verdict, Settled::NotYet { .. });
        self.stamps = counts.then(|| reading.stamps.clone());
        let (bundle, keyed) = match bundle {
            Ok(keyed) => (Ok(Arc::clone(keyed.bundle())), Some(Arc::new(keyed))),
            Err(fault) => (Err(fault), None),
        };
        let source = judged(&self.spec, bundle, verdict, &reading, wall);
        self.trail = reading.trail;
        Ok(source.map(|source| {
            self.source = Some(source.clone());
            let trail = self.trail.clone();
            Opened {
                source,
                keyed,
                trail,
            }
        }))
    }

    /// Whether the last reading counts. If not, [`Tracked::source`] is what was known before.
    pub(crate) fn is_settled(&self) -> bool {
        self.stamps.is_some()
    }

    /// What the lineage is known to hold, if its files still look like they did when they were read; nothing is opened.
    ///
    /// # Errors
    /// The reader thread has ended.
    pub(crate) async fn unchanged(&self) -> Result<Option<&Source>, PrivilegeError> {
        let (Some(stamps), Some(reader)) = (&self.stamps, &self.reader) else {
            return Ok(None);
        };
        if self.due().is_some_and(|due| due <= Instant::now()) {
            return Ok(None);
        }
        let (spec, layout) = (self.spec.clone(), self.layout.clone());
        let users = Arc::clone(&self.users);
        let now = reader.call(move || read::stamps(&spec, layout, &users));
        let now = now.await?;
        Ok(self
            .source
            .as_ref()
            .filter(|_| now.as_ref() == Some(stamps)))
    }

    /// Reads until the reading counts, for a command that runs once.
    ///
    /// # Errors
    /// The reader thread could not be started.
    pub(crate) async fn settled(&mut self) -> Result<Source, PrivilegeError> {
        Ok(self.opened_within(PATIENCE).await?.source)
    }

    /// Reads until the reading counts or `patience` is over.
    ///
    /// # Errors
    /// The reader thread could not be started.
    pub(crate) async fn opened_within(
        &mut self,
        patience: Duration,
    ) -> Result<Opened, PrivilegeError> {
        let began = Instant::now();
        loop {
            if let Some(opened) = self.read().await? {
                return Ok(opened);
            }
            let pause = self.due().unwrap_or_else(Instant::now);
            let latest = began + patience;
            if Instant::now() >= latest {
                return Ok(self.restless());
            }
            tokio::time::sleep_until(pause.min(latest).into()).await;
        }
    }

    /// What to report about a lineage whose files keep changing: what was known before may be older than what somebody else
    /// has deployed meanwhile.
    pub(crate) fn restless(&self) -> Opened {
        Opened::from(Source::Waiting {
            problem: format!("lineage {}: its files keep changing", self.spec.name).into(),
        })
    }

    async fn parsed(&mut self) -> Result<Parsed, PrivilegeError> {
        let parsed = self.parsed_once().await?;
        let Err(LineageFault::Read(ReadError::Swayed(unfit))) = &parsed.bundle else {
            return Ok(parsed);
        };
        // Whether it is acceptable depends on who is in which group; only ask if that matters, and only about these users.
        let asked = unfit.users().clone();
        let mut users = (*self.users).clone();
        // Without an answer it stays refused.
        users.extend(told(asked).await);
        if users == *self.users {
            return Ok(parsed);
        }
        self.users = Arc::new(users);
        self.parsed_once().await
    }

    async fn parsed_once(&mut self) -> Result<Parsed, PrivilegeError> {
        let parsed = match self.reader.take() {
            Some(reader) => {
                let parsed = self.read_on(&reader).await?;
                let denied = matches!(
                    parsed.bundle,
                    Err(LineageFault::Read(ReadError::Denied { .. }))
                );
                if !denied && reader.covers_held(&parsed.reading.homes) {
                    self.reader = Some(reader);
                    return Ok(parsed);
                }
                None
            }
            None => None,
        };
        if let Some(parsed) = parsed {
            return Ok(parsed);
        }
        // The links lead where the thread may not look, or there is no thread yet.
        let (spec, layout) = (self.spec.clone(), self.layout.clone());
        let users = Arc::clone(&self.users);
        let name = format!("r:{}", self.spec.name);
        let reader = Worker::start(name, move || Rights::Reader {
            directories: read::homes(&spec, layout, &users),
        })
        .await?;
        let parsed = self.read_on(&reader).await?;
        self.reader = Some(reader);
        Ok(parsed)
    }

    async fn read_on(&self, reader: &Worker) -> Result<Parsed, PrivilegeError> {
        let (spec, layout) = (self.spec.clone(), self.layout.clone());
        let users = Arc::clone(&self.users);
        reader
            .call(move || {
                #[cfg(feature = "failpoints")]
                fail::fail_point!("read");
                let mut reading = read::read(&spec, layout, &users);
                let parts = std::mem::replace(
                    &mut reading.parts,
                    Err(ReadError::DirectoryMissing {
                        candidates: Vec::new(),
                    }),
                );
                let parts = parts.map_err(LineageFault::Read);
                let bundle = parts.and_then(|parts| whole(&parts).map_err(LineageFault::Bundle));
                Parsed { reading, bundle }
            })
            .await
    }
}

/// How long the system may take to say who is in which group: a directory service may not respond.
const ANSWER: Duration = Duration::from_secs(3);

/// What the system says about these users, as far as it responds in time.
pub(crate) async fn told(users: BTreeSet<u32>) -> Users {
    let asked = tokio::task::spawn_blocking(move || Users::asked(&users));
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(users)) => users,
        Ok(Err(_)) | Err(_) => Users::default(),
    }
}

/// What was read, as one bundle.
fn whole(parts: &Parts) -> Result<KeyedBundle, BundleError> {
    let chain: Vec<&[u8]> = parts.chain.iter().map(|c| c.as_slice()).collect();
    let bundle = KeyedBundle::parse(&chain, &parts.key)?;
    Ok(bundle.with(ClientTrust::parse(&parts.trust_files)?))
}

/// The source that follows from a reading and its verdict; `None` keeps what was known.
fn judged(
    spec: &Spec,
    bundle: Result<Arc<Bundle>, LineageFault>,
    verdict: settle::Settled,
    reading: &Reading,
    wall: Timestamp,
) -> Option<Source> {
    match (bundle, verdict) {
        (_, Settled::NotYet { .. }) => None,
        (Ok(bundle), _) => Some(Source::Ready {
            bundle,
            changed: reading.newest_change.unwrap_or(wall),
        }),
        (Err(fault), verdict) => {
            let denied = matches!(fault, LineageFault::Read(ReadError::Denied { .. }));
            let waits = fault.may_pass() && matches!(verdict, Settled::Waiting { .. });
            let problem = match fault {
                LineageFault::Read(error) => error.problem(),
                LineageFault::Bundle(error) => {
                    let fix = if waits {
                        "waiting for the rest of the renewal"
                    } else {
                        error.remedy()
                    };
                    let place = place(spec, reading, &error);
                    Problem::new(format!("{place}: {error}"), fix)
                }
            };
            Some(if waits {
                Source::Waiting { problem }
            } else {
                Source::Invalid { problem, denied }
            })
        }
    }
}

/// Where the files are that an error is about, as part of a sentence.
fn place(spec: &Spec, reading: &Reading, error: &BundleError) -> String {
    let directory = reading.directory.as_deref().unwrap_or(Path::new("/"));
    if let Some(Some(path)) = spec.trust_files.get(error.piece()) {
        return directory.join(path).display().to_string();
    }
    let mut names: Vec<&str> = reading.layout.as_ref().map_or_else(Vec::new, |layout| {
        let mut names = layout.chain();
        names.push(layout.key());
        names
    });
    names.dedup();
    format!("{} ({})", directory.display(), names.join(", "))
}

impl From<&crate::config::InstanceConfig> for Spec {
    fn from(instance: &crate::config::InstanceConfig) -> Spec {
        Spec {
            name: instance.lineage.name.clone(),
            candidates: instance.lineage.candidates.clone(),
            files: instance.files.as_ref().map(|files| super::FileNames {
                chain: files.chain.clone(),
                key: files.key.clone(),
            }),
            trust_files: instance
                .trust_files()
                .map(|file| Some(file?.source.clone())),
        }
    }
}
