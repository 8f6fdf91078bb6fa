//! `pgcertd check`: the config, and everything a deployment needs, without changing anything.

use std::ops::RangeInclusive;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::manual::{Chapter, Manual};
use super::paint::{BAD, GOOD, ODD, labelled, styled};
use super::{Exit, Failure, print, print_json, prober, sources, unit};
use crate::bundle::Expiry;
use crate::config::{Config, Instance as InstanceConfig, Mode, Verify};
use crate::instance::files::Installed;
use crate::instance::settings::tls_settings;
use crate::instance::{Instance, Server, Sight};
use crate::privilege::landlock_available;
use crate::reconcile::Keeper;
use crate::reconcile::plan::Readiness;
use crate::reconcile::state::Observation;
use crate::report::day;
use crate::report::view::VERSION;
use crate::source::Source;

pub(super) const MANUAL: Manual = Manual {
    command: "check",
    description: &[
        "Reads the config as the daemon does, and then looks whether a renewal would get through: the lineage and its \
         certificate, the rights to read and to write, the server and the files that it names, and what it serves. \
         Nothing is changed.",
        "Run it as root or as the servers' user; others see less.",
    ],
    exit: &[
        (Exit::Well, "no problem was found; notes do not count"),
        (Exit::Problem, "a problem was found"),
        (
            Exit::Usage,
            "wrong usage or config; file, line and column are shown, and what was expected",
        ),
    ],
    chapters: findings,
    examples: &[
        (
            "pgcertd check",
            "After a change of the config, before the reload.",
        ),
        (
            "pgcertd check --config-only --config ./pgcertd.toml",
            "Is this file right? Needs no rights but to read it.",
        ),
    ],
};

fn findings() -> Vec<Chapter> {
    vec![
        Chapter::new("Findings", "Each line begins with how much it weighs:")
            .term("ok", "as it should be")
            .term("note", "worth knowing; it stops no deployment")
            .term("!", "a deployment would fail, or a restart of Postgres")
            .term("mend", "what to do about the line above"),
    ]
}

/// The major versions of PostgreSQL that the tests deploy to.
const SUPPORTED: RangeInclusive<u32> = 13..=18;

/// What is to be checked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Check the config alone, as a reload of the service does first; look at no lineage and no server.
    #[arg(long)]
    config_only: bool,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Weight {
    Good,
    Notice,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    weight: Weight,
    /// What was seen.
    seen: String,
    /// What mends it; empty where nothing is to be mended.
    mend: String,
}

impl Finding {
    fn good(seen: impl Into<String>) -> Finding {
        Finding {
            weight: Weight::Good,
            seen: seen.into(),
            mend: String::new(),
        }
    }

    fn notice(seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding {
            weight: Weight::Notice,
            seen: seen.into(),
            mend: mend.into(),
        }
    }

    fn problem(seen: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding {
            weight: Weight::Problem,
            seen: seen.into(),
            mend: mend.into(),
        }
    }
}

