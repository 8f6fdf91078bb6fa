//! Which server gets which lineage: as the command line says, as it is proposed, or as a person chooses.

use std::path::Path;
use std::time::Duration;

use super::candidates::ServerChoice;
use super::{Desk, Failure, SetupArguments};
use crate::bundle::Certificate;
use crate::bundle::TrustFiles;
use crate::config::{self, Config, ServerKind};
use crate::host::look::is_same_file;
use crate::lineage::{Source, Spec, Surveyed, Tracked};
use crate::report::day;
use crate::server::probe::Opening;
use crate::setup::fragment::FragmentEntry;
use crate::setup::plan::{PlanSubject, SetupPlan};
use crate::setup::proposal::{self, Proposal};
use crate::setup::survey::HostSurvey;
use crate::setup::{SetupError, SetupServer};

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
                let (name, kind) = (instance.name.clone(), instance.kind());
                return Err(SetupError::OtherKind { name, kind }.into());
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
                        return Err(self.only_strangers(config, &[ServerChoice::Strange(running)]));
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
            return Err(SetupError::NoNames {
                lineage,
                names: leaf.names().join(", "),
            }
            .into());
        }
        let data = server.data_directory.to_str();
        let data = data.ok_or_else(|| SetupError::Unsayable(server.data_directory.clone()))?;
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
            let it = all.find(|surveyed| {
                if is_name {
                    Path::new(&surveyed.name) == wanted
                } else {
                    is_same_file(&surveyed.directory, wanted)
                }
            });
            return match it {
                Some(it) => chosen_lineage(config, it),
                None if is_name => Err(Failure::usage(&unknown(wanted, config, survey))),
                None => elsewhere(config, wanted).await,
            };
        }
        // What a server shows tells which lineage it is for. One of another user could name any.
        let served = if self.served(config).include(server.owner.uid) {
            self.glance(server).await
        } else {
            None
        };
        match proposal::lineages(found, served.as_ref(), &survey.names) {
            Proposal::None => Err(SetupError::NoLineage(none_found(config, survey)).into()),
            Proposal::One(one) => chosen_lineage(config, one),
            Proposal::Several(all) => {
                let lines: Vec<String> = all.iter().map(|entry| line(entry)).collect();
                let data = server.data_directory.display();
                let question = format!("Several lineages fit the server of {data}.");
                match self.answers.choose(&question, &lines)? {
                    Some(place) => chosen_lineage(config, all[place]),
                    None => Err(SetupError::Unchosen {
                        question: format!("several lineages fit the server of {data}"),
                        choices: all
                            .iter()
                            .map(|surveyed| self.again(config, ["--lineage", &surveyed.name]))
                            .collect(),
                    }
                    .into()),
                }
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
        let mut words = vec!["setup".to_owned()];
        words.extend(flag.map(str::to_owned));
        if let (Some(data), true) = (&wanted.data_directory, flag[0] != "--data-directory") {
            words.push("--data-directory".into());
            words.push(data.display().to_string());
        }
        if let (Some(name), true) = (&wanted.instance, flag[0] != "--instance") {
            words.extend(["--instance".into(), name.clone()]);
        }
        words.extend(flags(wanted));
        typed(config, &words)
    }
}

fn typed(config: &Config, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    config.command(&words)
}

/// The flags that say how, not what.
fn flags(wanted: &SetupArguments) -> Vec<String> {
    let all = [
        (wanted.require_tls, "--require-tls"),
        (wanted.yes, "--yes"),
        (wanted.dry_run, "--dry-run"),
        (wanted.print, "--print"),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| flag.to_owned()).collect()
}

/// What does a plan without a question.
pub(super) fn command(plan: &SetupPlan, wanted: &SetupArguments) -> String {
    let instance = &plan.instance;
    let mut words = ["setup", "--yes", "--instance", &instance.name]
        .map(str::to_owned)
        .to_vec();
    if plan.fragment.is_some() {
        let data = instance.home().display().to_string();
        words.extend(["--data-directory".into(), data]);
        words.extend(["--lineage".into(), instance.lineage.name.clone()]);
        for name in &wanted.server_name {
            words.extend(["--server-name".into(), name.clone()]);
        }
    }
    words.extend(flags(wanted));
    typed(&plan.config, &words)
}

