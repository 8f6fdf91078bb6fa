//! The settings that a set-up reads and changes, and the reload that makes them count.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags};
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use super::error::{is_of_file, said};
use super::{Sql, SqlError, within};
use crate::server::files::locked;

/// A setting that pgcertd may change by ALTER SYSTEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// `ssl`.
    #[serde(rename = "ssl")]
    Ssl,
    /// `ssl_cert_file`.
    #[serde(rename = "ssl_cert_file")]
    CertFile,
    /// `ssl_key_file`.
    #[serde(rename = "ssl_key_file")]
    KeyFile,
}

impl Setting {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Setting::Ssl => "ssl",
            Setting::CertFile => "ssl_cert_file",
            Setting::KeyFile => "ssl_key_file",
        }
    }
}

/// What is in force, of all that concerns TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// `ssl`.
    pub ssl: bool,
    /// `ssl_cert_file`, as it is written.
    pub cert_file: String,
    /// `ssl_key_file`, as it is written.
    pub(crate) key_file: String,
    /// `listen_addresses`.
    pub(crate) listen_addresses: String,
    /// `data_directory`, to which relative paths are relative.
    pub data_directory: PathBuf,
    /// `config_file`.
    pub(crate) config_file: PathBuf,
    /// `hba_file`.
    pub hba_file: PathBuf,
    /// Whether ALTER SYSTEM is to be had (`allow_alter_system`, from 17 on; always before).
    pub allow_alter_system: bool,
    /// When the configuration was last loaded, with whatever success the TLS files were.
    pub loaded: Timestamp,
}

/// What to do so that the server can write `file` in its data directory, which it makes anew and renames. It is looked at
/// and not opened.
fn unlocked(file: &Path, data: &Path, state: &SqlState) -> String {
    for path in [file, data] {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let looked = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS);
        if let Some((name, letter)) = looked.ok().and_then(|statx| locked(statx.stx_attributes)) {
            let path = path.display();
            return format!("{path} is {name}: chattr -{letter} {path}");
        }
    }
    let shown = data.display();
    let meta = std::fs::symlink_metadata(file).ok();
    if meta.as_ref().is_some_and(Metadata::is_symlink) {
        return "it is a symbolic link, by which another program that keeps this server's configuration may rule \
                ALTER SYSTEM out; make the change there"
            .to_owned();
    }
    if meta.is_some_and(|meta| meta.mode() & 0o200 == 0) {
        return format!(
            "it is read-only, by which another program that keeps this server's configuration may rule ALTER SYSTEM out; \
             make the change there, or chmod u+w {}",
            file.display()
        );
    }
    let mount = rustix::fs::statvfs(data);
    if mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        format!("the file system of {shown} is read-only: see dmesg, and mount it writable")
    } else if *state == SqlState::DISK_FULL {
        format!("free some room on the file system of {shown}")
    } else {
        format!(
            "see what keeps the server's user from making and replacing files in {shown}: its mode, a quota, the disk (dmesg)"
        )
    }
}

impl Sql {
    /// What is in force.
    ///
    /// # Errors
    /// The role may not see the paths (superusers and members of `pg_read_all_settings` may).
    pub async fn server_settings(&self) -> Result<ServerSettings, SqlError> {
        const WHAT: &str = "its settings";
        let row = self
            .row(
                WHAT,
                "select current_setting('ssl')::bool, current_setting('ssl_cert_file'), \
                 current_setting('ssl_key_file'), current_setting('listen_addresses'), \
                 current_setting('data_directory'), current_setting('hba_file'), \
                 coalesce(current_setting('allow_alter_system', true), 'on')::bool, \
                 pg_conf_load_time(), current_setting('config_file')",
                &[],
            )
            .await?;
        let path = |place| self.column::<String>(WHAT, &row, place).map(PathBuf::from);
        Ok(ServerSettings {
            ssl: self.column(WHAT, &row, 0)?,
            cert_file: self.column(WHAT, &row, 1)?,
            key_file: self.column(WHAT, &row, 2)?,
            listen_addresses: self.column(WHAT, &row, 3)?,
            data_directory: path(4)?,
            config_file: path(8)?,
            hba_file: path(5)?,
            allow_alter_system: self.column(WHAT, &row, 6)?,
            loaded: self.column(WHAT, &row, 7)?,
        })
    }

    /// `hosts_file`; none where the server knows no such setting (before PostgreSQL 19).
    ///
    /// # Errors
    /// As [`Sql::server_settings`].
    pub(crate) async fn hosts_file(&self) -> Result<Option<PathBuf>, SqlError> {
        const WHAT: &str = "its hosts_file";
        let asked = "select current_setting('hosts_file', true)";
        let row = self.row(WHAT, asked, &[]).await?;
        let file: Option<String> = self.column(WHAT, &row, 0)?;
        Ok(file.filter(|file| !file.is_empty()).map(PathBuf::from))
    }