#[derive(Serialize)]
struct Section {
    name: String,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Document {
    version: u32,
    host: Vec<Finding>,
    instances: Vec<Section>,
}

pub(super) async fn check(
    config: &Config,
    wanted: &Arguments,
    json: bool,
) -> Result<Exit, Failure> {
    let document = match wanted.config_only {
        true => Document {
            version: VERSION,
            host: Vec::new(),
            instances: Vec::new(),
        },
        false => examined(config).await?,
    };
    if json {
        print_json(&document)?;
    } else {
        print(&drawn(config, &document))?;
    }
    let well = document
        .instances
        .iter()
        .flat_map(|section| &section.findings)
        .chain(&document.host)
        .all(|finding| finding.weight != Weight::Problem);
    Ok(if well { Exit::Well } else { Exit::Problem })
}

/// Looks at this host and at every instance.
async fn examined(config: &Config) -> Result<Document, Failure> {
    let all: Vec<_> = config.instances.iter().collect();
    let mut sources = sources::read(config, &all).await?;
    let prober = prober()?;
    let daemon = unit::Daemon::of_this_host();
    let mut instances = Vec::new();
    for instance in &config.instances {
        let source = sources.remove(&instance.name).unwrap_or(Source::Invalid {
            why: "the lineage was not read".into(),
            denied: false,
        });
        let mut keeper = Keeper::new(Instance::new(config, instance, prober.clone()));
        let seen = keeper.observe(&source, config.watch.settle_timeout).await;
        let mut findings = vec![of_source(instance, &seen)];
        match &seen.sight {
            Err(error) => findings.push(Finding::problem(error.to_string(), "")),
            Ok(sight) => {
                findings.push(of_version(&mut keeper).await);
                findings.push(of_installed(instance, sight));
                findings.extend(of_targets(&mut keeper, sight).await);
                findings.extend(of_rights(instance, sight, daemon.as_ref()));
                findings.extend(of_server(instance, sight, &seen).await);
            }
        }
        instances.push(Section {
            name: instance.name.clone(),
            findings,
        });
    }
    prober.farewells().await;
    Ok(Document {
        version: VERSION,
        host: of_host(config, daemon.as_ref()),
        instances,
    })
}

fn of_host(config: &Config, daemon: Option<&unit::Daemon>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(if landlock_available() {
        Finding::good("Landlock confines each thread to its directories")
    } else {
        Finding::notice(
            "this kernel has no Landlock: threads are limited by ownership and capabilities alone",
            "use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list",
        )
    });
    if let Some(missing) = daemon.and_then(unit::Daemon::missing) {
        findings.push(Finding::problem(missing, unit::root_operation()));
    }
    if config.instances.is_empty() {
        findings.push(Finding::notice(
            "no instance is configured",
            format!("add an [[instance]] to {}", config.file.display()),
        ));
    }
    findings
}

fn of_source(config: &InstanceConfig, seen: &Observation) -> Finding {
    match (&seen.readiness, seen.source.bundle()) {
        (Readiness::Refused { why, .. }, _) => Finding::problem(why, ""),
        (Readiness::Later { why, .. }, _) => Finding::notice(why, ""),
        (Readiness::Ready, None) => Finding::problem("the lineage holds nothing", ""),
        (Readiness::Ready, Some(bundle)) => {
            let leaf = bundle.leaf();
            let told = format!(
                "lineage {} holds {} for {} until {}",
                config.lineage.name,
                leaf.fingerprint().short(),
                leaf.names().join(", "),
                day(leaf.not_after())
            );
            match leaf.expiry(Timestamp::now()) {
                Expiry::Fine => Finding::good(told),
                _ => Finding::notice(told, "see that the ACME client's timer renews it"),
            }
        }
    }
}

/// Whether the data directory is one, and of a version that pgcertd is tried with.
async fn of_version(keeper: &mut Keeper) -> Finding {
    let data = keeper.instance.config.data_directory.display().to_string();
    match keeper.instance.server_version().await {
        Err(error) => Finding::problem(error.to_string(), ""),
        Ok(None) => Finding::problem(
            format!("{data} holds no file PG_VERSION: it is no server's data directory"),
            "set data_directory to what `SHOW data_directory` says on that server",
        ),
        Ok(Some(version)) if version.parse().is_ok_and(|it| SUPPORTED.contains(&it)) => {
            Finding::good(format!("{data} is of PostgreSQL {version}"))
        }
        Ok(Some(version)) => Finding::notice(
            format!("{data} is of PostgreSQL {version}, which pgcertd is not tested with"),
            format!(
                "use PostgreSQL {} to {}, or see for yourself: `pgcertd sync --force {}`",
                SUPPORTED.start(),
                SUPPORTED.end(),
                keeper.instance.config.name
            ),
        ),
    }
}

fn of_installed(config: &InstanceConfig, sight: &Sight) -> Finding {
    match &sight.look.installed {
        Installed::Usable(bundle) => Finding::good(format!(
            "{} would load: {} until {}",
            config.cert_file.display(),
            bundle.fingerprint().short(),
            day(bundle.leaf().not_after())
        )),
        Installed::Absent => Finding::notice(
            format!("{} does not exist yet", config.cert_file.display()),
            format!("`pgcertd sync {}` installs it", config.name),
        ),
        Installed::Unusable(why) => Finding::problem(
            format!("a restart of Postgres would fail where it uses these files: {why}"),
            format!("`pgcertd sync {}` replaces them", config.name),
        ),
    }
}

async fn of_targets(keeper: &mut Keeper, sight: &Sight) -> Vec<Finding> {
    let config = &keeper.instance.config;
    if config.mode != Mode::Manage {
        return vec![Finding::good(
            "the files are placed by others (mode), and left to them",
        )];
    }
    let data = config.data_directory.clone();
    let mut findings = Vec::new();
    for target in [config.cert_file.clone(), config.key_file.clone()] {
        if target.starts_with(&data) {
            findings.push(Finding::notice(
                format!(
                    "{} lies in the data directory, where pg_basebackup copies it, key included",
                    target.display()
                ),
                "leave cert_file at its default, and point ssl_cert_file and ssl_key_file there",
            ));
            break;
        }
    }
    let directories = sight.targets.directories();
    let state = sight.targets.state.clone();
    let owner = sight.targets.owner.uid;
    let writable = keeper
        .instance
        .on_files(move |targets| Ok(targets.unwritable(&directories)))
        .await;
    match writable {
        Err(error) => findings.push(Finding::problem(error.to_string(), "")),
        Ok(unwritable) => {
            for (directory, why) in unwritable {
                // The state directory is made by the first run.
                if directory == state && !Path::new(&directory).exists() {
                    continue;
                }
                findings.push(Finding::problem(
                    format!(
                        "user {owner} cannot write in {}: {why}",
                        directory.display()
                    ),
                    format!(
                        "install -d -o {owner} -g {} -m 0750 {}",
                        sight.targets.owner.gid,
                        directory.display()
                    ),
                ));
            }
        }
    }
    findings
}

/// Whether the daemon, as the unit is, may do to this instance what is asked of it.
fn of_rights(
    config: &InstanceConfig,
    sight: &Sight,
    daemon: Option<&unit::Daemon>,
) -> Option<Finding> {
    let server = sight.targets.server.uid;
    let files = match config.mode {
        Mode::Manage => sight.targets.owner.uid,
        Mode::Reload => server,
        Mode::Observe => return None,
    };
    let foreign = daemon?.foreign_to([files, server])?;
    Some(Finding::problem(foreign, unit::root_operation()))
}

async fn of_server(config: &InstanceConfig, sight: &Sight, seen: &Observation) -> Vec<Finding> {
    let postmaster = match &sight.server {
        Server::Down(absence) => {
            return vec![Finding::notice(
                format!("the server is not running: {absence}"),
                "what it would serve can be proven once it runs",
            )];
        }
        Server::Up(postmaster) => postmaster,
    };
    let mut findings = vec![Finding::good(format!(
        "the postmaster is process {}",
        postmaster.pid
    ))];
    match tls_settings(postmaster, &config.data_directory, sight.targets.server).await {
        Err(error) => findings.push(Finding::notice(
            format!("which files the server uses is not known: {error}"),
            "run check as root or as the server's user",
        )),
        Ok(settings) => {
            match settings.not_used(&config.cert_file, &config.key_file) {
                Some(not_used) => findings.push(Finding::problem(not_used.why, not_used.mend)),
                None => findings.push(Finding::good("ssl is on, and the server uses these files")),
            }
            findings.extend(
                settings
                    .faults_elsewhere()
                    .into_iter()
                    .map(|fault| Finding::problem(fault, "")),
            );
        }
    }
    match &seen.served {
        Ok(served) => findings.push(Finding::good(format!(
            "{} serves {} over {}",
            served.address,
            served.leaf.fingerprint().short(),
            served.protocol
        ))),
        Err(_) if config.verify == Verify::None => {}
        Err(unseen) => findings.push(Finding::problem(unseen.to_string(), "")),
    }
    findings
}

fn drawn(config: &Config, document: &Document) -> String {
    let mut out = format!("{} is right\n", config.file.display());
    let mut section = |name: &str, findings: &[Finding]| {
        out.push_str(&format!("\n{name}\n"));
        for finding in findings {
            let (style, label) = match finding.weight {
                Weight::Good => (GOOD, "ok"),
                Weight::Notice => (ODD, "note"),
                Weight::Problem => (BAD, "!"),
            };
            let text = labelled(label, &finding.seen);
            out.push_str(&text.replacen(label, &styled(style, label), 1));
            if !finding.mend.is_empty() {
                out.push_str(&labelled("mend", &finding.mend));
            }
        }
    };
    if !document.host.is_empty() {
        section("this host", &document.host);
    }
    for instance in &document.instances {
        section(&instance.name, &instance.findings);
    }
    out
}
