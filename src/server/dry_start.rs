//! Whether a server would start with its configuration as it is now: its own program is asked, by a start on a throw-away
//! data directory.
//!
//! The same `postgres` starts with the server's arguments, configuration, TLS files and `pg_hba.conf`, as the server's user,
//! and without TCP, libraries or anything of the server's data but a copy of `global/pg_control`. In `PostmasterMain` it
//! loads the TLS files (`secure_initialize`), then `pg_hba.conf` (`load_hba`), then starts a process that looks for the WAL
//! (`ValidateXLOGDirectoryStructure`); there is none, and it ends: tried with 13 to 19. Whatever ends it before that would
//! end the server's own start, if it came from the configuration; and a reload would keep what is loaded.
//!
//! What a start does beside that is not tried: libraries to preload, ports, memory, recovery. A `ssl_passphrase_command`
//! is run as at a start.
//!
//! Which function of PostgreSQL speaks tells what a line is about (`log_error_verbosity = verbose`), in any language.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::postmaster::Postmaster;
use super::program::{Program, Surroundings, placed};
use super::settings::TlsSettings;
use crate::host::command::{CommandError, Launch};
use crate::host::file;
use crate::host::look::CannotLook;
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker};

/// How long a start may take; it needs a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where throw-away directories are made, and how their names begin.
const WITHIN: &str = "/tmp";
const PREFIX: &str = "pgcertd-start-";

/// When one that is still there was left by a process that was killed.
const LEFT: Duration = Duration::from_secs(600);

/// What is said where everything before the data was loaded.
const NO_WAL: &str = "required WAL directory \"pg_wal\" does not exist";

/// What keeps the start to itself, and has it say what it does: these arguments come last, and outweigh every file.
const APART: [&str; 14] = [
    "listen_addresses=",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_messages=warning",
    "log_error_verbosity=verbose",
    "log_line_prefix=",
    "lc_messages=C",
    "shared_preload_libraries=",
    "shared_memory_type=mmap",
    "dynamic_shared_memory_type=mmap",
    "huge_pages=off",
    "shared_buffers=128kB",
    "unix_socket_group=",
    "unix_socket_permissions=0700",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DryStart {
    /// The configuration, the TLS files and `pg_hba.conf` load.
    Loads,
    /// Something does not, which ends a start.
    Fails { stage: LoadStage, said: String },
    /// That could not be tried: why.
    NotKnown(String),
}

/// What a server loads at its start, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadStage {
    /// `postgresql.conf` and what it includes.
    Configuration,
    /// What the `ssl_*` settings say and name.
    Tls,
    /// `pg_hba.conf`.
    HostRules,
}

