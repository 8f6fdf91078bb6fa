//! What was said of an instance so far, and so what is new: each thing is said once.
//!
//! A pure function of what was said and what was seen; time is passed in.

use std::time::Instant;

use super::deployment::DeploymentReport;
use super::event::Event;
use super::field::Field;
use super::kind::EventKind;
use super::latch::{Latch, News};
use super::view::{CertificateView, InstanceView};
use crate::config;
use crate::deploy::state::State;
use crate::deploy::{Done, Reconciled, Remark};
use crate::problem::Problem;
use crate::text::rounded;

/// What was last said of one instance.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    state: Option<State>,
    problem: Option<String>,
    remarks: Vec<Remark>,
    /// Since when it has not been well, and the last state in which it was not.
    trouble: Option<(Instant, State)>,
    /// Whether its server could not start again.
    danger: Latch<()>,
}

/// What was seen and done, as far as something is said of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportedState<'a> {
    pub(crate) config: &'a config::InstanceConfig,
    /// What is shown of it.
    pub(crate) view: &'a InstanceView,
    pub(crate) done: &'a Done,
    /// Why the server could not start again.
    pub(crate) danger: Option<&'a Problem>,
}

impl Announcer {
    /// What is to be said of an instance that was just compared, in this order.
    pub(crate) fn events_for(
        &mut self,
        config: &config::InstanceConfig,
        reconciled: &Reconciled,
        view: &InstanceView,
        now: Instant,
    ) -> Vec<Event> {
        let danger = reconciled.seen.would_not_start(config);
        self.hear(
            ReportedState {
                config,
                view,
                done: &reconciled.done,
                danger: danger.as_ref(),
            },
            now,
        )
    }

    /// See [`Announcer::events_for`].
    pub(crate) fn hear(&mut self, heard: ReportedState<'_>, now: Instant) -> Vec<Event> {
        let view = heard.view;
        let new = self.state != Some(view.state)
            // The reason of a state that is well may change with every look.
            || !view.state.is_well() && self.problem != view.problem;
        let state = new.then(|| self.state_event(&heard, now)).flatten();
        let mut events = self.fresh_remarks(&heard);
        match heard.deployment() {
            None => events.extend(state),
            Some(whole) => match state.filter(|state| !heard.says_all(&whole, state)) {
                None => events.push(whole),
                Some(state) => {
                    events.push(heard.without_state().unwrap_or(whole));
                    events.push(state);
                }
            },
        }
        events.extend(self.danger_event(&heard));
        self.state = Some(view.state);
        self.problem.clone_from(&view.problem);
        events
    }

    fn fresh_remarks(&mut self, heard: &ReportedState<'_>) -> Vec<Event> {
        let before = std::mem::replace(&mut self.remarks, heard.done.remarks.clone());
        let fresh = heard
            .done
            .remarks
            .iter()
            .filter(|remark| !before.contains(remark));
        fresh.map(|remark| heard.remark(remark)).collect()
    }

    /// The event of a state that was not there before.
    fn state_event(&mut self, heard: &ReportedState<'_>, now: Instant) -> Option<Event> {
        let view = heard.view;
        let mut message = format!("{}: {}", view.name, view.state.as_str());
        if let Some(problem) = &view.problem {
            message.push_str(&format!(": {problem}"));
        }
        if !view.state.is_well() {
            let since = self.trouble.map_or(now, |(since, _)| since);
            self.trouble = Some((since, view.state));
            return Some(heard.about(EventKind::of_state(view.state)?, message));
        }
        let Some((since, trouble)) = self.trouble.take() else {
            return Some(heard.about(EventKind::of_state(view.state)?, message));
        };
        let lasted = now.saturating_duration_since(since);
        message.push_str(&format!(
            "; the problem before it ({}) lasted {}",
            trouble.as_str(),
            rounded(lasted)
        ));
        let event = heard.about(EventKind::Recovered, message);
        Some(
            event
                .with(Field::OldState, trouble.as_str())
                .with(Field::Milliseconds, lasted.as_millis()),
        )
    }

