//! Carries a plan out, step by step. Each step is taken back when a later one fails, the last one first.
//!
//! What taking it back needs is remembered before the first change, so that another process can do it after
//! a crash at any point (`undo`). The one way to a deployment stays `reconcile`: the install is one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::fragment::Fragment;
use super::host_line::LineToAdd;
use super::plaintext::{self, PlaintextAnswer};
use super::plan::{PlannedChange, SetupPlan};
use super::record::{Record, Was};
use super::require_tls::Tightening;
use super::undo::{self, UndoScene};
use super::{SetupError, SetupProgress, service};
use crate::bundle::{Bundle, Fingerprint};
use crate::config::Verify;
use crate::deploy::plan::Intent;
use crate::deploy::{Keeper, SyncOutcome};
use crate::lineage::{Spec, Tracked};
use crate::server::files::Found;
use crate::server::probe::{Prober, Served};
use crate::server::program::tls_settings;
use crate::server::sql::{HbaRule, Sql};
use crate::server::{Instance, Purpose, Unseen};

/// How often what new clients get is looked at, until it is what they should get.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a session may take to see what a reload has changed.
const RELOAD: Duration = Duration::from_secs(10);

/// The steps, each with a point at which a test plants a fault after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Remembered,
    Written,
    Admitted,
    Installed,
    Set,
    Listed,
    Reloaded,
    Verified,
    Tightened,
}

/// What has come of a set-up.
#[derive(Debug)]
pub(crate) struct SetUp {
    /// What new clients get; none where `verify = "none"`.
    pub(crate) served: Option<Served>,
}

#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: SetupError,
    /// What could not be taken back; empty where all is as before.
    pub(crate) left: Vec<String>,
}

struct Work<'a> {
    plan: &'a SetupPlan,
    tightening: Option<&'a Tightening>,
    sql: &'a Sql,
    keeper: Keeper,
    earlier: Option<Record>,
    record: Record,
    /// What was in the place of the files.
    found: Vec<Found>,
    before: Option<Fingerprint>,
    /// What is to be served in the end.
    wanted: Option<Fingerprint>,
    /// The bundle that was read for it, by whose names clients ask.
    bundle: Option<Arc<Bundle>>,
    begun: bool,
    tell: &'a mut dyn FnMut(SetupProgress),
}

/// Does what `plan` says, and what `tightening` does; `tell` hears of each step.
///
/// # Errors
/// A step failed: all that was done before it is taken back, as far as that could be done.
pub(crate) async fn carry_out(
    plan: &SetupPlan,
    tightening: Option<&Tightening>,
    earlier: Option<Record>,
    sql: &Sql,
    prober: &Prober,
    tell: &mut dyn FnMut(SetupProgress),
) -> Result<SetUp, Failed> {
    let instance = Instance::new(&plan.config, &plan.instance, prober.clone());
    let mut work = Work {
        plan,
        tightening,
        sql,
        keeper: Keeper::new(instance),
        earlier,
        record: Record::begun(&plan.server.data_directory),
        found: Vec::new(),
        before: None,
        wanted: None,
        bundle: None,
        begun: false,
        tell,
    };
    match work.forward().await {
        Ok(served) => Ok(SetUp { served }),
        Err(error) => {
            let left = work.back(&error).await;
            Err(Failed { error, left })
        }
    }
}

