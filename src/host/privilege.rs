//! The kinds of thread and the rights of each.
//!
//! On Linux, credentials, capabilities and Landlock domains belong to threads. pgcertd uses that:
//! the one thread that may read every file of the host (a [`Rights::Reader`], for lineages
//! that only root can read) can't write anything or open files outside its lineage; the
//! thread that writes (a [`Rights::Writer`]) only has the owner's rights, and only in the
//! directories of its targets; the main thread, which inspects processes, sends signals and
//! connects, has no effective capability. A [`Rights::Publisher`] writes public files to
//! one directory.
//!
//! No thread takes on another user's full identity: that user could then kill the process. If a server
//! must see a certain user connect, a child process does it ([`caller`](crate::host::caller)).
//!
//! Landlock rules bind to inodes, so a worker can be used until one of its directories is replaced:
//! [`Worker::covers`] tells.
//!
//! This module does not decide what to read or write; it runs the jobs that it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
    path_beneath_rules,
};
use rustix::fs::Gid;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::host::file::Unopened;
use crate::host::look::FileId;

/// The newest Landlock ABI that the rules are written for; older kernels enforce the part that they support.
const LANDLOCK: ABI = ABI::V5;

/// A user and a group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

impl Ids {
    /// The user and group that this process runs as.
    pub fn own() -> Ids {
        Ids {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the calling thread may read files that its user may not: as root, or by the capability of the packaged unit.
pub(crate) fn reads_for_others() -> bool {
    let sets = rustix::thread::capabilities(None);
    // If that can't be determined, assume that it may.
    is_root()
        || sets.map_or(true, |sets| {
            sets.effective.contains(CapabilitySet::DAC_READ_SEARCH)
        })
}

/// The end of a sentence about a missing path: what to do if it exists but the shipped unit hides it (systemd.exec(5),
/// `ProtectHome=`). Empty for paths that the unit does not hide.
pub(crate) fn if_hidden(path: &Path) -> &'static str {
    let homes = ["/root", "/home", "/run/user"];
    if homes.iter().any(|home| path.starts_with(home)) {
        "; if it exists, the unit hides it: set ProtectHome=read-only with `systemctl edit pgcertd` \
         and restart it"
    } else {
        ""
    }
}

/// What a worker thread may do.
#[derive(Debug, Clone)]
pub enum Rights {
    /// Reads files beneath `directories` with `CAP_DAC_READ_SEARCH` where the process has it,
    /// and writes nothing.
    Reader {
        /// The directories in which a lineage's files lie, each as it was judged.
        directories: BTreeMap<PathBuf, Arc<Unopened>>,
    },
    /// Arms inotify watches with `CAP_DAC_READ_SEARCH` where the process has it; opens nothing.
    Watcher,
    /// Reads and writes with the rights of `owner` alone.
    Writer {
        /// Whose rights count, and who owns what is created.
        owner: Ids,
        /// Directories in which files are created, replaced and removed.
        write: BTreeSet<PathBuf>,
        /// Directories in which files are read.
        read: BTreeSet<PathBuf>,
    },
    /// Creates, replaces and removes what everybody may see, files and sockets, with the rights
    /// of `owner` alone; reads no file.
    Publisher {
        /// Whose rights count, and who owns what is created.
        owner: Ids,
        write: BTreeSet<PathBuf>,
    },
    /// Reads with the rights of `owner` alone, and makes and removes directories and files in `within`, where nothing is
    /// kept: `/tmp`.
    Scratch {
        /// Whose rights count, and who owns what is created.
        owner: Ids,
        within: PathBuf,
    },
    /// Reads what a service may read, and writes nothing: with the user and the groups of the
    /// service where this process is root, and with its own elsewhere.
    Service {
        /// The service's user, and its first group.
        owner: Ids,
        groups: Vec<u32>,
        /// Whether it has `CAP_DAC_READ_SEARCH`.
        reads_everything: bool,
    },
}

/// A thread could not be started, or not with its rights.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("cannot start the thread {name}: {source}; check the limits on tasks and memory")]
    Spawn {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "cannot set the capabilities of a thread: {0}; the unit must allow the system call capset"
    )]
    Capabilities(#[source] rustix::io::Errno),
    #[error("cannot act as user {uid}: {reason}; run pgcertd as root or as that user")]
    Identity { uid: u32, reason: String },
    #[error(
        "cannot restrict a thread with Landlock: {0}; the unit must allow the landlock_* system calls"
    )]
    Landlock(#[source] landlock::RulesetError),
    /// The thread panicked before it answered.
    #[error("internal error: the thread {0} ended unexpectedly")]
    Gone(String),
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread with its own rights that runs the jobs it is given, one at a time.
///
/// It ends when the last handle is dropped.
#[derive(Debug)]
pub struct Worker {
    name: String,
    jobs: mpsc::Sender<Job>,
    covered: BTreeSet<Covered>,
}

/// A directory as a Landlock rule saw it.
type Covered = (PathBuf, FileId);

fn covered_now(path: &PathBuf) -> Option<Covered> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((path.clone(), FileId::from_metadata(&metadata)))
}

