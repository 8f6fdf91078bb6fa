//! What exactly a set-up would change on one server; whatever would not work is refused here, before anything is.
//!
//! Nothing is changed. The server is asked over its socket, the files are looked at by the same threads that
//! would write them, and the config is loaded as it would be.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fragment::{Fragment, FragmentEntry};
use super::host_line::LineToAdd;
use super::managed::by_patroni;
use super::server::user_name;
use super::service::Admission;
use super::{SetupError, SetupServer};
use crate::config::{self, Config, Mode, SHARED};
use crate::deploy::plan::Intent;
use crate::deploy::{Keeper, SyncOutcome};
use crate::host::look::is_same_file;
use crate::host::privilege::{Ids, PrivilegeError};
use crate::lineage::{Source, Spec, Tracked};
use crate::server::files::{Found, Installed};
use crate::server::hosts::{Hosts, line_text};
use crate::server::probe::AskedName;
use crate::server::probe::Prober;
use crate::server::program::{changed_since, tls_settings};
use crate::server::settings::TlsSettings;
use crate::server::sql::{ServerSettings, Setting, Sql};
use crate::server::{Instance, Purpose};

#[derive(Debug, Clone)]
pub(crate) enum PlanSubject {
    /// An instance that the config has.
    Known(Box<config::InstanceConfig>),
    /// One that it is to have.
    New(FragmentEntry),
}

/// A setting, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedChange {
    pub(crate) setting: Setting,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// What becomes of the files that the server names now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedTarget {
    /// The config says which files are written.
    Configured,
    /// The server's own are taken over.
    TakenOver,
    /// A file of the instance's own is written; where the server's own are private ones, why they are not
    /// taken over.
    Own(Option<String>),
}

/// Everything that a set-up is going to do.
#[derive(Debug)]
pub(crate) struct SetupPlan {
    pub(crate) server: SetupServer,
    /// The config as it will be.
    pub(crate) config: Config,
    pub(crate) instance: config::InstanceConfig,
    /// The file that is written into `conf.d`; none where the config has the instance.
    pub(crate) fragment: Option<Fragment>,
    /// What the service needs, so that its daemon keeps it so.
    pub(crate) admission: Admission,
    pub(crate) target: PlannedTarget,
    pub(crate) source: Source,
    /// What an install would come to.
    pub(crate) install: SyncOutcome,
    /// What is set by ALTER SYSTEM.
    pub(crate) settings: Vec<PlannedChange>,
    /// The line that is added to `pg_hosts.conf`.
    pub(crate) host_line: Option<LineToAdd>,
    pub(crate) current: ServerSettings,
    /// What is worth knowing; it stops nothing.
    pub(crate) notes: Vec<String>,
}

impl SetupPlan {
    /// Makes the plan.
    ///
    /// # Errors
    /// What speaks against it, with the remedy.
    pub(crate) async fn made(
        config: &Config,
        server: SetupServer,
        sql: &Sql,
        subject: PlanSubject,
        prober: &Prober,
    ) -> Result<SetupPlan, SetupError> {
        let current = sql.server_settings().await?;
        let asked = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
        let tls = asked.ok();
        let pair = match tls.as_ref().and_then(TlsSettings::hosts) {
            Some(hosts) => Pair::by_name(hosts, &subject),
            None => Pair::from_current(&current, &server.data_directory),
        };
        let Written {
            config,
            instance,
            fragment,
            target,
        } = written(config, &server, subject, pair.as_ref(), prober).await?;
        if instance.mode == Mode::Observe {
            return Err(SetupError::Observed(instance.name));
        }
        if current.listen_addresses.trim().is_empty() {
            return Err(SetupError::NoTcp);
        }
        let mut settings = changes(&current, &instance, &server.data_directory);
        let mut lineage = tracked(&config, &instance);
        let mut host_line = None;
        if let Some(tls) = tls.filter(|tls| tls.hosts().is_some()) {
            // What these name is not even opened.
            settings.retain(|change| change.setting == Setting::Ssl);
            let source = lineage.settled().await?;
            let tls = tls.for_instance(&instance, source.bundle().map(AsRef::as_ref));
            host_line = LineToAdd::proposed(&server, &tls, &instance).await?;
        }
        if !settings.is_empty() {
            let print =
                |data: &str| config.command(&["setup", "--print", "--data-directory", data]);
            let print = print(&server.data_directory.to_string_lossy());
            changeable(&server, sql, &current, &settings, print).await?;
        }
        let (source, install) = fitting(&config, &instance, &mut lineage, prober).await?;
        let admission = admission(&config, &instance, &lineage, server.owner).await?;
        let notes = notes(&server, &current, &instance).await;
        Ok(SetupPlan {
            server,
            config,
            instance,
            fragment,
            admission,
            target,
            source,
            install,
            settings,
            host_line,
            current,
            notes,
        })
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.fragment.is_none()
            && self.admission.drop_in.is_none()
            && self.settings.is_empty()
            && self.host_line.is_none()
            && self.install == SyncOutcome::Unchanged
    }
}

