//! Which of the servers that run here may be set up without being named. Any user of a host can start one: only those of
//! users for whom pgcertd works are proposed.

use std::path::Path;

use super::desk::Desk;
use crate::check::served_users::{ServedUsers, user_of_process};
use crate::check::user_name;
use crate::cli::exit::Failure;
use crate::config::{self, Config};
use crate::host::look::is_same_file;
use crate::problem::Problem;
use crate::server::program::tls_settings;
use crate::server::running::Running;
use crate::setup::survey::HostSurvey;
use crate::setup::{SetupError, SetupServer};

/// A server that may be chosen.
pub(super) enum ServerChoice {
    Known(Box<config::InstanceConfig>, SetupServer),
    New(Running),
    /// Of a user for whom pgcertd keeps nothing.
    Strange(Running),
}

impl ServerChoice {
    fn data_directory(&self) -> &Path {
        match self {
            ServerChoice::Known(instance, _) => instance.home(),
            ServerChoice::New(running) | ServerChoice::Strange(running) => &running.data_directory,
        }
    }

    fn line(&self) -> String {
        let data = self.data_directory().display();
        match self {
            ServerChoice::Known(instance, _) => format!("{}  {data}", instance.name),
            ServerChoice::New(running) => format!("{data}  of user {}", user(running)),
            ServerChoice::Strange(running) => format!(
                "{data}  of user {}, for whom pgcertd keeps nothing so far",
                user(running)
            ),
        }
    }

    /// The flag that names it.
    fn flag(&self) -> (&'static str, String) {
        match self {
            ServerChoice::Known(instance, _) => ("--instance", instance.name.clone()),
            ServerChoice::New(running) | ServerChoice::Strange(running) => {
                let data = running.data_directory.display().to_string();
                ("--data-directory", data)
            }
        }
    }
}

impl Desk<'_> {
    pub(super) fn served(&self, config: &Config) -> ServedUsers {
        ServedUsers::by(config)
    }

    /// Why a stranger's server is not set up unless it is named.
    pub(super) fn strangers(&self, config: &Config) -> Problem {
        let served = self.served(config).names();
        let what = format!(
            "the servers that run here and are not set up belong to others than {served}, for whom pgcertd works here"
        );
        let fix = "name one to give its user the private key of a lineage";
        Problem::new(what, fix)
    }

    /// What chooses it.
    pub(super) fn command(&self, config: &Config, choice: &ServerChoice) -> String {
        let (flag, value) = choice.flag();
        let again = self.again(config, [flag, &value]);
        match choice {
            ServerChoice::Strange(running) => format!("{again}  # of user {}", user(running)),
            _ => again,
        }
    }

    /// The one server that is not set up; a person chooses among several.
    pub(super) async fn candidate(
        &self,
        config: &Config,
        survey: &HostSurvey,
    ) -> Result<Option<ServerChoice>, Failure> {
        if survey.running.is_empty() {
            return Err(SetupError::new(
                "no PostgreSQL server that may be looked at runs on this host",
                "start it, or run pgcertd as root",
            )
            .into());
        }
        let command = |choice: &ServerChoice| self.command(config, choice);
        let served = self.served(config);
        let (mut candidates, mut strangers) = (Vec::new(), Vec::new());
        let mut some_known = false;
        for running in &survey.running {
            let mut all = config.instances.iter();
            let known = all.find(|instance| is_same_file(instance.home(), &running.data_directory));
            match known {
                // One of a container is refused by name, and never given a key.
                None if running.apart.is_some() || is_served(&served, running) => {
                    candidates.push(ServerChoice::New(running.clone()));
                }
                None => strangers.push(ServerChoice::Strange(running.clone())),
                Some(instance) if self.wanted.instance.is_none() => {
                    some_known = true;
                    let server = SetupServer::at(instance.home()).await?;
                    if self.wanted.require_tls || !uses(instance, &server).await {
                        candidates.push(ServerChoice::Known(Box::new(instance.clone()), server));
                    }
                }
                Some(_) => {}
            }
        }
        let apart = |choice: &ServerChoice| matches!(choice, ServerChoice::New(running) if running.apart.is_some());
        if candidates.iter().any(|server_choice| !apart(server_choice)) || !strangers.is_empty() {
            candidates.retain(|choice| !apart(choice));
        }
        if candidates.is_empty() && !strangers.is_empty() {
            // Nobody else's server is left: a person may choose one, and nothing is chosen for anybody.
            if some_known && !self.answers.is_person() {
                return Ok(None);
            }
            let problem = self.strangers(config);
            let chosen = self
                .answers
                .choose(problem, strangers, ServerChoice::line, command);
            return chosen.map(Some);
        }
        if candidates.len() < 2 {
            return Ok(candidates.pop());
        }
        let problem = Problem::new("several servers run here that are not set up", "say which");
        let chosen = self
            .answers
            .choose(problem, candidates, ServerChoice::line, command);
        chosen.map(Some)
    }
}

/// Whether the server uses the files of its instance already; where that cannot be told, it does not.
async fn uses(instance: &config::InstanceConfig, server: &SetupServer) -> bool {
    let asked = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
    let asked = asked.map(|settings| settings.for_instance(instance, None));
    asked.is_ok_and(|settings| {
        settings.not_used(&instance.cert_file, &instance.key_file) == Ok(None)
    })
}

fn user(running: &Running) -> String {
    user_of_process(running.pid).map_or_else(|| "(unknown)".into(), user_name)
}

fn is_served(served: &ServedUsers, running: &Running) -> bool {
    user_of_process(running.pid).is_some_and(|uid| served.include(uid))
}

/// The servers that no instance covers, of users for whom pgcertd keeps nothing.
pub(super) fn strangers(config: &Config, survey: &HostSurvey) -> Vec<String> {
    let served = ServedUsers::by(config);
    let known = |running: &Running| {
        let mut all = config.instances.iter();
        all.any(|instance| is_same_file(instance.home(), &running.data_directory))
    };
    let running = survey.running.iter();
    running
        .filter(|running| {
            running.apart.is_none() && !known(running) && !is_served(&served, running)
        })
        .map(|running| {
            format!(
                "{} of user {}",
                running.data_directory.display(),
                user(running)
            )
        })
        .collect()
}