/// Why a start could not be tried.
#[derive(Debug, thiserror::Error)]
enum Untried {
    #[error(transparent)]
    Thread(#[from] PrivilegeError),
    #[error("no throw-away data directory can be made in {WITHIN}: {0}")]
    Directory(#[from] io::Error),
    #[error("a start of the server's program on a throw-away data directory: {0}")]
    Command(#[from] CommandError),
    #[error("the environment of the server: {}", .0.problem())]
    Look(#[from] CannotLook),
}

impl Program {
    /// Starts the program on a throw-away data directory. `running` is the server, where it runs: its OpenSSL may be
    /// configured by its environment.
    pub(crate) async fn dry_start(
        &self,
        data_directory: &Path,
        owner: Ids,
        running: Option<&Postmaster>,
        tls: &TlsSettings,
        around: &Surroundings,
    ) -> DryStart {
        let tried = self.tried(data_directory, owner, running, tls, around);
        tried
            .await
            .unwrap_or_else(|untried| DryStart::NotKnown(untried.to_string()))
    }

    async fn tried(
        &self,
        data_directory: &Path,
        owner: Ids,
        running: Option<&Postmaster>,
        tls: &TlsSettings,
        around: &Surroundings,
    ) -> Result<DryStart, Untried> {
        let openssl_conf = running.map(openssl_conf).transpose()?.flatten();
        let files = self.relative_files(data_directory, owner, around).await;
        let mut launch = Launch::of_server(&self.executable, owner)?;
        let scratch = Scratch::made(data_directory, owner, around.version).await?;
        launch
            .env("PGDATA", data_directory)
            .args(placed(&self.arguments, data_directory));
        if let Some(file) = openssl_conf {
            launch.env("OPENSSL_CONF", file);
        }
        for setting in APART {
            launch.args(["-c", setting]);
        }
        if around.version >= 180_000 {
            // Another would want resources, and none reads here.
            launch.args(["-c", "io_method=sync"]);
        }
        let within = |name: &str| scratch.path.join(name);
        let named = [
            ("data_directory", Some(scratch.path.clone())),
            ("unix_socket_directories", Some(scratch.path.clone())),
            ("external_pid_file", Some(within("external.pid"))),
            ("ssl_cert_file", Some(tls.cert_file.clone())),
            ("ssl_key_file", Some(tls.key_file.clone())),
            ("ssl_ca_file", tls.trust_files.ca.clone()),
            ("ssl_crl_file", tls.trust_files.crl.clone()),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, path)| Some((name, path?)));
        for (name, path) in named.chain(files) {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(path);
            launch.arg("-c").arg(setting);
        }
        let ran = launch.ran(PATIENCE).await;
        scratch.removed().await;
        Ok(verdict(&String::from_utf8_lossy(&ran?.stderr)))
    }

    /// The other files of TLS that are named relative to the data directory, with their whole paths. What cannot be
    /// asked, the start itself will complain of.
    async fn relative_files(
        &self,
        data_directory: &Path,
        owner: Ids,
        around: &Surroundings,
    ) -> Vec<(&'static str, PathBuf)> {
        let mut names = vec!["ssl_dh_params_file"];
        names.extend((around.version >= 140_000).then_some("ssl_crl_dir"));
        let mut files = Vec::new();
        for name in names {
            if let Ok([file]) = self.ask(data_directory, owner, [name]).await
                && !file.is_empty()
                && Path::new(&file).is_relative()
            {
                files.push((name, data_directory.join(file)));
            }
        }
        files
    }
}

/// What names the configuration of a server's OpenSSL, in the environment that it was started with.
fn openssl_conf(postmaster: &Postmaster) -> Result<Option<OsString>, CannotLook> {
    let environment = postmaster.held.read("environ")?.unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"OPENSSL_CONF="));
    Ok(value.map(|value| OsString::from_vec(value.to_vec())))
}

/// A throw-away data directory. It is removed also where nobody waits for the start any more; after a process that was
/// killed the next one removes it.
struct Scratch {
    path: PathBuf,
    worker: Option<Worker>,
}

impl Scratch {
    /// Makes it, as `owner`, who alone may look into it.
    async fn made(data_directory: &Path, owner: Ids, version: i32) -> Result<Scratch, Untried> {
        let rights = Rights::Scratch {
            owner,
            within: WITHIN.into(),
        };
        let worker = Worker::start("dry start", move || rights).await?;
        let data = data_directory.to_owned();
        let path = worker
            .call(move || {
                remove_left(owner);
                let path =
                    nix::unistd::mkdtemp(&Path::new(WITHIN).join(format!("{PREFIX}XXXXXX")))?;
                filled(&path, &data, version)
                    .map(|()| path.clone())
                    .inspect_err(|_| {
                        // The first error is the one to tell.
                        drop(std::fs::remove_dir_all(&path));
                    })
            })
            .await??;
        Ok(Scratch {
            path,
            worker: Some(worker),
        })
    }

