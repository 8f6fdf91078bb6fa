//! The files of one instance: the installed ones, the previous ones, and what is remembered.
//!
//! Everything here blocks and runs on the instance's writer thread, with only the owner's rights, through
//! [`FileSlot`]s.

mod error;
mod held;
mod judge;
mod lock;
mod memory;
mod parsed;
mod seal;
mod swap;
#[cfg(test)]
mod tests;
mod trial;
mod write;

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::bundle::{Bundle, Identity, Piece, TrustFiles};
use crate::config::ServerKind;
use crate::host::directory::{Directory, ReachError, reach};
use crate::host::file::Links;
use crate::host::look::FileId;
use crate::host::privilege::Ids;
use crate::host::slot::FileSlot;
use crate::server::postmaster::{Absence, PidFile};

pub(crate) use error::FilesError;
use held::FilesMemory;
pub(crate) use held::{Held, HeldBy};
pub(crate) use judge::key_rule;
pub(crate) use lock::Lock;
pub(crate) use seal::Seal;
pub(in crate::server) use swap::locked;
pub(crate) use trial::{Trial, TrialFile};
pub(crate) use write::{Keep, StagedFiles};

/// The maximum size of a certificate or key file: 1 MiB.
pub(crate) const LARGEST: u64 = 1 << 20;

/// `postmaster.pid` has eight short lines, `PG_VERSION` one.
const LARGEST_PID_FILE: u64 = 64 << 10;

/// Where an instance's files are, and who owns them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The file in the server's setting, `ssl_cert_file` for Postgres.
    pub(crate) cert: PathBuf,
    /// The file in the server's setting, `ssl_key_file` for Postgres; the same path if one file contains both.
    pub(crate) key: PathBuf,
    /// What `ssl_ca_file` and `ssl_crl_file` name, where these are installed as well.
    pub(crate) trust_files: TrustFiles<Option<PathBuf>>,
    /// The instance's own state directory.
    pub(crate) state: PathBuf,
    /// Where the lock is: the state directory, or that of another instance of the same server, with which it is shared.
    pub(crate) lock_directory: PathBuf,
    /// What kind of server they are for.
    pub(crate) kind: ServerKind,
    /// The data directory; for other kinds of server, the configuration file that it is started with.
    pub(crate) data: PathBuf,
    /// Its ID when its owner was determined.
    pub(crate) data_id: FileId,
    /// Who owns what is installed.
    pub(crate) owner: Ids,
    /// The user that the server runs as.
    pub(crate) server: Ids,
    /// Whether something else writes the files: if one is a link, it is then followed, as the server does.
    pub(crate) by_others: bool,
}

/// Which time of a file is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileTime {
    /// When its content was last written (mtime).
    Written,
    /// When anything about it last changed (ctime).
    Changed,
}

