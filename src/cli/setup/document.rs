//! What programs read of a set-up.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::InstanceConfig;
use crate::setup::plan::SetupPlan;
use crate::setup::require_tls::ExposedLine;
use crate::setup::step::Step;
use crate::setup::step::new_file::NewFile;
use crate::setup::{SetupProgress, Site};
use crate::text::CommandLine;

/// One document for everything that the command does.
#[derive(Debug, Default, Serialize)]
pub(super) struct SetupJson {
    /// Set where it is printed.
    pub(super) version: u32,
    pub(super) name: Option<String>,
    pub(super) lineage: Option<String>,
    pub(super) data_directory: Option<PathBuf>,
    /// The user who runs the server, and gets the private key.
    pub(super) user: Option<String>,
    pub(super) server_names: Vec<String>,
    /// The file that is written into `conf.d`.
    pub(super) fragment: Option<NewFile>,
    /// The drop-in that lets the unit's daemon at the instance's paths.
    pub(super) drop_in: Option<NewFile>,
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
    /// What could not be undone, or stays.
    pub(super) left: Vec<String>,
    pub(super) connection: Option<String>,
    /// Why the daemon could not keep it so, and what fixes that, where it can be pasted.
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
    #[serde(rename = "taken_back")]
    RolledBack,
}

impl SetupJson {
    pub(super) fn from_plan(plan: &SetupPlan) -> SetupJson {
        let site = &plan.site;
        let mut document = SetupJson {
            obstacles: plan.obstacles.clone(),
            notes: plan.notes.clone(),
            ..SetupJson::from_instance(&site.instance, site.server.user())
        };
        let names = site.instance.server_names.iter();
        document.server_names = names.map(|name| name.to_str().into_owned()).collect();
        for step in &plan.steps {
            document.take_in(step, site);
        }
        document
    }

    pub(super) fn from_instance(instance: &InstanceConfig, user: String) -> SetupJson {
        SetupJson {
            name: Some(instance.name.clone()),
            lineage: Some(instance.lineage.name.clone()),
            data_directory: Some(instance.home().to_owned()),
            user: Some(user),
            ..SetupJson::default()
        }
    }

    fn take_in(&mut self, step: &Step, site: &Site) {
        match step {
            Step::Fragment(step) => self.fragment = Some(step.file(site)),
            Step::DropIn(step) => self.drop_in = Some(step.file(site)),
            Step::Install(step) => self.taken_over = step.takes_over,
            Step::Settings(step) => {
                let settings = step.settings.iter().map(|altered| SettingJson {
                    name: altered.setting.name(),
                    from: altered.now.clone(),
                    to: altered.set.clone(),
                });
                self.settings = settings.collect();
            }
            Step::HostLine(step) => {
                self.host_line = Some(HostLineJson {
                    file: step.file.clone(),
                    line: step.line(&site.instance),
                });
            }
            Step::Tighten(step) => self.exposed.clone_from(&step.exposed),
            Step::Reload | Step::Verify => {}
        }
    }

    /// Takes in what was told while it was done.
    pub(super) fn steps(&mut self, told: &[SetupProgress]) {
        for one in told {
            match one {
                SetupProgress::Done(what) => self.steps.push(what.clone()),
                SetupProgress::RollingBack(why) => self.error = Some(why.clone()),
                SetupProgress::Left(what) => self.left.push(what.clone()),
            }
        }
    }
}
