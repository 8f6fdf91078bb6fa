//! What is seen at one moment: the daemon's view, whether the daemon lives, and how each subject
//! stands by that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::ledger::{About, Standing, Subject};
use crate::bundle::Expiry;
use crate::reconcile::state::{Problem, State};
use crate::report::nearing::Nearing;
use crate::report::view::{InstanceView, StatusView};

/// The daemon's view is old once it was not written for this many times `resync`.
pub const MISSED: u32 = 3;

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonIs {
    /// It runs, and looks as often as it should.
    Running,
    /// It does not run; what tells.
    Stopped(String),
    /// It runs, and does not look.
    Stale,
    /// What it sees cannot be read; why.
    Unreadable(String),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// The last view that could be read, if ever one could.
    pub view: Option<StatusView>,
    /// How the daemon is.
    pub daemon: DaemonIs,
    /// The file that was read.
    pub file: PathBuf,
    /// How often the daemon is to look.
    pub resync: Duration,
}

impl Scene {
    /// How each subject stands of which that is known now; `before` are those of earlier.
    #[must_use]
    pub fn standings<'a>(
        &self,
        before: impl Iterator<Item = &'a Subject>,
        now: Timestamp,
    ) -> BTreeMap<Subject, Standing> {
        let mut seen = BTreeMap::new();
        seen.insert(Subject::new(About::Daemon, ""), self.daemon.standing());
        let Some(view) = &self.view else { return seen };
        // What the daemon does not look at may have changed; what a certificate has left does.
        let current = self.daemon == DaemonIs::Running;
        for instance in &view.instances {
            if let Some(standing) = expiry(instance, now) {
                seen.insert(Subject::new(About::Expiry, &instance.name), standing);
            }
            if current {
                let standing = Standing {
                    word: instance.state.as_str().to_owned(),
                    well: instance.state.is_well(),
                };
                seen.insert(Subject::new(About::Instance, &instance.name), standing);
                let served = instance.served.as_ref();
                if let (State::InSync, Some(served)) = (instance.state, served) {
                    let standing = Standing::well(served.fingerprint.to_string());
                    seen.insert(Subject::new(About::Deployment, &instance.name), standing);
                }
            }
        }
        if current {
            let servers = before.filter(|it| it.about == About::Uncovered);
            seen.extend(servers.map(|it| (it.clone(), Standing::well("covered"))));
            for directory in &view.uncovered {
                let subject = Subject::new(About::Uncovered, directory.display().to_string());
                seen.insert(subject, Standing::unwell("uncovered"));
            }
        }
        seen
    }

    /// An instance of the last view.
    #[must_use]
    pub fn instance(&self, name: &str) -> Option<&InstanceView> {
        let mut instances = self.view.iter().flat_map(|view| &view.instances);
        instances.find(|it| it.name == name)
    }

    /// What is wrong with the daemon.
    #[must_use]
    pub fn daemon_problem(&self) -> Option<Problem> {
        let file = self.file.display();
        Some(match &self.daemon {
            DaemonIs::Running => return None,
            DaemonIs::Stopped(told) => Problem::new(
                format!("pgcertd does not run: {told}; a renewal is not deployed"),
                "`systemctl status pgcertd` says why; then start it",
            )
            .with("systemctl start pgcertd"),
            DaemonIs::Stale => {
                let last = self.view.as_ref().map(|it| it.checked);
                let last = last.map_or_else(|| "ever".to_owned(), |it| format!("since {it}"));
                let pause = SignedDuration::try_from(self.resync).unwrap_or(SignedDuration::MAX);
                Problem::new(
                    format!(
                        "pgcertd runs and has not written {file} {last}; it should at least every {pause:#}"
                    ),
                    "`journalctl -u pgcertd` says what holds it up; then restart it",
                )
                .with("systemctl restart pgcertd")
            }
            DaemonIs::Unreadable(error) => Problem::new(
                format!("what pgcertd sees cannot be read: {file}: {error}"),
                format!("`namei -l {file}` shows who may; pgcertd writes it anew when it starts"),
            )
            .with("systemctl restart pgcertd"),
        })
    }
}

impl DaemonIs {
    fn standing(&self) -> Standing {
        match self {
            DaemonIs::Running => Standing::well("running"),
            DaemonIs::Stopped(_) => Standing::unwell("stopped"),
            DaemonIs::Stale => Standing::unwell("stale"),
            DaemonIs::Unreadable(_) => Standing::unwell("unreadable"),
        }
    }
}

/// How near the end an instance's certificates are; none where one that may be cannot be seen.
fn expiry(instance: &InstanceView, now: Timestamp) -> Option<Standing> {
    if let Some(nearing) = Nearing::of(instance, now) {
        return Some(Standing::unwell(nearing.expiry.as_str()));
    }
    let settled = matches!(
        instance.state,
        State::InSync | State::NotRunning | State::NotUsed
    );
    settled.then(|| Standing::well(Expiry::Fine.as_str()))
}

#[cfg(test)]
pub(in crate::notification) mod tests;
