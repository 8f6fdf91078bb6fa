//! How near a certificate, a CA or a CRL is to its end.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expiry {
    Fine,
    /// Less is left than a quarter of the lifetime or 21 days, whichever is shorter: clients
    /// that renew at a third should have renewed by now. For a certificate, [`Thresholds`] may say
    /// otherwise; for a CRL, see [`Expiry::from_list`].
    Warning,
    /// Less is left than a tenth of the lifetime or 7 days, whichever is shorter, or than
    /// [`Thresholds`] say.
    Critical,
    Expired,
}

/// How long before its end a certificate is reported, where the operator says so: one that is renewed late in its life
/// would be reported in every cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thresholds {
    /// [`Expiry::Warning`] from this long before the end.
    pub(crate) warn: Option<SignedDuration>,
    /// [`Expiry::Critical`] from this long before the end; never more than `warn`.
    pub(crate) critical: Option<SignedDuration>,
}

impl Thresholds {
    /// These, or the usual ones; a usual one gives way to the one that is set, so that a warning comes first.
    fn or(self, [warn, critical]: [SignedDuration; 2]) -> [SignedDuration; 2] {
        match (self.warn, self.critical) {
            (None, None) => [warn, critical],
            (Some(warn), None) => [warn, critical.min(warn)],
            (None, Some(critical)) => [warn.max(critical), critical],
            (Some(warn), Some(critical)) => [warn, critical],
        }
    }

    pub(crate) fn are_usual(&self) -> bool {
        *self == Thresholds::default()
    }
}

impl Expiry {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Expired => "expired",
        }
    }

    /// How near to its end a certificate's validity is at `now`.
    pub(crate) fn from_validity(
        not_before: Timestamp,
        not_after: Timestamp,
        now: Timestamp,
        thresholds: Thresholds,
    ) -> Self {
        let [warn, critical] = thresholds.or(Self::usual(not_before, not_after, [21, 7]));
        Self::from_end(not_after, now, warn, critical)
    }

    /// How near to its end a CRL is at `now`: as for a certificate, but with 3 days and 1 day in
    /// place of 21 and 7, and with no warning in the first 25 hours of one that lasts a day or
    /// longer. One that is made anew every day is never near its end, however short it lasts.
    pub(crate) fn from_list(
        this_update: Timestamp,
        next_update: Timestamp,
        now: Timestamp,
    ) -> Self {
        let lasts_a_day = next_update.duration_since(this_update) >= SignedDuration::from_hours(24);
        let is_young = now.duration_since(this_update) < SignedDuration::from_hours(25);
        let [warn, critical] = Self::usual(this_update, next_update, [3, 1]);
        match Self::from_end(next_update, now, warn, critical) {
            Self::Warning | Self::Critical if lasts_a_day && is_young => Self::Fine,
            expiry => expiry,
        }
    }

    /// A quarter and a tenth of the lifetime, or these days where they are shorter.
    fn usual(begin: Timestamp, end: Timestamp, days: [i64; 2]) -> [SignedDuration; 2] {
        let lifetime = end.duration_since(begin).max(SignedDuration::ZERO);
        let [warn, critical] = days.map(|days| SignedDuration::from_hours(days * 24));
        [(lifetime / 4).min(warn), (lifetime / 10).min(critical)]
    }

    fn from_end(
        end: Timestamp,
        now: Timestamp,
        warn: SignedDuration,
        critical: SignedDuration,
    ) -> Self {
        let remaining = end.duration_since(now);
        if remaining.is_negative() {
            Self::Expired
        } else if remaining < critical {
            Self::Critical
        } else if remaining < warn {
            Self::Warning
        } else {
            Self::Fine
        }
    }
}
