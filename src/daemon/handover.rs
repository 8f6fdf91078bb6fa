//! The new config after SIGHUP, and what is handed to the tasks that it brings to life.

use std::path::Path;

use crate::config::{Config, InstanceConfig};
use crate::report::notices;
use crate::report::view::InstanceView;

/// What one generation leaves to the next.
pub(super) struct Handover {
    pub(super) config: Config,
    /// How the instances were, so that whoever asks meanwhile is told that and not nothing.
    pub(super) seen: Vec<(InstanceConfig, InstanceView)>,
}

impl Handover {
    /// How an instance that is the same as before was.
    pub(super) fn view(&self, instance: &InstanceConfig) -> Option<InstanceView> {
        let same = self.seen.iter().find(|(before, _)| before == instance);
        same.map(|(_, view)| view.clone())
    }
}

/// The new config after SIGHUP, or nothing where it is wrong: then the old one stays.
pub(super) fn reloaded_config(file: &Path) -> Option<Config> {
    match Config::load(file) {
        Ok(config) => Some(config),
        Err(error) => {
            notices::config_refused(file, &error.one_line());
            None
        }
    }
}
