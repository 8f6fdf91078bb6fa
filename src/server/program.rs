//! A server's executable with its arguments, by which its configuration is asked.
//!
//! `postgres -C NAME` reads the configuration files as the next start or reload would, for a
//! running server too and without a login (PostgreSQL's `PostgresMain`, option `-C`). It runs as
//! the data directory's owner.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hosts::Hosts;
use super::postmaster::Postmaster;
use super::setting_names::Names;
use super::settings::{SettingsError, TlsSettings};
use crate::bundle::TrustFiles;
use crate::host::command::{CommandError, Launch};
use crate::host::file;
use crate::host::look::same_file;
use crate::host::patience::Questions;
use crate::host::privilege::{Ids, as_user};

/// How long one question may take; starting `postgres` reads its configuration and no data.
const PATIENCE: Duration = Duration::from_secs(10);

/// The settings that [`TlsSettings`] holds, in its order.
const TLS: [&str; 5] = [
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
];

/// What a server is started as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) executable: PathBuf,
    /// Its arguments, without its own name.
    pub(crate) arguments: Vec<OsString>,
}

/// What a server's configuration says beside its TLS files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// `server_version_num` of the executable: 150010 for 15.10.
    pub(crate) version: i32,
    /// `config_file`, `hba_file` and `ident_file`, as absolute paths.
    pub(crate) files: [PathBuf; 3],
    /// Whether `ssl_passphrase_command` opens an encrypted key.
    pub(crate) opens_keys: bool,
}

impl Surroundings {
    /// `pg_hba.conf`.
    pub(crate) fn hba_file(&self) -> &Path {
        &self.files[1]
    }
}

impl Program {
    /// That of a running server.
    ///
    /// # Errors
    /// Its executable cannot be run from here.
    pub(crate) fn from_postmaster(postmaster: &Postmaster) -> Result<Program, SettingsError> {
        let executable = postmaster.executable.clone();
        Ok(Program {
            executable: executable.ok_or(SettingsError::NoExecutable {
                pid: postmaster.pid,
            })?,
            arguments: postmaster.arguments.clone(),
        })
    }

    /// That of the last start in a data directory, by the text of `postmaster.opts`; none where it does not tell.
    ///
    /// Whoever writes that file chooses the program, which therefore runs as the server's user alone.
    pub(crate) fn from_last_start(text: &[u8]) -> Option<Program> {
        // The server puts its arguments between double quotes (`CreateOptsFile`).
        let words = shell_words::split(std::str::from_utf8(text).ok()?).ok()?;
        let (executable, arguments) = words.split_first()?;
        Some(Program {
            executable: PathBuf::from(executable),
            arguments: arguments.iter().map(OsString::from).collect(),
        })
    }