/// What was found at the path of one target.
#[derive(Clone)]
pub(crate) enum Found {
    Absent,
    /// A symbolic link, which is never followed.
    Link(PathBuf),
    File {
        bytes: Zeroizing<Vec<u8>>,
        ids: Ids,
        mode: u32,
    },
    /// Something else, which is not touched.
    Odd(&'static str),
}

/// What is installed, as Postgres would find it.
#[derive(Debug)]
pub(crate) enum Installed {
    Absent,
    /// Files that Postgres could not load, and why.
    Unusable(String),
    /// A matching pair, in files that Postgres would accept, with whatever CA and CRL files could be read.
    Usable(Arc<Bundle>),
}

impl Installed {
    /// The bundle, if there is one.
    pub(crate) fn bundle(&self) -> Option<&Arc<Bundle>> {
        match self {
            Installed::Usable(bundle) => Some(bundle),
            Installed::Absent | Installed::Unusable(_) => None,
        }
    }
}

/// Everything on disk for an instance except its lineage, at one moment.
pub(crate) struct FilesSnapshot {
    pub(crate) installed: Installed,
    /// Which of the configured CA and CRL files is missing or would not load.
    pub(crate) companions_fault: Option<String>,
    /// Whether the reload after an install may not have happened: see [`Targets::commit`].
    pub(crate) reload_due: bool,
    /// The targets as they were found: certificate, key if it has its own file, CA and CRL file if configured.
    pub(crate) found: Vec<Found>,
    /// What the server says about itself.
    pub(crate) pid_file: Result<PidFile, Absence>,
    /// The bundle that Postgres or the operator rejected.
    pub(crate) held: Option<Held>,
    /// Why that is unknown, if its file is damaged; it then counts as none, which costs one attempt.
    pub(crate) memory_fault: Option<String>,
    /// The bundle that was installed last and has not been proven served, if there is one to go back to.
    pub(crate) trial: Option<TrialFile>,
    /// Whether a CA or CRL file is installed that came with that one and not with the previous one.
    pub(crate) brought: bool,
    /// The bundle that was last proven served, by whichever process.
    pub(crate) proven: Option<Identity>,
    /// The bundle that the last deployment replaced.
    pub(crate) previous: Option<Arc<Bundle>>,
    /// What tells whether the targets were touched since.
    pub(crate) seal: Seal,
    /// Where the targets really are, if that was looked at as well: before something is changed.
    pub(crate) real_paths: Vec<PathBuf>,
}

/// Why the directory of `path` cannot be opened.
fn unreached(path: &Path, error: &ReachError) -> FilesError {
    match error.errno() {
        Some(errno) => FilesError::new(path, "open its directory")(errno),
        None => FilesError::new(path, "follow the path to its directory")(Errno::LOOP)
            .with_fix(error.to_string()),
    }
}

/// Finds the directory of `path`, to look at what is there.
fn slot_to_read(path: &Path) -> Result<FileSlot, FilesError> {
    FileSlot::lead_to(path).map_err(|error| unreached(path, &error))
}

/// Opens the directory of `path`, to change what is there.
fn slot(path: &Path) -> Result<FileSlot, FilesError> {
    FileSlot::open(path).map_err(|error| unreached(path, &error))
}

impl FileSlot {
    /// Reads what is there; a regular file is read through the descriptor that was checked.
    pub(super) fn read(&self, largest: u64) -> Result<Found, FilesError> {
        let opened = rustix::fs::openat(
            self.directory(),
            self.name(),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let file = match opened {
            Ok(file) => std::fs::File::from(file),
            Err(Errno::NOENT) => return Ok(Found::Absent),
            Err(Errno::LOOP) => {
                let target = rustix::fs::readlinkat(self.directory(), self.name(), Vec::new())
                    .map_err(self.failed("read the link"))?;
                let target = std::ffi::OsStr::from_bytes(target.to_bytes());
                return Ok(Found::Link(PathBuf::from(target)));
            }
            Err(Errno::NXIO) => return Ok(Found::Odd("a socket or a device")),
            Err(e) => return Err(self.failed("open it")(e).into()),
        };
        let stat = rustix::fs::fstat(&file).map_err(self.failed("look at it"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Found::Odd("a directory")),
            FileType::Fifo => return Ok(Found::Odd("a FIFO")),
            _ => return Ok(Found::Odd("not a regular file")),
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > largest {
            return Ok(Found::Odd("larger than 1 MiB"));
        }
        // One allocation of the final size: a growing buffer would leave copies of a key behind.
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(size).unwrap_or(0)]);
        (&file)
            .read_exact(&mut bytes)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .map_err(self.failed("read it"))?;
        Ok(Found::File {
            bytes,
            ids: Ids {
                uid: stat.st_uid,
                gid: stat.st_gid,
            },
            mode: stat.st_mode & 0o7777,
        })
    }
}

impl Targets {
    /// Whether chain and key are in one file.
    pub(crate) fn single_file(&self) -> bool {
        self.cert == self.key
    }

    /// The directories that the writer must be able to write to.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = self.directories_of_files();
        directories.extend([self.state.clone(), self.lock_directory.clone()]);
        directories
    }

    /// Those of the files alone.
    pub(crate) fn directories_of_files(&self) -> BTreeSet<PathBuf> {
        self.paths()
            .filter_map(Path::parent)
            .map(Path::to_owned)
            .collect()
    }

