//! What exactly a set-up would change on one server; whatever would not work is refused here, before anything is.
//!
//! Nothing is changed. The server is asked over its socket, the files are looked at by the same threads that
//! would write them, and the config is loaded as it would be.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::SetupError;
use super::managed::by_patroni;
use super::require_tls::Tightening;
use super::scene::Site;
use super::server::SetupServer;
use super::service::Admission;
use super::step::Step;
use super::step::drop_in::DropInStep;
use super::step::fragment::{FragmentEntry, FragmentStep};
use super::step::host_line::HostLineStep;
use super::step::install::InstallStep;
use super::step::new_file::NewFile;
use super::step::settings::{AlteredSetting, SettingsStep};
use super::step::tighten::TightenStep;
use crate::config::{self, Config, Mode, SHARED};
use crate::deploy::plan::Intent;
use crate::deploy::{Keeper, SyncOutcome};
use crate::host::look::is_same_file;
use crate::host::privilege::PrivilegeError;
use crate::lineage::{Source, Spec, Tracked};
use crate::problem::Problem;
use crate::server::configuration::Configuration;
use crate::server::files::{Found, Installed};
use crate::server::hosts::{Hosts, line_text};
use crate::server::probe::AskedName;
use crate::server::probe::Prober;
use crate::server::program::tls_settings;
use crate::server::settings::TlsSettings;
use crate::server::sql::{ServerSettings, Setting, Sql};
use crate::server::{Instance, Purpose};
use crate::text::CommandLine;

#[derive(Debug, Clone)]
pub(crate) enum PlanSubject {
    /// An instance that the config has.
    Known(Box<config::InstanceConfig>),
    /// One that it is to have.
    New(FragmentEntry),
}

/// Everything that a set-up is going to do.
pub(crate) struct SetupPlan {
    pub(crate) site: Site,
    pub(crate) steps: Vec<Step>,
    /// What will keep the service from serving the instance, each with the command that fixes it, where one can.
    pub(crate) obstacles: Vec<(String, Option<CommandLine>)>,
    /// Where the server's own files are private ones, why they are not taken over.
    pub(crate) not_taken_over: Option<String>,
    pub(crate) source: Source,
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
        require_tls: bool,
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
            site,
            fragment,
            takes_over,
            not_taken_over,
        } = Written::for_subject(config, server, subject, pair, prober).await?;
        if site.instance.mode == Mode::Observe {
            return Err(SetupError::new(
                format!(
                    "mode = \"observe\": pgcertd is to touch nothing of {}",
                    site.instance.name
                ),
                "change that in its config first",
            ));
        }
        if current.listen_addresses.trim().is_empty() {
            return Err(SetupError::new(
                "listen_addresses is empty: no client can connect by TCP, and over Unix sockets PostgreSQL speaks no TLS",
                "set it (ALTER SYSTEM SET listen_addresses = '*'), restart the server, and set it up then",
            ));
        }
        let mut settings = changes(&current, &site);
        let mut lineage = tracked(&site);
        let mut host_line = None;
        if let Some(tls) = tls.filter(|tls| tls.hosts().is_some()) {
            // What these name is not even opened.
            settings.retain(|altered| altered.setting == Setting::Ssl);
            let source = lineage.settled().await?;
            let tls = tls.for_instance(&site.instance, source.bundle().map(AsRef::as_ref));
            host_line = HostLineStep::proposed(&tls, &site).await?;
        }
        if !settings.is_empty() {
            changeable(&site, sql, &current, &settings).await?;
        }
        let (source, outcome) = fitting(&site, &mut lineage, prober).await?;
        let admission = admission(&site, &lineage).await?;
        let notes = notes(&site, &current).await;
        let tightening = if require_tls {
            Tightening::proposed(sql, site.server.owner).await?
        } else {
            None
        };
        let mut steps = Vec::new();
        if let Some(NewFile { text, .. }) = fragment {
            let directory_made = false;
            steps.push(Step::Fragment(FragmentStep {
                text,
                directory_made,
            }));
        }
        if let Some(NewFile { text, .. }) = admission.drop_in {
            steps.push(Step::DropIn(DropInStep { text }));
        }
        let needs_reload = !settings.is_empty() || host_line.is_some();
        steps.push(Step::Install(InstallStep {
            outcome: Some(outcome),
            takes_over,
            needs_reload,
            ..InstallStep::default()
        }));
        if !settings.is_empty() {
            steps.push(Step::Settings(SettingsStep { settings }));
        }
        steps.extend(host_line.map(Step::HostLine));
        steps.extend(needs_reload.then_some(Step::Reload));
        steps.push(Step::Verify);
        let tighten = tightening.map(|tightening| TightenStep {
            tightened: tightening.record(&site.state()),
            exposed: tightening.lines(),
            diff: tightening.diff(),
        });
        steps.extend(tighten.map(Step::Tighten));
        Ok(SetupPlan {
            site,
            steps,
            obstacles: admission.obstacles,
            not_taken_over,
            source,
            current,
            notes,
        })
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        !self.steps.iter().any(Step::is_change)
    }
}