    /// What the configuration says of TLS.
    ///
    /// # Errors
    /// The executable cannot be run here, or refuses the configuration: with its words.
    pub(crate) async fn tls_settings(
        &self,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<TlsSettings, SettingsError> {
        let (answers, hosts) = tokio::try_join!(
            self.ask(data_directory, owner, TLS),
            self.hosts(data_directory, owner),
        )?;
        Ok(TlsSettings {
            hosts,
            ..tls_of(&answers, data_directory)
        })
    }

    /// What decides by name which files a client gets; none where one pair is for all.
    async fn hosts(
        &self,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<Option<Hosts>, SettingsError> {
        if !has_names(data_directory).await {
            return Ok(None);
        }
        let names = ["ssl_sni", "hosts_file"];
        let [sni, file] = match self.ask(data_directory, owner, names).await {
            Ok(answers) => answers,
            // One before 19, whose data directory does not say so.
            Err(SettingsError::Refused { said, .. }) if said.contains("unrecognized") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if sni != "on" {
            return Ok(None);
        }
        let (file, data) = (data_directory.join(file), data_directory.to_owned());
        let path = file.clone();
        let read = as_user(owner, move || {
            let asked =
                Questions::default().ask([file], move |place| Hosts::read(place, &data, owner));
            asked.into_values().next()
        });
        let unreadable = |reason: String| SettingsError::Unreadable {
            reason: format!("{}: {reason}", path.display()),
        };
        match read.await {
            Ok(Some(hosts)) => Ok(Some(hosts)),
            Ok(None) => Err(unreadable("its file system does not answer".into())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// The files that a reload reads, beside those that they include: `config_file`, `hba_file` and `ident_file`, as
    /// absolute paths. Only a start reads the settings that name them (PostgreSQL's manual, "File Locations"). What another
    /// data directory is to use, where these arguments mean that one here, is no answer.
    ///
    /// # Errors
    /// As [`Program::tls_settings`].
    pub(super) async fn files(
        &self,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<[PathBuf; 3], SettingsError> {
        let names = ["data_directory", "config_file", "hba_file", "ident_file"];
        let [data, files @ ..] = self.ask(data_directory, owner, names).await?;
        let data = data_directory.join(data);
        let asking = |reason: String| SettingsError::Asking {
            executable: self.executable.display().to_string(),
            setting: "data_directory",
            reason,
        };
        if !same_file(&data, data_directory)
            .map_err(|cannot| asking(cannot.problem().to_string()))?
        {
            return Err(asking(format!("it is that of {}", data.display())));
        }
        Ok(files.map(|file| data_directory.join(file)))
    }

    /// What is around that.
    ///
    /// # Errors
    /// As [`Program::tls_settings`].
    pub(crate) async fn surroundings(
        &self,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<Surroundings, SettingsError> {
        let names = [
            "server_version_num",
            "config_file",
            "hba_file",
            "ident_file",
            "ssl_passphrase_command",
        ];
        let [version, config, hba, ident, passphrase] =
            self.ask(data_directory, owner, names).await?;
        Ok(Surroundings {
            version: version.parse().unwrap_or_default(),
            files: [config, hba, ident].map(|file| data_directory.join(file)),
            opens_keys: !passphrase.is_empty(),
        })
    }

    /// Asks for the settings in `names` at once; an answer for each, in order.
    pub(super) async fn ask<const N: usize>(
        &self,
        data_directory: &Path,
        owner: Ids,
        names: [&'static str; N],
    ) -> Result<[String; N], SettingsError> {
        let running: Vec<_> = names
            .into_iter()
            .map(|name| self.ask_one(data_directory, owner, name))
            .collect();
        let mut answers = std::array::from_fn(|_| String::new());
        for (slot, asked) in answers.iter_mut().zip(running) {
            *slot = asked.await?;
        }
        Ok(answers)
    }

    /// The child starts when this is called; the answer is awaited.
    fn ask_one(
        &self,
        data_directory: &Path,
        owner: Ids,
        setting: &'static str,
    ) -> impl Future<Output = Result<String, SettingsError>> + use<> {
        let executable = self.executable.display().to_string();
        let error = {
            let executable = executable.clone();
            move |reason: String| SettingsError::Asking {
                executable: executable.clone(),
                setting,
                reason,
            }
        };
        let running = Launch::of_server(&self.executable, owner).map(|mut launch| {
            launch
                .env("PGDATA", data_directory)
                .arg("-C")
                .arg(setting)
                .args(placed(&self.arguments, data_directory));
            launch.ran(PATIENCE)
        });
        async move {
            let ran = match running {
                Ok(running) => running.await,
                Err(error) => Err(error),
            };
            let ran = ran.map_err(|failed| match failed {
                CommandError::Untrusted { .. } => SettingsError::Untrusted(failed),
                failed => error(failed.to_string()),
            })?;
            if !ran.status.success() {
                return Err(SettingsError::Refused {
                    executable,
                    setting,
                    said: said(&String::from_utf8_lossy(&ran.stderr)),
                });
            }
            Ok(String::from_utf8_lossy(&ran.stdout)
                .trim_end_matches('\n')
                .to_owned())
        }
    }
}

/// Asks a running postmaster's configuration for its TLS settings.
///
/// # Errors
/// The executable cannot be run here, or refuses the configuration: with its words.
pub(crate) async fn tls_settings(
    postmaster: &Postmaster,
    data_directory: &Path,
    owner: Ids,
) -> Result<TlsSettings, SettingsError> {
    let program = Program::from_postmaster(postmaster)?;
    Box::pin(program.tls_settings(data_directory, owner)).await
}

fn tls_of(answers: &[String; 5], data_directory: &Path) -> TlsSettings {
    let [ssl, cert, key, ca, crl] = answers;
    // Relative paths are relative to the data directory, where the postmaster stands.
    let path = |text: &str| data_directory.join(text);
    let optional = |text: &str| (!text.is_empty()).then(|| path(text));
    TlsSettings {
        names: Names::postgres(),
        on: ssl == "on",
        cert_file: path(cert),
        key_file: path(key),
        trust_files: TrustFiles { ca, crl }.map(|file| optional(file)),
        hosts: None,
        asked_names: Vec::new(),
    }
}

/// Whether the server of this data directory may know `ssl_sni`, as PG_VERSION tells: each question to one that does
/// not is a program that fails.
async fn has_names(data_directory: &Path) -> bool {
    const FIRST: u32 = 19;
    let version = data_directory.join("PG_VERSION");
    let asked = tokio::task::spawn_blocking(move || {
        let read = |path: &PathBuf| file::read(path, 64).ok();
        Questions::default()
            .ask([version], read)
            .into_values()
            .next()
    });
    let Ok(Some(Some(text))) = asked.await else {
        return true;
    };
    let text = String::from_utf8_lossy(&text);
    text.trim()
        .parse()
        .map_or(true, |major: u32| major >= FIRST)
}

/// The arguments, as they mean the same from any directory: a server that was started with a relative
/// `-D` has gone there since, and nothing tells where it came from.
pub(super) fn placed(arguments: &[OsString], data_directory: &Path) -> Vec<OsString> {
    let data_directory = data_directory.as_os_str();
    let mut follows = false;
    let placed = arguments.iter().map(|argument| {
        let is_value = std::mem::replace(&mut follows, argument == "-D");
        let attached = argument.as_bytes().strip_prefix(b"-D");
        if is_value && Path::new(argument).is_relative() {
            data_directory.to_owned()
        } else if attached.is_some_and(|bytes| !bytes.is_empty() && !bytes.starts_with(b"/"))
            && !is_value
        {
            let mut whole = OsString::from("-D");
            whole.push(data_directory);
            whole
        } else {
            argument.clone()
        }
    });
    placed.collect()
}

/// What Postgres said on standard error, without time and process, in one line.
fn said(text: &str) -> String {
    let words: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let severities = ["LOG:", "WARNING:", "ERROR:", "FATAL:"];
            let found = severities.iter().find_map(|name| line.split_once(name));
            found.map(|(_, said)| said.trim())
        })
        .collect();
    if words.is_empty() {
        text.lines()
            .last()
            .unwrap_or("no reason was given")
            .to_owned()
    } else {
        words.join("; ")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn the_last_start_is_read_as_the_server_wrote_it() {
        let of = |text: &str| Program::from_last_start(text.as_bytes());
        // PostgreSQL 15 as Debian starts it.
        let debian = of(
            "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/var/lib/postgresql/15/main\" \
             \"-c\" \"config_file=/etc/postgresql/15/main/postgresql.conf\"\n",
        );
        let debian = debian.unwrap();
        assert_eq!(
            debian.executable,
            Path::new("/usr/lib/postgresql/15/bin/postgres")
        );
        assert_eq!(debian.arguments.len(), 4);
        assert_eq!(of(""), None);
        assert_eq!(of("/usr/bin/postgres \"-D"), None);
    }

    #[test]
    fn a_relative_data_directory_is_the_one_that_is_known() {
        let placed = |given: &[&str]| {
            let given: Vec<OsString> = given.iter().map(OsString::from).collect();
            placed(&given, Path::new("/pg/data"))
        };
        assert_eq!(
            placed(&["-D", "data", "-c", "a=b"]),
            ["-D", "/pg/data", "-c", "a=b"]
        );
        assert_eq!(placed(&["-Ddata"]), ["-D/pg/data"]);
        for stays in [
            ["-D", "/etc/pg"].as_slice(),
            &["-D/etc/pg"],
            &["-c", "Data=x"],
        ] {
            assert_eq!(placed(stays), stays);
        }
    }

    #[test]
    fn what_postgres_says_comes_without_time_and_process() {
        let text = "2026-11-25 03:46:39.771 GMT [877] LOG:  unrecognized configuration parameter \"nonsense\" in file \"/d/postgresql.conf\" line 820\n\
                    2026-11-25 03:46:39.771 GMT [877] FATAL:  configuration file \"/d/postgresql.conf\" contains errors\n";
        assert_eq!(
            said(text),
            "unrecognized configuration parameter \"nonsense\" in file \"/d/postgresql.conf\" line 820; \
             configuration file \"/d/postgresql.conf\" contains errors"
        );
        assert_eq!(said("postgres: no\n"), "postgres: no");
        assert_eq!(said(""), "no reason was given");
    }
}
