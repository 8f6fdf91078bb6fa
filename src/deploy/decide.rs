//! What is to be done about what was seen, by what the lineage holds once the instance's lock is held.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::{self, Comparison, Intent, NotSeen, Plan, Trigger};
use super::standards::Clock;
use super::{Keeper, Visit};
use crate::bundle::{Bundle, KeyedBundle};
use crate::config::Mode;
use crate::host::look::CannotLook;
use crate::lineage::{LineageReader, Opened, Source, Trail};
use crate::problem::Problem;
use crate::server::{InstanceError, InstanceSnapshot, Unseen};

/// How often a decision is made anew because the lineage changed while it was made.
const DECISIONS: usize = 3;

/// It is not known whether a server would see what is written for it.
pub(super) fn unseen_targets(cannot: &CannotLook) -> Problem {
    let subject = "it is not known whether the server sees the files in their directories, so nothing was written";
    cannot.problem().about(subject)
}

impl Keeper {
    /// Decides by what the lineage holds now, which was `opened`; what it holds comes with its key where that is to be
    /// written. A lineage that changes between the two is decided on anew.
    pub(super) async fn decided(
        &mut self,
        lineage: &mut impl LineageReader,
        mut opened: Opened,
        sight: InstanceSnapshot,
        intent: Intent,
        settle: Duration,
    ) -> (Visit, Option<Arc<KeyedBundle>>) {
        for _ in 0..DECISIONS {
            let Opened {
                source,
                keyed,
                trail,
            } = opened;
            let visit = self.weighed(source, sight.clone(), intent, settle).await;
            let wanted = match &visit.plan {
                Plan::Deploy {
                    bundle,
                    write: true,
                    cause: Trigger::Source,
                } if !intent.dry_run => Arc::clone(bundle),
                _ => return (visit, None),
            };
            let same = |keyed: &Arc<KeyedBundle>| keyed.same_content(&wanted);
            let (keyed, trail) = match keyed.filter(same) {
                Some(keyed) => (keyed, trail),
                None => {
                    opened = lineage.opened().await;
                    match opened.keyed.clone().filter(same) {
                        Some(keyed) => (keyed, opened.trail),
                        None => continue,
                    }
                }
            };
            if let Some(problem) = self.on_the_way(&sight, &trail) {
                let refused = Source::Invalid {
                    problem,
                    denied: false,
                };
                return (self.weighed(refused, sight, intent, settle).await, None);
            }
            return (visit, Some(keyed));
        }
        let restless = Source::Waiting {
            problem: "the lineage keeps changing faster than it can be deployed".into(),
        };
        (self.weighed(restless, sight, intent, settle).await, None)
    }

    /// Why no file may be written, since the lineage is found through it: a renewal would be the next one's source.
    fn on_the_way(&self, sight: &InstanceSnapshot, trail: &Trail) -> Option<Problem> {
        let mut files = sight.look.real_paths.iter();
        let file = files.find(|file| trail.leads_through(file))?;
        Some(Problem::new(
            format!(
                "{} is a file of the lineage itself, so it is not overwritten",
                file.display()
            ),
            format!(
                "set cert_file and key_file of {} to files outside the lineage and point the server at them, or set mode = \"reload\"",
                self.instance.config.name
            ),
        ))
    }

    /// The previous bundle, which is to be written.
    pub(super) async fn previous_with_key(
        &mut self,
        seen: Arc<Bundle>,
    ) -> Result<Arc<KeyedBundle>, InstanceError> {
        let read = self.instance.on_files(move |t| t.previous_with_key(&seen));
        Ok(Arc::new(read.await?))
    }

    /// Decides what is to be done about what was seen.
    async fn weighed(
        &mut self,
        source: Source,
        sight: InstanceSnapshot,
        intent: Intent,
        settle: Duration,
    ) -> Visit {
        let mode = self.instance.config.mode;
        let now = Timestamp::now();
        let clock = Clock {
            now,
            settle_timeout: settle,
        };
        let standards = self.standards(&source, &sight, intent, clock).await;
        let installed = &sight.look.installed;
        let readiness = plan::readiness(&source, installed, &self.instance.config, &standards);
        if !intent.dry_run && mode == Mode::Manage {
            let source = source.bundle().map(|b| &**b);
            self.memory
                .note(source, installed, sight.look.held.as_ref(), now);
        }
        // Where the files are about to change anyway, what is served is looked at meanwhile.
        let about_to_change = match (source.bundle(), installed.bundle()) {
            (Some(new), Some(installed)) => mode == Mode::Manage && !installed.same_content(new),
            _ => false,
        };
        let served = if about_to_change {
            None
        } else {
            Some(self.served(&sight).await)
        };
        let shown = served.as_ref().map(|s| match s {
            Ok(served) => Ok(served.shown()),
            Err(Unseen::NotWanted) => Err(NotSeen::NotWanted),
            Err(_) => Err(NotSeen::Failed),
        });
        let mut plan = plan::plan(&Comparison {
            source: &source,
            readiness: &readiness,
            sight: &sight,
            served: shown.as_ref(),
            config: &self.instance.config,
            memory: &self.memory,
            intent,
            roots: &standards.roots,
            now,
        });
        let only_reload = matches!(plan, Plan::Deploy { write: false, .. }) && !intent.force;
        if only_reload
            && self
                .uses_other_files(&sight, shown.and_then(Result::ok))
                .await
        {
            // A reload would load nothing of ours.
            plan = Plan::Nothing;
        }
        if only_reload && self.is_blocked(&sight).await {
            // Nor would this one.
            plan = Plan::Nothing;
        }
        if matches!(plan, Plan::Deploy { write: true, .. }) {
            match sight.pinned().await {
                Ok(None) => {}
                // The server would never see what is written; the state says so.
                Ok(Some(_)) => plan = Plan::Nothing,
                // Nor is anything written that it may never see.
                Err(cannot) => {
                    let about = source.bundle().map(|bundle| bundle.fingerprint());
                    self.failure = Some((about, unseen_targets(&cannot)));
                    plan = Plan::Nothing;
                }
            }
        }
        Visit {
            source,
            readiness,
            sight,
            served,
            plan,
        }
    }
}
