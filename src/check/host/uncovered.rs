//! PostgreSQL servers of this host that no instance covers; a major upgrade leaves one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::served_users::{ServedUsers, user_of_process};
use crate::check::{Finding, FindingKind, user_name};
use crate::config::Config;
use crate::host::file;
use crate::host::privilege::is_root;
use crate::host::process::{Search, others_hidden};
use crate::server::running::{running, uncovered, unnamed};

/// The oldest major version that pgcertd was tried with, and the newest whose settings it knows.
const OLDEST: u32 = 13;
const NEWEST: u32 = 19;

/// The most bytes that `PG_VERSION` may have.
const LARGEST_VERSION: u64 = 64;

/// How long a data directory may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A finding for each of them.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let covered = config.data_directories();
    let looked = tokio::task::spawn_blocking(move || {
        let Search { found, missed } = uncovered(&covered);
        let found: Vec<_> = found
            .into_iter()
            .map(|path| (version(&path), path))
            .collect();
        let unnamed = unnamed();
        let missed = missed.or(unnamed.missed);
        let hidden = others_hidden().unwrap_or_else(Some);
        let servers = running().found.into_iter();
        let users: BTreeMap<PathBuf, Option<u32>> = servers
            .map(|server| (server.data_directory, user_of_process(server.pid)))
            .collect();
        (found, unnamed.found.len(), missed.or(hidden), users)
    });
    let kind = FindingKind::Uncovered;
    let Ok(looked) = tokio::time::timeout(PATIENCE, looked).await else {
        let seen = format!(
            "they could not be looked at within {} s",
            PATIENCE.as_secs()
        );
        return vec![
            Finding::problem(kind, seen)
                .sentence("see which data directory lies on a file system that does not answer"),
        ];
    };
    let Ok((found, hidden, missed, users)) = looked else {
        return vec![
            Finding::problem(kind, "the look at the processes of this host failed")
                .sentence("this is a fault in pgcertd"),
        ];
    };
    let served = ServedUsers::by(config);
    let mut findings: Vec<Finding> = found
        .iter()
        .map(|(version, directory)| {
            let user = users.get(directory).copied().flatten();
            let user = user.map(|uid| (user_name(uid), served.include(uid)));
            of_server(config, directory, version.as_deref(), user)
        })
        .collect();
    match hidden {
        0 => {}
        count if !is_root() => findings.push(Finding::unseen(
            kind,
            format!("servers of other users that cannot be looked at: {count}"),
            "root",
        )),
        count => findings.push(
            Finding::notice(kind, format!("servers that cannot be looked at: {count}"))
                .sentence("run check where their executables can be looked at (CAP_SYS_PTRACE)"),
        ),
    }
    findings.extend(missed.map(|cannot| {
        let seen = "whether other PostgreSQL servers run on this host is not known";
        Finding::not_known(kind, seen, &cannot)
    }));
    if findings.is_empty() {
        findings.push(Finding::good(
            kind,
            "each PostgreSQL server of this host is covered",
        ));
    }
    findings
}

/// `PG_VERSION` of a data directory as this host shows it; none where it is not at its path here.
fn version(directory: &Path) -> Option<String> {
    let text = file::read(&directory.join("PG_VERSION"), LARGEST_VERSION).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

/// `user` is whose it is, and whether pgcertd works for him here.
fn of_server(
    config: &Config,
    directory: &Path,
    version: Option<&str>,
    user: Option<(String, bool)>,
) -> Finding {
    let shown = directory.display();
    let (whose, is_served) = match &user {
        Some((name, is_served)) => (format!(" of user {name}"), *is_served),
        None => (String::new(), false),
    };
    let finding = |what: &str| {
        let seen = format!("{what}{whose} runs on {shown}, and no instance covers it");
        // As `status` has it: it may be nobody's to keep.
        Finding::notice(FindingKind::Uncovered, seen)
    };
    let Some(version) = version else {
        return finding("a PostgreSQL server").sentence(
            "its data directory is not at that path here, as that of a container is not: mount it \
             here and name it in an [[instance]], or run pgcertd in the container",
        );
    };
    let what = format!("PostgreSQL {version}");
    match version.parse::<u32>() {
        Ok(major) if (OLDEST..=NEWEST).contains(&major) => {
            let directory = directory.to_string_lossy();
            let wanted = ["setup", "--data-directory", &directory, "--yes"];
            if is_served {
                return finding(&what).command(config.command(&wanted));
            }
            let asks = config.command(&wanted[..3]);
            let (name, _) = user.unwrap_or(("(unknown)".into(), false));
            finding(&what).sentence(format!(
                "if user {name} is to have a lineage's private key, set it up: {asks}"
            ))
        }
        _ => finding(&what).sentence(format!(
            "pgcertd supports PostgreSQL {OLDEST} to {NEWEST}: upgrade the server, or renew its certificate by hand"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::check::Mend;

    #[test]
    fn a_version_that_is_not_supported_is_named_with_those_that_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").unwrap();
        let config = Config::load(&file).unwrap();
        let data = Path::new("/var/lib/pgsql/9.6/data");
        for version in ["9.6", "12", "20", "of old"] {
            let found = of_server(&config, data, Some(version), postgres());
            let shown = format!(
                "PostgreSQL {version} of user postgres runs on {}",
                data.display()
            );
            assert!(found.seen.starts_with(&shown), "{}", found.seen);
            let Some(Mend::Sentence(text)) = found.mend else {
                panic!("{found:?}")
            };
            assert!(text.contains("13 to 19"), "{text}");
        }
        let found = of_server(&config, data, Some("18"), postgres());
        assert!(matches!(found.mend, Some(Mend::Command(_))), "{found:?}");
    }

    fn postgres() -> Option<(String, bool)> {
        Some(("postgres".into(), true))
    }

    #[test]
    fn a_strangers_server_is_named_with_him_and_no_command_gives_him_a_key_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgcertd.toml");
        std::fs::write(&file, "").unwrap();
        let config = Config::load(&file).unwrap();
        let data = Path::new("/home/mallory/data");
        for (user, named) in [
            (Some(("mallory".into(), false)), "user mallory"),
            (None, "user (unknown)"),
        ] {
            let found = of_server(&config, data, Some("16"), user);
            let Some(Mend::Sentence(text)) = &found.mend else {
                panic!("{found:?}")
            };
            assert!(text.contains(named) && !text.contains("--yes"), "{text}");
        }
        let found = of_server(&config, data, Some("16"), postgres());
        assert!(
            found.seen.contains("16 of user postgres runs on"),
            "{}",
            found.seen
        );
    }
}