/// The files that a server names, as absolute paths.
#[derive(Debug, Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// None where TLS is off.
    fn from_current(current: &ServerSettings, data: &Path) -> Option<Pair> {
        current.ssl.then(|| Pair {
            cert: data.join(&current.cert_file),
            key: data.join(&current.key_file),
        })
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
        Some(Pair {
            cert: cert.to_owned(),
            key: key.to_owned(),
        })
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
    pub(crate) site: Site,
    /// What is to be written for that.
    pub(crate) fragment: Option<NewFile>,
    /// Whether the server's own files are taken over.
    takes_over: bool,
    /// Why not, where they are private ones.
    not_taken_over: Option<String>,
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
    server: SetupServer,
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
    let written = Written::for_subject(config, server, subject, pair, prober).await?;
    let site = &written.site;
    let mut lineage = tracked(site);
    // What it holds is for the sync to say; this is about the directories that it leads through, and the names.
    let source = lineage.settled().await?;
    let admission = admission(site, &lineage).await?;
    let bundle = source.bundle().map(|bundle| &**bundle);
    let tls = tls.map(|tls| tls.for_instance(&site.instance, bundle));
    let host_line = tls.map_or(Ok(None), |tls| host_line(&tls, &site.instance))?;
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
        Ok(Err(not_used)) => Err(SetupError::by_name(not_used)),
        Err(cannot) => {
            let unknown = "which files pg_hosts.conf names is not known";
            Err(cannot.problem().about(unknown).into())
        }
    }
}

impl Written {
    /// The subject as the config has it, or is to have it: with the server's own files where they are private ones that
    /// may be written.
    async fn for_subject(
        config: &Config,
        server: SetupServer,
        subject: PlanSubject,
        pair: Option<Pair>,
        prober: &Prober,
    ) -> Result<Written, SetupError> {
        let entry = match subject {
            PlanSubject::Known(instance) => {
                let (config, instance) = (config.clone(), *instance);
                return Ok(Written {
                    site: Site {
                        config,
                        instance,
                        server,
                    },
                    fragment: None,
                    takes_over: false,
                    not_taken_over: None,
                });
            }
            PlanSubject::New(entry) => entry,
        };
        let mut not_taken_over = None;
        if let Some(pair) = pair.filter(|pair| !pair.is_shared()) {
            match taken_over(config, &server, &entry, &pair, prober).await {
                Ok(written) => return Ok(written),
                Err(why) => not_taken_over = Some(why),
            }
        }
        let written = with(config, server, &entry)?;
        Ok(Written {
            not_taken_over,
            ..written
        })
    }
}

fn with(
    config: &Config,
    server: SetupServer,
    entry: &FragmentEntry,
) -> Result<Written, SetupError> {
    let fragment = entry.fragment(&config.fragments());
    let config = Config::load_with(&config.file, &fragment.path, &fragment.text)?;
    let instance = config.instance(&entry.name).cloned();
    // A config that has been loaded with the fragment has its instance.
    let instance = instance.ok_or_else(|| SetupError::no_record(&entry.name))?;
    Ok(Written {
        site: Site {
            config,
            instance,
            server,
        },
        fragment: Some(fragment),
        takes_over: entry.files.is_some(),
        not_taken_over: None,
    })
}

/// With the server's own files, if they are private ones that may be written; a sentence if not.
async fn taken_over(
    config: &Config,
    server: &SetupServer,
    entry: &FragmentEntry,
    pair: &Pair,
    prober: &Prober,
) -> Result<Written, String> {
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or("its path is not UTF-8")
    };
    let entry = FragmentEntry {
        files: Some((text(&pair.cert)?, text(&pair.key)?)),
        ..entry.clone()
    };
    let written = with(config, server.clone(), &entry).map_err(|error| match error {
        SetupError::Config(error) => error.message().to_owned(),
        other => other.to_string(),
    })?;
    let site = &written.site;
    let mut handle = Instance::new(&site.config, &site.instance, prober.clone());
    let entered = handle.refresh(Purpose::Look).await;
    entered.map_err(|e| e.to_string())?;
    let looked = handle.on_files(|targets| {
        let closed = targets.unwritable(&targets.directories_of_files());
        Ok((targets.look()?, closed))
    });
    let (look, closed) = looked.await.map_err(|e| e.to_string())?;
    let is_link = |found: &Found| matches!(found, Found::Link(_));
    if look.found.iter().any(is_link) {
        return Err("it is a symbolic link".into());
    }
    if let Installed::Unusable(why) = &look.installed {
        return Err(why.to_string());
    }
    if let Some((directory, _)) = closed.first() {
        let (directory, user) = (directory.display(), server.user());
        return Err(format!("{directory} is not writable for {user}"));
    }
    Ok(written)
}

