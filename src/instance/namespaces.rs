//! What a server in a container does not share with this process: its root directory, its view of
//! paths, its network. What may not be looked at is told apart from what is shared, where that
//! decides something.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a server in a container does not share with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Apart {
    /// Its root directory: paths mean other files.
    Root,
    /// Its network: addresses mean other hosts.
    Network,
}

/// In which network a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// In this process's.
    Shared,
    /// In another, or in one that cannot be looked at: what it says of its addresses means nothing here.
    Own,
}

/// By whose process numbers a server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// By this process's.
    Shared,
    /// By those of a pid namespace of its own, as a container's server does.
    Own,
}

/// Whether two paths are one thing; nothing where one may not be looked at.
fn same(one: &Path, other: &Path) -> Option<bool> {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    Some(of(one)? == of(other)?)
}

/// What the process does not share with this one; what may not be looked at counts as shared.
pub(super) fn apart(proc: &Path) -> Option<Apart> {
    if same(&proc.join("root"), Path::new("/")) == Some(false) {
        Some(Apart::Root)
    } else if network(proc) == Some(Network::Own) {
        Some(Apart::Network)
    } else {
        None
    }
}

/// The process's network; nothing where it may not be looked at.
fn network(proc: &Path) -> Option<Network> {
    match same(&proc.join("ns/net"), Path::new("/proc/thread-self/ns/net"))? {
        true => Some(Network::Shared),
        false => Some(Network::Own),
    }
}

/// The network of a process that counts by `numbers`: one of a container is not taken for this
/// host's before that was seen.
pub(super) fn network_of(proc: &Path, numbers: Numbers) -> Network {
    network(proc).unwrap_or(match numbers {
        Numbers::Shared => Network::Shared,
        Numbers::Own => Network::Own,
    })
}

/// The executable's path, if that path holds the very file that runs, and the paths among its
/// arguments mean here what they mean to it: it has this root, and what it calls its data directory
/// is that here too.
pub(super) fn executable(proc: &Path) -> Option<PathBuf> {
    let path = std::fs::read_link(proc.join("exe")).ok()?;
    let shared = same(&proc.join("root"), Path::new("/"))?
        && same(&proc.join("exe"), &path)?
        && same(
            &proc.join("cwd"),
            &std::fs::read_link(proc.join("cwd")).ok()?,
        )?;
    shared.then_some(path)
}