/// The files that a server names, as absolute paths.
#[derive(Debug, Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// None where TLS is off, or where it is the pair that all services of a host share.
    fn from_current(current: &ServerSettings, data: &Path) -> Option<Pair> {
        let pair = Pair {
            cert: data.join(&current.cert_file),
            key: data.join(&current.key_file),
        };
        (current.ssl && !pair.is_shared()).then_some(pair)
    }

    /// Where the name that a client asks for decides: what the new instance's names get, if no other name does. None
    /// where another does, whose certificate that is.
    fn by_name(hosts: &Hosts, subject: &PlanSubject) -> Option<Pair> {
        let PlanSubject::New(entry) = subject else {
            return None;
        };
        let names = entry.server_names.iter();
        let names: Vec<AskedName> = names.map(|name| AskedName::by_host(name)).collect();
        let (cert, key) = hosts.own_pair(&names)?;
        let pair = Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        (!pair.is_shared()).then_some(pair)
    }

    /// Whether a file of it is one that all services of a host share.
    fn is_shared(&self) -> bool {
        let shared = |path: &Path| {
            SHARED
                .iter()
                .any(|text| is_same_file(Path::new(text), path))
        };
        shared(&self.cert) || shared(&self.key)
    }
}

/// The config as it will be.
pub(crate) struct Written {
    pub(crate) config: Config,
    pub(crate) instance: config::InstanceConfig,
    /// What is to be written for that.
    pub(crate) fragment: Option<Fragment>,
    pub(crate) target: PlannedTarget,
}

/// What a person is to write.
pub(crate) struct ByHand {
    /// The instance, and where it is configured.
    pub(crate) written: Written,
    /// What lets the service at its files.
    pub(crate) admission: Admission,
    /// Where the name that a client asks for decides: `hosts_file`, and the line for the instance's names.
    pub(crate) host_line: Option<(PathBuf, String)>,
}

/// What there would be to write by hand, for a server whose configuration others keep: it is asked for its
/// files without a login.
///
/// # Errors
/// The config would not be right.
pub(crate) async fn by_hand(
    config: &Config,
    server: &SetupServer,
    subject: PlanSubject,
    prober: &Prober,
) -> Result<ByHand, SetupError> {
    let asked = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
    let tls = asked.ok().filter(|tls| tls.on);
    let pair = tls.as_ref().and_then(|tls| match tls.hosts() {
        Some(hosts) => Pair::by_name(hosts, &subject),
        None => Some(Pair {
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
        }),
    });
    let pair = pair.filter(|pair| !pair.is_shared());
    let written = written(config, server, subject, pair.as_ref(), prober).await?;
    let mut lineage = tracked(&written.config, &written.instance);
    // What it holds is for the sync to say; this is about the directories that it leads through, and the names.
    let source = lineage.settled().await?;
    let admission = admission(&written.config, &written.instance, &lineage, server.owner).await?;
    let bundle = source.bundle().map(|bundle| &**bundle);
    let tls = tls.map(|tls| tls.for_instance(&written.instance, bundle));
    let host_line = tls.map_or(Ok(None), |tls| host_line(&tls, &written.instance))?;
    Ok(ByHand {
        written,
        admission,
        host_line,
    })
}