/// What the command line says of an instance that the config has must be what stands there.
fn agrees(
    config: &Config,
    instance: &config::InstanceConfig,
    wanted: &SetupArguments,
) -> Result<(), SetupError> {
    let differs = |key: &'static str, flag: &'static str| {
        Err(SetupError::Differs {
            file: config.file.clone(),
            name: instance.name.clone(),
            key,
            flag,
        })
    };
    if wanted
        .instance
        .as_ref()
        .is_some_and(|text| *text != instance.name)
    {
        return differs("name", "--instance");
    }
    if let Some(data) = &wanted.data_directory
        && !is_same_file(data, instance.home())
    {
        return differs("data_directory", "--data-directory");
    }
    if let Some(lineage) = &wanted.lineage
        && Path::new(&instance.lineage.name) != lineage
        && !instance
            .lineage
            .candidates
            .iter()
            .any(|path| is_same_file(path, lineage))
    {
        return differs("lineage", "--lineage");
    }
    let has = |name: &String| {
        instance
            .server_names
            .iter()
            .any(|entry| entry.to_str() == name.as_str())
    };
    if !wanted.server_name.iter().all(has) {
        return differs("server_names", "--server-name");
    }
    Ok(())
}

/// The names of instances, and those that a file in `conf.d` has.
fn taken(config: &Config) -> Vec<String> {
    let files = std::fs::read_dir(config.fragments());
    let stems = files.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".toml").map(str::to_owned)
    });
    let names = config
        .instances
        .iter()
        .map(|instance| instance.name.clone());
    names.chain(stems).collect()
}

/// A lineage as the config names it: by its name where that leads to it.
fn chosen_lineage(config: &Config, it: &Surveyed) -> Result<(String, Certificate), Failure> {
    let leaf = it.leaf.clone().map_err(SetupError::NoLineage)?;
    let mut watched = config.watch.directories.iter();
    let first = watched.find(|directory| directory.join(&it.name).is_dir());
    let lineage = if first.is_some_and(|first| first.join(&it.name) == it.directory) {
        it.name.clone()
    } else {
        let path = it.directory.to_str();
        let path = path.ok_or_else(|| SetupError::Unsayable(it.directory.clone()))?;
        path.to_owned()
    };
    Ok((lineage, leaf))
}

/// A lineage that is in no watched directory.
async fn elsewhere(config: &Config, directory: &Path) -> Result<(String, Certificate), Failure> {
    let directory = std::path::absolute(directory).map_err(|e| Failure::usage(&e))?;
    let name = directory
        .to_str()
        .ok_or_else(|| SetupError::Unsayable(directory.clone()))?
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
            Err(SetupError::NoLineage(problem.to_string()).into())
        }
    }
}

fn line(it: &Surveyed) -> String {
    match &it.leaf {
        Ok(leaf) => format!(
            "{}  for {}, until {}",
            it.name,
            leaf.names().join(", "),
            day(leaf.not_after())
        ),
        Err(why) => format!("{}  {why}", it.name),
    }
}

fn unknown(wanted: &Path, config: &Config, survey: &HostSurvey) -> String {
    if survey.found.lineages.is_empty() {
        return none_found(config, survey);
    }
    let names: Vec<&str> = survey
        .found
        .lineages
        .iter()
        .map(|surveyed| surveyed.name.as_str())
        .collect();
    format!(
        "there is no lineage {} below the watched directories; there are: {}",
        wanted.display(),
        names.join(", ")
    )
}

/// Why there is nothing to choose from, and what to do.
fn none_found(config: &Config, survey: &HostSurvey) -> String {
    let directories: Vec<String> = config
        .watch
        .directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let directories = directories.join(", ");
    if let Some((closed, _)) = survey
        .found
        .closed
        .iter()
        .find(|(_, kind)| *kind == std::io::ErrorKind::PermissionDenied)
    {
        return format!(
            "{} may not be looked into; run this as root",
            closed.display()
        );
    }
    if let Some(Err(why)) = survey.found.lineages.first().map(|surveyed| &surveyed.leaf) {
        return format!("no lineage below {directories} holds a certificate: {why}");
    }
    format!(
        "there is no lineage below {directories}: get a certificate first (certbot certonly --standalone -d NAME), \
         or name another directory with --lineage"
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
        SetupError::NotWritable {
            directory: directory.to_owned(),
            source: source.into(),
        }
    })
}
