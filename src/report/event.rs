//! One thing that pgcertd says, once: a line for a person, fields for the journal.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use super::field::Field;
use super::kind::{EventKind, Priority};

/// The target of what is one priority above the one that its level stands for. `tracing` has
/// no level for `notice` nor for `crit`; [`super::log`] gives these a layer of their own.
pub(crate) const RAISED: &str = "pgcertd::report::raised";

/// How often each kind was said since the process began, in the order of [`EventKind::ALL`].
static SAID: [AtomicU64; EventKind::ALL.len()] =
    [const { AtomicU64::new(0) }; EventKind::ALL.len()];

/// How often an event of this kind was said since the process began.
pub(crate) fn said(kind: EventKind) -> u64 {
    SAID[kind as usize].load(Ordering::Relaxed)
}

/// The target of all other events.
const PLAIN: &str = "pgcertd::report";

/// Something that happened. See [`EventKind`] for what may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    kind: EventKind,
    message: String,
    values: Vec<(Field, String)>,
}

impl Event {
    /// An event with its line, which says it all.
    pub(crate) fn new(kind: EventKind, message: impl Into<String>) -> Event {
        Event {
            kind,
            message: message.into(),
            values: vec![
                (Field::Event, kind.as_str().to_owned()),
                (Field::Topic, kind.topic().as_str().to_owned()),
            ],
        }
    }

    pub(crate) fn with(mut self, field: Field, value: impl Display) -> Event {
        self.values.push((field, value.to_string()));
        self
    }

    /// With a field, where there is a value for it.
    pub(crate) fn with_some(self, field: Field, value: Option<impl Display>) -> Event {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    pub(crate) fn kind(&self) -> EventKind {
        self.kind
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn value(&self, field: Field) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(of, _)| *of == field)?;
        Some(value)
    }

    /// Whether it carries what its kind always does, and nothing that its kind never does.
    pub(crate) fn is_as_documented(&self) -> bool {
        let declared = |field| {
            matches!(field, Field::Event | Field::Topic)
                || self.kind.always().contains(&field)
                || self.kind.may().contains(&field)
        };
        self.kind
            .always()
            .iter()
            .all(|field| self.value(*field).is_some())
            && self.values.iter().all(|(field, _)| declared(*field))
    }

    pub(crate) fn emit(&self) {
        debug_assert!(self.is_as_documented(), "{self:?}");
        SAID[self.kind as usize].fetch_add(1, Ordering::Relaxed);
        // Each use is a place of its own to `tracing`, which knows target and level of a place.
        macro_rules! record {
            ($target:expr, $level:ident) => {
                tracing::event!(
                    target: $target,
                    tracing::Level::$level,
                    message_id = self.kind.id(),
                    pgcertd_event = self.value(Field::Event),
                    pgcertd_topic = self.value(Field::Topic),
                    pgcertd_instance = self.value(Field::Instance),
                    pgcertd_lineage = self.value(Field::Lineage),
                    pgcertd_file = self.value(Field::File),
                    pgcertd_outcome = self.value(Field::Outcome),
                    pgcertd_state = self.value(Field::State),
                    pgcertd_old_state = self.value(Field::OldState),
                    pgcertd_place = self.value(Field::Place),
                    pgcertd_piece = self.value(Field::Piece),
                    pgcertd_changed = self.value(Field::Changed),
                    pgcertd_fingerprint = self.value(Field::Fingerprint),
                    pgcertd_old_fingerprint = self.value(Field::OldFingerprint),
                    pgcertd_served_fingerprint = self.value(Field::ServedFingerprint),
                    pgcertd_not_after = self.value(Field::NotAfter),
                    pgcertd_milliseconds = self.value(Field::Milliseconds),
                    pgcertd_problem = self.value(Field::Problem),
                    pgcertd_remedy = self.value(Field::Remedy),
                    "{}",
                    self.message
                )
            };
        }
        match self.kind.priority() {
            Priority::Critical => record!(RAISED, ERROR),
            Priority::Error => record!(PLAIN, ERROR),
            Priority::Warning => record!(PLAIN, WARN),
            Priority::Notice => record!(RAISED, INFO),
            Priority::Info => record!(PLAIN, INFO),
        }
    }
}