    /// What ALTER SYSTEM has set `setting` to (`postgresql.auto.conf`); none where it has not. An
    /// undo puts this back.
    ///
    /// # Errors
    /// The role is no superuser (`pg_file_settings`).
    pub async fn altered(&self, setting: Setting) -> Result<Option<String>, SqlError> {
        const WHAT: &str = "what ALTER SYSTEM has set";
        let rows = self
            .rows(
                WHAT,
                "select setting from pg_file_settings where name = $1 \
                 and sourcefile = current_setting('data_directory') || '/postgresql.auto.conf' \
                 order by seqno desc limit 1",
                &[&setting.name()],
            )
            .await?;
        rows.first()
            .map(|row| self.column(WHAT, row, 0))
            .transpose()
    }

    /// Sets `setting` to `value`; it counts from the next reload.
    ///
    /// # Errors
    /// The role may not, or `allow_alter_system` is off.
    pub async fn alter_system(&self, setting: Setting, value: &str) -> Result<(), SqlError> {
        self.alterable().await?;
        const WHAT: &str = "a quoted setting";
        // The command takes no parameters; the server itself quotes the value.
        let quoted = "select format('ALTER SYSTEM SET %I = %L', $1::text, $2::text)";
        let row = self.row(WHAT, quoted, &[&setting.name(), &value]).await?;
        let command: String = self.column(WHAT, &row, 0)?;
        self.alter(&command).await
    }

    /// Takes back what ALTER SYSTEM has set; the other files count again from the next reload.
    ///
    /// # Errors
    /// The role may not, or `allow_alter_system` is off.
    pub async fn reset_system(&self, setting: Setting) -> Result<(), SqlError> {
        self.alterable().await?;
        let command = format!("ALTER SYSTEM RESET {}", setting.name());
        self.alter(&command).await
    }

    /// Runs an ALTER SYSTEM; where its file cannot be written, says what keeps it from that.
    async fn alter(&self, command: &str) -> Result<(), SqlError> {
        const WHAT: &str = "a change by ALTER SYSTEM";
        let failed = within(WHAT, async {
            Ok(self.client.batch_execute(command).await.err())
        });
        let Some(error) = failed.await? else {
            return Ok(());
        };
        match error.code() {
            Some(state) if self.is_superuser && is_of_file(state) => {
                let said = said(&error);
                let row = self
                    .row(WHAT, "select current_setting('data_directory')", &[])
                    .await?;
                let data: String = self.column(WHAT, &row, 0)?;
                let file = Path::new(&data).join("postgresql.auto.conf");
                let remedy = unlocked(&file, Path::new(&data), state);
                Err(SqlError::Unwritten { file, said, remedy })
            }
            _ => Err(SqlError::asking(WHAT, &self.role, &error, &self.refusal)),
        }
    }

    /// The settings that the server's command line sets, which no file overrides.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn on_command_line(&self) -> Result<Vec<String>, SqlError> {
        const WHAT: &str = "where its settings come from";
        let query = "select name from pg_settings where source = 'command line' order by name";
        let rows = self.rows(WHAT, query, &[]).await?;
        rows.iter().map(|row| self.column(WHAT, row, 0)).collect()
    }

    /// What is wrong in the configuration files, a sentence each: with any of these a reload
    /// takes in nothing.
    ///
    /// # Errors
    /// The role is no superuser (`pg_file_settings`).
    pub(crate) async fn file_faults(&self) -> Result<Vec<String>, SqlError> {
        const WHAT: &str = "its configuration files";
        let query = "select coalesce(sourcefile, ''), coalesce(sourceline, 0), error, \
                     coalesce(name, '') \
                     from pg_file_settings where error is not null and not applied \
                     and error <> 'setting could not be applied' order by seqno";
        let rows = self.rows(WHAT, query, &[]).await?;
        rows.iter()
            .map(|row| {
                let file: String = self.column(WHAT, row, 0)?;
                let line: i32 = self.column(WHAT, row, 1)?;
                let error: String = self.column(WHAT, row, 2)?;
                let name: String = self.column(WHAT, row, 3)?;
                let name = if name.is_empty() {
                    String::new()
                } else {
                    format!("{name}: ")
                };
                Ok(format!("{file}:{line}: {name}{error}"))
            })
            .collect()
    }

    async fn alterable(&self) -> Result<(), SqlError> {
        const WHAT: &str = "the setting allow_alter_system";
        let asked = "select coalesce(current_setting('allow_alter_system', true), 'on')::bool";
        let row = self.row(WHAT, asked, &[]).await?;
        if self.column(WHAT, &row, 0)? {
            Ok(())
        } else {
            Err(SqlError::AlterSystemForbidden)
        }
    }

    /// Asks for a reload, which the postmaster does soon after; it does not tell how it went.
    ///
    /// # Errors
    /// The role may not, or the postmaster could not be signalled.
    pub async fn reload(&self) -> Result<(), SqlError> {
        const WHAT: &str = "a reload";
        let row = self.row(WHAT, "select pg_reload_conf()", &[]).await?;
        if self.column(WHAT, &row, 0)? {
            Ok(())
        } else {
            Err(SqlError::Asking {
                what: WHAT,
                said: "the postmaster could not be signalled".into(),
                remedy: "; see its log".into(),
            })
        }
    }
}
