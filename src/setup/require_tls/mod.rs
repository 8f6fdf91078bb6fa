//! `pg_hba.conf` without plaintext for clients of other hosts: shown, applied, undone.
//!
//! A [`Tightening`] is what would change, decided on bytes that were read once. [`Tightening::apply`]
//! writes it only over those bytes: each file is saved first, replaced by one rename with the owner,
//! mode, access list and SELinux label that it had, and read by the server (`pg_hba_file_rules`)
//! before anything is reloaded. What the server does not accept goes back, and nothing is reloaded.
//! A [`Tightened`] tells an undo, in another process and after a crash at any point, what was
//! written; it is known before the first write ([`Tightening::record`]). What a person has edited
//! since is never written over.
//!
//! Lines for Unix sockets, loopback and TLS stay. Where a line was for this host's clients as well,
//! they get a line of their own before it, so that nothing changes for them.
//!
//! A record and the saved file may lie where the server's user can write, and the file itself
//! may be root's: an undo believes neither. It puts back only what a tightening of that very text
//! gives, so that a forged one can do no more than loosen such lines again.
//!
//! This module is not for proving that plaintext is refused: that is for a client to try.

mod error;
mod lines;
pub(super) mod place;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::host::privilege::{Ids, Rights, Worker};
use crate::server::hba::{Dialect, HbaProposal, OnDisk, Rules, tightens};
use crate::server::sql::{HbaRule, Sql};

use place::{HbaFile, Plain};

pub use error::TighteningError;
pub(crate) use lines::ExposedLine;

/// What the server says of every `hostssl` line while `ssl` is off (`parse_hba_line`); the text is
/// not translated.
const SSL_IS_OFF: &str = "hostssl record cannot match because SSL is disabled";

/// How long a session may take to see that a reload has turned `ssl` on.
const A_RELOAD: Duration = Duration::from_secs(3);

/// What is to be changed in the server's `pg_hba.conf` and the files that it includes, read and
/// decided; nothing is changed yet.
#[derive(Debug)]
pub struct Tightening {
    hba_file: PathBuf,
    owner: Ids,
    dialect: Dialect,
    before: Rules,
    proposal: HbaProposal,
}

/// What was changed: all that an undo needs, in whatever process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tightened {
    files: Vec<ReplacedFile>,
}

/// A file that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReplacedFile {
    file: PathBuf,
    /// Holds the previous bytes.
    backup: PathBuf,
    before: String,
    /// The digest of what was written.
    after: String,
}

impl Tightening {
    /// Reads the files as the server's user `owner`, and decides; none where no line lets clients of
    /// other hosts in without TLS. `ssl` may be off still.
    ///
    /// # Errors
    /// A file cannot be read, the server refuses a line of it as it is or reads another file, or a
    /// file that had to change is a link or otherwise cannot be replaced.
    pub async fn proposed(sql: &Sql, owner: Ids) -> Result<Option<Tightening>, TighteningError> {
        let settings = sql.server_settings().await?;
        let dialect = Dialect::from_version(sql.version);
        let reader = reader(owner).await?;
        let before = rules(&reader, &settings.hba_file, dialect).await?;
        let excused = (!settings.ssl).then_some(SSL_IS_OFF);
        agreed(
            &before,
            &settings.hba_file,
            &sql.hba_rules().await?,
            excused,
        )?;
        let proposal = before.proposal();
        if proposal.changes.is_empty() {
            return Ok(None);
        }
        for file in proposal.texts.keys() {
            look(&reader, file).await?;
        }
        Ok(Some(Tightening {
            hba_file: settings.hba_file,
            owner,
            dialect,
            before,
            proposal,
        }))
    }

    /// The lines that let clients of other hosts in without TLS, in the server's order.
    pub fn lines(&self) -> Vec<ExposedLine> {
        let mut lines: Vec<ExposedLine> = Vec::new();
        for exposed in self.before.exposed() {
            let text = self.before.texts.get(exposed.file);
            let line = ExposedLine::from_exposed(&exposed, text.map_or(&[], Vec::as_slice));
            // A file may be included twice.
            if !lines.iter().any(|exposed_line| {
                (&exposed_line.file, exposed_line.line) == (&line.file, line.line)
            }) {
                lines.push(line);
            }
        }
        lines
    }

    /// The change, as `diff -u` shows it.
    pub fn diff(&self) -> String {
        self.proposal.diff()
    }

    /// What [`Tightening::apply`] with the same `keep` gives: to be stored before it, so that a crash
    /// in it can be undone.
    pub fn record(&self, keep: &Path) -> Tightened {
        let of = |(file, (old, new)): (&PathBuf, &(Vec<u8>, Vec<u8>))| {
            let before = hex_digest(old);
            ReplacedFile {
                file: file.clone(),
                backup: keep.join(backup_name(file, &before)),
                before,
                after: hex_digest(new),
            }
        };
        Tightened {
            files: self.proposal.texts.iter().map(of).collect(),
        }
    }

