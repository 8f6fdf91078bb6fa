//! `pgcertd removal`: what PostgreSQL keeps serving once pgcertd is gone.
//!
//! The packages run it before they remove the program; it is hidden from `--help`. Whatever it finds is not an error, because
//! a removal must not fail for it. It changes nothing except, with `--remember`, the list of servers that a later purge
//! checks.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::Style;
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

use super::exit::{Exit, Failure, print, print_json, prober};
use super::page::Page;
use crate::bundle::Bundle;
use crate::config::{self, Config, ConfigError};
use crate::host::directory::{ReachError, open_directory};
use crate::host::file::Links;
use crate::host::slot::FileSlot;
use crate::report::view::VERSION;
use crate::server::files::Installed;
use crate::server::{Instance, InstanceSnapshot, Server};
use crate::text::day;
use crate::trust::{Needed, Roots};

/// How long one instance may take: a removal doesn't wait for a dead file system.
const PATIENCE: Duration = Duration::from_secs(5);

/// The list in the state directory; no instance can have its name.
const SERVERS: &str = ".servers";

#[derive(Debug, clap::Args)]
pub(super) struct RemovalArguments {
    /// Leave a list of the servers in the state directory for a purge.
    #[arg(long)]
    remember: bool,
}

/// What one server is left with.
#[derive(Debug, Serialize)]
struct Left {
    name: String,
    file: PathBuf,
    /// When the certificate in it expires, if that is known.
    not_after: Option<Timestamp>,
    /// One sentence without its subject, the instance.
    seen: String,
    /// Files and directories in which its configuration may name the files.
    #[serde(skip)]
    configured_in: Vec<PathBuf>,
}

#[derive(Serialize)]
struct RemovalJson {
    version: u32,
    instances: Vec<Left>,
    error: Option<String>,
}

pub(super) async fn removal(
    file: &Path,
    wanted: &RemovalArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let config = Config::load(file);
    let instances = match &config {
        Ok(config) => all(config).await?,
        Err(_) => Vec::new(),
    };
    if let (true, Ok(config)) = (wanted.remember, &config)
        && let Err(error) = remember(&config.state_directory, &instances)
    {
        Page::of_line(format_args!(
            "pgcertd: {}: cannot be written: {error}; a purge will only look for servers in the usual places",
            config.state_directory.join(SERVERS).display()
        ))
        .complain();
    }
    if json {
        print_json(&RemovalJson {
            version: VERSION,
            instances,
            error: config.err().map(|error| error.one_line()),
        })?;
    } else {
        print(&match &config {
            Ok(_) => drawn(&instances),
            Err(error) => unknown(error),
        })?;
    }
    Ok(Exit::Well)
}

/// Looks at all instances at once.
async fn all(config: &Config) -> Result<Vec<Left>, Failure> {
    let prober = prober()?;
    let mut looks = JoinSet::new();
    for (index, configured) in config.instances.iter().enumerate() {
        let mut instance = Instance::new(config, configured, prober.clone());
        let configured = configured.clone();
        looks.spawn(async move {
            let looked = tokio::time::timeout(PATIENCE, left(&mut instance)).await;
            let silent = format!("no answer in {} s", PATIENCE.as_secs());
            (
                index,
                looked.unwrap_or_else(|_| cannot_tell(&configured, &silent)),
            )
        });
    }
    let mut found = Vec::new();
    while let Some(looked) = looks.join_next().await {
        found.push(looked.map_err(|e| Failure::problem(&e))?);
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, left)| left).collect())
}

async fn left(instance: &mut Instance) -> Left {
    let config = instance.config.clone();
    let sight = match instance.look().await {
        Ok(sight) => sight,
        Err(error) => return cannot_tell(&config, &error.to_string()),
    };
    let not_after = match &sight.look.installed {
        Installed::Usable(bundle) => Some(end(bundle)),
        Installed::Absent | Installed::Unusable(_) => None,
    };
    Left {
        seen: standing(instance, &sight).await,
        configured_in: configured_in(config.home().to_owned(), &sight.server),
        name: config.name,
        file: config.cert_file,
        not_after,
    }
}

/// When the first certificate that clients need expires.
fn end(bundle: &Bundle) -> Timestamp {
    let now = Timestamp::now();
    let depends = Needed::depends_on_roots(bundle.leaf(), bundle.intermediates(), now);
    let roots = if depends {
        Roots::system()
    } else {
        Roots::none()
    };
    let needed = Needed::of_bundle(bundle, &roots, now);
    needed.first_end().not_after()
}

