//! What the host's files say about ACME clients and lineages, read by a thread that can write nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::acme::{Area, AreaContents, ClientHome, Tree, Unread, areas, homes, origin};
use crate::check::unit::systemd_runs;
use crate::config::Config;
use crate::host::file::Unopened;
use crate::host::patience::Questions;
use crate::host::privilege::{PrivilegeError, Rights, Worker};
use crate::lineage::{Spec, read};

#[derive(Debug, Default)]
pub(super) struct AcmeSurvey {
    /// Hooks and schedules of all areas.
    pub(super) found: AreaContents,
    /// Each lineage that an instance names.
    pub(super) lineages: Vec<SurveyedLineage>,
}

/// A lineage that instances use.
#[derive(Debug)]
pub(super) struct SurveyedLineage {
    /// As the config names it.
    pub(super) name: String,
    pub(super) candidates: Vec<PathBuf>,
    /// What renews it, as far as files tell.
    pub(super) origin: Result<Option<ClientHome>, Unread>,
    /// The file and the line that keep its client from renewing it.
    pub(super) left_alone: Option<(PathBuf, String)>,
    /// The directories that its links lead through, all of which are watched.
    pub(super) directories: BTreeSet<PathBuf>,
}

/// A thread that reads any file and writes none: crontabs, hooks and what they run may lie anywhere.
pub(super) async fn reader() -> Result<Worker, PrivilegeError> {
    let everything = || Rights::Reader {
        directories: Unopened::root()
            .map(|root| (PathBuf::from("/"), Arc::new(root)))
            .into_iter()
            .collect(),
    };
    Worker::start("host", everything).await
}

/// Looks at this host, on that thread.
pub(super) async fn survey(reader: &Worker, config: &Config) -> Result<AcmeSurvey, PrivilegeError> {
    let specs: BTreeMap<String, Spec> = config
        .instances
        .iter()
        .map(|instance| (instance.lineage.name.clone(), Spec::from(instance)))
        .collect();
    let specs: Vec<Spec> = specs.into_values().collect();
    let systemd = systemd_runs();
    reader.call(move || seen(specs, systemd)).await
}

fn seen(specs: Vec<Spec>, systemd: bool) -> AcmeSurvey {
    let tree = Tree::of_this_host();
    let candidates = specs.iter().flat_map(|spec| spec.candidates.clone());
    let candidates: Vec<PathBuf> = candidates.collect();
    let areas = areas(&homes(&tree), &candidates);
    let mut survey = AcmeSurvey::default();
    let of_tree = tree.clone();
    let look = move |area: &Area| area.look(&of_tree, systemd);
    let mut looked = Questions::default().ask(areas.iter().cloned(), look);
    for area in areas {
        match looked.remove(&area) {
            Some(found) => survey.found.merge(found),
            None => survey.found.unread.push(silent(area.name().into())),
        }
    }
    let of_all = specs.clone();
    let follow = move |at: &usize| followed(&tree, &of_all[*at]);
    let mut lineages = Questions::default().ask(0..specs.len(), follow);
    for (at, spec) in specs.iter().enumerate() {
        let lineage = lineages.remove(&at);
        survey
            .lineages
            .push(lineage.unwrap_or_else(|| unanswered(spec)));
    }
    survey
}

fn followed(tree: &Tree, spec: &Spec) -> SurveyedLineage {
    let origin = origin(tree, &spec.candidates);
    let left_alone = match &origin {
        Ok(Some(origin)) => origin.left_alone(tree).ok().flatten(),
        _ => None,
    };
    SurveyedLineage {
        name: spec.name.clone(),
        candidates: spec.candidates.clone(),
        origin,
        left_alone,
        directories: read::trail(spec).directories,
    }
}

fn unanswered(spec: &Spec) -> SurveyedLineage {
    let at = spec.candidates.first().cloned().unwrap_or_default();
    SurveyedLineage {
        name: spec.name.clone(),
        candidates: spec.candidates.clone(),
        origin: Err(silent(at)),
        left_alone: None,
        directories: BTreeSet::new(),
    }
}

fn silent(path: PathBuf) -> Unread {
    Unread {
        path,
        denied: false,
        why: "its file system does not answer".into(),
    }
}