    /// Saves the files in the directory `keep`, writes the new ones, has the server read them, and
    /// reloads it. `keep` belongs to root or to the server's user.
    ///
    /// # Errors
    /// `ssl` is off, a file has changed since it was read, cannot be written, or is not accepted by
    /// the server: all is as before then, and [`TighteningError::Stuck`] where it could not be.
    pub async fn apply(&self, sql: &Sql, keep: &Path) -> Result<Tightened, TighteningError> {
        await_tls(sql).await?;
        let reader = reader(self.owner).await?;
        let now = rules(&reader, &self.hba_file, self.dialect).await?;
        let changed = |file: &&PathBuf| now.texts.get(*file) != self.before.texts.get(*file);
        let all = self.before.texts.keys().chain(now.texts.keys());
        if let Some(file) = all.into_iter().find(changed) {
            return Err(TighteningError::Changed { file: file.clone() });
        }
        agreed(&now, &self.hba_file, &sql.hba_rules().await?, None)?;
        let record = self.record(keep);
        record.save(self).await?;
        let mut written = Vec::new();
        let Err(cause) = self.carry_out(sql, &reader, &mut written).await else {
            return Ok(record);
        };
        // A file that was never written may be as somebody else left it just now.
        let written = Tightened {
            files: record.files_of(&written),
        };
        match written.put_back(&reader, self.owner, self.dialect).await {
            Ok(()) => Err(cause),
            Err(fault) => Err(TighteningError::Stuck {
                cause: Box::new(cause),
                fault: Box::new(fault),
            }),
        }
    }

    async fn carry_out<'t>(
        &'t self,
        sql: &Sql,
        reader: &Worker,
        written: &mut Vec<&'t Path>,
    ) -> Result<(), TighteningError> {
        for (file, (old, new)) in &self.proposal.texts {
            let (place, found) = look(reader, file).await?;
            if found.bytes != *old {
                return Err(TighteningError::Changed { file: file.clone() });
            }
            let replaced = place.replace(reader, found, new.clone()).await;
            // It may be in its place, and its directory not durable.
            let is_new = look(reader, file)
                .await
                .is_ok_and(|pair| pair.1.bytes == *new);
            if replaced.is_ok() || is_new {
                written.push(file);
            }
            replaced?;
        }
        #[cfg(feature = "failpoints")]
        fail::fail_point!("hba_written");
        let after = rules(reader, &self.hba_file, self.dialect).await?;
        agreed(&after, &self.hba_file, &sql.hba_rules().await?, None).map_err(not_accepted)?;
        Ok(sql.reload().await?)
    }
}

