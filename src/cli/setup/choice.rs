//! Which server gets which lineage: as the command line says, as it is proposed, or as a person chooses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::candidates::ServerChoice;
use super::desk::{Desk, SetupArguments};
use crate::bundle::{Certificate, TrustFiles};
use crate::cli::exit::Failure;
use crate::config::{self, Config, ServerKind};
use crate::host::look::is_same_file;
use crate::lineage::{Source, Spec, Surveyed, Tracked};
use crate::problem::Problem;
use crate::server::probe::Opening;
use crate::setup::plan::{PlanSubject, SetupPlan};
use crate::setup::proposal;
use crate::setup::step::change_config;
use crate::setup::step::fragment::FragmentEntry;
use crate::setup::survey::HostSurvey;
use crate::setup::{SetupError, SetupServer, Site};
use crate::text::day;

/// How long a look at what a server serves may take: it only helps to choose.
const GLANCE: Duration = Duration::from_secs(3);

/// A server, and what it is set up as.
pub(super) struct Chosen {
    pub(super) server: SetupServer,
    pub(super) subject: PlanSubject,
}

impl Chosen {
    pub(super) fn name(&self) -> &str {
        match &self.subject {
            PlanSubject::Known(instance) => &instance.name,
            PlanSubject::New(entry) => &entry.name,
        }
    }
}

impl Desk<'_> {
    /// What is set up; none where there is nothing that is not.
    pub(super) async fn chosen(
        &self,
        config: &Config,
        survey: &HostSurvey,
    ) -> Result<Option<Chosen>, Failure> {
        let wanted = self.wanted;
        let named = wanted.instance.as_ref();
        let known = named.and_then(|name| config.instance(name)).or_else(|| {
            let data = wanted.data_directory.as_ref()?;
            let mut all = config.instances.iter();
            all.find(|entry| is_same_file(entry.home(), data))
        });
        if let Some(instance) = known {
            if instance.kind() != ServerKind::Postgres {
                let (name, kind) = (&instance.name, instance.kind().name());
                return Err(SetupError::new(
                    format!("{name} is a {kind}, and pgcertd only sets up PostgreSQL servers"),
                    "`pgcertd check` says what to set in its configuration",
                )
                .into());
            }
            agrees(config, instance, wanted)?;
            return Ok(Some(Chosen {
                server: SetupServer::at(instance.home()).await?,
                subject: PlanSubject::Known(Box::new(instance.clone())),
            }));
        }
        let server = match &wanted.data_directory {
            Some(data) => {
                let data = std::path::absolute(data).map_err(|e| Failure::usage(&e))?;
                let mut all = survey.running.iter();
                match all.find(|running| is_same_file(&running.data_directory, &data)) {
                    Some(running) => SetupServer::from_running(running).await?,
                    None => SetupServer::at(&data).await?,
                }
            }
            None => match self.candidate(config, survey).await? {
                None => return Ok(None),
                Some(ServerChoice::Known(instance, server)) => {
                    agrees(config, &instance, wanted)?;
                    let subject = PlanSubject::Known(instance);
                    return Ok(Some(Chosen { server, subject }));
                }
                Some(ServerChoice::Strange(running)) => SetupServer::from_running(&running).await?,
                Some(ServerChoice::New(running)) => {
                    let server = SetupServer::from_running(&running).await?;
                    // Its path is proven to be its user's only now.
                    if !self.served(config).include(server.owner.uid) {
                        let choices = vec![self.command(config, &ServerChoice::Strange(running))];
                        let problem = self.strangers(config);
                        return Err(SetupError::Unchosen { problem, choices }.into());
                    }
                    server
                }
            },
        };
        let subject = self.new_instance(config, survey, &server).await?;
        Ok(Some(Chosen { server, subject }))
    }

    /// What an instance for this server would be.
    async fn new_instance(
        &self,
        config: &Config,
        survey: &HostSurvey,
        server: &SetupServer,
    ) -> Result<PlanSubject, Failure> {
        let (lineage, leaf) = self.lineage(config, survey, server).await?;
        let server_names = match self.wanted.server_name.as_slice() {
            [] => proposal::server_names(&leaf, &survey.names),
            given => given.to_vec(),
        };
        if server_names.is_empty() {
            let names = leaf.names().join(", ");
            return Err(SetupError::usage(
                format!("the certificate of {lineage} is for {names}, and no name of this host is among them"),
                "say what clients connect to with --server-name",
            )
            .into());
        }
        let data = server.data_directory.to_str();
        let data = data.ok_or_else(|| SetupError::not_utf8(&server.data_directory))?;
        let name = match &self.wanted.instance {
            Some(name) => name.clone(),
            None => {
                let taken = taken(config);
                let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
                proposal::instance_name(&server.data_directory, &taken)
            }
        };
        Ok(PlanSubject::New(FragmentEntry {
            name,
            lineage,
            data_directory: data.to_owned(),
            server_names,
            files: None,
        }))
    }

    /// The lineage as the config names it, and its leaf.
    async fn lineage(
        &self,
        config: &Config,
        survey: &HostSurvey,
        server: &SetupServer,
    ) -> Result<(String, Certificate), Failure> {
        let found = &survey.found.lineages;
        if let Some(wanted) = &self.wanted.lineage {
            let is_name = wanted.is_relative() && wanted.components().count() == 1;
            let mut all = found.iter();
            let named = all.find(|surveyed| {
                if is_name {
                    Path::new(&surveyed.name) == wanted
                } else {
                    is_same_file(&surveyed.directory, wanted)
                }
            });
            return match named {
                Some(surveyed) => chosen_lineage(config, surveyed),
                None if is_name => Err(unknown(wanted, config, survey)),
                None => elsewhere(config, wanted).await,
            };
        }
        // What a server shows tells which lineage it is for. One of another user could name any.
        let served = if self.served(config).include(server.owner.uid) {
            self.glance(server).await
        } else {
            None
        };
        let fitting = proposal::lineages(found, served.as_ref(), &survey.names);
        match fitting.as_slice() {
            [] => Err(none_found(config, survey).into()),
            [one] => chosen_lineage(config, one),
            _ => {
                let data = server.data_directory.display();
                let several = format!("several lineages fit the server of {data}");
                let problem = Problem::new(several, "say which");
                let command =
                    |surveyed: &&Surveyed| self.again(config, ["--lineage", &surveyed.name]);
                let chosen =
                    self.answers
                        .choose(problem, fitting, |surveyed| line(surveyed), command)?;
                chosen_lineage(config, chosen)
            }
        }
    }

    async fn glance(&self, server: &SetupServer) -> Option<Certificate> {
        let address = server.addresses().ok()?.into_iter().next()?;
        let served = self
            .prober
            .look(&address, Opening::Request, GLANCE)
            .await
            .ok()?;
        Some(served.leaf)
    }

    /// This command, with another flag.
    pub(super) fn again(&self, config: &Config, flag: [&str; 2]) -> String {
        let wanted = self.wanted;
        let data = wanted.data_directory.as_ref();
        let data = data.map(|data| data.display().to_string());
        let given = [
            ("--data-directory", data.as_deref()),
            ("--instance", wanted.instance.as_deref()),
        ];
        let mut words = vec!["setup", flag[0], flag[1]];
        for (other, value) in given {
            if let Some(value) = value.filter(|_| other != flag[0]) {
                words.extend([other, value]);
            }
        }
        config.command(&[words, flags(wanted)].concat())
    }
}

