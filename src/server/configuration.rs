//! Which files a server's configuration is, and what it says of TLS, asked again only where that may have changed.
//!
//! `postgres -C` starts a program for each setting, so an answer is kept: about the files for as long as the server runs, since
//! only a start reads the settings that name them; about TLS until one of those files, or of those that they include, is
//! another one than when it answered. What the configuration says is what the next reload or start would use; the server
//! itself may not have loaded it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::included::{changed_after, with_included};
use super::postmaster::Postmaster;
use super::program::Program;
use super::settings::{SettingsError, TlsSettings};
use crate::host::look::{self, CannotLook, if_allowed};
use crate::host::patience::Questions;
use crate::host::privilege::{Ids, apart};

/// How long an answer is kept although nothing has changed, as far as that is seen: an `include`
/// may be written as nobody but Postgres reads it.
const KEPT: Duration = Duration::from_secs(3600);

/// How long a server of which nothing seems amiss, and which could not be asked, is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// The most that a file's change time may be behind the clock: the kernel takes it from its tick.
const TICK: Duration = Duration::from_millis(20);

/// What tells one run of a server from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerRun {
    pid: u32,
    start_ticks: u64,
}

impl From<&Postmaster> for ServerRun {
    fn from(postmaster: &Postmaster) -> ServerRun {
        ServerRun {
            pid: postmaster.pid,
            start_ticks: postmaster.held.start_ticks(),
        }
    }
}

/// What tells one content of a file from another without reading it: inode, size, and when it was
/// changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The files of a configuration; none for what is not there.
type Stamp = BTreeMap<PathBuf, Option<Mark>>;

/// An answer, and what it is an answer about.
#[derive(Debug, Clone)]
struct Known {
    run: ServerRun,
    /// `postgresql.conf`, then `pg_hosts.conf` with what that includes.
    files: Vec<PathBuf>,
    stamp: Stamp,
    tls: TlsSettings,
    at: Instant,
}

/// What is known of one server's configuration.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    /// What [`Program::files`] says.
    files: Option<(ServerRun, [PathBuf; 3])>,
    known: Option<Known>,
    /// The server that could not be asked, and when.
    failed: Option<(ServerRun, Instant)>,
    open: Arc<Questions<Vec<PathBuf>>>,
}

impl Configuration {
    /// What it says of TLS.
    ///
    /// # Errors
    /// The executable cannot be run here, or refuses the configuration: with its words.
    pub(crate) async fn tls_settings(
        &mut self,
        postmaster: &Postmaster,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<TlsSettings, SettingsError> {
        let run = ServerRun::from(postmaster);
        if !self.is_old()
            && let Some(tls) = self.remembered(postmaster, data_directory).await
        {
            return Ok(tls);
        }
        self.known = None;
        let began = SystemTime::now();
        let asked = async {
            let program = Program::from_postmaster(postmaster)?;
            tokio::try_join!(
                program.tls_settings(data_directory, owner),
                self.files(postmaster, data_directory, owner),
            )
        };
        let (tls, [file, ..]) = match Box::pin(asked).await {
            Ok(asked) => asked,
            Err(error) => {
                self.failed = Some((run, Instant::now()));
                return Err(error);
            }
        };
        // What was edited while Postgres was asked is asked about again.
        let mut files = vec![file];
        files.extend(
            tls.hosts
                .iter()
                .flat_map(|hosts| hosts.files.iter().cloned()),
        );
        let stamp = self.stamp(&files, data_directory).await;
        let stamp = stamp.filter(|stamp| is_older(stamp, began - TICK));
        self.known = stamp.map(|stamp| Known {
            run,
            files,
            stamp,
            tls: tls.clone(),
            at: Instant::now(),
        });
        Ok(tls)
    }

    /// The same of a server of which nothing seems amiss: nothing where it could not be asked a
    /// short while ago.
    pub(crate) async fn tls_settings_at_leisure(
        &mut self,
        postmaster: &Postmaster,
        data_directory: &Path,
        owner: Ids,
    ) -> Option<Result<TlsSettings, SettingsError>> {
        if self.has_failed(postmaster) {
            return None;
        }
        Some(self.tls_settings(postmaster, data_directory, owner).await)
    }

    /// Whether this server could not be asked a short while ago.
    pub(crate) fn has_failed(&self, postmaster: &Postmaster) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|(run, at)| {
            *run == ServerRun::from(postmaster) && at.elapsed() < LEFT_ALONE
        })
    }

    /// Whether what is remembered should be asked again although nothing has changed.
    pub(crate) fn is_old(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.at.elapsed() >= KEPT)
    }

    /// The files that a reload of this server reads, beside those that they include; asked once a run.
    ///
    /// # Errors
    /// As [`Program::files`].
    async fn files(
        &mut self,
        postmaster: &Postmaster,
        data_directory: &Path,
        owner: Ids,
    ) -> Result<[PathBuf; 3], SettingsError> {
        let run = ServerRun::from(postmaster);
        if let Some((_, files)) = self.files.as_ref().filter(|(of, _)| *of == run) {
            return Ok(files.clone());
        }
        let program = Program::from_postmaster(postmaster)?;
        let files = program.files(data_directory, owner).await?;
        self.files = Some((run, files.clone()));
        Ok(files)
    }

    /// Configuration files that changed after `loaded`: a reload applies what waits in them too. Empty where that cannot
    /// be told.
    pub(crate) async fn changed_since(
        &mut self,
        postmaster: &Postmaster,
        data_directory: &Path,
        owner: Ids,
        loaded: SystemTime,
    ) -> Vec<PathBuf> {
        let Ok(files) = Box::pin(self.files(postmaster, data_directory, owner)).await else {
            return Vec::new();
        };
        let data = data_directory.to_owned();
        // A file system that does not answer has changed nothing that anybody could tell.
        let changed = tokio::task::spawn_blocking(move || {
            let waiting = Questions::default();
            let changed = waiting.ask([()], move |()| changed_after(&files, &data, loaded));
            changed.into_values().flatten().collect()
        });
        changed.await.unwrap_or_default()
    }

    /// The directories in which its files lie, as far as it was asked.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let files = self.known.iter().flat_map(|known| known.stamp.keys());
        files
            .filter_map(|file| file.parent())
            .map(Path::to_owned)
            .collect()
    }

    /// The last answer, where nothing has changed since; nobody is asked.
    pub(crate) async fn remembered(
        &self,
        postmaster: &Postmaster,
        data_directory: &Path,
    ) -> Option<TlsSettings> {
        let known = self.known.as_ref()?;
        if known.run != ServerRun::from(postmaster) {
            return None;
        }
        let stamp = self.stamp(&known.files, data_directory).await?;
        (stamp == known.stamp).then(|| known.tls.clone())
    }

    /// How the files are now; none where their file system does not answer, or a look failed: then Postgres is asked
    /// again.
    async fn stamp(&self, files: &[PathBuf], data_directory: &Path) -> Option<Stamp> {
        let open = Arc::clone(&self.open);
        let (files, data) = (files.to_owned(), data_directory.to_owned());
        let looked = apart(move || {
            let stamps = move |files: &Vec<PathBuf>| stamped(files, &data);
            open.ask([files.clone()], stamps).remove(&files)?.ok()
        });
        looked.await.ok()?
    }
}

