//! What the host's files say of ACME clients and lineages, read in one go by a thread that can write nothing.

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
    /// What keeps it; none where nothing tells.
    pub(super) origin: Result<Option<ClientHome>, Unread>,
    /// The file and the line by which its client is told not to renew it by itself.
    pub(super) left_alone: Option<(PathBuf, String)>,
    /// The directories that its links lead through, all of which are watched.
    pub(super) directories: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SurveyQuestion {
    Area(Area),
    Lineage(usize),
}

enum SurveyAnswer {
    Area(AreaContents),
    Lineage(SurveyedLineage),
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
    let candidates: Vec<PathBuf> = specs
        .iter()
        .flat_map(|spec| spec.candidates.clone())
        .collect();
    let areas = areas(&homes(&tree), &candidates);
    let questions: Vec<SurveyQuestion> = areas
        .into_iter()
        .map(SurveyQuestion::Area)
        .chain((0..specs.len()).map(SurveyQuestion::Lineage))
        .collect();
    let asked = {
        let (tree, specs) = (tree, specs.clone());
        move |question: &SurveyQuestion| match question {
            SurveyQuestion::Area(area) => SurveyAnswer::Area(area.look(&tree, systemd)),
            SurveyQuestion::Lineage(at) => SurveyAnswer::Lineage(followed(&tree, &specs[*at])),
        }
    };
    let mut answers = Questions::default().ask(questions.iter().cloned(), asked);
    let mut survey = AcmeSurvey::default();
    for question in questions {
        match (answers.remove(&question), question) {
            (Some(SurveyAnswer::Area(found)), _) => survey.found.merge(found),
            (Some(SurveyAnswer::Lineage(lineage)), _) => survey.lineages.push(lineage),
            (None, SurveyQuestion::Area(area)) => {
                survey.found.unread.push(silent(area.name().into()))
            }
            (None, SurveyQuestion::Lineage(at)) => survey.lineages.push(unanswered(&specs[at])),
        }
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
