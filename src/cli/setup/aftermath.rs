//! What comes after a set-up: the daemon takes the config, and clients are told how to verify.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::bundle::Certificate;
use crate::config::{self, Config};
use crate::doctor::quoted;
use crate::doctor::unit::{self, Unit};
use crate::host::command::Launch;
use crate::instance::probe::Served;
use crate::report::view::StatusView;
use crate::setup::plan::Plan;
use crate::text::CommandLine;
use crate::trust::{Roots, judge};

/// How long `systemctl` may take: the unit's reload checks the config first.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a client that verifies connects.
pub(super) struct Connection {
    pub(super) conninfo: String,
    /// What else the client needs; empty where nothing.
    pub(super) note: String,
}

/// For the first of the instance's names.
pub(super) fn connection(plan: &Plan, served: &Served) -> Connection {
    let named = plan.instance.server_names.first();
    let host = named.map(|it| it.to_str().into_owned());
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
    let (roots, note) = match judged.is_trusted() {
        true => (
            "system",
            "before PostgreSQL 16, sslrootcert names a file: see docs/clients.md".to_owned(),
        ),
        false => {
            let last = rest.last().unwrap_or(&served.leaf);
            (
                "ROOT.pem",
                format!(
                    "this host's roots do not have its root: give clients the certificate of {} as ROOT.pem",
                    last.issuer()
                ),
            )
        }
    };
    let port = plan.server.port();
    Connection {
        conninfo: format!("host={host} port={port} sslmode=verify-full sslrootcert={roots}"),
        note,
    }
}

/// Why the unit's daemon could not keep a set-up so, each with the command that mends it.
pub(super) fn obstacles(plan: &Plan) -> Vec<(String, Option<CommandLine>)> {
    let (config, instance) = (&plan.config, &plan.instance);
    let Some(daemon) = Unit::of_this_host() else {
        return Vec::new();
    };
    if config.file != Path::new(config::DEFAULT_FILE) {
        return Vec::new();
    }
    let mut obstacles = Vec::new();
    let owner = plan.server.owner.uid;
    if let Some(why) = daemon.foreign_to([owner, owner]) {
        obstacles.push((why, CommandLine::checked(unit::root_operation())));
    }
    let open = daemon.words("ReadWritePaths");
    let outside = |it: &&Path| {
        let mut open = open.iter().map(|path| path.trim_start_matches(['-', '+']));
        !it.starts_with(config::DEFAULT_STATE_DIRECTORY) && !open.any(|path| it.starts_with(path))
    };
    let mut directories: Vec<&Path> = [instance.cert_file.parent(), instance.key_file.parent()]
        .into_iter()
        .flatten()
        .filter(outside)
        .collect();
    directories.dedup();
    if !directories.is_empty() {
        let paths: Vec<String> = directories
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        let name = &instance.name;
        obstacles.push((
            format!(
                "the unit lets the daemon write below {} alone, and not in {}",
                config::DEFAULT_STATE_DIRECTORY,
                paths.join(" and ")
            ),
            CommandLine::checked(format!(
                "mkdir -p /etc/systemd/system/pgcertd.service.d && printf '[Service]\\nReadWritePaths={}\\n' \
                 >/etc/systemd/system/pgcertd.service.d/{name}.conf && systemctl daemon-reload && \
                 systemctl try-restart pgcertd",
                paths.join(" ")
            )),
        ));
    }
    obstacles
}

/// What has become of the daemon.
pub(super) enum Daemon {
    /// It has taken the config.
    Took,
    /// It runs and has not; what has it do so.
    Waits(String),
    /// None runs; what is to be done so that one does.
    Absent(String),
}

impl Daemon {
    /// One sentence.
    pub(super) fn sentence(&self) -> String {
        match self {
            Daemon::Took => "the daemon has taken the config".into(),
            Daemon::Waits(sentence) | Daemon::Absent(sentence) => sentence.clone(),
        }
    }
}

/// Has the running daemon take the config; or says what has it run.
pub(super) async fn daemon(config: &Config) -> Daemon {
    if config.file != Path::new(config::DEFAULT_FILE) {
        // The unit's daemon has another config.
        let view = StatusView::read(&config.runtime_directory).ok().flatten();
        let alive = view.filter(StatusView::daemon_lives);
        return match alive.and_then(|it| it.daemon) {
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
    if !systemctl(&["--quiet", "is-active", "pgcertd.service"]).await {
        return Daemon::Absent(
            "systemctl enable --now pgcertd, so that renewals are served".into(),
        );
    }
    match systemctl(&["reload", "pgcertd.service"]).await {
        true => Daemon::Took,
        false => Daemon::Waits(
            "systemctl reload pgcertd: the daemon did not take the config, and journalctl -u pgcertd says why"
                .into(),
        ),
    }
}

async fn systemctl(arguments: &[&str]) -> bool {
    let mut launch = Launch::of_operator("systemctl");
    launch.args(arguments);
    launch
        .ran(PATIENCE)
        .await
        .is_ok_and(|ran| ran.status.success())
}
