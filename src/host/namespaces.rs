//! What a process in a container does not share with this one: its root directory, its view of paths, its network.
//!
//! If this user lacks the permission to see that, it counts as shared or not, as each function says; if a check fails for
//! any other reason, the answer is unknown ([`CannotLook`]).

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
    /// In another one, or in one that this user can't see: its addresses mean nothing here.
    Own,
}

/// Whether two paths lead to the same thing; `None` if this user may not see one of them.
fn same(one: &Path, other: &Path) -> Result<Option<bool>, CannotLook> {
    let one = if_allowed(look::file_id(one))?;
    let other = if_allowed(look::file_id(other))?;
    Ok(one.zip(other).map(|(one, other)| one == other))
}

/// What the process does not share with this one; what this user may not see counts as shared.
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

/// The network of a process; `None` if this user may not see it.
///
/// The namespace itself is only visible to those who may trace the process. Its tables are visible to everybody, and have
/// other inode numbers in each namespace.
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

/// The network of a process: that of a container only counts as this host's once that is certain.
pub(crate) fn network_of(held: &HeldProcess) -> Result<Network, CannotLook> {
    let counts_apart = held.own_number().is_some_and(|own| own != held.pid());
    Ok(network(&held.entry())?.unwrap_or(if counts_apart {
        Network::Own
    } else {
        Network::Shared
    }))
}

/// Where the root directory of the process appears here, if it is a different one and this user may see it: paths may then
/// mean other files to that process.
pub(crate) fn root(proc: &Path) -> Result<Option<PathBuf>, CannotLook> {
    let root = proc.join("root");
    let mounts = same(&proc.join("ns/mnt"), Path::new("/proc/thread-self/ns/mnt"))?;
    let differs = same(&root, Path::new("/"))? == Some(false) || mounts == Some(false);
    Ok(differs.then_some(root))
}

/// The one of `known` that is the same file as `path` is to a process whose root directory appears at `root`; otherwise
/// `path` as it is. Blocks.
pub(crate) fn as_here(root: &Path, path: PathBuf, known: &[&Path]) -> Result<PathBuf, CannotLook> {
    let seen = below(root, &path);
    for known in known {
        if look::same_file(&seen, known)? {
            return Ok(known.to_path_buf());
        }
    }
    Ok(path)
}

/// The path here of what is `path` to a process whose root directory appears at `root`. Blocks.
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

/// The path of the executable, if it is the same file here and the paths among its arguments mean the same here: it has the
/// same root, and its working directory has the same path.
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
