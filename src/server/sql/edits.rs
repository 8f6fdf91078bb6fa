//! Edits of the configuration that do not count yet.

use jiff::Timestamp;

use super::{Sql, SqlError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingEdits {
    /// When the configuration was last loaded: what was edited later waits for a reload.
    pub(crate) loaded: Timestamp,
    /// Parameters whose new values wait for a restart.
    pub(crate) restart: Vec<String>,
}

impl Sql {
    /// What waits for a reload or a restart; every role may ask.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn pending(&self) -> Result<PendingEdits, SqlError> {
        const WHAT: &str = "what waits for a restart";
        let row = self
            .row(
                WHAT,
                "select pg_conf_load_time(), \
                 array(select name from pg_settings where pending_restart order by name)",
                &[],
            )
            .await?;
        Ok(PendingEdits {
            loaded: self.column(WHAT, &row, 0)?,
            restart: self.column(WHAT, &row, 1)?,
        })
    }
}
