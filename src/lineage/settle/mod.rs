//! When a lineage is read, and whether what was read is a finished renewal: by evidence, not only by the clock.
//!
//! | what happened to the lineage's files | a matching bundle is accepted |
//! | --- | --- |
//! | a link was created, something was moved there, a name was deleted | at once: such a step replaces a whole file |
//! | a file was written in place | once it is closed and `debounce` has passed without events |
//! | it was created and not closed (a hard link, a writer that hasn't begun) | after `debounce` without an event or a new stamp |
//! | it was written and not closed | after `settle_timeout` without an event or a new stamp |
//! | unknown: start, overflow, new watch, poll | once every ctime is older than `debounce`, or hasn't changed for that long |
//!
//! A file that is known to be open for writing holds back everything else. Files that are written before the lineage leads to
//! them (certbot's `archive/NAME/privkeyN.pem`, its neighbours in lego's one directory) cause no read and no delay, but it is
//! remembered that they are open until they are closed.
//!
//! A pure state machine, one for each lineage: time is passed in, nothing is read, nothing sleeps. A reading that was
//! overtaken by an event is never accepted.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::read::{Reading, Stamp, StampKind};

/// The most paths that are remembered; with one more, the history counts as lost.
const REMEMBERED: usize = 1024;

/// The pause between two reads that only differ by the wall clock.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What happened to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Replaced,
    /// Its content changed in place, or it was truncated.
    Written,
    /// It was closed after being open for writing.
    Closed,
    /// It was deleted or moved away.
    Removed,
    /// A file, a link or a directory was created there; inotify doesn't say which.
    Created,
    /// Its owner, mode or times changed: not its content, but it may be readable now.
    Attributes,
}

/// What the bundle's checks say about a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Complete, and its files match; whether it may be installed is another question.
    Fits,
    /// A file is missing, or chain and key don't match yet.
    Incomplete,
    /// It cannot be read or parsed, like half a file.
    Unfit,
}

/// The verdict on a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The bundle is complete: compare it with what is installed. The same bundle may be accepted repeatedly.
    Taken,
    /// Not enough evidence, whatever the reading holds; [`Settler::due`] says the same instant.
    NotYet {
        /// When to read again, if no event comes first. May be in the past.
        again: Instant,
    },
    /// Nobody is writing, but it doesn't match: half a renewal, which the next event may complete.
    Waiting {
        /// When it becomes a problem.
        problem_at: Timestamp,
    },
    /// It doesn't match, and nothing has changed for `settle_timeout`.
    Problem,
}

/// Decides when one lineage is read and whether the reading counts.
#[derive(Debug)]
pub(crate) struct Settler {
    debounce: Duration,
    settle_timeout: Duration,
    /// The paths of the last reading.
    trail: BTreeSet<PathBuf>,
    touches: HashMap<PathBuf, Touch>,
    /// Number of the latest event: the order of events is exact, but their instants may be equal.
    order: u64,
    /// The event just before removed a file that was open: it may be one half of a rename.
    open_file_removed: bool,
    history_lost: bool,
    seen: Option<Seen>,
    read_at: Option<Instant>,
    problem_at: Option<Instant>,
}

/// What is known about one path since its last quiet time.
#[derive(Debug)]
struct Touch {
    latest: BothClocks,
    state: SettleState,
}

#[derive(Debug, Clone, Copy)]
struct BothClocks {
    order: u64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettleState {
    /// Created; the next reading shows as what.
    Created,
    /// Replaced by a whole file, link or directory, or deleted.
    Replaced,
    /// Created in place as a file and not closed since: open for writing, or a hard link.
    Made,
    /// Written in place and not closed since.
    Open,
    /// Written in place and closed: while the lineage led to it, or before.
    Closed {
        in_trail: bool,
    },
    Touched,
}

/// Stamps, and since when they have been unchanged.
#[derive(Debug)]
struct Seen {
    stamps: Vec<Stamp>,
    since: Instant,
    /// Their newest change was in the future at that time: the clock was set back.
    ahead: bool,
}

impl Settler {
    /// A settler that knows nothing: call [`Settler::unknown`] to begin.
    ///
    /// `debounce` is the quiet time that ends a burst of writes in place; `settle_timeout` is how long files may fail to
    /// match before that is a problem.
    pub(crate) fn new(debounce: Duration, settle_timeout: Duration) -> Self {
        Self {
            debounce,
            settle_timeout,
            trail: BTreeSet::new(),
            touches: HashMap::new(),
            order: 0,
            open_file_removed: false,
            history_lost: true,
            seen: None,
            read_at: None,
            problem_at: None,
        }
    }