impl Work<'_> {
    async fn forward(&mut self) -> Result<Option<Served>, SetupError> {
        self.remembered().await?;
        planted(Step::Remembered)?;
        self.written()?;
        planted(Step::Written)?;
        self.admitted().await?;
        planted(Step::Admitted)?;
        self.installed().await?;
        planted(Step::Installed)?;
        self.set().await?;
        planted(Step::Set)?;
        self.listed().await?;
        planted(Step::Listed)?;
        self.reloaded().await?;
        planted(Step::Reloaded)?;
        let served = self.verified().await?;
        planted(Step::Verified)?;
        self.tightened().await?;
        planted(Step::Tightened)?;
        self.finished().await?;
        Ok(served)
    }

    /// Looks at what is there, and remembers it.
    async fn remembered(&mut self) -> Result<(), SetupError> {
        let instance = &mut self.keeper.instance;
        instance.refresh(Purpose::Work).await?;
        self.found = instance.on_files(|targets| targets.look()).await?.found;
        if let Ok(addresses) = instance.address_or(|| self.plan.server.addresses()) {
            let limit = instance.config.verify_timeout;
            let served = instance.served(&addresses, limit).await.ok();
            self.before = served.map(|served| served.leaf.fingerprint());
        }
        let absent = |found: &Found| matches!(found, Found::Absent);
        self.record.target_was_absent = self.found.iter().all(absent);
        let fragment = self.plan.fragment.as_ref();
        self.record.fragment = fragment.map(|candidate| candidate.text.clone());
        let drop_in = self.plan.admission.drop_in.as_ref();
        self.record.drop_in = drop_in.map(|value| value.text.clone());
        let directory = fragment.and_then(|known| known.path.parent());
        self.record.directory_made = directory.is_some_and(|file| !file.exists());
        for PlannedChange { setting, to, .. } in &self.plan.settings {
            self.record.settings.push(Was {
                setting: *setting,
                before: self.sql.altered(*setting).await?,
                set: to.clone(),
            });
        }
        let line = self.plan.host_line.as_ref();
        self.record.host_lines = line.map(LineToAdd::record).into_iter().collect();
        let keep = self.plan.config.state_of(&self.plan.instance);
        self.record.tightened = self.tightening.map(|each| each.record(&keep));
        let whole = self.record.clone().upon(self.earlier.as_ref());
        whole.write(&mut self.keeper.instance).await?;
        self.begun = true;
        Ok(())
    }

    /// The instance gets into the config.
    fn written(&mut self) -> Result<(), SetupError> {
        let Some(fragment) = &self.plan.fragment else {
            return Ok(());
        };
        self.placed(fragment)
    }

    /// The service's daemon may get at the instance's paths, from its next start on.
    async fn admitted(&mut self) -> Result<(), SetupError> {
        let Some(drop_in) = &self.plan.admission.drop_in else {
            return Ok(());
        };
        self.placed(drop_in)?;
        service::read_again().await
    }

    fn placed(&mut self, file: &Fragment) -> Result<(), SetupError> {
        file.write().map_err(|source| SetupError::Fragment {
            path: file.path.clone(),
            source,
        })?;
        self.done(format!("wrote {}", file.path.display()));
        Ok(())
    }

    /// The bundle gets into its files. Where the server uses those already, it loads them here.
    async fn installed(&mut self) -> Result<(), SetupError> {
        let watch = &self.plan.config.watch;
        let settle = watch.settle_timeout;
        let mut lineage = Tracked::new(Spec::from(&self.plan.instance), watch.debounce, settle);
        // It may have been renewed since the plan was made.
        let source = lineage.settled().await?;
        let intent = Intent::default();
        let done = self
            .keeper
            .reconcile(&mut lineage, intent, settle)
            .await
            .done;
        self.wanted = done.fingerprint;
        self.bundle = source.bundle().cloned();
        let lineage = &self.plan.instance.lineage.name;
        let leaf = done
            .fingerprint
            .map(|fingerprint| fingerprint.short())
            .unwrap_or_default();
        let file = self.plan.instance.cert_file.display();
        let unused = self.needs_reload() || self.plan.instance.verify == Verify::None;
        match done.outcome {
            SyncOutcome::Unchanged => {
                self.done(format!("{lineage} {leaf} is in {file} and served"));
            }
            SyncOutcome::Deployed => {
                self.done(format!("installed {lineage} {leaf} in {file}, served"));
            }
            SyncOutcome::Installed | SyncOutcome::Unverified if unused => {
                self.done(format!("installed {lineage} {leaf} in {file}"));
            }
            outcome => {
                let told = done.problem.map(|problem| problem.to_string());
                let why = told.unwrap_or_else(|| outcome.meaning().to_owned());
                return Err(SetupError::Unfit(why));
            }
        }
        Ok(())
    }

    async fn set(&mut self) -> Result<(), SetupError> {
        let mut names = Vec::new();
        for PlannedChange { setting, to, .. } in &self.plan.settings {
            self.sql.alter_system(*setting, to).await?;
            names.push(setting.name());
        }
        if !names.is_empty() {
            self.done(format!("set {} by ALTER SYSTEM", names.join(", ")));
        }
        Ok(())
    }

    /// The instance's names get its files, which are in place by now.
    async fn listed(&mut self) -> Result<(), SetupError> {
        let Some(to_add) = &self.plan.host_line else {
            return Ok(());
        };
        let keep = self.plan.config.state_of(&self.plan.instance);
        to_add.apply(&keep).await?;
        self.done(format!(
            "added `{}` to {}",
            to_add.line,
            to_add.file.display()
        ));
        Ok(())
    }

    /// Whether the server uses the instance's files only once it has taken what is changed for that.
    fn needs_reload(&self) -> bool {
        !self.plan.settings.is_empty() || self.plan.host_line.is_some()
    }

    async fn reloaded(&mut self) -> Result<(), SetupError> {
        if !self.needs_reload() {
            return Ok(());
        }
        self.sql.reload().await?;
        self.done("had the server reload its configuration".into());
        Ok(())
    }

    /// New clients get the bundle's leaf.
    async fn verified(&mut self) -> Result<Option<Served>, SetupError> {
        let instance = &self.keeper.instance;
        let Some(wanted) = self.wanted else {
            return Ok(None);
        };
        if instance.config.verify == Verify::None {
            return Ok(None);
        }
        let addresses = instance
            .address_or(|| self.plan.server.addresses())
            .map_err(Unseen::Nowhere)?;
        let limit = instance.config.verify_timeout;
        let deadline = Instant::now() + limit;
        let seen = loop {
            let seen = match &self.bundle {
                Some(bundle) => instance.served_by_name(&addresses, bundle, limit).await,
                None => instance.served(&addresses, limit).await,
            };
            let seen = match seen {
                Ok(served) if served.leaf.fingerprint() == wanted => {
                    self.done(format!(
                        "{} shows {} to new clients",
                        served.address,
                        wanted.short()
                    ));
                    return Ok(Some(served));
                }
                Ok(other) => format!(
                    "{} shows {}",
                    other.address,
                    other.leaf.fingerprint().short()
                ),
                Err(unseen) => unseen.to_string(),
            };
            if Instant::now() >= deadline {
                break seen;
            }
            tokio::time::sleep(PAUSE).await;
        };
        Err(SetupError::NotServed {
            wanted: wanted.short(),
            seen,
            faults: self.faults().await,
        })
    }

    /// What else keeps a server from loading the files that it is told to.
    async fn faults(&self) -> Vec<String> {
        let server = &self.plan.server;
        let settings = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
        let mut faults = settings.map_or_else(
            |_| Vec::new(),
            |settings| {
                let faults = settings.faults_elsewhere(&self.plan.instance);
                faults.iter().map(ToString::to_string).collect()
            },
        );
        faults.extend(self.sql.file_faults().await.unwrap_or_default());
        faults
    }

    /// Clients of other hosts need TLS from now on.
    async fn tightened(&mut self) -> Result<(), SetupError> {
        let Some(tightening) = self.tightening else {
            return Ok(());
        };
        let keep = self.plan.config.state_of(&self.plan.instance);
        let loaded = self.sql.server_settings().await?.loaded;
        tightening.apply(self.sql, &keep).await?;
        undo::settled(self.sql, RELOAD, |now| now.loaded > loaded).await?;
        if let Some(still) = Tightening::proposed(self.sql, self.plan.server.owner).await? {
            return Err(SetupError::Exposed {
                diff: still.diff().lines().count(),
            });
        }
        let lines = tightening.lines().len();
        self.done(format!(
            "clients of other hosts need TLS: {lines} line{} of pg_hba.conf",
            if lines == 1 { "" } else { "s" }
        ));
        self.refused().await
    }

    /// A client without TLS is refused, where one can be tried.
    async fn refused(&mut self) -> Result<(), SetupError> {
        let port = self.plan.server.port();
        let samehost = |rule: &HbaRule| rule.address.as_deref() == Some("samehost");
        let own_are_let_in = self.sql.hba_rules().await?.iter().any(samehost);
        let patience = if own_are_let_in {
            Duration::ZERO
        } else {
            RELOAD
        };
        let deadline = Instant::now() + patience;
        let let_in = loop {
            let answers = plaintext::tried(port, &self.sql.role).await;
            let open = answers.iter().find(|(_, it)| *it == PlaintextAnswer::LetIn);
            match (open, answers.first()) {
                (None, Some((ip, _))) => {
                    self.done(format!("a client at {ip} without TLS is refused"));
                    return Ok(());
                }
                // The server listens on loopback alone.
                (None, None) => return Ok(()),
                (Some((ip, _)), _) if Instant::now() >= deadline => break *ip,
                // A postmaster takes a moment to load the file.
                _ => tokio::time::sleep(PAUSE).await,
            }
        };
        if own_are_let_in {
            (self.tell)(SetupProgress::Left(format!(
                "this host's own clients at {let_in} still need no TLS: a samehost line lets them in"
            )));
            return Ok(());
        }
        Err(SetupError::LetIn { ip: let_in })
    }

    async fn finished(&mut self) -> Result<(), SetupError> {
        let mut whole = self.record.clone().upon(self.earlier.as_ref());
        whole.finished = Some(Timestamp::now());
        whole.write(&mut self.keeper.instance).await
    }

    fn done(&mut self, what: String) {
        (self.tell)(SetupProgress::Done(what));
    }

    /// Takes back what was done; gives what could not be.
    async fn back(&mut self, error: &SetupError) -> Vec<String> {
        if !self.begun {
            return Vec::new();
        }
        (self.tell)(SetupProgress::TakingBack(error.to_string()));
        let mut scene = UndoScene {
            server: &self.plan.server,
            sql: self.sql,
            instance: &mut self.keeper.instance,
            fragment: self
                .plan
                .fragment
                .as_ref()
                .map(|fragment| fragment.path.clone()),
            drop_in: self.plan.admission.drop_in.clone(),
            state: self.plan.config.state_of(&self.plan.instance),
            found: Some(std::mem::take(&mut self.found)),
        };
        let mut left = undo::take_back(&mut scene, &self.record, self.tell).await;
        if left.is_empty()
            && let Err(why) = self.as_before().await
        {
            left.push(why);
        }
        let remembered = match (&self.earlier, left.is_empty()) {
            (Some(earlier), true) => earlier.write(&mut self.keeper.instance).await,
            (None, true) => undo::forget(&mut self.keeper.instance).await,
            // `--undo` goes on from there.
            (_, false) => Ok(()),
        };
        left.extend(remembered.err().map(|e| e.to_string()));
        left
    }

    /// Waits until new clients get what they got before.
    async fn as_before(&self) -> Result<(), String> {
        let instance = &self.keeper.instance;
        let (Some(before), Ok(addresses)) = (
            self.before,
            instance.address_or(|| self.plan.server.addresses()),
        ) else {
            return Ok(());
        };
        let limit = instance.config.verify_timeout;
        let deadline = Instant::now() + limit;
        loop {
            match instance.served(&addresses, limit).await {
                Ok(served) if served.leaf.fingerprint() == before => return Ok(()),
                _ if Instant::now() >= deadline => {
                    return Err(format!(
                        "new clients do not get {} again, as before; see the server's log",
                        before.short()
                    ));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Where a test plants a fault.
#[cfg(feature = "failpoints")]
fn planted(after: Step) -> Result<(), SetupError> {
    let point = match after {
        Step::Remembered => "setup_remembered",
        Step::Written => "setup_written",
        Step::Admitted => "setup_admitted",
        Step::Installed => "setup_installed",
        Step::Set => "setup_set",
        Step::Listed => "setup_listed",
        Step::Reloaded => "setup_reloaded",
        Step::Verified => "setup_verified",
        Step::Tightened => "setup_tightened",
    };
    fail::fail_point!(point, |_| Err(SetupError::Planted));
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "a test's build has faults here")]
fn planted(_after: Step) -> Result<(), SetupError> {
    Ok(())
}
