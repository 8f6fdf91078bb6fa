//! How `sync` and `rollback` report what they did: as text, JSON, or in the journal.

use std::time::Instant;

use serde::Serialize;

use super::exit::{Failure, print, print_json};
use super::page::Page;
use crate::bundle::{Fingerprint, Piece};
use crate::config::InstanceConfig;
use crate::deploy::{Reconciled, SyncOutcome};
use crate::problem::Problem;
use crate::report::view::{InstanceView, VERSION};
use crate::report::{Announcer, DeploymentReport, EventKind, log};

/// Which events go to standard error, besides what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Events {
    /// All: standard error is the journal.
    All,
    /// Those of deployments; the JSON has the rest.
    OfDeployments,
    /// Oddities; the text has the rest.
    Remarks,
}

/// What a command was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) json: bool,
    pub(super) journal: bool,
    pub(super) dry_run: bool,
}

impl Manner {
    fn events(self) -> Events {
        if self.dry_run {
            Events::Remarks
        } else if self.journal {
            Events::All
        } else if self.json {
            Events::OfDeployments
        } else {
            Events::Remarks
        }
    }
}

#[derive(Serialize)]
struct OutcomesJson<'a> {
    version: u32,
    instances: &'a [OutcomeRow],
}

#[derive(Serialize)]
struct OutcomeRow {
    name: String,
    outcome: SyncOutcome,
    fingerprint: Option<Fingerprint>,
    changed: Vec<Piece>,
    problem: Option<String>,
    seconds: f64,
}

pub(super) struct Outcomes {
    manner: Manner,
    rows: Vec<OutcomeRow>,
    text: Page,
}

impl Outcomes {
    pub(super) fn new(manner: Manner) -> Outcomes {
        Outcomes {
            manner,
            rows: Vec::new(),
            text: Page::default(),
        }
    }

    /// A line of the text.
    pub(super) fn note(&mut self, line: &str) {
        self.text.hanging(line);
    }

    /// Adds what was done about `instance`, and emits its events.
    pub(super) fn add(&mut self, instance: &InstanceConfig, reconciled: &Reconciled) {
        let Reconciled { done, seen } = reconciled;
        let events = self.manner.events();
        let view = InstanceView::from_config(instance, seen);
        for event in Announcer::default().events_for(instance, reconciled, &view, Instant::now()) {
            let wanted = match events {
                Events::All => true,
                Events::OfDeployments => done.acted || is_remark(event.kind()),
                Events::Remarks => is_remark(event.kind()),
            };
            if wanted {
                event.emit();
            }
        }
        self.note(
            &DeploymentReport {
                config: instance,
                done,
            }
            .message(),
        );
        self.rows.push(OutcomeRow {
            name: instance.name.clone(),
            outcome: done.outcome,
            fingerprint: done.fingerprint,
            changed: done.changed.clone(),
            problem: done.problem.as_ref().map(Problem::to_string),
            seconds: done.took.as_secs_f64(),
        });
    }

    /// Prints JSON or text, unless the journal has it already.
    pub(super) fn print(&self) -> Result<(), Failure> {
        if self.manner.json {
            return print_json(&OutcomesJson {
                version: VERSION,
                instances: &self.rows,
            });
        }
        if self.manner.events() == Events::All && log::is_journal(&std::io::stdout()) {
            return Ok(());
        }
        print(&self.text)
    }
}

fn is_remark(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Odd | EventKind::MemoryUnreadable | EventKind::NotForgotten
    )
}