impl Tightened {
    /// The files that were changed.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files
            .iter()
            .map(|replaced_file| replaced_file.file.as_path())
    }

    /// Restores the previous bytes, reloads the server, and removes the saved files.
    /// Where the files are as before already, that is no error: it can be tried again.
    ///
    /// # Errors
    /// A file was edited since, and then none is touched; a saved file is gone; a file cannot be
    /// written; or the server refuses a line of the previous files.
    pub async fn undo(&self, sql: &Sql, owner: Ids) -> Result<(), TighteningError> {
        let settings = sql.server_settings().await?;
        let dialect = Dialect::from_version(sql.version);
        let reader = reader(owner).await?;
        self.put_back(&reader, owner, dialect).await?;
        let back = rules(&reader, &settings.hba_file, dialect).await?;
        let excused = (!settings.ssl).then_some(SSL_IS_OFF);
        agreed(&back, &settings.hba_file, &sql.hba_rules().await?, excused)?;
        sql.reload().await?;
        for replaced in &self.files {
            match replaced.backup_place(owner) {
                Ok(place) => place.remove().await?,
                // Removed by hand, with its directory.
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn files_of(&self, files: &[&Path]) -> Vec<ReplacedFile> {
        let of = |replaced_file: &&ReplacedFile| files.contains(&replaced_file.file.as_path());
        self.files.iter().filter(of).cloned().collect()
    }

    /// Saves each file that is about to be replaced.
    async fn save(&self, tightening: &Tightening) -> Result<(), TighteningError> {
        for replaced in &self.files {
            let texts = tightening.proposal.texts.get(&replaced.file);
            let place = replaced.backup_place(tightening.owner)?;
            if let Some((old, _)) = texts {
                place.create(old.clone()).await?;
            }
        }
        Ok(())
    }

    /// All files or, where one is not what was written, none.
    async fn put_back(
        &self,
        reader: &Worker,
        owner: Ids,
        dialect: Dialect,
    ) -> Result<(), TighteningError> {
        let mut changed = Vec::new();
        for replaced in &self.files {
            let (place, found) = look(reader, &replaced.file).await?;
            let now = hex_digest(&found.bytes);
            if now == replaced.before {
                continue;
            }
            if now != replaced.after {
                return Err(TighteningError::Edited {
                    file: replaced.file.clone(),
                    backup: replaced.backup.clone(),
                });
            }
            let old = replaced.saved(owner).await?;
            if !tightens(&old, &found.bytes, dialect) {
                return Err(replaced.unsaved());
            }
            changed.push((place, found, old));
        }
        for (place, found, old) in changed {
            place.replace(reader, found, old).await?;
        }
        Ok(())
    }
}

impl ReplacedFile {
    /// Where the previous bytes are, in a directory of root's or of the server's user.
    fn backup_place(&self, owner: Ids) -> Result<Arc<HbaFile>, TighteningError> {
        let (Some(keep), Some(name)) = (self.backup.parent(), self.backup.file_name()) else {
            return Err(self.unsaved());
        };
        // A forged record would have an undo remove another file.
        if name != backup_name(&self.file, &self.before) {
            return Err(self.unsaved());
        }
        let place = HbaFile::within(keep, name)?;
        let Ids { uid, .. } = place.owner();
        if uid != 0 && uid != owner.uid && uid != Ids::own().uid {
            return Err(TighteningError::Stranger {
                directory: keep.to_owned(),
                uid,
            });
        }
        Ok(Arc::new(place))
    }

    async fn saved(&self, owner: Ids) -> Result<Vec<u8>, TighteningError> {
        let read = async { self.backup_place(owner)?.read_as_owner().await };
        match read.await {
            Ok(saved) if hex_digest(&saved.bytes) == self.before => Ok(saved.bytes),
            Ok(_) => Err(self.unsaved()),
            Err(error) if error.is_absence() => Err(self.unsaved()),
            Err(error) => Err(error),
        }
    }

    fn unsaved(&self) -> TighteningError {
        TighteningError::Unsaved {
            file: self.file.clone(),
            backup: self.backup.clone(),
        }
    }
}

/// What the previous bytes are called: by what they are, so that none is ever written over.
pub(super) fn backup_name(file: &Path, digest: &str) -> OsString {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    let digest: String = digest.chars().take(12).collect();
    name.push(format!(".{digest}"));
    name
}

/// A thread that reads what the server reads, with no more rights than the server has, and
/// writes nothing.
pub(super) async fn reader(owner: Ids) -> Result<Worker, TighteningError> {
    let rights = Rights::Writer {
        owner,
        write: [].into(),
        // Lines may include any file.
        read: [PathBuf::from("/")].into(),
    };
    Ok(Worker::start("reader", move || rights).await?)
}

async fn rules(
    reader: &Worker,
    hba_file: &Path,
    dialect: Dialect,
) -> Result<Rules, TighteningError> {
    let file = hba_file.to_owned();
    let read = reader.call(move || Rules::read(&file, dialect, &OnDisk));
    read.await?.map_err(|source| TighteningError::Unreadable {
        file: hba_file.to_owned(),
        source,
    })
}

/// A file with its place, as the server's user finds them.
pub(super) async fn look(
    reader: &Worker,
    file: &Path,
) -> Result<(Arc<HbaFile>, Plain), TighteningError> {
    let file = file.to_owned();
    let looked = reader.call(move || {
        let place = HbaFile::find(&file)?;
        let found = place.read()?;
        Ok((Arc::new(place), found))
    });
    looked.await?
}

/// Whether the server refuses none of the lines, but for a fault that is `excused`, and reads the
/// very lines that were read here.
fn agreed(
    ours: &Rules,
    hba_file: &Path,
    theirs: &[HbaRule],
    excused: Option<&str>,
) -> Result<(), TighteningError> {
    let refused =
        |hba_rule: &&HbaRule| hba_rule.fault.is_some() && hba_rule.fault.as_deref() != excused;
    if let Some(rule) = theirs.iter().find(refused) {
        return Err(TighteningError::Broken {
            file: rule
                .file
                .as_ref()
                .map_or(hba_file, |text| Path::new(text))
                .to_owned(),
            line: usize::try_from(rule.line).unwrap_or(0),
            why: rule.fault.clone().unwrap_or_default(),
        });
    }
    if let Some((file, line, why)) = ours.faults.first() {
        return Err(TighteningError::Broken {
            file: file.clone(),
            line: *line,
            why: why.clone(),
        });
    }
    let read_here = ours.rules.iter().map(|(_, rule)| {
        let line = i32::try_from(rule.line).unwrap_or(i32::MAX);
        (line, Some(rule.kind.as_str()), Some(rule.method.as_str()))
    });
    let read_there = theirs
        .iter()
        .map(|rule| (rule.line, rule.kind.as_deref(), rule.method.as_deref()));
    if read_here.eq(read_there) {
        Ok(())
    } else {
        Err(TighteningError::Elsewhere {
            file: hba_file.to_owned(),
        })
    }
}

/// What the server says of the new files.
fn not_accepted(error: TighteningError) -> TighteningError {
    let (file, why) = match error {
        TighteningError::Broken { file, line, why } => (file, format!("line {line}: {why}")),
        TighteningError::Elsewhere { file } => (file, "it reads other lines there".to_owned()),
        other => return other,
    };
    TighteningError::Refused { file, why }
}

/// Waits until this session sees `ssl` on: it is told of a reload a moment after the postmaster.
async fn await_tls(sql: &Sql) -> Result<(), TighteningError> {
    let begun = Instant::now();
    while !sql.server_settings().await?.ssl {
        if begun.elapsed() > A_RELOAD {
            return Err(TighteningError::TlsOff);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) fn hex_digest(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