fn covered_held((path, directory): (&PathBuf, &Arc<Unopened>)) -> Covered {
    (path.clone(), FileId::from_metadata(directory.metadata()))
}

impl Worker {
    /// Starts a thread and gives it its rights; `find` returns them, and runs in the thread before Landlock is enforced
    /// (a lineage that only root can read can only be resolved by the thread that may read it).
    ///
    /// # Errors
    /// The thread cannot be started or given its rights; nothing has run then.
    pub async fn start(
        name: impl Into<String>,
        find: impl FnOnce() -> Rights + Send + 'static,
    ) -> Result<Worker, PrivilegeError> {
        let name = name.into();
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, started) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            // The kernel shows 15 bytes of a thread's name.
            .name(name.chars().take(15).collect())
            .spawn(move || {
                let limited = raise_read_search().and_then(|()| restrict(&find()));
                let go = limited.is_ok();
                if ready.send(limited).is_err() || !go {
                    return;
                }
                for job in inbox {
                    job();
                }
            })
            .map_err(|source| PrivilegeError::Spawn {
                name: name.clone(),
                source,
            })?;
        let covered = started
            .await
            .map_err(|_| PrivilegeError::Gone(name.clone()))??;
        Ok(Worker {
            name,
            jobs,
            covered,
        })
    }

    /// Starts a thread that can read below `directory` with the file rights of `user`, and write nothing.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub(crate) async fn reading(
        name: impl Into<String>,
        user: Ids,
        directory: impl Into<PathBuf>,
    ) -> Result<Worker, PrivilegeError> {
        let rights = Rights::Writer {
            owner: user,
            write: BTreeSet::new(),
            read: [directory.into()].into(),
        };
        Worker::start(name, move || rights).await
    }

    /// Whether the rules were made for each of `directories` that exists.
    pub(crate) fn covers<'a>(&self, directories: impl IntoIterator<Item = &'a PathBuf>) -> bool {
        directories
            .into_iter()
            .filter_map(covered_now)
            .all(|now| self.covered.contains(&now))
    }

    /// The same for directories that are held open.
    pub(crate) fn covers_held(&self, directories: &BTreeMap<PathBuf, Arc<Unopened>>) -> bool {
        let mut all = directories.iter().map(covered_held);
        all.all(|directory| self.covered.contains(&directory))
    }

    /// Runs `job` in the thread without waiting for it; does nothing if the thread has ended.
    pub(crate) fn begin(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.jobs.send(Box::new(job)));
    }

    /// Runs `job` in the thread and returns what it returns.
    ///
    /// # Errors
    /// [`PrivilegeError::Gone`] if the thread has ended.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, PrivilegeError> {
        let gone = || PrivilegeError::Gone(self.name.clone());
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.jobs
            .send(Box::new(move || {
                // The caller may have stopped waiting; the job is done anyway.
                drop(answer.send(job()));
            }))
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Runs `look` with the file rights of `user`, on a thread that can write nothing.
///
/// # Errors
/// The thread cannot be started.
pub(crate) async fn as_user<R: Send + 'static>(
    user: Ids,
    look: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PrivilegeError> {
    let worker = Worker::reading("as-user", user, "/").await?;
    worker.call(look).await
}