    /// Removes it; what cannot be removed is left to the next start.
    async fn removed(mut self) {
        if let Some(worker) = self.worker.take() {
            let path = self.path.clone();
            drop(worker.call(move || std::fs::remove_dir_all(path)).await);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            let path = self.path.clone();
            worker.begin(move || drop(std::fs::remove_dir_all(path)));
        }
    }
}

/// Whether this is the data directory of such a start, which is no server of anybody's. Who calls his own so hides that
/// alone.
pub(super) fn is_throw_away(data_directory: &Path) -> bool {
    let name = data_directory.strip_prefix(WITHIN).ok();
    let mut names = name.into_iter().flat_map(Path::components);
    let first = names.next();
    first.is_some_and(|name| name.as_os_str().as_bytes().starts_with(PREFIX.as_bytes()))
        && names.next().is_none()
}

/// Removes what processes that were killed have left of `owner`'s. Runs with his rights.
fn remove_left(owner: Ids) {
    for entry in std::fs::read_dir(WITHIN).into_iter().flatten().flatten() {
        let is_left = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && entry.metadata().is_ok_and(|meta| {
                let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
                meta.is_dir() && meta.uid() == owner.uid && age.is_some_and(|age| age > LEFT)
            });
        if is_left {
            // Another process may be removing it.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Puts in what a start reads before it looks for its WAL.
fn filled(path: &Path, data: &Path, version: i32) -> io::Result<()> {
    const LARGEST: u64 = 64 << 10;
    let at =
        |file: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.display()));
    let mut directories = std::fs::DirBuilder::new();
    directories.mode(0o700);
    for directory in ["global", "pg_notify", "pg_dynshmem"] {
        directories.create(path.join(directory))?;
    }
    // Whether the data is this program's is not asked here.
    std::fs::write(path.join("PG_VERSION"), format!("{}\n", version / 10_000))?;
    let original = data.join("global/pg_control");
    let control = file::read(&original, LARGEST).map_err(|e| at(&original, e))?;
    std::fs::write(path.join("global/pg_control"), control)?;
    // What the configuration calls by a relative path is here too.
    for entry in std::fs::read_dir(data).map_err(|e| at(data, e))? {
        let entry = entry?;
        if !is_servers_own(&entry.file_name(), &entry.path()) {
            symlink(entry.path(), path.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whether a server keeps its data or its state in what a data directory has under this name, and may write there.
fn is_servers_own(name: &OsStr, path: &Path) -> bool {
    let name = name.as_bytes();
    let known: [&[u8]; 6] = [
        b"base",
        b"global",
        b"PG_VERSION",
        b"current_logfiles",
        b"backup_label",
        b"tablespace_map",
    ];
    known.contains(&name)
        || name.starts_with(b"postmaster.")
        || name.ends_with(b".signal")
        || name.starts_with(b"pg_") && !path.is_file()
}

/// One line of a server's log, with what belongs to it.
#[derive(Debug, Default)]
struct LogEntry<'t> {
    severity: &'t str,
    message: &'t str,
    /// What else it says: a detail, or where in a file.
    more: Option<&'t str>,
    /// In which file of PostgreSQL's source.
    source: &'t str,
}

impl LogEntry<'_> {
    fn said(&self) -> String {
        match self.more {
            Some(more) => format!("{}, {more}", self.message),
            None => self.message.to_owned(),
        }
    }
}

/// What a start has said, as it is with `log_error_verbosity = verbose` and no prefix. A line of a longer message begins
/// with a tab.
fn entries(text: &str) -> Vec<LogEntry<'_>> {
    let mut entries: Vec<LogEntry<'_>> = Vec::new();
    for line in text.lines() {
        let Some((label, rest)) = line.split_once(":  ") else {
            continue;
        };
        match label {
            "LOCATION" => {
                let file = rest.split_once(", ").map_or("", |(_, file)| file);
                if let Some(last) = entries.last_mut() {
                    last.source = file.split(':').next().unwrap_or_default();
                }
            }
            "DETAIL" | "CONTEXT" => {
                if let Some(last) = entries.last_mut() {
                    last.more = Some(rest);
                }
            }
            "LOG" | "WARNING" | "ERROR" | "FATAL" | "PANIC" => {
                // A SQLSTATE comes first.
                let message = rest.split_once(": ").map_or(rest, |(_, message)| message);
                entries.push(LogEntry {
                    severity: label,
                    message,
                    ..LogEntry::default()
                });
            }
            _ => {}
        }
    }
    entries
}

/// What follows from what a start has said.
fn verdict(text: &str) -> DryStart {
    let entries = entries(text);
    if entries.iter().any(|entry| entry.message == NO_WAL) {
        return DryStart::Loads;
    }
    let is_end = |entry: &&LogEntry<'_>| ["FATAL", "PANIC"].contains(&entry.severity);
    let Some(end) = entries.iter().find(is_end) else {
        let last = text.lines().last().unwrap_or("it said nothing").to_owned();
        // Of numbers that do not fit `PostmasterMain` tells without a word of its severity.
        return if last.contains(" must be less than ") {
            DryStart::Fails {
                stage: LoadStage::Configuration,
                said: last,
            }
        } else {
            DryStart::NotKnown(last)
        };
    };
    let Some(stage) = LoadStage::ended_by(end) else {
        // It may be for what a throw-away start lacks.
        return DryStart::NotKnown(end.said());
    };
    // The reasons come before the end. A line that never matches is none.
    let is_reason = |entry: &&LogEntry<'_>| {
        entry.severity == "LOG"
            && LoadStage::ended_by(entry) == Some(stage)
            && !entry.message.contains("record cannot match because")
    };
    let mut said: Vec<String> = entries
        .iter()
        .filter(is_reason)
        .map(LogEntry::said)
        .collect();
    if said.is_empty() {
        said.push(end.said());
    }
    said.truncate(SHOWN);
    DryStart::Fails {
        stage,
        said: said.join("; "),
    }
}

impl LoadStage {
    /// What it was that ended the start with these words; none where it may be something of the throw-away start's.
    fn ended_by(entry: &LogEntry<'_>) -> Option<LoadStage> {
        let (source, message) = (entry.source, entry.message);
        if source.starts_with("be-secure") {
            return Some(LoadStage::Tls);
        }
        let is_of_postmaster = source == "postmaster.c";
        if source == "hba.c" || is_of_postmaster && message.starts_with("could not load ") {
            return Some(LoadStage::HostRules);
        }
        let is_of_settings = source.starts_with("guc")
            // That of WAL which wal_level does not allow.
            || is_of_postmaster && message.starts_with("WAL ");
        is_of_settings.then_some(LoadStage::Configuration)
    }
}

/// How many reasons are shown.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(stage: LoadStage, said: &str) -> DryStart {
        let said = said.to_owned();
        DryStart::Fails { stage, said }
    }

