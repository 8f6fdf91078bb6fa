//! `pgcertd setup`: from a server without a certificate to one that clients verify, in one command, and back.
//!
//! What is found and what will change is shown first; then a person is asked, and each step is told as it is
//! done. The work itself is `crate::setup`'s.

mod aftermath;
mod answers;
mod by_hand;
mod candidates;
mod choice;
mod desk;
mod document;
mod drawn;
mod undo;

use std::path::Path;

use super::exit::{Exit, Failure, load, print, prober};
use super::manual::{Chapter, Manual};
use super::page::Page;
use crate::config::Config;
use crate::server::probe::Opening;
use crate::server::sql::Sql;
use crate::setup::carry_out::carry_out;
use crate::setup::plan::{PlanSubject, SetupPlan};
use crate::setup::record::Record;
use crate::setup::step::change_unit;
use crate::setup::survey::HostSurvey;
use crate::setup::{SetupError, SetupLock, SetupProgress, SetupServer};
use answers::SetupAnswers;
use choice::Chosen;
use desk::Desk;
pub(super) use desk::SetupArguments;
use document::{SetupJson, SetupOutcome};

pub(super) const MANUAL: Manual = Manual {
    command: "setup",
    description: &[
        "Finds the servers that run on this host and the lineages below the watched directories, and proposes the lineage \
         whose names fit this host. It shows exactly what it will change, asks, and then: writes the instance into \
         `conf.d/NAME.toml` beside the config, installs the certificate, sets `ssl`, `ssl_cert_file` and `ssl_key_file` \
         by ALTER SYSTEM over the server's own Unix socket, reloads the server, and checks on a new TLS connection what \
         clients now get. It ends with the connection string of a client that verifies the server.",
        "If a step fails, those before it are undone, and what could not be undone is named; after a crash the next \
         `setup` or `--undo` does that. It never restarts a server, ends no session, and leaves certificates alone that a \
         distribution shares between services.",
        "If the server already uses private files of its own, it keeps them: pgcertd takes them over, and changes no \
         setting. Where the installed unit keeps the daemon from a path that the instance needs (in `/etc/postgresql`, \
         in a data directory or under `/home`, for example), it writes a drop-in for the unit, \
         `/etc/systemd/system/pgcertd.service.d/setup-NAME.conf`, which opens that path alone, and restarts a running \
         daemon. What the config says of an instance that it has already stays; what is missing is added.",
        "Without `--data-directory` or `--instance` it only proposes servers of users for whom pgcertd works here: \
         the one as whom the packaged service runs, usually postgres, and the owners of the data directories that the config names. Any \
         user of a host can start a PostgreSQL; another user's is at most listed, with its user, and gets a lineage's private key \
         only if it is named.",
        "Where the name that a client asks for decides (PostgreSQL 19 with `ssl_sni = on` and lines in `pg_hosts.conf`), it sets \
         neither file, but adds a line for the instance's names to `pg_hosts.conf`, shown as a diff, once the certificate is in place; \
         other names keep theirs. If another line already has one of these names, it changes nothing and says which.",
        "If another program keeps the server's configuration (Patroni, or `allow_alter_system = off`), \
         it refuses, and `--print` shows the lines to write there.",
        "Run it as root, or as the server's user if that user may write the config.",
    ],
    exit: &[
        (
            Exit::Well,
            "the server is set up, as new clients see it; with `--dry-run`, it could be",
        ),
        (
            Exit::Problem,
            "it could not be, or the answer was no, or something could not be undone; the output says what",
        ),
        (
            Exit::Usage,
            "wrong usage or config, or a question that nobody answers: the output says what to pass",
        ),
    ],
    chapters: undo_and_outcomes,
    examples: &[
        ("pgcertd setup", "Shows what it would do, and asks."),
        (
            "pgcertd setup --dry-run --require-tls",
            "What would change, `pg_hba.conf` included? Changes nothing.",
        ),
        (
            "pgcertd setup --yes --data-directory /var/lib/postgresql/16/main",
            "Without a question, where several servers run.",
        ),
        ("pgcertd setup --undo 16-main", "Undoes it."),
    ],
};