/// The line of `hosts_file` that the instance's names lack, and that file; none where the name that a client asks for
/// decides nothing.
fn host_line(
    tls: &TlsSettings,
    instance: &config::InstanceConfig,
) -> Result<Option<(PathBuf, String)>, SetupError> {
    let (cert, key) = (&instance.cert_file, &instance.key_file);
    let Some(hosts) = tls.hosts() else {
        return Ok(None);
    };
    match hosts.names_to_add(&tls.asked_names, cert, key) {
        Ok(Ok(names)) if names.is_empty() => Ok(None),
        Ok(Ok(names)) => Ok(Some((hosts.file.clone(), line_text(&names, cert, key)))),
        Ok(Err(not_used)) => Err(SetupError::ByName(not_used)),
        Err(cannot) => Err(SetupError::HostFiles(cannot)),
    }
}

async fn written(
    config: &Config,
    server: &SetupServer,
    subject: PlanSubject,
    pair: Option<&Pair>,
    prober: &Prober,
) -> Result<Written, SetupError> {
    let entry = match subject {
        PlanSubject::Known(instance) => {
            return Ok(Written {
                config: config.clone(),
                instance: *instance,
                fragment: None,
                target: PlannedTarget::Configured,
            });
        }
        PlanSubject::New(entry) => entry,
    };
    let mut kept = None;
    if let Some(pair) = pair {
        match taken_over(config, server.owner, &entry, pair, prober).await? {
            Ok(written) => return Ok(written),
            Err(why) => kept = Some(why),
        }
    }
    let fragment = entry.fragment(&config.fragments());
    let (config, instance) = with(config, &fragment, &entry.name)?;
    Ok(Written {
        config,
        instance,
        fragment: Some(fragment),
        target: PlannedTarget::Own(kept),
    })
}

fn with(
    config: &Config,
    fragment: &Fragment,
    name: &str,
) -> Result<(Config, config::InstanceConfig), SetupError> {
    let config = Config::load_with(&config.file, &fragment.path, &fragment.text)?;
    let instance = config.instance(name).cloned();
    // A config that has been loaded with the fragment has its instance.
    let instance = instance.ok_or_else(|| SetupError::NoRecord(name.to_owned()))?;
    Ok((config, instance))
}