    fn danger_event(&mut self, heard: &ReportedState<'_>) -> Option<Event> {
        let name = &heard.view.name;
        let event = match (self.danger.set(heard.danger.map(|_| ()))?, heard.danger) {
            (News::Trouble(()), Some(danger)) => heard
                .instance(
                    EventKind::WouldNotStart,
                    format!("{name}: Postgres would not start again: {danger}"),
                )
                .with(Field::Problem, &danger.what)
                .with(Field::Remedy, danger.remedy()),
            _ => heard.instance(
                EventKind::WouldStartAgain,
                format!("{name}: Postgres would start again"),
            ),
        };
        Some(
            event
                .with(Field::File, heard.config.cert_file.display())
                .with(Field::State, heard.view.state.as_str()),
        )
    }
}

impl ReportedState<'_> {
    /// The deployment's event, where one was begun, with what is wrong after it and what to do.
    fn deployment(&self) -> Option<Event> {
        let kind = EventKind::of_outcome(self.done.outcome).filter(|_| self.done.acted)?;
        let left = self.view.details.as_ref();
        Some(self.report().event(kind, self.view.state, left))
    }

    /// The same without what the state's event says.
    fn without_state(&self) -> Option<Event> {
        let kind = EventKind::of_outcome(self.done.outcome)?;
        let mut done = self.done.clone();
        let is_told = |left| self.report().tells(self.view.state, left);
        if self.view.details.as_ref().is_some_and(is_told) {
            done.problem = None;
        }
        let part = DeploymentReport {
            config: self.config,
            done: &done,
        };
        Some(part.event(kind, self.view.state, None))
    }

    fn report(&self) -> DeploymentReport<'_> {
        DeploymentReport {
            config: self.config,
            done: self.done,
        }
    }

    /// Whether a deployment's event leaves nothing to say of the state after it.
    fn says_all(&self, deployment: &Event, state: &Event) -> bool {
        if state.kind() == EventKind::Recovered {
            return false;
        }
        if self.view.state.is_well() {
            return true;
        }
        let left = self.view.details.as_ref();
        deployment.kind().priority() <= state.kind().priority()
            && left.is_some_and(|left| self.report().tells(self.view.state, left))
    }

    fn remark(&self, remark: &Remark) -> Event {
        let (kind, fingerprint) = match remark {
            Remark::Odd { fingerprint, .. } => (EventKind::Odd, Some(*fingerprint)),
            Remark::MemoryUnreadable(_) => (EventKind::MemoryUnreadable, None),
            Remark::NotForgotten(_) => (EventKind::NotForgotten, None),
        };
        self.instance(kind, format!("{}: {remark}", self.view.name))
            .with_some(Field::Fingerprint, fingerprint)
            .with(Field::Problem, remark)
    }

    fn instance(&self, kind: EventKind, message: String) -> Event {
        Event::new(kind, message)
            .with(Field::Instance, &self.view.name)
            .with(Field::Lineage, &self.view.lineage)
    }

    /// An event about the state.
    fn about(&self, kind: EventKind, message: String) -> Event {
        let view = self.view;
        let leaf = |of: fn(&CertificateView) -> String| view.source.as_ref().map(of);
        self.instance(kind, message)
            .with(Field::File, self.config.cert_file.display())
            .with(Field::State, view.state.as_str())
            .with_some(
                Field::Fingerprint,
                leaf(|certificate_view| certificate_view.fingerprint.to_string()),
            )
            .with_some(Field::NotAfter, leaf(|view| view.term().1.to_string()))
            .with_some(
                Field::ServedFingerprint,
                view.served.as_ref().map(|view| view.fingerprint),
            )
            .with_some(
                Field::Problem,
                view.details.as_ref().map(|problem| &problem.what),
            )
            .with_some(
                Field::Remedy,
                view.details
                    .as_ref()
                    .map(Problem::remedy)
                    .filter(|text| !text.is_empty()),
            )
    }
}
