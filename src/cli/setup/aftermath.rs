//! What comes after a set-up: the daemon takes the config, and clients are told how to verify.

use std::path::Path;

use jiff::Timestamp;

use crate::bundle::Certificate;
use crate::check::quoted;
use crate::check::unit::{self, Unit};
use crate::config::{self, Config};
use crate::report::view::StatusView;
use crate::server::probe::Served;
use crate::setup::plan::SetupPlan;
use crate::setup::service::systemctl;
use crate::trust::{Roots, judge};

/// How a client that verifies connects.
pub(super) struct Connection {
    pub(super) conninfo: String,
    /// What else the client needs; empty where nothing.
    pub(super) note: String,
}

/// For the first of the instance's names.
pub(super) fn connection(plan: &SetupPlan, served: &Served) -> Connection {
    let named = plan.site.instance.server_names.first();
    let host = named.map(|name| name.to_str().into_owned());
    let host = host.or_else(|| served.leaf.names().first().cloned());
    let host = host.unwrap_or_else(|| served.address.host.clone());
    let rest: Vec<Certificate> = served
        .intermediates
        .iter()
        .filter_map(|der| Certificate::from_der(der.clone()).ok())
        .collect();
    let judged = judge(
        &served.leaf,
        &rest,
        &Roots::system(),
        &host,
        Timestamp::now(),
    );
    let (roots, note) = if judged.is_trusted() {
        (
            "system",
            "before PostgreSQL 16, sslrootcert names a file: see docs/clients.md".to_owned(),
        )
    } else {
        let last = rest.last().unwrap_or(&served.leaf);
        (
            "ROOT.pem",
            format!(
                "this host's roots do not have its root: give clients the certificate of {} as ROOT.pem",
                last.issuer()
            ),
        )
    };
    let port = plan.site.server.port();
    Connection {
        conninfo: format!("host={host} port={port} sslmode=verify-full sslrootcert={roots}"),
        note,
    }
}

/// What has become of the daemon.
pub(super) enum Daemon {
    /// It has taken the config.
    Took,
    /// It was restarted, since its unit has changed.
    Restarted,
    /// It runs and has not; what has it do so.
    Waits(String),
    /// None runs; what is to be done so that one does.
    Absent(String),
}

impl Daemon {
    pub(super) fn sentence(&self) -> String {
        match self {
            Daemon::Took => "the daemon has taken the config".into(),
            Daemon::Restarted => {
                "the daemon has taken the config, and was restarted for what its unit allows".into()
            }
            Daemon::Waits(sentence) | Daemon::Absent(sentence) => sentence.clone(),
        }
    }
}

/// Has the running daemon take the config, and what its unit has become where that has changed; or says what has it run.
pub(super) async fn daemon(config: &Config, unit_has_changed: bool) -> Daemon {
    if config.file != Path::new(config::DEFAULT_FILE) {
        // The unit's daemon has another config.
        let view = StatusView::read(&config.runtime_directory).ok().flatten();
        let alive = view.filter(StatusView::daemon_lives);
        return match alive.and_then(|status_view| status_view.daemon) {
            Some(daemon) => Daemon::Waits(format!(
                "kill -HUP {}, so that the daemon takes the config",
                daemon.pid
            )),
            None => Daemon::Absent(format!(
                "pgcertd run --config {}, so that renewals are served: no daemon runs with this config",
                quoted(&config.file)
            )),
        };
    }
    if Unit::of_this_host().is_none() {
        return Daemon::Absent(
            "pgcertd sync, after each renewal: no unit of pgcertd is installed here".into(),
        );
    }
    if !unit::systemd_runs() {
        return Daemon::Absent(
            "pgcertd run, so that renewals are served: systemd does not run here, so have what starts programs start it"
                .into(),
        );
    }
    if systemctl(&["--quiet", "is-active", "pgcertd.service"])
        .await
        .is_err()
    {
        return Daemon::Absent(
            "systemctl enable --now pgcertd, so that renewals are served".into(),
        );
    }
    // Only a start gives a process another sandbox.
    let (verb, taken) = if unit_has_changed {
        ("restart", Daemon::Restarted)
    } else {
        ("reload", Daemon::Took)
    };
    match systemctl(&[verb, "pgcertd.service"]).await {
        Ok(()) => taken,
        Err(_) => Daemon::Waits(format!(
            "systemctl {verb} pgcertd: the daemon did not take the config, and journalctl -u pgcertd says why"
        )),
    }
}