/// What is to be set: the files where they are others, and `ssl` where it is off.
fn changes(current: &ServerSettings, site: &Site) -> Vec<AlteredSetting> {
    let (instance, data) = (&site.instance, &site.server.data_directory);
    let files = [
        (Setting::CertFile, &current.cert_file, &instance.cert_file),
        (Setting::KeyFile, &current.key_file, &instance.key_file),
    ];
    let mut changes: Vec<AlteredSetting> = files
        .into_iter()
        .filter(|(_, now, set)| !is_same_file(&data.join(now), set))
        .map(|(setting, now, set)| AlteredSetting::planned(setting, now, set.display().to_string()))
        .collect();
    if !current.ssl {
        changes.push(AlteredSetting::planned(Setting::Ssl, "off", "on".into()));
    }
    changes
}

/// Whether ALTER SYSTEM will do it.
async fn changeable(
    site: &Site,
    sql: &Sql,
    current: &ServerSettings,
    changes: &[AlteredSetting],
) -> Result<(), SetupError> {
    let data = site.server.data_directory.display();
    let words = ["setup", "--print", "--data-directory", &data.to_string()];
    let print = site.config.command(&words);
    if by_patroni(&site.server, &current.config_file).await? {
        let what = format!("Patroni keeps the configuration of the server of {data}");
        let fix = "set ssl, ssl_cert_file and ssl_key_file there, as this shows";
        return Err(Problem::new(what, fix).with(print).into());
    }
    if !current.allow_alter_system {
        let what = format!(
            "allow_alter_system is off: another program keeps the configuration of the server of {data}"
        );
        let fix = "set the lines there that this shows";
        return Err(Problem::new(what, fix).with(print).into());
    }
    let fixed = sql.on_command_line().await?;
    let settings: Vec<String> = changes
        .iter()
        .map(|change| change.setting.name().to_owned())
        .filter(|name| fixed.contains(name))
        .collect();
    if !settings.is_empty() {
        let settings = settings.join(" and ");
        return Err(SetupError::new(
            format!(
                "the server was started with {settings}, which overrides ALTER SYSTEM and every file"
            ),
            "remove that from its command line, restart it, and set it up then",
        ));
    }
    match sql.file_faults().await? {
        faults if faults.is_empty() => Ok(()),
        faults => Err(SetupError::faulty(&faults.join("; "))),
    }
}

fn tracked(site: &Site) -> Tracked {
    let watch = &site.config.watch;
    Tracked::new(
        Spec::from(&site.instance),
        watch.debounce,
        watch.settle_timeout,
    )
}

/// What the service needs for an instance whose lineage has been read.
async fn admission(site: &Site, lineage: &Tracked) -> Result<Admission, SetupError> {
    let directories = lineage.trail().directories.clone();
    let (config, instance) = (site.config.clone(), site.instance.clone());
    let owner = site.server.owner;
    let looked = move || Admission::for_service(&config, &instance, &directories, owner);
    let looked = tokio::task::spawn_blocking(looked).await;
    Ok(looked.map_err(|e| PrivilegeError::Gone(e.to_string()))?)
}

/// What the lineage holds, if it may go in, and what that comes to.
async fn fitting(
    site: &Site,
    lineage: &mut Tracked,
    prober: &Prober,
) -> Result<(Source, SyncOutcome), SetupError> {
    let Site {
        config, instance, ..
    } = site;
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
            let unfit = || format!("{}: {}", instance.name, done.outcome.meaning()).into();
            Err(done.problem.unwrap_or_else(unfit).into())
        }
        outcome => Ok((source, outcome)),
    }
}

async fn notes(site: &Site, current: &ServerSettings) -> Vec<String> {
    let Site {
        instance, server, ..
    } = site;
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
    let mut configuration = Configuration::default();
    let edited = configuration.changed_since(&server.postmaster, data, server.owner, loaded);
    for file in edited.await {
        notes.push(format!(
            "{} was edited since the last reload: the reload applies that as well",
            file.display()
        ));
    }
    notes
}