/// The flags that say how, not what.
fn flags(wanted: &SetupArguments) -> Vec<&str> {
    let all = [
        (wanted.require_tls, "--require-tls"),
        (wanted.yes, "--yes"),
        (wanted.dry_run, "--dry-run"),
        (wanted.print, "--print"),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| flag).collect()
}

/// What does a plan without a question.
pub(super) fn command(plan: &SetupPlan, wanted: &SetupArguments) -> String {
    let Site {
        config, instance, ..
    } = &plan.site;
    let data = instance.home().display().to_string();
    let mut words = vec!["setup", "--yes", "--instance", &instance.name];
    if change_config(&plan.steps) {
        words.extend(["--data-directory", &data]);
        words.extend(["--lineage", &instance.lineage.name]);
        let names = wanted.server_name.iter();
        words.extend(names.flat_map(|name| ["--server-name", name]));
    }
    config.command(&[words, flags(wanted)].concat())
}

/// What the command line says of an instance that the config has must be what stands there.
fn agrees(
    config: &Config,
    instance: &config::InstanceConfig,
    wanted: &SetupArguments,
) -> Result<(), SetupError> {
    let (name, data, lineage) = (&wanted.instance, &wanted.data_directory, &wanted.lineage);
    let is_lineage = |path: &PathBuf| {
        let mut candidates = instance.lineage.candidates.iter();
        Path::new(&instance.lineage.name) == path || candidates.any(|own| is_same_file(own, path))
    };
    let has = |name: &String| {
        let mut names = instance.server_names.iter();
        names.any(|own| own.to_str() == name.as_str())
    };
    let is_name = |name: &String| *name == instance.name;
    let is_data = |data: &PathBuf| is_same_file(data, instance.home());
    let flags = [
        ("name", "--instance", name.as_ref().is_none_or(is_name)),
        (
            "data_directory",
            "--data-directory",
            data.as_ref().is_none_or(is_data),
        ),
        (
            "lineage",
            "--lineage",
            lineage.as_ref().is_none_or(is_lineage),
        ),
        (
            "server_names",
            "--server-name",
            wanted.server_name.iter().all(has),
        ),
    ];
    match flags.into_iter().find(|(.., is_same)| !is_same) {
        None => Ok(()),
        Some((key, flag, _)) => {
            let (file, name) = (config.file.display(), &instance.name);
            Err(SetupError::usage(
                format!("{file} has the instance {name} already, with another {key}"),
                format!("change it there, or leave out {flag}"),
            ))
        }
    }
}

