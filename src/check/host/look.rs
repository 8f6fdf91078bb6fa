//! The host, and what its files and its systemd tell.

use std::sync::Arc;

use super::cron::{self, Cron};
use super::facts::{self, HostFacts};
use super::survey::{self, AcmeSurvey};
use super::timers::{self, Timers};
use crate::check::context::CheckContext;
use crate::host::privilege::{PrivilegeError, Worker};

pub(in crate::check) struct HostLook {
    pub(super) context: CheckContext,
    /// What is known about each instance.
    pub(super) facts: Vec<HostFacts>,
    pub(super) files: Result<HostFiles, PrivilegeError>,
}

/// What the host's files and its systemd tell.
pub(super) struct HostFiles {
    pub(super) reader: Worker,
    pub(super) survey: Arc<AcmeSurvey>,
    pub(super) timers: Timers,
    pub(super) cron: Cron,
}

impl HostFiles {
    async fn read(context: &CheckContext) -> Result<HostFiles, PrivilegeError> {
        let reader = survey::reader().await?;
        let survey = Arc::new(survey::survey(&reader, &context.config).await?);
        Ok(HostFiles {
            reader,
            survey,
            timers: timers::timers().await,
            cron: cron::cron().await,
        })
    }
}

impl HostLook {
    pub(in crate::check) async fn new(context: CheckContext) -> HostLook {
        HostLook {
            facts: facts::facts(&context.config, &context.prober).await,
            files: HostFiles::read(&context).await,
            context,
        }
    }
}