fn undo_and_outcomes() -> Vec<Chapter> {
    vec![
        Chapter::new(
            "Undo",
            "The steps that were applied are in `setup.json` in the instance's state directory. `--undo` undoes them, the last one first: \
             it restores pg_hba.conf, removes its line from pg_hosts.conf, restores the settings, reloads the server, and removes the \
             unit's drop-in and the file in conf.d. What somebody has changed since stays, and is named; so do the installed files, \
             which can be removed once the server has loaded others.",
        ),
        Chapter::new("Outcomes", "`outcome`, with `--json`:")
            .term("set_up", "it is done, and new clients get the certificate")
            .term("unchanged", "there was nothing to do")
            .term("would_change", "without `--dry-run` it would be done")
            .term(
                "printed",
                "with `--print`: `lines` are to be written by hand",
            )
            .term("undone", "with `--undo`: it is undone")
            .term(
                "taken_back",
                "a step failed, `error` says why; the steps before it are undone, except for what `left` lists",
            ),
    ]
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Failure {
        match error {
            SetupError::Config(error) => error.into(),
            SetupError::Unchosen { problem, choices } => {
                let lines: Vec<String> = choices.iter().map(SetupError::choice).collect();
                Failure::usage(&format!("{problem}:")).with_lines(&lines)
            }
            SetupError::Usage(problem) => Failure::usage(&problem),
            SetupError::Problem(problem) => Failure::problem(&problem),
        }
    }
}

pub(super) async fn setup(
    file: &Path,
    wanted: &SetupArguments,
    json: bool,
) -> Result<Exit, Failure> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    let desk = Desk {
        file,
        wanted,
        answers: SetupAnswers::by_flags(wanted.yes, json),
        prober: prober()?,
        json,
    };
    let config = load(file)?;
    let changes = !wanted.dry_run && !wanted.print;
    let _lock = if changes {
        Some(SetupLock::take(&config)?)
    } else {
        None
    };
    let exit = match &wanted.undo {
        Some(name) => undo::by_name(&desk, &config, name).await,
        None => desk.set_up(config).await,
    };
    desk.prober.drain().await;
    exit
}

