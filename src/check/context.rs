//! What every check may use.

use std::sync::Arc;

use super::unit::Unit;
use crate::config::Config;
use crate::server::probe::Prober;

#[derive(Clone)]
pub(super) struct CheckContext {
    pub(super) config: Arc<Config>,
    /// The service's, where one is installed.
    pub(super) unit: Arc<Option<Unit>>,
    pub(super) prober: Prober,
}
