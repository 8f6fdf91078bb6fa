//! What is seen at one moment: the daemon's view, whether the daemon lives, and how each subject
//! stands by that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::ledger::{About, NoticeSubject};
use super::standing::{DeployedFiles, Standing, StandingWord};
use crate::bundle::{Expiry, Piece};
use crate::deploy::state::State;
use crate::problem::Problem;
use crate::report::nearing::{Holder, Nearing};
use crate::report::view::{InstanceView, StatusView};

/// The daemon's view is old once it was not written for this many times `resync`.
pub(crate) const MISSED: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DaemonIs {
    /// It runs, and looks as often as it should.
    Running,
    /// It does not run; what tells.
    Stopped(String),
    /// It runs, and does not look.
    Stale,
    /// What it sees cannot be read; why.
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoticeScene {
    /// The last view that could be read, if ever one could.
    pub(crate) view: Option<StatusView>,
    pub(crate) daemon: DaemonIs,
    /// The file that was read.
    pub(crate) file: PathBuf,
    /// How often the daemon is to look.
    pub(crate) resync: Duration,
}

impl NoticeScene {
    /// How each subject stands of which that is known now; `before` are those of earlier.
    pub(crate) fn standings<'a>(
        &self,
        before: impl Iterator<Item = &'a NoticeSubject>,
        now: Timestamp,
    ) -> BTreeMap<NoticeSubject, Standing> {
        let mut seen = BTreeMap::new();
        seen.insert(
            NoticeSubject::new(About::Daemon, ""),
            self.daemon.standing(),
        );
        let Some(view) = &self.view else { return seen };
        // What the daemon does not look at may have changed; what a certificate has left does.
        let current = self.daemon == DaemonIs::Running;
        for instance in &view.instances {
            for piece in Piece::ALL {
                if let Some(standing) = expiry(instance, piece, now) {
                    let subject = NoticeSubject::new(About::expiry_of(piece), &instance.name);
                    seen.insert(subject, standing);
                }
            }
            if current {
                let standing = Standing {
                    word: instance.state.as_str().into(),
                    well: instance.state.is_well(),
                };
                seen.insert(
                    NoticeSubject::new(About::Instance, &instance.name),
                    standing,
                );
                if let (State::InSync, Some(standing)) = (instance.state, deployed(instance)) {
                    seen.insert(
                        NoticeSubject::new(About::Deployment, &instance.name),
                        standing,
                    );
                }
            }
        }
        if current {
            let servers = before.filter(|notice_subject| notice_subject.about == About::Uncovered);
            seen.extend(servers.map(|subject| (subject.clone(), Standing::well("covered"))));
            for directory in &view.uncovered {
                let subject = NoticeSubject::new(About::Uncovered, directory.display().to_string());
                seen.insert(subject, Standing::unwell("uncovered"));
            }
        }
        seen
    }

    /// An instance of the last view.
    pub(crate) fn instance(&self, name: &str) -> Option<&InstanceView> {
        let mut instances = self.view.iter().flat_map(|view| &view.instances);
        instances.find(|view| view.name == name)
    }

    /// What is wrong with the daemon.
    pub(crate) fn daemon_problem(&self) -> Option<Problem> {
        let file = self.file.display();
        Some(match &self.daemon {
            DaemonIs::Running => return None,
            DaemonIs::Stopped(told) => Problem::new(
                format!("pgcertd does not run: {told}; a renewal is not deployed"),
                "`systemctl status pgcertd` says why; then start it",
            )
            .with("systemctl start pgcertd"),
            DaemonIs::Stale => {
                let last = self.view.as_ref().map(|status_view| status_view.checked);
                let last = last.map_or_else(|| "ever".to_owned(), |time| format!("since {time}"));
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

fn deployed(instance: &InstanceView) -> Option<Standing> {
    let leaf = instance.served.as_ref()?.fingerprint;
    let ca = instance.ca.installed.as_ref().map(|view| view.digest);
    let files = DeployedFiles { leaf, ca };
    Some(Standing::well(StandingWord::Deployed(files)))
}

/// How near the end a piece of an instance is; none where it has none, or one that may be near
/// cannot be seen.
fn expiry(instance: &InstanceView, piece: Piece, now: Timestamp) -> Option<Standing> {
    if let Some(nearing) = Nearing::of_piece(instance, piece, now) {
        return Some(Standing::unwell(nearing.expiry.as_str()));
    }
    let settled = matches!(
        instance.state,
        State::InSync | State::NotRunning | State::NotUsed
    );
    let there = Holder::ALL
        .iter()
        .any(|holder| holder.end(piece, instance).is_some());
    let there = there || piece == Piece::Certificate;
    (settled && there).then(|| Standing::well(Expiry::Fine.as_str()))
}

#[cfg(test)]
pub(in crate::notify) mod tests;