/// Runs `look` with the main thread's rights on another thread, since it may block on a file system or `/proc`: one
/// directory that does not respond must not block the rest.
///
/// # Errors
/// It panicked.
pub(crate) async fn apart<R: Send + 'static>(
    look: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PrivilegeError> {
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|e| PrivilegeError::Gone(e.to_string()))
}

/// Gives the calling thread its rights; returns the directories that the rules cover.
fn restrict(rights: &Rights) -> Result<BTreeSet<Covered>, PrivilegeError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let publish = make_bitflags!(AccessFs::{ReadDir | WriteFile | MakeReg | MakeSock | RemoveFile});
    let write = make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeSym | RemoveFile | Refer
    });
    match rights {
        Rights::Reader { directories } => {
            drop_all_but(CapabilitySet::DAC_READ_SEARCH)?;
            confine(|mut ruleset| {
                for directory in directories.values() {
                    ruleset = ruleset.add_rule(PathBeneath::new(&**directory, read))?;
                }
                Ok(ruleset)
            })?;
            Ok(directories.iter().map(covered_held).collect())
        }
        Rights::Watcher => {
            drop_all_but(CapabilitySet::DAC_READ_SEARCH)?;
            landlock(&[])?;
            Ok(BTreeSet::new())
        }
        Rights::Writer {
            owner,
            write: targets,
            read: others,
        } => {
            act_as(*owner)?;
            let covered = targets
                .iter()
                .chain(others)
                .filter_map(covered_now)
                .collect();
            landlock(&[(targets, write), (others, read)])?;
            Ok(covered)
        }
        Rights::Publisher {
            owner,
            write: directories,
        } => {
            act_as(*owner)?;
            let covered = directories.iter().filter_map(covered_now).collect();
            landlock(&[(directories, publish)])?;
            Ok(covered)
        }
        Rights::Scratch { owner, within } => {
            act_as(*owner)?;
            let make = write | AccessFs::MakeDir | AccessFs::RemoveDir;
            let (within, all) = ([within.clone()].into(), [PathBuf::from("/")].into());
            landlock(&[(&within, make), (&all, read)])?;
            Ok(BTreeSet::new())
        }
        Rights::Service {
            owner,
            groups,
            reads_everything,
        } => {
            let all = std::iter::once(&owner.gid).chain(groups);
            let all: Vec<Gid> = all.map(|gid| Gid::from_raw(*gid)).collect();
            take_file_identity(*owner, &all)?;
            drop_all_but(if *reads_everything {
                CapabilitySet::DAC_READ_SEARCH
            } else {
                CapabilitySet::empty()
            })?;
            landlock(&[(&[PathBuf::from("/")].into_iter().collect(), read)])?;
            Ok(BTreeSet::new())
        }
    }
}

/// Denies the calling thread all file access except these.
fn landlock(rules: &[(&BTreeSet<PathBuf>, BitFlags<AccessFs>)]) -> Result<(), PrivilegeError> {
    confine(|mut ruleset| {
        for (paths, access) in rules {
            ruleset = ruleset.add_rules(path_beneath_rules(paths.iter(), *access))?;
        }
        Ok(ruleset)
    })
}

/// Denies the calling thread all file access except what `allow` adds.
fn confine(
    allow: impl FnOnce(RulesetCreated) -> Result<RulesetCreated, RulesetError>,
) -> Result<(), PrivilegeError> {
    let restricted = (|| {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .create()?;
        allow(ruleset)?.restrict_self()
    })()
    .map_err(PrivilegeError::Landlock)?;
    if restricted.ruleset == RulesetStatus::NotEnforced {
        // A kernel without Landlock: capabilities and ownership still apply. `check` reports it.
        tracing::debug!("this kernel has no Landlock; threads are limited by ownership alone");
    }
    Ok(())
}