impl Desk<'_> {
    async fn set_up(&self, mut config: Config) -> Result<Exit, Failure> {
        let mut survey = HostSurvey::take(&config).await?;
        let Some(mut chosen) = self.chosen(&config, &survey).await? else {
            return self.nothing_left(&config, &survey);
        };
        let mut earlier = Record::load(&config, chosen.name()).await?;
        if let Some(record) = &earlier
            && record.finished.is_none()
            && !self.wanted.print
        {
            let name = chosen.name().to_owned();
            match undo::interrupted(self, &config, &name).await? {
                Exit::Well => {}
                other => return Ok(other),
            }
            // What was found may have been that set-up's own.
            config = load(self.file)?;
            survey = HostSurvey::take(&config).await?;
            earlier = None;
            chosen = match self.chosen(&config, &survey).await? {
                Some(chosen) => chosen,
                None => return self.nothing_left(&config, &survey),
            };
        }
        let Chosen { server, subject } = chosen;
        if self.wanted.print {
            return by_hand::print_lines(self, &config, server, subject).await;
        }
        let sql = server.login().await?;
        let exit = self
            .with_login(&config, server, subject, earlier, &sql)
            .await;
        sql.close().await;
        exit
    }

    async fn with_login(
        &self,
        config: &Config,
        server: SetupServer,
        subject: PlanSubject,
        earlier: Option<Record>,
        sql: &Sql,
    ) -> Result<Exit, Failure> {
        choice::writable(config, &subject)?;
        let tls = self.wanted.require_tls;
        let plan = SetupPlan::made(config, server, sql, subject, tls, &self.prober).await?;
        let mut document = SetupJson::from_plan(&plan);
        if !self.json {
            print(&drawn::plan(&plan, sql.version, self.wanted.dry_run))?;
        }
        if plan.is_empty() {
            document.outcome = Some(SetupOutcome::Unchanged);
            return self.set_up_already(&plan, document).await;
        }
        if self.wanted.dry_run {
            document.outcome = Some(SetupOutcome::WouldChange);
            return self.told(document, Exit::Well);
        }
        let command = choice::command(&plan, self.wanted);
        let question = format!(
            "Do this for the server of user {}?",
            plan.site.server.user()
        );
        if !self.answers.agree(&question, &command)? {
            print(&Page::of_line("Nothing was changed."))?;
            return Ok(Exit::Problem);
        }
        self.carried_out(plan, earlier, sql, document).await
    }

    async fn carried_out(
        &self,
        mut plan: SetupPlan,
        earlier: Option<Record>,
        sql: &Sql,
        mut document: SetupJson,
    ) -> Result<Exit, Failure> {
        let mut steps = Vec::new();
        let mut tell = |told: SetupProgress| {
            self.step(&told);
            steps.push(told);
        };
        let came = carry_out(&mut plan, earlier, sql, &self.prober, &mut tell).await;
        document.steps(&steps);
        match came {
            Ok(served) => {
                document.outcome = Some(SetupOutcome::SetUp);
                self.finish(&plan, served.as_ref(), document).await
            }
            Err(failed) => {
                document.outcome = Some(SetupOutcome::RolledBack);
                document.error = Some(failed.error.to_string());
                document.left.clone_from(&failed.left);
                if !self.json {
                    print(&drawn::failed(&plan, &failed.error, &failed.left))?;
                }
                self.told(document, Exit::Problem)
            }
        }
    }

    /// Nothing was to be done; what clients are told is told again.
    async fn set_up_already(&self, plan: &SetupPlan, document: SetupJson) -> Result<Exit, Failure> {
        let addresses = plan.site.server.addresses().unwrap_or_default();
        let limit = plan.site.instance.verify_timeout;
        let mut served = None;
        for address in &addresses {
            let looked = self.prober.look(address, Opening::Request, limit).await;
            served = served.or(looked.ok());
        }
        self.finish(plan, served.as_ref(), document).await
    }

    /// What comes after: the daemon, and what clients are told.
    async fn finish(
        &self,
        plan: &SetupPlan,
        served: Option<&crate::server::probe::Served>,
        mut document: SetupJson,
    ) -> Result<Exit, Failure> {
        let line = served.map(|served| aftermath::connection(plan, served));
        document.connection = line.as_ref().map(|connection| connection.conninfo.clone());
        let next = if self.wanted.dry_run {
            None
        } else {
            Some(aftermath::daemon(&plan.site.config, change_unit(&plan.steps)).await)
        };
        document.next = next.as_ref().map(aftermath::Daemon::sentence);
        if !self.json {
            print(&drawn::finished(
                plan,
                line.as_ref(),
                next.as_ref(),
                &document,
            ))?;
        }
        self.told(document, Exit::Well)
    }

    /// Every server that runs has what this command is for.
    fn nothing_left(&self, config: &Config, survey: &HostSurvey) -> Result<Exit, Failure> {
        let strangers = candidates::strangers(config, survey);
        let left = if strangers.is_empty() {
            String::new()
        } else {
            format!(
                " Left alone, since pgcertd keeps nothing for their users here: {}.",
                strangers.join(", ")
            )
        };
        let document = SetupJson {
            outcome: Some(SetupOutcome::Unchanged),
            notes: strangers,
            ..SetupJson::default()
        };
        if !self.json {
            let names = config.instances.iter().map(|known| &*known.name);
            let names: Vec<&str> = names.collect();
            print(Page::default().hanging(format_args!(
                "Every server that runs here is set up ({}): {} shows them.{left}",
                names.join(", "),
                config.command(&["status"])
            )))?;
        }
        self.told(document, Exit::Well)
    }
}