    /// Something happened to `path`, of this lineage or any other; `at` is when it was heard of.
    pub(crate) fn event(&mut self, path: &Path, change: Change, at: Instant) {
        self.order += 1;
        let latest = BothClocks {
            order: self.order,
            at,
        };
        let in_trail = self.trail.contains(path);
        let before = self.touches.get(path).map(|touch| touch.state);
        // A writer that renames before it closes: the open file has the new name from now on.
        let renamed_open = std::mem::take(&mut self.open_file_removed);
        let state = match change {
            Change::Created => SettleState::Created,
            Change::Replaced if renamed_open => SettleState::Open,
            Change::Replaced => SettleState::Replaced,
            Change::Removed => {
                self.open_file_removed =
                    matches!(before, Some(SettleState::Open | SettleState::Made));
                SettleState::Replaced
            }
            Change::Written => SettleState::Open,
            Change::Closed => SettleState::Closed { in_trail },
            Change::Attributes => SettleState::Touched,
        };
        match self.touches.get_mut(path) {
            // A changed mode says nothing about the content, nor when that was written.
            Some(touch) if change == Change::Attributes => touch.latest.at = at,
            _ => {
                self.touches
                    .insert(path.to_owned(), Touch { latest, state });
            }
        }
        if in_trail {
            self.read_at = Some(match change {
                Change::Created | Change::Replaced | Change::Removed => at,
                Change::Written | Change::Closed => at + self.debounce,
                Change::Attributes => self.read_at.unwrap_or(at),
            });
        } else if self.touches.len() > REMEMBERED {
            self.forget_strangers(at);
        }
    }

    /// What happened until now is unknown: at start, at a resync or poll, after an overflow, after a new watch.
    pub(crate) fn unknown(&mut self, at: Instant) {
        self.history_lost = true;
        self.read_at = Some(at);
        // The CLOSE of an open file may have been missed.
        for touch in self.touches.values_mut() {
            if touch.state == SettleState::Open {
                touch.state = SettleState::Made;
            }
        }
    }

    /// When to read the lineage next; none while only an event can change anything. May be in the past.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.read_at.into_iter().chain(self.problem_at).min()
    }

    /// Judges a reading, with `fits` from the bundle's checks.
    ///
    /// `at` and `wall` are the two clocks from **before** the reading began: an event that has arrived since then overtakes it.
    pub(crate) fn read(
        &mut self,
        reading: &Reading,
        fits: Fit,
        at: Instant,
        wall: Timestamp,
    ) -> Settled {
        let since = self.seen(reading, at, wall);
        self.trail.clone_from(&reading.trail.paths);
        self.problem_at = None;
        self.tell_links_from_files(&reading.stamps, at);
        if let Some(again) = self.obstacle(reading, since, at, wall) {
            self.read_at = Some(again);
            self.touches.retain(|path, touch| {
                self.trail.contains(path) || touch.matters(at, self.debounce)
            });
            return Settled::NotYet { again };
        }
        self.history_lost = false;
        self.read_at = None;
        self.touches.retain(|path, touch| {
            touch.is_open() || (!self.trail.contains(path) && touch.matters(at, self.debounce))
        });
        match fits {
            Fit::Fits => Settled::Taken,
            Fit::Incomplete | Fit::Unfit => self.unmatched(reading, at, wall),
        }
    }

    /// Since when the stamps have been these.
    fn seen(&mut self, reading: &Reading, at: Instant, wall: Timestamp) -> Instant {
        match &self.seen {
            Some(seen) if reading.stable && seen.stamps == reading.stamps => seen.since,
            _ => {
                let ahead = reading.newest_change.is_some_and(|newest| newest > wall);
                self.seen = Some(Seen {
                    stamps: reading.stamps.clone(),
                    since: at,
                    ahead,
                });
                at
            }
        }
    }