/// The names of instances, and those that a file in `conf.d` has.
fn taken(config: &Config) -> Vec<String> {
    let files = std::fs::read_dir(config.fragments());
    let stems = files.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".toml").map(str::to_owned)
    });
    let names = config.instances.iter().map(|known| known.name.clone());
    names.chain(stems).collect()
}

/// A lineage as the config names it: by its name where that leads to it.
fn chosen_lineage(config: &Config, surveyed: &Surveyed) -> Result<(String, Certificate), Failure> {
    let leaf = surveyed
        .leaf
        .clone()
        .map_err(|why| SetupError::new(why, ""))?;
    let mut watched = config.watch.directories.iter();
    let first = watched.find(|directory| directory.join(&surveyed.name).is_dir());
    let lineage = if first.is_some_and(|first| first.join(&surveyed.name) == surveyed.directory) {
        surveyed.name.clone()
    } else {
        let path = surveyed.directory.to_str();
        let path = path.ok_or_else(|| SetupError::not_utf8(&surveyed.directory))?;
        path.to_owned()
    };
    Ok((lineage, leaf))
}

/// A lineage that is in no watched directory.
async fn elsewhere(config: &Config, directory: &Path) -> Result<(String, Certificate), Failure> {
    let directory = std::path::absolute(directory).map_err(|e| Failure::usage(&e))?;
    let name = directory
        .to_str()
        .ok_or_else(|| SetupError::not_utf8(&directory))?
        .to_owned();
    let spec = Spec {
        name: name.clone(),
        candidates: vec![directory],
        files: None,
        trust_files: TrustFiles::default(),
    };
    let watch = &config.watch;
    let read = Tracked::new(spec, watch.debounce, watch.settle_timeout)
        .settled()
        .await;
    match read.map_err(SetupError::from)? {
        Source::Ready { bundle, .. } => Ok((name, bundle.leaf().clone())),
        Source::Waiting { problem } | Source::Invalid { problem, .. } => {
            Err(SetupError::from(problem).into())
        }
    }
}

fn line(surveyed: &Surveyed) -> String {
    match &surveyed.leaf {
        Ok(leaf) => format!(
            "{}  for {}, until {}",
            surveyed.name,
            leaf.names().join(", "),
            day(leaf.not_after())
        ),
        Err(why) => format!("{}  {why}", surveyed.name),
    }
}

fn unknown(wanted: &Path, config: &Config, survey: &HostSurvey) -> Failure {
    if survey.found.lineages.is_empty() {
        return Failure::usage(&none_found(config, survey));
    }
    let names = survey.found.lineages.iter().map(|found| &*found.name);
    let names: Vec<&str> = names.collect();
    Failure::usage(&format!(
        "there is no lineage {} below the watched directories; there are: {}",
        wanted.display(),
        names.join(", ")
    ))
}

/// Why there is nothing to choose from, and what to do.
fn none_found(config: &Config, survey: &HostSurvey) -> SetupError {
    let directories = config.watch.directories.iter();
    let directories: Vec<String> = directories.map(|path| path.display().to_string()).collect();
    let directories = directories.join(", ");
    let is_denied = |kind: std::io::ErrorKind| kind == std::io::ErrorKind::PermissionDenied;
    let mut closed = survey.found.closed.iter();
    if let Some((closed, _)) = closed.find(|(_, kind)| is_denied(*kind)) {
        let what = format!("{} may not be looked into", closed.display());
        return SetupError::new(what, "run this as root");
    }
    if let Some(Err(why)) = survey.found.lineages.first().map(|surveyed| &surveyed.leaf) {
        let what = format!("no lineage below {directories} holds a certificate: {why}");
        return SetupError::new(what, "");
    }
    SetupError::new(
        format!("there is no lineage below {directories}"),
        "get a certificate first (certbot certonly --standalone -d NAME), or name another directory with --lineage",
    )
}

/// Whether this user may write the fragment, before anything else is looked at.
pub(super) fn writable(config: &Config, subject: &PlanSubject) -> Result<(), SetupError> {
    use rustix::fs::{Access, access};
    if let PlanSubject::Known(_) = subject {
        return Ok(());
    }
    let fragments = config.fragments();
    let directory = if fragments.is_dir() {
        fragments.as_path()
    } else {
        fragments.parent().unwrap_or(&fragments)
    };
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|source| {
        let (directory, source) = (directory.display(), std::io::Error::from(source));
        let what = format!("{directory}: cannot be written: {source}");
        SetupError::new(what, "run this as root")
    })
}
