//! What a server in a container does not share with this process: its root directory, its view of
//! paths, its network. What may not be looked at is told apart from what is shared, where that
//! decides something; a look that fails for another reason than a missing right decides nothing ([`CannotLook`]).

use std::path::{Path, PathBuf};

use crate::host::look::{self, CannotLook};
use crate::problem::Problem;

/// What a server in a container does not share with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Apart {
    /// Its root directory: paths mean other files.
    Root,
    /// Its network: addresses mean other hosts.
    Network,
}

/// In which network a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Shared,
    /// In another, or in one that cannot be looked at: what it says of its addresses means nothing here.
    Own,
}

/// By whose process numbers a server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Shared,
    /// By those of a pid namespace of its own, as a container's server does.
    Own,
}

/// What a look showed; nothing where the thing has gone, or may not be looked at by this user.
pub(super) fn if_allowed<T>(
    looked: Result<Option<T>, CannotLook>,
) -> Result<Option<T>, CannotLook> {
    match looked {
        Err(cannot) if cannot.is_denied() => Ok(None),
        looked => looked,
    }
}

/// Whether two paths are one thing; nothing where one may not be looked at.
fn same(one: &Path, other: &Path) -> Result<Option<bool>, CannotLook> {
    let one = if_allowed(look::file_id(one))?;
    let other = if_allowed(look::file_id(other))?;
    Ok(one.zip(other).map(|(one, other)| one == other))
}

/// What the process does not share with this one; what may not be looked at counts as shared.
pub(super) fn apart(proc: &Path) -> Result<Option<Apart>, CannotLook> {
    Ok(
        if same(&proc.join("root"), Path::new("/"))? == Some(false) {
            Some(Apart::Root)
        } else if network(proc)? == Some(Network::Own) {
            Some(Apart::Network)
        } else {
            None
        },
    )
}

/// What is to be done where a server listens in another network.
pub(super) fn elsewhere() -> Problem {
    Problem::new(
        "the server listens in a network namespace of its own, as in a container",
        "set address to where it is reached from here",
    )
}

/// The process's network; nothing where it may not be looked at.
///
/// The namespace itself is seen by who may trace the process. Everybody may look at its tables, and the
/// kernel numbers those anew in each namespace.
fn network(proc: &Path) -> Result<Option<Network>, CannotLook> {
    let own = Path::new("/proc/thread-self");
    let shared = |what| same(&proc.join(what), &own.join(what));
    let shared = match shared("ns/net")? {
        None => shared("net/tcp")?,
        seen => seen,
    };
    Ok(shared.map(|shared| {
        if shared {
            Network::Shared
        } else {
            Network::Own
        }
    }))
}

/// The network of a process that counts by `numbers`: one of a container is not taken for this
/// host's before that was seen.
pub(super) fn network_of(proc: &Path, numbers: Numbers) -> Result<Network, CannotLook> {
    Ok(network(proc)?.unwrap_or(match numbers {
        Numbers::Shared => Network::Shared,
        Numbers::Own => Network::Own,
    }))
}

/// By whose numbers the process `pid` counts, by its `NSpid` (proc_pid_status(5)).
pub(super) fn numbers(pid: u32, nspid: Option<&Vec<i32>>) -> Numbers {
    let own = nspid.and_then(|all| u32::try_from(*all.last()?).ok());
    if own.is_some_and(|own| own != pid) {
        Numbers::Own
    } else {
        Numbers::Shared
    }
}

/// Where the root directory of the process is to be seen, if paths may mean other files to it than to this process, and
/// that may be looked at.
pub(super) fn root(proc: &Path) -> Result<Option<PathBuf>, CannotLook> {
    let root = proc.join("root");
    let mounts = same(&proc.join("ns/mnt"), Path::new("/proc/thread-self/ns/mnt"))?;
    let differs = same(&root, Path::new("/"))? == Some(false) || mounts == Some(false);
    Ok(differs.then_some(root))
}

/// What a process whose root directory is to be seen at `root` calls `path`: the one of `known` that is the same file here,
/// or as it is. Blocks.
pub(super) fn as_here(root: &Path, path: PathBuf, known: &[&Path]) -> Result<PathBuf, CannotLook> {
    let seen = below(root, &path);
    for known in known {
        if look::same_file(&seen, known)? {
            return Ok(known.to_path_buf());
        }
    }
    Ok(path)
}

/// Where what a process whose root directory is to be seen at `root` calls `path` is found here. Blocks.
pub(super) fn found(root: &Path, path: PathBuf) -> Result<PathBuf, CannotLook> {
    let seen = below(root, &path);
    Ok(if look::same_file(&seen, &path)? {
        path
    } else {
        seen
    })
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The executable's path, if that path holds the very file that runs, and the paths among its
/// arguments mean here what they mean to it: it has this root, and what it calls its data directory
/// is that here too.
pub(super) fn executable(proc: &Path) -> Result<Option<PathBuf>, CannotLook> {
    let link = |what| if_allowed(look::link(&proc.join(what)));
    let (Some(path), Some(cwd)) = (link("exe")?, link("cwd")?) else {
        return Ok(None);
    };
    let shared = same(&proc.join("root"), Path::new("/"))? == Some(true)
        && same(&proc.join("exe"), &path)? == Some(true)
        && same(&proc.join("cwd"), &cwd)? == Some(true);
    Ok(shared.then_some(path))
}