    /// notify reports CREATE for links and files alike. A link is complete once it exists; a file has just been opened.
    fn tell_links_from_files(&mut self, stamps: &[Stamp], at: Instant) {
        for stamp in stamps {
            if let Some(touch) = self.touches.get_mut(&stamp.path)
                && touch.state == SettleState::Created
                && touch.latest.at <= at
            {
                touch.state = match stamp.kind {
                    StampKind::Link => SettleState::Replaced,
                    StampKind::File => SettleState::Made,
                };
            }
        }
    }

    /// When to look again, if there isn't enough evidence.
    fn obstacle(
        &self,
        reading: &Reading,
        since: Instant,
        at: Instant,
        wall: Timestamp,
    ) -> Option<Instant> {
        let touches = || {
            self.touches
                .iter()
                .filter(|(path, _)| self.trail.contains(*path))
                .map(|(_, touch)| touch)
        };
        let replaced = touches()
            .filter(|touch| touch.state == SettleState::Replaced)
            .map(|touch| touch.latest.order)
            .max();
        let unchanged = since + self.debounce;
        let written = touches().filter_map(|touch| {
            let quiet = touch.latest.at + self.debounce;
            match touch.state {
                SettleState::Made => Some(quiet.max(unchanged)),
                SettleState::Open => Some(touch.latest.at.max(since) + self.settle_timeout),
                // What was written before a link led to it was complete when the link was created.
                SettleState::Closed { in_trail }
                    if in_trail || Some(touch.latest.order) > replaced =>
                {
                    Some(quiet)
                }
                _ => None,
            }
        });
        let overtaken = touches()
            .map(|touch| touch.latest.at)
            .filter(|event| *event > at)
            .max();
        // The event that explains it is still on its way.
        let torn = (!reading.stable && overtaken.is_none()).then_some(at + self.debounce);
        let unproven = if self.history_lost {
            self.unproven(reading, unchanged, at, wall)
        } else {
            None
        };
        written
            .filter(|until| *until > at)
            .chain(overtaken)
            .chain(torn)
            .chain(unproven)
            .max()
    }

    /// When stamps without a history will be old enough; none if they are.
    fn unproven(
        &self,
        reading: &Reading,
        unchanged: Instant,
        at: Instant,
        wall: Timestamp,
    ) -> Option<Instant> {
        let newest = reading.stamps.iter().filter_map(Stamp::changed).max()?;
        let debounce = SignedDuration::try_from(self.debounce).unwrap_or(SignedDuration::MAX);
        let missing = debounce.saturating_sub(wall.duration_since(newest));
        if !missing.is_positive() || unchanged <= at {
            return None;
        }
        // A ctime in the future, after the clock was set back, would never grow old: `unchanged` ends that.
        let old = Duration::try_from(missing)
            .ok()
            .and_then(|missing| at.checked_add(missing));
        Some(
            old.map_or(unchanged, |old| old.min(unchanged))
                .max(at + SHORTEST_WAIT),
        )
    }

    /// Nobody is writing, but it doesn't match: until when is that acceptable?
    fn unmatched(&mut self, reading: &Reading, at: Instant, wall: Timestamp) -> Settled {
        let Some(newest) = reading.newest_change else {
            return Settled::Problem;
        };
        let by_clock = Duration::try_from(wall.duration_since(newest)).unwrap_or_default(); // the future counts as now
        let by_memory = self
            .seen
            .as_ref()
            .filter(|seen| seen.ahead)
            .map(|seen| at.saturating_duration_since(seen.since));
        let left = self
            .settle_timeout
            .saturating_sub(by_clock.max(by_memory.unwrap_or_default()));
        if left.is_zero() {
            return Settled::Problem;
        }
        self.problem_at = at.checked_add(left);
        Settled::Waiting {
            problem_at: wall.saturating_add(left).unwrap_or(Timestamp::MAX),
        }
    }

    /// Limits memory if many lineages share a directory.
    fn forget_strangers(&mut self, at: Instant) {
        self.touches
            .retain(|path, touch| self.trail.contains(path) || touch.matters(at, self.debounce));
        if self.touches.len() > REMEMBERED {
            self.touches.retain(|path, _| self.trail.contains(path));
            self.history_lost = true;
        }
    }
}

impl Touch {
    /// Whether it may matter if the lineage leads there later.
    fn matters(&self, at: Instant, debounce: Duration) -> bool {
        self.is_open() || self.latest.at + debounce > at
    }

    fn is_open(&self) -> bool {
        matches!(self.state, SettleState::Open | SettleState::Made)
    }
}