/// The situation of a server whose files could be read.
async fn standing(instance: &mut Instance, sight: &InstanceSnapshot) -> String {
    let config = instance.config.clone();
    let file = config.cert_file.display();
    let until = match &sight.look.installed {
        Installed::Absent => {
            return format!("has no certificate from pgcertd: {file} does not exist");
        }
        Installed::Unusable(why) => return format!("cannot load {file}: {why}"),
        Installed::Usable(bundle) => until(end(bundle), Timestamp::now()),
    };
    let process = match &sight.server {
        Server::Up(process) => process,
        Server::Down(absence) if absence.may_run() => {
            return format!("may be running, and may serve {file} {until}: {absence}");
        }
        Server::Down(_) => {
            return format!("is down, and will serve {file} {until} if its configuration names it");
        }
    };
    match instance.tls_settings(process, sight).await {
        Ok(settings) => match settings.not_used(&config.cert_file, &config.key_file) {
            Ok(None) => format!("keeps serving {file} {until}"),
            Ok(Some(not_used)) => format!("does not serve {file}: {}", not_used.why),
            Err(cannot) => format!("may serve {file} {until}: {cannot}"),
        },
        Err(error) => format!("may serve {file} {until}: {error}"),
    }
}

fn until(end: Timestamp, now: Timestamp) -> String {
    if end > now {
        format!("until {}", day(end))
    } else {
        format!("although it expired on {}", day(end))
    }
}

fn cannot_tell(config: &config::InstanceConfig, why: &str) -> Left {
    let file = config.cert_file.clone();
    Left {
        name: config.name.clone(),
        not_after: None,
        seen: format!(
            "cannot be checked: {why}; `openssl x509 -noout -enddate -in {}` prints when its certificate expires",
            file.display()
        ),
        file,
        configured_in: vec![config.home().to_owned()],
    }
}

/// Where a server's configuration is: its home, and the files that its arguments name.
fn configured_in(home: PathBuf, server: &Server) -> Vec<PathBuf> {
    let arguments = server
        .postmaster()
        .map(|postmaster| postmaster.arguments.as_slice());
    let named = arguments.unwrap_or_default().iter().filter_map(|argument| {
        let (_, file) = argument.to_str()?.split_once("config_file=")?;
        Path::new(file).is_absolute().then(|| PathBuf::from(file))
    });
    [home].into_iter().chain(named).collect()
}

/// Writes the list. The directory may belong to another user, so no link in it is followed.
fn remember(state: &Path, instances: &[Left]) -> std::io::Result<()> {
    let directory = match open_directory(state, Links::Refused) {
        // Nothing was ever installed there.
        Err(error) if error.is_absence() => return Ok(()),
        opened => opened.map_err(ReachError::into_io)?,
    };
    let slot = FileSlot::new(directory, &state.join(SERVERS)).map_err(ReachError::into_io)?;
    Ok(slot.replace(&listed(instances), 0o600, None)?)
}

/// One path per line; one that contains a newline is left out.
fn listed(instances: &[Left]) -> Vec<u8> {
    instances
        .iter()
        .flat_map(|left| &left.configured_in)
        .map(|path| path.as_os_str().as_bytes())
        .filter(|path| !path.contains(&b'\n'))
        .flat_map(|path| [path, b"\n"].concat())
        .collect()
}

fn drawn(instances: &[Left]) -> Page {
    if instances.is_empty() {
        return Page::of_line("pgcertd is being removed; its config names no server.");
    }
    let mut out = Page::of_line("pgcertd is being removed; nothing renews these certificates now.");
    for left in instances {
        let line = format!("{} {}", left.name, left.seen);
        out.put("  ").indented(Style::new(), 4, line);
    }
    out.hanging(
        "Leave the files where they are until ssl_cert_file and ssl_key_file name others and PostgreSQL has loaded \
         those: it doesn't start if a file that its configuration names is missing.",
    );
    out
}

fn unknown(error: &ConfigError) -> Page {
    Page::of_text(format_args!(
        "pgcertd is being removed; nothing renews its certificates now. Which servers use them is unknown, because the \
         config is wrong: {}. Check each {}/*/server.pem with `openssl x509 -noout -enddate -in FILE`, and keep those \
         that a PostgreSQL configuration names.",
        error.one_line(),
        config::DEFAULT_STATE_DIRECTORY
    ))
}
