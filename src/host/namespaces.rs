//! What a process in a container does not share with this one: its root directory, its view of
//! paths, its network. What may not be looked at is told apart from what is shared, where that
//! decides something; a look that fails for another reason than a missing right decides nothing ([`CannotLook`]).

use std::path::{Path, PathBuf};

use super::look::{self, CannotLook, if_allowed};
use super::process::HeldProcess;

/// What a process in a container does not share with this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Apart {
    /// Its root directory: paths mean other files.
    Root,
    /// Its network: addresses mean other hosts.
    Network,
}

/// In which network a process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Shared,
    /// In another, or in one that cannot be looked at: its addresses mean nothing here.
    Own,
}

/// Whether two paths are one thing; nothing where one may not be looked at.
fn same(one: &Path, other: &Path) -> Result<Option<bool>, CannotLook> {
    let one = if_allowed(look::file_id(one))?;
    let other = if_allowed(look::file_id(other))?;
    Ok(one.zip(other).map(|(one, other)| one == other))
}

/// What the process does not share with this one; what may not be looked at counts as shared.
pub(crate) fn apart(proc: &Path) -> Result<Option<Apart>, CannotLook> {
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

/// The network of a process: one of a container is not taken for this host's before that was seen.
pub(crate) fn network_of(held: &HeldProcess) -> Result<Network, CannotLook> {
    let counts_apart = held.own_number().is_some_and(|own| own != held.pid());
    Ok(network(&held.entry())?.unwrap_or(if counts_apart {
        Network::Own
    } else {
        Network::Shared
    }))
}

/// Where the root directory of the process is to be seen, if paths may mean other files to it than to this process, and
/// that may be looked at.
pub(crate) fn root(proc: &Path) -> Result<Option<PathBuf>, CannotLook> {
    let root = proc.join("root");
    let mounts = same(&proc.join("ns/mnt"), Path::new("/proc/thread-self/ns/mnt"))?;
    let differs = same(&root, Path::new("/"))? == Some(false) || mounts == Some(false);
    Ok(differs.then_some(root))
}

/// What a process whose root directory is to be seen at `root` calls `path`: the one of `known` that is the same file here,
/// or as it is. Blocks.
pub(crate) fn as_here(root: &Path, path: PathBuf, known: &[&Path]) -> Result<PathBuf, CannotLook> {
    let seen = below(root, &path);
    for known in known {
        if look::same_file(&seen, known)? {
            return Ok(known.to_path_buf());
        }
    }
    Ok(path)
}

/// Where what a process whose root directory is to be seen at `root` calls `path` is found here. Blocks.
pub(crate) fn found(root: &Path, path: PathBuf) -> Result<PathBuf, CannotLook> {
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
/// arguments mean here what they mean to it: it has this root, and its working directory is that here too.
pub(crate) fn executable(held: &HeldProcess) -> Result<Option<PathBuf>, CannotLook> {
    let link = |what| if_allowed(look::link(&held.entry().join(what)));
    let (Some(path), Some(cwd)) = (link("exe")?, link("cwd")?) else {
        return Ok(None);
    };
    let is_here = |what, path: &Path| same(&held.entry().join(what), path);
    let shared = is_here("root", Path::new("/"))? == Some(true)
        && is_here("exe", &path)? == Some(true)
        && is_here("cwd", &cwd)? == Some(true);
    Ok(shared.then_some(path))
}