/// The entry with the server's own files, if they are private ones that may be written; a sentence if not.
async fn taken_over(
    config: &Config,
    owner: Ids,
    entry: &FragmentEntry,
    pair: &Pair,
    prober: &Prober,
) -> Result<Result<Written, String>, SetupError> {
    let said = |path: &Path| path.to_str().map(str::to_owned);
    let (Some(cert), Some(key)) = (said(&pair.cert), said(&pair.key)) else {
        return Ok(Err("its path is not UTF-8".into()));
    };
    let entry = FragmentEntry {
        files: Some((cert, key)),
        ..entry.clone()
    };
    let fragment = entry.fragment(&config.fragments());
    let (config, instance) = match with(config, &fragment, &entry.name) {
        Ok(loaded) => loaded,
        Err(SetupError::Config(error)) => return Ok(Err(error.message().to_owned())),
        Err(error) => return Err(error),
    };
    let mut handle = Instance::new(&config, &instance, prober.clone());
    handle.refresh(Purpose::Look).await?;
    let looked = handle
        .on_files(|targets| {
            let closed = targets.unwritable(&targets.directories_of_files());
            Ok((targets.look()?, closed))
        })
        .await;
    let (look, closed) = match looked {
        Ok(looked) => looked,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if look
        .found
        .iter()
        .any(|found| matches!(found, Found::Link(_)))
    {
        return Ok(Err("it is a symbolic link".into()));
    }
    if let Installed::Unusable(why) = &look.installed {
        return Ok(Err(why.clone()));
    }
    if let Some((directory, _)) = closed.first() {
        return Ok(Err(format!(
            "{} is not writable for {}",
            directory.display(),
            user_name(owner.uid)
        )));
    }
    Ok(Ok(Written {
        config,
        instance,
        fragment: Some(fragment),
        target: PlannedTarget::TakenOver,
    }))
}

/// What is to be set: the files where they are others, and `ssl` where it is off.
fn changes(
    current: &ServerSettings,
    instance: &config::InstanceConfig,
    data: &Path,
) -> Vec<PlannedChange> {
    let files = [
        (Setting::CertFile, &current.cert_file, &instance.cert_file),
        (Setting::KeyFile, &current.key_file, &instance.key_file),
    ];
    let mut changes: Vec<PlannedChange> = files
        .into_iter()
        .filter(|(_, from, to)| !is_same_file(&data.join(from), to))
        .map(|(setting, from, to)| PlannedChange {
            setting,
            from: from.clone(),
            to: to.display().to_string(),
        })
        .collect();
    if !current.ssl {
        changes.push(PlannedChange {
            setting: Setting::Ssl,
            from: "off".into(),
            to: "on".into(),
        });
    }
    changes
}

/// Whether ALTER SYSTEM will do it.
async fn changeable(
    server: &SetupServer,
    sql: &Sql,
    current: &ServerSettings,
    changes: &[PlannedChange],
    print: String,
) -> Result<(), SetupError> {
    let data = server.data_directory.clone();
    if by_patroni(server, &current.config_file).await? {
        return Err(SetupError::Managed { data, print });
    }
    if !current.allow_alter_system {
        return Err(SetupError::Forbidden { data, print });
    }
    let fixed = sql.on_command_line().await?;
    let settings: Vec<String> = changes
        .iter()
        .map(|change| change.setting.name().to_owned())
        .filter(|name| fixed.contains(name))
        .collect();
    if !settings.is_empty() {
        return Err(SetupError::CommandLine { settings });
    }
    match sql.file_faults().await? {
        faults if faults.is_empty() => Ok(()),
        faults => Err(SetupError::Faulty { faults }),
    }
}

fn tracked(config: &Config, instance: &config::InstanceConfig) -> Tracked {
    let watch = &config.watch;
    Tracked::new(Spec::from(instance), watch.debounce, watch.settle_timeout)
}

/// What the service needs for an instance whose lineage has been read.
async fn admission(
    config: &Config,
    instance: &config::InstanceConfig,
    lineage: &Tracked,
    owner: Ids,
) -> Result<Admission, SetupError> {
    let directories = lineage.trail().directories.clone();
    let (config, instance) = (config.clone(), instance.clone());
    let looked = move || Admission::for_service(&config, &instance, &directories, owner);
    let looked = tokio::task::spawn_blocking(looked).await;
    Ok(looked.map_err(|e| PrivilegeError::Gone(e.to_string()))?)
}

/// What the lineage holds, if it may go in, and what that comes to.
async fn fitting(
    config: &Config,
    instance: &config::InstanceConfig,
    lineage: &mut Tracked,
    prober: &Prober,
) -> Result<(Source, SyncOutcome), SetupError> {
    let source = lineage.settled().await?;
    let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
    let intent = Intent {
        dry_run: true,
        ..Intent::default()
    };
    let settle = config.watch.settle_timeout;
    let done = keeper.reconcile(lineage, intent, settle).await.done;
    match done.outcome {
        SyncOutcome::Waiting
        | SyncOutcome::Refused
        | SyncOutcome::RolledBack
        | SyncOutcome::TakenBack
        | SyncOutcome::Failed => {
            let told = done.problem.map(|problem| problem.to_string());
            Err(SetupError::Unfit(told.unwrap_or_else(|| {
                format!("{}: {}", instance.name, done.outcome.meaning())
            })))
        }
        outcome => Ok((source, outcome)),
    }
}

async fn notes(
    server: &SetupServer,
    current: &ServerSettings,
    instance: &config::InstanceConfig,
) -> Vec<String> {
    let mut notes = Vec::new();
    let near = |host: &str| matches!(host.trim(), "localhost" | "127.0.0.1" | "::1");
    if current.listen_addresses.split(',').all(near) {
        notes.push(format!(
            "listen_addresses = '{}': clients of other hosts cannot connect; when it suits, set it \
             (ALTER SYSTEM SET listen_addresses = '*') and restart the server",
            current.listen_addresses
        ));
    }
    let data = &server.data_directory;
    if [&instance.cert_file, &instance.key_file]
        .iter()
        .any(|path| path.starts_with(data))
    {
        notes.push(
            "the pair lies in the data directory: pg_basebackup and pg_rewind copy it to other hosts, \
             its key and the previous one included"
                .into(),
        );
    }
    let loaded = SystemTime::from(current.loaded);
    let edited = changed_since(&server.postmaster, data, server.owner, loaded).await;
    for file in edited.unwrap_or_default() {
        notes.push(format!(
            "{} was edited since the last reload: that comes into force as well",
            file.display()
        ));
    }
    notes
}
