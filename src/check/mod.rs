//! What `pgcertd check` finds: of each instance and of the host, what is as it should be and what isn't, why that
//! matters, and what fixes it.
//!
//! [`table`] lists the checks. A check is a function that gives a [`Finding`]: what was seen, and, unless that is good,
//! a command to paste into a root shell, or a sentence where no command can fix it. What the caller may not look at is a
//! finding too, with the missing right; those with fewer rights are shown less, and never a guess.
//!
//! Nothing is changed. Files are read on threads that have the rights of the user whom they are for, and can write
//! nothing: that root can read a file says nothing about a server. Whatever doesn't answer delays no other instance.
//!
//! Whether a renewal gets through is decided in `deploy`, not here; here it is explained.

mod context;
mod finding;
pub(crate) mod host;
mod instance;
mod names;
pub(crate) mod sandbox;
pub(crate) mod served_users;
mod table;
pub(crate) mod unit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Config;
use crate::lineage::Source;
use crate::server::probe::Prober;

use context::CheckContext;
#[cfg(test)]
pub(crate) use finding::Finding;
pub(crate) use finding::{FindingSection, Report, ReportLine, Weight};
use host::look::HostLook;
use instance::look::InstanceLook;
pub(crate) use names::{quoted, user_name};
pub(crate) use table::CHECKS;
#[cfg(test)]
pub(crate) use table::report_line;
use unit::Unit;

/// How long one instance may take besides its proofs. Most questions have shorter limits of their own; file systems
/// have none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at the host and at every instance, all at the same time; `sources` is what the lineage
/// of each holds, by the instance's name.
pub(crate) async fn examined(
    config: &Config,
    mut sources: HashMap<String, Source>,
    prober: &Prober,
) -> Report {
    let context = CheckContext {
        config: Arc::new(config.clone()),
        unit: Arc::new(Unit::of_this_host()),
        prober: prober.clone(),
    };
    let mut looking = JoinSet::new();
    let mut instances = Vec::new();
    for (index, instance) in config.instances.iter().enumerate() {
        let source = sources.remove(&instance.name).unwrap_or(Source::Invalid {
            problem: "the lineage was not read".into(),
            denied: false,
        });
        let looked = of_instance(context.clone(), index, source);
        looking.spawn(async move { (index, looked.await) });
        instances.push(FindingSection {
            name: instance.name.clone(),
            findings: Vec::new(),
        });
    }
    let host = table::of_host(&mut HostLook::new(context).await).await;
    while let Some(looked) = looking.join_next().await {
        match looked {
            Ok((index, findings)) => instances[index].findings = findings,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    Report { host, instances }
}

/// Runs the checks of an instance; one that hangs delays no other.
async fn of_instance(context: CheckContext, index: usize, source: Source) -> Vec<ReportLine> {
    /// How many proofs there are, each of which has a limit of its own.
    const PROOFS: u32 = 4;
    let patience = PATIENCE + context.config.instances[index].verify_timeout * PROOFS;
    let looking = async {
        let mut look = InstanceLook::new(context, index, source).await;
        table::of_instance(&mut look).await
    };
    let looked = tokio::time::timeout(patience, Box::pin(looking)).await;
    looked.unwrap_or_else(|_| {
        let seen = format!("no answer within {} s", patience.as_secs());
        let finding = finding::Finding::problem(seen)
            .fix("find out which file system hangs: its lineage's or its data directory's");
        vec![table::report_line("data_directory", finding)]
    })
}
