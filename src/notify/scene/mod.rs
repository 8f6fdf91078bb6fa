//! What is seen at one moment: the daemon's view, whether the daemon is alive, and how each subject stands.

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

/// The daemon's view is stale if it hasn't been written for this many times `resync`.
pub(crate) const MISSED: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DaemonIs {
    /// It is running, and looks as often as it should.
    Running,
    /// It is not running, for this reason.
    Stopped(String),
    /// It is running, but doesn't look.
    Stale,
    /// Its view cannot be read, for this reason.
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoticeScene {
    /// The last view that could be read, if any.
    pub(crate) view: Option<StatusView>,
    pub(crate) daemon: DaemonIs,
    /// The file that was read.
    pub(crate) file: PathBuf,
    /// How often the daemon has to look.
    pub(crate) resync: Duration,
}

impl NoticeScene {
    /// How each subject stands, if that is known now; `before` are the earlier subjects.
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
        // While the daemon doesn't look, states may have changed unseen; expiry only depends on the clock.
        let current = self.daemon == DaemonIs::Running;
        for instance in &view.instances {
            for piece in Piece::RENEWED {
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
            let servers = before.filter(|subject| subject.about == About::Uncovered);
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
            DaemonIs::Stopped(reason) => Problem::new(
                format!("pgcertd is not running: {reason}; renewals are not deployed"),
                "`systemctl status pgcertd` says why; then start it",
            )
            .with("systemctl start pgcertd"),
            DaemonIs::Stale => {
                let last = self.view.as_ref().map(|view| view.checked);
                let last = last.map_or_else(String::new, |time| format!(" since {time}"));
                let pause = SignedDuration::try_from(self.resync).unwrap_or(SignedDuration::MAX);
                Problem::new(
                    format!(
                        "pgcertd is running, but has not written {file}{last}; it should at least every {pause:#}"
                    ),
                    "`journalctl -u pgcertd` shows what is holding it up; then restart it",
                )
                .with("systemctl restart pgcertd")
            }
            DaemonIs::Unreadable(error) => Problem::new(
                format!("pgcertd's view cannot be read: {file}: {error}"),
                format!("`namei -l {file}` shows who can read it; pgcertd writes it again when it starts"),
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
    let ca = instance
        .trust_files
        .ca
        .installed
        .as_ref()
        .map(|view| view.digest);
    let files = DeployedFiles { leaf, ca };
    Some(Standing::well(StandingWord::Deployed(files)))
}

/// How close a piece of an instance is to expiry; none if there is no such piece, or if it cannot be seen.
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
