//! What was reported about each subject, and what to report now.
//!
//! A pure function of what was seen and what was reported; time is passed in. A change is reported once it has lasted. Only
//! [`Ledger::delivered`] marks it as reported, so what could not be delivered stays due, in its current form.
//!
//! A subject that comes and goes is reported early and then rarely: a problem that comes for the fourth time within an hour
//! is reported at once, and no subject is reported more than six times an hour. The last of these is always a problem, so
//! that the silence after it never looks like health.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::standing::Standing;
use crate::bundle::Piece;
use crate::config::{Notify, Occasion};

/// The time that the limits below refer to.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// A problem that has come this often within [`WINDOW`] is reported at once.
const RESTLESS: usize = 4;

/// The most often that a subject is reported within [`WINDOW`].
const MOST: usize = 6;

/// What a subject is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum About {
    Daemon,
    /// The state of an instance.
    Instance,
    /// The expiry of an instance's certificates.
    Expiry,
    /// The expiry of its CAs of clients.
    CaExpiry,
    /// The expiry of its CRLs.
    CrlExpiry,
    /// Which certificate an instance serves, and which CAs it accepts clients from.
    Deployment,
    /// A server on this host that no instance covers.
    Uncovered,
}

impl About {
    /// The subject of this piece's expiry.
    pub(crate) fn expiry_of(piece: Piece) -> About {
        match piece {
            Piece::Ca => About::CaExpiry,
            Piece::Crl => About::CrlExpiry,
            _ => About::Expiry,
        }
    }

    /// The piece whose expiry this is about, if it is about one.
    pub(crate) fn piece(self) -> Option<Piece> {
        let is_about = |piece: &Piece| About::expiry_of(*piece) == self;
        Piece::RENEWED.into_iter().find(is_about)
    }
}

/// One thing that may change and is reported by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NoticeSubject {
    pub(crate) about: About,
    /// The instance's name or the server's data directory; empty for the daemon.
    pub(crate) name: String,
}

impl NoticeSubject {
    pub(crate) fn new(about: About, name: impl Into<String>) -> NoticeSubject {
        let name = name.into();
        NoticeSubject { about, name }
    }
}

/// Now, by both clocks: what is remembered across restarts needs wall time, and durations must not depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoticeMoment {
    pub(crate) wall: Timestamp,
    /// By the monotonic clock.
    pub(crate) at: Instant,
}

impl NoticeMoment {
    pub(crate) fn now() -> NoticeMoment {
        NoticeMoment {
            wall: Timestamp::now(),
            at: Instant::now(),
        }
    }

    /// Whether it was less than `span` ago; false for a time in the future, after the clock was set back.
    fn is_within(&self, span: Duration, then: Timestamp) -> bool {
        let passed = Duration::try_from(self.wall.duration_since(then));
        passed.is_ok_and(|passed| passed < span)
    }
}

/// A change to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateChange {
    pub(crate) subject: NoticeSubject,
    pub(crate) occasion: Occasion,
    /// What was reported last, if anything was.
    pub(crate) old: Option<Standing>,
    pub(crate) new: Standing,
    /// When the problem was first seen, even if this is its end.
    pub(crate) since: Option<Timestamp>,
    /// How often the problem has come within the last hour.
    pub(crate) times: usize,
}

/// A problem that was reported and is not fixed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lasting {
    pub(crate) subject: NoticeSubject,
    pub(crate) standing: Standing,
    /// When it was first seen.
    pub(crate) since: Option<Timestamp>,
}

/// What one notification is about; at least one of the two is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) changes: Vec<StateChange>,
    /// Other problems, which were reported before and last.
    pub(crate) lasting: Vec<Lasting>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    entries: BTreeMap<NoticeSubject, LedgerEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LedgerEntry {
    /// How it stood when it was last reported, or when it didn't have to be.
    told: Option<Standing>,
    /// When the reported problem was first seen.
    since: Option<Timestamp>,
    /// When it was last in a notification.
    last: Option<Timestamp>,
    /// When its changes were reported, within the last hour.
    times: Vec<Timestamp>,
    #[serde(skip)]
    pending: Option<PendingNotice>,
    #[serde(skip)]
    came: Vec<Instant>,
}

