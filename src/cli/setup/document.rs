//! What programs read of a set-up.

use std::path::PathBuf;

use serde::Serialize;

use crate::report::view::VERSION;
use crate::setup::SetupProgress;
use crate::setup::fragment::Fragment;
use crate::setup::plan::{PlannedTarget, SetupPlan};
use crate::setup::require_tls::{ExposedLine, Tightening};
use crate::text::CommandLine;

/// One document for everything that the command does.
#[derive(Debug, Serialize)]
pub(super) struct SetupJson {
    pub(super) version: u32,
    pub(super) name: Option<String>,
    pub(super) lineage: Option<String>,
    pub(super) data_directory: Option<PathBuf>,
    /// The user who runs the server, and gets the private key.
    pub(super) user: Option<String>,
    pub(super) server_names: Vec<String>,
    /// The file that is written into `conf.d`.
    pub(super) fragment: Option<Fragment>,
    /// The drop-in that lets the unit's daemon at the instance's paths.
    pub(super) drop_in: Option<Fragment>,
    /// Whether the server's own files are taken over.
    pub(super) taken_over: bool,
    pub(super) settings: Vec<SettingJson>,
    /// The line that is added to `pg_hosts.conf`.
    pub(super) host_line: Option<HostLineJson>,
    /// The lines of `pg_hba.conf` that let clients of other hosts in without TLS.
    pub(super) exposed: Vec<ExposedLine>,
    pub(super) notes: Vec<String>,
    /// What was done, in order.
    pub(super) steps: Vec<String>,
    /// What is to be written by hand.
    pub(super) lines: Vec<String>,
    pub(super) outcome: Option<SetupOutcome>,
    pub(super) error: Option<String>,
    /// What could not be taken back, or stays.
    pub(super) left: Vec<String>,
    pub(super) connection: Option<String>,
    /// Why the daemon could not keep it so, and what mends that, where it can be pasted.
    pub(super) obstacles: Vec<(String, Option<CommandLine>)>,
    /// What is to be done next.
    pub(super) next: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SettingJson {
    name: &'static str,
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
pub(super) struct HostLineJson {
    pub(super) file: PathBuf,
    pub(super) line: String,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SetupOutcome {
    SetUp,
    Unchanged,
    WouldChange,
    Printed,
    Undone,
    TakenBack,
}

impl Default for SetupJson {
    fn default() -> Self {
        SetupJson {
            version: VERSION,
            name: None,
            lineage: None,
            data_directory: None,
            user: None,
            server_names: Vec::new(),
            fragment: None,
            drop_in: None,
            taken_over: false,
            settings: Vec::new(),
            host_line: None,
            exposed: Vec::new(),
            notes: Vec::new(),
            steps: Vec::new(),
            lines: Vec::new(),
            outcome: None,
            error: None,
            left: Vec::new(),
            connection: None,
            obstacles: Vec::new(),
            next: None,
        }
    }
}

impl SetupJson {
    pub(super) fn from_plan(plan: &SetupPlan, tightening: Option<&Tightening>) -> SetupJson {
        let instance = &plan.instance;
        let names = instance.server_names.iter();
        let settings = plan.settings.iter().map(|change| SettingJson {
            name: change.setting.name(),
            from: change.from.clone(),
            to: change.to.clone(),
        });
        SetupJson {
            name: Some(instance.name.clone()),
            lineage: Some(instance.lineage.name.clone()),
            data_directory: Some(instance.home().to_owned()),
            user: Some(plan.server.user()),
            server_names: names
                .map(|server_name| server_name.to_str().into_owned())
                .collect(),
            fragment: plan.fragment.clone(),
            drop_in: plan.admission.drop_in.clone(),
            obstacles: plan.admission.obstacles.clone(),
            taken_over: plan.target == PlannedTarget::TakenOver,
            settings: settings.collect(),
            host_line: plan.host_line.as_ref().map(|to_add| HostLineJson {
                file: to_add.file.clone(),
                line: to_add.line.clone(),
            }),
            exposed: tightening.map(Tightening::lines).unwrap_or_default(),
            notes: plan.notes.clone(),
            ..SetupJson::default()
        }
    }

    /// Takes in what was told while it was done.
    pub(super) fn steps(&mut self, told: &[SetupProgress]) {
        for one in told {
            match one {
                SetupProgress::Done(what) => self.steps.push(what.clone()),
                SetupProgress::TakingBack(why) => self.error = Some(why.clone()),
                SetupProgress::Left(what) => self.left.push(what.clone()),
            }
        }
    }
}
