//! PostgreSQL servers of this host that no instance covers, such as the new one after a major upgrade.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::look::HostLook;
use crate::check::finding::Finding;
use crate::check::instance::version::TESTED;
use crate::check::names::user_name;
use crate::check::served_users::{ServedUsers, user_of_process};
use crate::config::Config;
use crate::host::file;
use crate::host::privilege::is_root;
use crate::host::process::{Search, others_hidden};
use crate::server::running;

/// The most bytes that `PG_VERSION` may have.
const LARGEST_VERSION: u64 = 64;

/// How long a data directory may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A finding for each of them.
pub(in crate::check) async fn uncovered(look: &HostLook) -> Vec<Finding> {
    let config = &look.context.config;
    let covered = config.data_directories();
    let looked = tokio::task::spawn_blocking(move || {
        let Search { found, missed } = running::uncovered(&covered);
        let found: Vec<_> = found
            .into_iter()
            .map(|path| (version(&path), path))
            .collect();
        let unnamed = running::unnamed();
        let missed = missed.or(unnamed.missed);
        let hidden = others_hidden().unwrap_or_else(Some);
        let servers = running::running().found.into_iter();
        let users: BTreeMap<PathBuf, Option<u32>> = servers
            .map(|server| (server.data_directory, user_of_process(server.pid)))
            .collect();
        (found, unnamed.found.len(), missed.or(hidden), users)
    });
    let Ok(looked) = tokio::time::timeout(PATIENCE, looked).await else {
        let seen = format!("no answer within {} s", PATIENCE.as_secs());
        return vec![
            Finding::problem(seen)
                .fix("find out which data directory is on a file system that hangs"),
        ];
    };
    let Ok((found, hidden, missed, users)) = looked else {
        let seen = "the look at the processes of this host failed";
        return vec![Finding::problem(seen).fix("this is a bug in pgcertd")];
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
            format!("servers of other users that cannot be looked at: {count}"),
            "root",
        )),
        count => findings.push(
            Finding::notice(format!("servers that cannot be looked at: {count}"))
                .fix("run check where it can see their executables (CAP_SYS_PTRACE)"),
        ),
    }
    findings.extend(missed.map(|cannot| {
        let seen = "whether other PostgreSQL servers run on this host is not known";
        Finding::not_known(seen, &cannot)
    }));
    if findings.is_empty() {
        let seen = "every PostgreSQL server of this host is covered";
        findings.push(Finding::good(seen));
    }
    findings
}

/// `PG_VERSION` of a data directory; none if it isn't at its path here.
fn version(directory: &Path) -> Option<String> {
    let text = file::read(&directory.join("PG_VERSION"), LARGEST_VERSION).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

/// `user` is its owner, and whether pgcertd is for that user's servers.
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
        Finding::notice(seen)
    };
    let Some(version) = version else {
        return finding("a PostgreSQL server").fix(
            "its data directory isn't at that path here; if it is a container's, mount it here and \
             name it in an [[instance]], or run pgcertd in the container",
        );
    };
    let what = format!("PostgreSQL {version}");
    match version.parse::<u32>() {
        Ok(major) if TESTED.contains(&major) => {
            let directory = directory.to_string_lossy();
            let wanted = ["setup", "--data-directory", &directory, "--yes"];
            if is_served {
                return finding(&what).command(config.command(&wanted));
            }
            let asks = config.command(&wanted[..3]);
            let (name, _) = user.unwrap_or(("(unknown)".into(), false));
            finding(&what).fix(format!(
                "if user {name} should get a lineage's private key, set it up: {asks}"
            ))
        }
        _ => finding(&what).fix(format!(
            "pgcertd supports PostgreSQL {} to {}: upgrade the server, or renew its certificate by hand",
            TESTED.start(),
            TESTED.end()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::problem::Problem;

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
            let Problem {
                what, fix: text, ..
            } = found.problem;
            assert!(what.starts_with(&shown), "{what}");
            assert!(text.contains("13 to 19"), "{text}");
        }
        let found = of_server(&config, data, Some("18"), postgres());
        assert!(found.problem.command.is_some(), "{found:?}");
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
            let text = found.problem.fix;
            assert!(text.contains(named) && !text.contains("--yes"), "{text}");
        }
        let found = of_server(&config, data, Some("16"), postgres());
        let seen = found.problem.what;
        assert!(seen.contains("16 of user postgres runs on"), "{seen}");
    }
}