/// How it differs from what was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PendingNotice {
    standing: Standing,
    at: Instant,
    wall: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct LedgerRow<E> {
    #[serde(flatten)]
    subject: NoticeSubject,
    #[serde(flatten)]
    entry: E,
}

impl Ledger {
    /// Records how things stand. Nothing is known now about subjects that are missing here.
    pub(crate) fn see(&mut self, seen: &BTreeMap<NoticeSubject, Standing>, now: NoticeMoment) {
        for (subject, standing) in seen {
            let entry = self.entries.entry(subject.clone()).or_default();
            entry.see(subject.about, standing, now);
        }
    }

    /// The known subjects.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &NoticeSubject> {
        self.entries.keys()
    }

    /// Forgets the subjects that no longer exist, which is not news. `known` gets whether something about the subject has yet
    /// to be reported or fixed.
    pub(crate) fn keep(&mut self, known: impl Fn(&NoticeSubject, bool) -> bool) {
        self.entries.retain(|subject, entry| {
            let done =
                entry.pending.is_none() && entry.told.as_ref().is_none_or(|standing| standing.well);
            known(subject, !done)
        });
    }

    /// What to report now, if anything.
    pub(crate) fn due(&mut self, rules: &Notify, now: NoticeMoment) -> Option<Batch> {
        self.pass_over(rules, now);
        let ready =
            |notice: &&DueNotice<'_>| notice.entry.has_lasted(&notice.change, rules.after, now);
        let candidates: Vec<DueNotice<'_>> = self.candidates(&rules.on, now).collect();
        let some = candidates.iter().any(|notice| ready(&notice));
        if !some && !self.is_to_be_repeated(rules, now) {
            return None;
        }
        // Changes that happen together are reported together, even if they weren't seen at the same moment.
        let together = candidates.into_iter().filter(|notice| {
            some && notice
                .entry
                .has_lasted(&notice.change, rules.after.div_f64(2.0), now)
        });
        let changes: Vec<StateChange> = together.map(|notice| notice.change).collect();
        let lasting = self.lasting(&changes);
        Some(Batch { changes, lasting })
    }

    /// When the next change may become due; none if no change is under way.
    pub(crate) fn wake(&self, after: Duration, now: NoticeMoment) -> Option<Duration> {
        let pending = self
            .entries
            .values()
            .filter_map(|entry| entry.pending.as_ref());
        let left = pending.map(|notice| after.saturating_sub(now.at.duration_since(notice.at)));
        left.filter(|duration| !duration.is_zero()).min()
    }

    /// Marks what was delivered as reported.
    pub(crate) fn delivered(&mut self, batch: &Batch, now: NoticeMoment) {
        for change in &batch.changes {
            let entry = self.entries.entry(change.subject.clone()).or_default();
            entry.times.push(now.wall);
            entry.take(&change.new, change.since, now);
        }
        for lasting in &batch.lasting {
            if let Some(entry) = self.entries.get_mut(&lasting.subject) {
                entry.last = Some(now.wall);
            }
        }
    }

    /// The form in which it is stored.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        let rows = self.entries.iter().map(|(subject, entry)| LedgerRow {
            subject: subject.clone(),
            entry,
        });
        serde_json::to_string(&rows.collect::<Vec<_>>())
    }

    /// What [`Ledger::to_json`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn from_json(text: &[u8]) -> serde_json::Result<Ledger> {
        let rows: Vec<LedgerRow<LedgerEntry>> = serde_json::from_slice(text)?;
        let entries = rows.into_iter().map(|row| (row.subject, row.entry));
        Ok(Ledger {
            entries: entries.collect(),
        })
    }

    /// Marks what nobody wants to hear as reported.
    fn pass_over(&mut self, rules: &Notify, now: NoticeMoment) {
        for (subject, entry) in &mut self.entries {
            let Some(change) = entry.change(subject, now) else {
                continue;
            };
            if !rules.on.contains(&change.occasion) && entry.has_lasted(&change, rules.after, now) {
                entry.take(&change.new, change.since, now);
            }
        }
    }

    /// The changes that may be reported if they last.
    fn candidates<'a>(
        &'a self,
        on: &'a BTreeSet<Occasion>,
        now: NoticeMoment,
    ) -> impl Iterator<Item = DueNotice<'a>> {
        self.entries.iter().filter_map(move |(subject, entry)| {
            let change = entry.change(subject, now)?;
            let allowed = on.contains(&change.occasion) && entry.may_be_told(change.occasion, now);
            allowed.then_some(DueNotice { entry, change })
        })
    }

    fn is_to_be_repeated(&self, rules: &Notify, now: NoticeMoment) -> bool {
        let old = |entry: &LedgerEntry| {
            entry.is_lasting()
                && entry
                    .last
                    .is_none_or(|last| !now.is_within(rules.repeat, last))
        };
        rules.on.contains(&Occasion::Failure) && self.entries.values().any(old)
    }

    fn lasting(&self, changes: &[StateChange]) -> Vec<Lasting> {
        let beside = self.entries.iter().filter(|(subject, entry)| {
            entry.is_lasting() && !changes.iter().any(|change| change.subject == **subject)
        });
        let lasting = beside.filter_map(|(subject, entry)| {
            Some(Lasting {
                subject: subject.clone(),
                standing: entry.told.clone()?,
                since: entry.since,
            })
        });
        lasting.collect()
    }
}