/// Whether this kernel enforces Landlock rules; restricts nothing.
pub(crate) fn landlock_available() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Leaves the calling thread with CAP_DAC_READ_SEARCH as its only effective capability, if the process has it; what a
/// later step needs stays permitted.
fn raise_read_search() -> Result<(), PrivilegeError> {
    let mut sets = rustix::thread::capabilities(None).map_err(PrivilegeError::Capabilities)?;
    sets.effective = sets.permitted & CapabilitySet::DAC_READ_SEARCH;
    if is_root() {
        // SETUID and SETGID wait, permitted, for a writer to take the owner's identity.
        sets.permitted &=
            CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SETUID | CapabilitySet::SETGID;
        sets.effective = sets.permitted;
    }
    rustix::thread::set_capabilities(None, sets).map_err(PrivilegeError::Capabilities)
}

/// All groups of a user, as a service running as that user has them: without Debian's `ssl-cert` a server can't read the key
/// in `/etc/ssl/private`. Only the given group if the host does not know the user.
pub(crate) fn groups_of(user: Ids) -> Vec<Gid> {
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(user.uid));
    let others = known.ok().flatten().and_then(|known| {
        let name = CString::new(known.name).ok()?;
        nix::unistd::getgrouplist(&name, nix::unistd::Gid::from_raw(user.gid)).ok()
    });
    let others = others.into_iter().flatten().map(nix::unistd::Gid::as_raw);
    let all: BTreeSet<u32> = others.chain([user.gid]).collect();
    all.into_iter().map(Gid::from_raw).collect()
}

/// Gives the calling thread the file rights of `owner`, and no capabilities.
fn act_as(owner: Ids) -> Result<(), PrivilegeError> {
    if is_root() {
        take_file_identity(owner, &groups_of(owner))?;
    }
    // A user other than the owner continues with its own rights: if those don't suffice, the
    // file operation itself fails and reports its path.
    drop_all_but(CapabilitySet::empty())
}

/// Makes `owner` the calling thread's user and group for file access, if this process is root.
fn take_file_identity(owner: Ids, groups: &[Gid]) -> Result<(), PrivilegeError> {
    if !is_root() {
        return Ok(());
    }
    let denied = |reason: String| PrivilegeError::Identity {
        uid: owner.uid,
        reason,
    };
    rustix::thread::set_thread_groups(groups).map_err(|e| denied(format!("setgroups: {e}")))?;
    let gid = nix::unistd::Gid::from_raw(owner.gid);
    let uid = nix::unistd::Uid::from_raw(owner.uid);
    nix::unistd::setfsgid(gid);
    nix::unistd::setfsuid(uid);
    // setfsuid reports no errors: a second call returns the current value.
    if nix::unistd::setfsgid(gid) != gid || nix::unistd::setfsuid(uid) != uid {
        return Err(denied("the system kept the old file-system user".into()));
    }
    Ok(())
}

/// Permanently drops all capabilities of the calling thread except `kept`.
fn drop_all_but(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let now = rustix::thread::capabilities(None).map_err(PrivilegeError::Capabilities)?;
    let kept = CapabilitySets {
        // Changing the file-system user has made these ineffective; they become effective again.
        effective: now.permitted & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, kept).map_err(PrivilegeError::Capabilities)
}

/// The first step of the main thread: no child inherits a capability, none is effective outside
/// the threads that need it, and no core dump or debugger of the same user can see the process's memory.
///
/// # Errors
/// One of these fails; pgcertd must not continue then.
pub fn enter_main() -> Result<(), PrivilegeError> {
    let wrap = PrivilegeError::Capabilities;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(wrap)?;
    rustix::thread::clear_ambient_capability_set().map_err(wrap)?;
    if !is_root() {
        let mut sets = rustix::thread::capabilities(None).map_err(wrap)?;
        sets.effective = CapabilitySet::empty();
        sets.inheritable = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, sets).map_err(wrap)?;
    }
    Ok(())
}
