//! When an instance last got its certificate, told from what lies there: no date is remembered.
//!
//! A session runs to its end under the certificate of its beginning, so that this moment parts
//! the sessions. What counts is the time of the installed file, where the server shows what it
//! holds. pgcertd writes a new file for each deployment: there it is the time of its content,
//! which no later `chmod`, `chown` or relabelling moves. Where others place the files it is the
//! time of its last change (ctime), since a copy may have brought the time of its content along
//! (`cp -p`, `rsync -t`).

use jiff::Timestamp;

use super::files::{FileTime, HeldBy, Installed};
use super::instance::Instance;
use super::snapshot::{InstanceSnapshot, Server};
use crate::config::{Mode, Verify};

impl Instance {
    /// When the certificate that the server shows came into its file. A deployment that
    /// installs again what was there (`sync --force`) counts as one.
    ///
    /// # Errors
    /// A sentence that says why it cannot be told.
    pub(crate) async fn last_deployment(
        &mut self,
        sight: &InstanceSnapshot,
    ) -> Result<Timestamp, String> {
        let Installed::Usable(installed) = &sight.look.installed else {
            return Err("no certificate is installed that the server could have loaded".into());
        };
        // What was put back has the time of the roll-back, and was served before it as well.
        if let Some(held) = &sight.look.held
            && held.by == HeldBy::Postgres
        {
            return Err(format!(
                "the deployment of {} was rolled back",
                held.fingerprint.short()
            ));
        }
        let Server::Up(process) = &sight.server else {
            return Err("the server is not running".into());
        };
        if self.config.verify == Verify::None {
            return Err("what is served is not looked at (verify = \"none\")".into());
        }
        let addresses = self.addresses(process).map_err(|problem| problem.what)?;
        let limit = self.config.verify_timeout;
        let served = self.served_by_name(&addresses, installed, limit).await;
        let served = served.map_err(|unseen| unseen.to_string())?;
        if served.leaf.fingerprint() != installed.fingerprint() {
            return Err(format!(
                "{} is installed and {} is served",
                installed.fingerprint().short(),
                served.leaf.fingerprint().short()
            ));
        }
        let moment = match self.config.mode {
            Mode::Manage => FileTime::Written,
            Mode::Reload | Mode::Observe => FileTime::Changed,
        };
        self.on_files(move |targets| targets.cert_time(moment))
            .await
            .map_err(|error| error.to_string())
    }
}
