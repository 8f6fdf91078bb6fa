//! What `pgcertd check` finds: of each instance and of the host, what is as it should be and what
//! is not, why that matters, and what mends it.
//!
//! A [`Finding`] says what was seen, bears an id that stays as it is ([`FindingKind`]), and, where it is
//! not good, ends with a [`Mend`]: a line that can be pasted into a root shell, or a sentence
//! where no command can. What the caller may not look at is a finding too, with the right that is
//! lacking; whoever may less is shown less, and never a guess.
//!
//! Nothing is changed. Files are read on threads that have the rights of the user whom they are
//! for, and can write nothing: that root can read a file tells nothing of a server. What does not
//! answer delays no other instance.
//!
//! Whether a renewal gets through is decided in `reconcile`, not here; here it is explained.

mod finding;
pub(crate) mod host;
mod instance;
mod kind;
pub(crate) mod sandbox;
pub(crate) mod served_users;
pub(crate) mod unit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::lineage::Source;
use crate::problem::Problem;
use crate::server::probe::Prober;

pub(crate) use finding::{Finding, FindingSection, Mend, Report, Weight, quoted};
pub(crate) use kind::FindingKind;
pub(crate) use unit::Unit;

/// How long one instance may take beside its proofs; what it is asked has shorter bounds of its
/// own, but for file systems.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the host and at every instance, all at the same time; `sources` is what the lineage
/// of each holds, by the instance's name.
pub(crate) async fn examined(
    config: &Config,
    mut sources: HashMap<String, Source>,
    prober: &Prober,
) -> Report {
    let config = Arc::new(config.clone());
    let unit = Arc::new(Unit::of_this_host());
    let mut looking = JoinSet::new();
    for (index, one) in config.instances.iter().enumerate() {
        let source = sources.remove(&one.name).unwrap_or(Source::Invalid {
            problem: Problem::new("the lineage was not read", ""),
            denied: false,
        });
        let case = instance::Case {
            config: Arc::clone(&config),
            index,
            source,
            unit: Arc::clone(&unit),
            prober: prober.clone(),
        };
        looking.spawn(async move {
            let patience = case.patience(PATIENCE);
            let looked = tokio::time::timeout(patience, case.clone().findings()).await;
            let findings = looked.unwrap_or_else(|_| vec![case.silent(patience)]);
            (index, findings)
        });
    }
    let host = host::findings(&config, &unit, prober).await;
    let mut instances: Vec<FindingSection> = config
        .instances
        .iter()
        .map(|instance| FindingSection {
            name: instance.name.clone(),
            findings: Vec::new(),
        })
        .collect();
    while let Some(looked) = looking.join_next().await {
        match looked {
            Ok((index, findings)) => instances[index].findings = findings,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    for section in &mut instances {
        section.findings.sort_by_key(|finding| finding.kind);
    }
    Report { host, instances }
}

/// A user's name, or number where it has none.
pub(crate) fn user_name(uid: u32) -> String {
    let named = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    named.map_or_else(|| uid.to_string(), |user| user.name)
}

/// A group's name, or number where it has none.
fn group_name(gid: u32) -> String {
    let named = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    named.map_or_else(|| gid.to_string(), |group| group.name)
}