    #[test]
    fn what_a_start_has_loaded_is_told_by_the_function_that_ends_it() {
        // PostgreSQL 15.18.
        let starts = "LOG:  00000: starting PostgreSQL 15.18 (Debian 15.18-0+deb12u1)\n\
            LOCATION:  PostmasterMain, postmaster.c:1203\n\
            LOG:  58P01: could not open directory \"base\": No such file or directory\n\
            LOCATION:  ReadDirExtended, fd.c:2807\n";
        let after = |more: &str| verdict(&format!("{starts}{more}"));
        assert_eq!(
            after(
                "LOG:  F0000: hostssl record cannot match because SSL is disabled\n\
                 HINT:  Set ssl = on in postgresql.conf.\n\
                 CONTEXT:  line 99 of configuration file \"/d/pg_hba.conf\"\n\
                 LOCATION:  parse_hba_line, hba.c:1001\n\
                 FATAL:  XX000: required WAL directory \"pg_wal\" does not exist\n\
                 LOCATION:  ValidateXLOGDirectoryStructure, xlog.c:3798\n"
            ),
            DryStart::Loads
        );
        assert_eq!(
            after(
                "LOG:  F0000: hostssl record cannot match because SSL is disabled\n\
                 CONTEXT:  line 98 of configuration file \"/d/pg_hba.conf\"\n\
                 LOCATION:  parse_hba_line, hba.c:1001\n\
                 LOG:  F0000: unrecognized authentication option name: \"nonsense\"\n\
                 CONTEXT:  line 99 of configuration file \"/d/pg_hba.conf\"\n\
                 LOCATION:  parse_hba_auth_opt, hba.c:2075\n\
                 FATAL:  XX000: could not load pg_hba.conf\n\
                 LOCATION:  PostmasterMain, postmaster.c:1425\n"
            ),
            fails(
                LoadStage::HostRules,
                "unrecognized authentication option name: \"nonsense\", line 99 of configuration file \"/d/pg_hba.conf\""
            )
        );
        // A file by which 19 chooses certificates is part of TLS.
        assert_eq!(
            verdict(
                "LOG:  F0000: missing entry at end of line\n\
                 CONTEXT:  line 5 of configuration file \"/d/pg_hosts.conf\"\n\
                 LOCATION:  parse_hosts_line, be-secure-common.c:259\n\
                 FATAL:  F0000: could not load file \"/d/pg_hosts.conf\": loading config failed\n\
                 LOCATION:  be_tls_init, be-secure-openssl.c:235\n"
            ),
            fails(
                LoadStage::Tls,
                "missing entry at end of line, line 5 of configuration file \"/d/pg_hosts.conf\""
            )
        );
        assert_eq!(
            verdict(
                "postgres: superuser_reserved_connections (8) must be less than max_connections (2)\n"
            ),
            fails(
                LoadStage::Configuration,
                "postgres: superuser_reserved_connections (8) must be less than max_connections (2)"
            )
        );
    }

    #[test]
    fn a_throw_away_start_is_no_server_that_runs_here() {
        for (directory, is_one) in [
            ("/tmp/pgcertd-start-a1B2c3", true),
            // The link of a process whose directory has been removed.
            ("/tmp/pgcertd-start-a1B2c3 (deleted)", true),
            ("/tmp/pgcertd-start-a1B2c3/data", false),
            ("/tmp/data", false),
            ("/var/lib/postgresql/15/main", false),
            ("/srv/pgcertd-start-a1B2c3", false),
        ] {
            assert_eq!(is_throw_away(Path::new(directory)), is_one, "{directory}");
        }
    }

    #[test]
    fn what_a_throw_away_start_may_lack_is_no_fault_of_the_servers() {
        for (text, why) in [
            ("", "it said nothing"),
            ("Segmentation fault\n", "Segmentation fault"),
            (
                "FATAL:  53100: could not write lock file \"postmaster.pid\": No space left on device\n\
                 LOCATION:  CreateLockFile, miscinit.c:1400\n",
                "could not write lock file \"postmaster.pid\": No space left on device",
            ),
            (
                "FATAL:  XX000: could not create any Unix-domain sockets\n\
                 LOCATION:  PostmasterMain, postmaster.c:1300\n",
                "could not create any Unix-domain sockets",
            ),
        ] {
            assert_eq!(verdict(text), DryStart::NotKnown(why.to_owned()));
        }
    }
}