struct DueNotice<'a> {
    entry: &'a LedgerEntry,
    change: StateChange,
}

impl LedgerEntry {
    fn see(&mut self, about: About, standing: &Standing, now: NoticeMoment) {
        self.came
            .retain(|time| now.at.duration_since(*time) < WINDOW);
        let was_well = self.told.as_ref().is_none_or(|standing| standing.well);
        let first = self.told.is_none() && standing.well;
        let uneventful = about != About::Deployment && was_well && standing.well;
        if first || uneventful || self.told.as_ref() == Some(standing) {
            self.told = Some(standing.clone());
            self.pending = None;
            return;
        }
        match &mut self.pending {
            // A problem that changes its form has lasted all the same.
            Some(pending) if !pending.standing.well && !standing.well => {
                pending.standing.clone_from(standing);
            }
            Some(pending) if pending.standing == *standing => {}
            other => {
                *other = Some(PendingNotice {
                    standing: standing.clone(),
                    at: now.at,
                    wall: now.wall,
                });
                if was_well && !standing.well {
                    self.came.push(now.at);
                }
            }
        }
    }

    fn change(&self, subject: &NoticeSubject, now: NoticeMoment) -> Option<StateChange> {
        let pending = self.pending.as_ref()?;
        let occasion = match (subject.about, pending.standing.well) {
            (About::Deployment, _) => Occasion::Deployed,
            (_, true) => Occasion::Recovery,
            (_, false) => Occasion::Failure,
        };
        let begun = (!pending.standing.well).then_some(pending.wall);
        let came = self.came.iter();
        Some(StateChange {
            subject: subject.clone(),
            occasion,
            old: self.told.clone(),
            new: pending.standing.clone(),
            since: self.since.or(begun),
            times: came
                .filter(|time| now.at.duration_since(**time) < WINDOW)
                .count(),
        })
    }

    fn has_lasted(&self, change: &StateChange, after: Duration, now: NoticeMoment) -> bool {
        let restless = change.occasion == Occasion::Failure && change.times >= RESTLESS;
        let age = self
            .pending
            .as_ref()
            .map(|notice| now.at.duration_since(notice.at));
        restless || age.is_some_and(|age| age >= after)
    }

    /// The last report about a restless subject is always a problem.
    fn may_be_told(&self, occasion: Occasion, now: NoticeMoment) -> bool {
        let recent = self
            .times
            .iter()
            .filter(|time| now.is_within(WINDOW, **time));
        let most = match occasion {
            Occasion::Recovery => MOST - 1,
            Occasion::Failure | Occasion::Deployed => MOST,
        };
        recent.count() < most
    }

    fn is_lasting(&self) -> bool {
        let unwell = self.told.as_ref().is_some_and(|standing| !standing.well);
        unwell
            && self
                .pending
                .as_ref()
                .is_none_or(|notice| !notice.standing.well)
    }

    fn take(&mut self, new: &Standing, since: Option<Timestamp>, now: NoticeMoment) {
        self.times.retain(|time| now.is_within(WINDOW, *time));
        self.since = since.filter(|_| !new.well);
        self.last = Some(now.wall);
        self.told = Some(new.clone());
        // What came meanwhile is still due.
        if self
            .pending
            .as_ref()
            .is_some_and(|notice| notice.standing == *new)
        {
            self.pending = None;
        }
    }
}

#[cfg(test)]
mod tests;