fn stamped(files: &[PathBuf], data_directory: &Path) -> Result<Stamp, CannotLook> {
    let files = with_included(files, data_directory);
    let marked = files.into_iter().map(|file| {
        let meta = if_allowed(look::metadata(&file))?;
        let mark = meta.map(|meta| Mark {
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        });
        Ok((file, mark))
    });
    marked.collect()
}

/// Whether nothing of it was changed at `since` or later.
fn is_older(stamp: &Stamp, since: SystemTime) -> bool {
    let since = since.duration_since(SystemTime::UNIX_EPOCH);
    let Ok(since) = since.map(|duration| {
        (
            duration.as_secs().cast_signed(),
            i64::from(duration.subsec_nanos()),
        )
    }) else {
        return false;
    };
    stamp.values().flatten().all(|mark| mark.changed < since)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use std::fs;

    #[test]
    fn a_stamp_differs_where_a_file_an_included_one_or_one_of_a_directory_does() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let file = data.join("postgresql.conf");
        fs::write(&file, "include 'tls.conf'\ninclude_dir 'conf.d'\n").unwrap();
        let mut before = stamped(std::slice::from_ref(&file), data);
        assert_eq!(before, stamped(std::slice::from_ref(&file), data));
        let changes: [(&str, &dyn Fn()); 5] = [
            ("the file", &|| {
                let mut text = fs::read_to_string(&file).unwrap();
                text.push_str("ssl = on\n");
                fs::write(&file, text).unwrap();
            }),
            ("postgresql.auto.conf", &|| {
                fs::write(data.join("postgresql.auto.conf"), "").unwrap();
            }),
            ("an included file", &|| {
                fs::write(data.join("tls.conf"), "ssl = on\n").unwrap();
            }),
            ("a file of a directory", &|| {
                fs::create_dir(data.join("conf.d")).unwrap();
                fs::write(data.join("conf.d/tls.conf"), "").unwrap();
            }),
            ("the same size by another file", &|| {
                fs::write(data.join("new"), "ssl = no\n").unwrap();
                fs::rename(data.join("new"), data.join("tls.conf")).unwrap();
            }),
        ];
        for (what, change) in changes {
            change();
            let after = stamped(std::slice::from_ref(&file), data);
            assert_ne!(before, after, "{what}");
            before = after;
        }
    }

    #[test]
    fn what_changed_while_postgres_was_asked_is_not_kept() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("postgresql.conf");
        fs::write(&file, "").unwrap();
        let stamp = stamped(std::slice::from_ref(&file), data.path()).unwrap();
        let changed = fs::metadata(&file).unwrap().modified().unwrap();
        assert!(!is_older(&stamp, changed));
        assert!(is_older(&stamp, changed + TICK));
    }
}