    /// The paths of the files, with links resolved except in the last component.
    pub(crate) fn real_paths(&self) -> Vec<PathBuf> {
        let real = |file: &Path| Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?));
        self.paths().filter_map(real).collect()
    }

    /// All of them; a new bundle replaces them from the last to the first.
    ///
    /// Postgres loads each file independently except the key, which must match the certificate: those two
    /// are renamed one right after the other. Whatever a crash leaves between the others loads, and
    /// the order decides which clients get in: with a new CRL and the old CAs, nobody gets in who should
    /// not, and nobody is locked out whose CA still has its list; with new CAs and the old CRL, the clients
    /// of a new CA would be locked out because its list is missing.
    pub(super) fn files(&self) -> impl DoubleEndedIterator<Item = (Piece, &Path)> {
        let key = (!self.single_file()).then_some((Piece::Key, &self.key));
        let pair = [Some((Piece::Certificate, &self.cert)), key];
        let files = pair.into_iter().flatten().chain(self.trust_files.present());
        files.map(|(piece, path)| (piece, path.as_path()))
    }

    /// The path of each.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files().map(|(_, path)| path)
    }

    /// Reads the targets, the pid file and what is remembered.
    ///
    /// # Errors
    /// A target or the memory cannot be read at all; if a target can be read but is wrong, that is in
    /// [`FilesSnapshot::installed`].
    pub(crate) fn look(&self) -> Result<FilesSnapshot, FilesError> {
        let found = self.found()?;
        let (held, memory_fault) = match self.held()? {
            FilesMemory::Held(held) => (Some(held), None),
            FilesMemory::Nothing => (None, None),
            FilesMemory::Damaged(why) => (None, Some(why)),
        };
        let (companions, companions_fault) = self.judge_companions(&found);
        let installed = match self.judge_known(&found) {
            Ok(Some(pair)) => Installed::Usable(Bundle::shared_with(pair, companions)),
            Ok(None) => Installed::Absent,
            Err(why) => Installed::Unusable(why),
        };
        let (trial, previous) = (self.candidate(), self.previous_bundle());
        Ok(FilesSnapshot {
            installed,
            companions_fault,
            reload_due: self.is_reload_due(),
            brought: self.brought(&found, trial, previous.as_deref()),
            seal: Seal::of_targets(&found),
            found,
            pid_file: self.pid_file(),
            held,
            memory_fault,
            trial,
            proven: self.proven_bundle(),
            previous,
            real_paths: Vec::new(),
        })
    }

    /// What is at the path of each target.
    fn found(&self) -> Result<Vec<Found>, FilesError> {
        let read = |path| match self.place(path) {
            Ok(place) => Ok(place.read(LARGEST)?),
            // No directory: nothing is installed. An install will say what to do about it.
            Err(e) if e.is_absence() => Ok(Found::Absent),
            Err(e) => Err(e),
        };
        self.paths().map(read).collect()
    }

    /// The seal of the targets as they are now.
    ///
    /// # Errors
    /// A target cannot be read at all.
    pub(crate) fn seal(&self) -> Result<Seal, FilesError> {
        Ok(Seal::of_targets(&self.found()?))
    }

    /// Where a file is; if something else writes it, it may be a link, which is followed unless a third party could have
    /// redirected it.
    fn place(&self, path: &Path) -> Result<FileSlot, FilesError> {
        if !self.by_others {
            return slot_to_read(path);
        }
        match reach(path, Links::Followed) {
            Ok(end) => slot_to_read(&end.path),
            // If a link leads nowhere, nothing is installed.
            Err(error) => Err(unreached(path, &error)),
        }
    }

    /// When the certificate file was written or changed; for a link, when it or its target was, whichever is later.
    ///
    /// # Errors
    /// It does not exist, or cannot be accessed.
    pub(crate) fn cert_time(&self, moment: FileTime) -> Result<Timestamp, FilesError> {
        let itself = self.time_of(&slot_to_read(&self.cert)?, moment)?;
        let end = self.time_of(&self.place(&self.cert)?, moment)?;
        Ok(itself.max(end))
    }

    fn time_of(&self, place: &FileSlot, moment: FileTime) -> Result<Timestamp, FilesError> {
        let fail = |action| FilesError::new(&self.cert, action);
        let stat = rustix::fs::statx(
            place.directory(),
            place.name(),
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::MTIME | StatxFlags::CTIME,
        )
        .map_err(fail("look at it"))?;
        let time = match moment {
            FileTime::Written => stat.stx_mtime,
            FileTime::Changed => stat.stx_ctime,
        };
        let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or_default();
        Timestamp::new(time.tv_sec, nanoseconds)
            .map_err(|_| Errno::RANGE)
            .map_err(fail("make a date of its time"))
    }

    /// Which of `directories` the owner cannot write to, and why; nothing is written.
    pub(crate) fn unwritable(&self, directories: &BTreeSet<PathBuf>) -> Vec<(PathBuf, String)> {
        directories
            .iter()
            .filter_map(|directory| {
                // EACCESS: by the rights of this thread, not by the user who started it.
                let access = rustix::fs::accessat(
                    rustix::fs::CWD,
                    directory,
                    Access::WRITE_OK | Access::EXEC_OK,
                    AtFlags::EACCESS,
                );
                Some((directory.clone(), access.err()?.to_string()))
            })
            .collect()
    }

    /// Reads `postmaster.pid`, which only a Postgres has.
    pub(crate) fn pid_file(&self) -> Result<PidFile, Absence> {
        if self.kind != ServerKind::Postgres {
            return Err(Absence::NoPidFile);
        }
        let read = self.in_data("postmaster.pid");
        match read.and_then(|place| place.read(LARGEST_PID_FILE)) {
            Ok(Found::Absent) => Err(Absence::NoPidFile),
            Ok(Found::File { bytes, ids, .. }) if ids.uid == self.server.uid || ids.uid == 0 => {
                PidFile::parse(&String::from_utf8_lossy(&bytes))
            }
            Ok(_) => Err(Absence::Garbage),
            Err(e) => Err(Absence::Unreadable(e.to_string())),
        }
    }

    /// The major version of this data directory, from PG_VERSION; `None` if there is no such file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn server_version(&self) -> Result<Option<String>, FilesError> {
        match self.in_data("PG_VERSION")?.read(LARGEST_PID_FILE)? {
            Found::File { bytes, .. } => {
                Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
            }
            Found::Absent | Found::Link(_) | Found::Odd(_) => Ok(None),
        }
    }

    /// The content of `postmaster.opts`, which remains when a server stops; `None` if it doesn't exist, or does not belong to
    /// the server.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn last_start(&self) -> Result<Option<Zeroizing<Vec<u8>>>, FilesError> {
        match self.in_data("postmaster.opts")?.read(LARGEST_PID_FILE)? {
            Found::File { bytes, ids, .. } if ids.uid == self.server.uid || ids.uid == 0 => {
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// A file in the data directory, which must still be the one whose owner was determined.
    fn in_data(&self, name: &str) -> Result<FileSlot, FilesError> {
        let path = self.data.join(name);
        let data = Directory::open(&self.data, Links::Refused).and_then(|data| {
            let opened = data.opened()?;
            Ok((data.id(), opened))
        });
        let (id, directory) = data.map_err(|error| unreached(&path, &error))?;
        if id != self.data_id {
            let action = "read it, since another directory has taken the place of its own";
            return Err(FilesError::new(&path, action)(Errno::STALE));
        }
        FileSlot::new(directory, &path).map_err(|error| unreached(&path, &error))
    }

    /// Each target with what was found.
    fn each<'a>(
        &'a self,
        found: &'a [Found],
    ) -> impl Iterator<Item = (Piece, &'a Path, &'a Found)> {
        let files = self.files().zip(found);
        files.map(|((piece, path), found)| (piece, path, found))
    }
}

/// The content of a target, or why Postgres or pgcertd can't load it.
fn content<'a>(path: &Path, found: &'a Found) -> Result<&'a [u8], String> {
    let path = path.display();
    match found {
        Found::File { bytes, .. } => Ok(bytes),
        Found::Absent => Err(format!("{path} is missing")),
        Found::Link(_) => Err(format!(
            "{path} is a symbolic link, which pgcertd does not follow"
        )),
        Found::Odd(what) => Err(format!("{path} is {what}")),
    }
}
