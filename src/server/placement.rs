//! Where an instance's files are and who owns them, and creating the state directory.
//!
//! The owner of the server's own files decides as which user root acts for an instance. So they are never reached through a
//! link that someone else could redirect, and that user is never root.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::error::InstanceError;
use super::files::Targets;
use super::patroni;
use crate::config::{self, Account, ServerKind};
use crate::host::directory::{Directory, ReachError, reach};
use crate::host::file::Links;
use crate::host::privilege::{Ids, is_root};
use crate::host::slot::staging_name;

/// Where an instance's files are and who owns them, as things are now.
pub(super) fn targets(
    config: &config::InstanceConfig,
    state: PathBuf,
    lock_directory: PathBuf,
) -> Result<Targets, InstanceError> {
    let home = config.home();
    let (owner, id) = match config.kind() {
        ServerKind::Postgres => {
            let data = Directory::open(home, Links::Refused);
            data.map(|data| (data.owner(), data.id()))
        }
        ServerKind::PgBouncer | ServerKind::Patroni => {
            let file = reach(home, Links::Followed);
            file.map(|file| (file.owner(), file.id()))
        }
    }
    .map_err(|error| no_home(config, error))?;
    let server = match config.kind() {
        ServerKind::Postgres => owner,
        ServerKind::PgBouncer | ServerKind::Patroni => user_of(config, owner)?,
    };
    if server.uid == 0 {
        return Err(InstanceError::OfRoot {
            key: config.place.key(),
            path: home.to_owned(),
        });
    }
    Ok(Targets {
        cert: config.cert_file.clone(),
        key: config.key_file.clone(),
        trust_files: config.trust_files().map(|found| Some(found?.file.clone())),
        state,
        lock_directory,
        kind: config.kind(),
        data: home.to_owned(),
        data_id: id,
        owner: Ids {
            uid: user(config.owner.as_ref())?.unwrap_or(server.uid),
            gid: group(config.group.as_ref())?.unwrap_or(server.gid),
        },
        server,
        by_others: config.mode != config::Mode::Manage,
    })
}

/// Why the data directory or the configuration cannot be accessed.
fn no_home(config: &config::InstanceConfig, error: ReachError) -> InstanceError {
    let (key, path) = (config.place.key(), config.home().to_owned());
    let source = match error {
        ReachError::System { source, .. } => source,
        source => return InstanceError::Bent { key, path, source },
    };
    if config.kind() == ServerKind::Patroni && source.kind() == io::ErrorKind::NotFound {
        let owner = user(config.owner.as_ref()).ok().flatten();
        let pids = patroni::without_file(owner).found;
        if !pids.is_empty() {
            let runs = patroni::told_by_environment(&pids);
            return InstanceError::NoFile { path, runs };
        }
    }
    InstanceError::Home { key, path, source }
}

/// The user that a server runs as whose configuration belongs to `found`: the configured owner, or else that one. If it
/// belongs to root, that says nothing.
fn user_of(config: &config::InstanceConfig, found: Ids) -> Result<Ids, InstanceError> {
    let Some(uid) = user(config.owner.as_ref())? else {
        return match found.uid {
            0 => Err(InstanceError::Unowned {
                path: config.home().to_owned(),
            }),
            _ => Ok(found),
        };
    };
    let own = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    let gid = match own {
        _ if uid == found.uid => found.gid,
        Ok(Some(user)) => user.gid.as_raw(),
        _ => found.gid,
    };
    Ok(Ids { uid, gid })
}

/// Creates the state directory with the rights of this process, for the owner of the files; returns whether it is new.
pub(super) fn make_state_directory(targets: &Targets) -> Result<bool, InstanceError> {
    make_directory_of_state(&targets.lock_directory, targets.owner)?;
    make_directory_of_state(&targets.state, targets.owner)
}

fn make_directory_of_state(path: &Path, owner: Ids) -> Result<bool, InstanceError> {
    let wrap = |source| InstanceError::State {
        path: path.to_owned(),
        source,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(wrap(io::ErrorKind::InvalidInput.into()));
    };
    let parent = passable(parent).map_err(|error| wrap(error.into_io()))?;
    match parent.child(name) {
        Ok(state) => given_back(&parent, &state, owner).map_err(wrap),
        Err(error) if error.is_absence() => match make_directory(&parent, name, owner) {
            Err(_) if parent.child(name).is_ok() => Ok(true), // Another pgcertd has created it.
            made => made.map(|()| true).map_err(wrap),
        },
        Err(error) => Err(wrap(error.into_io())),
    }
}

/// If the unit was changed to run as root, systemd has changed the owner of the state directory and everything in it to root
/// (systemd.exec(5)): root gives it back. Returns whether it did.
///
/// Only in a directory that nobody but root can change: elsewhere, its owner could have moved another of root's directories to
/// this name.
fn given_back(parent: &Directory, state: &Directory, owner: Ids) -> io::Result<bool> {
    if !is_root() || state.owner().uid != 0 || owner.uid == 0 {
        return Ok(false);
    }
    if !parent.is_roots_alone() {
        return Err(io::Error::other(
            "it belongs to root, but its parent directory does not belong to root alone, so it was left as it is; chown it to \
             the server's user if it is this instance's",
        ));
    }
    give_back(state, owner)?;
    Ok(true)
}

/// Creates a directory for `owner`. It only gets its name once owner and mode are right: if a crash left it to root, the
/// owner would be locked out.
fn make_directory(parent: &Directory, name: &OsStr, owner: Ids) -> io::Result<()> {
    let staging = staging_name(name);
    match rustix::fs::unlinkat(parent, &staging, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        // What a crash left may belong to another user.
        Err(error) => return Err(error.into()),
    }
    let new = made(parent, &staging)?;
    give_directory(&new, owner)?;
    rustix::fs::renameat_with(parent, &staging, parent, name, RenameFlags::NOREPLACE)?;
    let above = parent.opened().map_err(ReachError::into_io)?;
    Ok(rustix::fs::fsync(above)?)
}

/// Creates a directory and opens it, making sure that it is the new one: empty, owned by this process's user, and not one
/// that someone with write access to the parent has put in its place.
fn made(parent: &Directory, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let new = parent.child(name).map_err(ReachError::into_io)?;
    let opened = new.opened().map_err(ReachError::into_io)?;
    let names = rustix::fs::Dir::read_from(&opened)?;
    // `.` and `..` are all that it contains.
    if new.owner().uid != Ids::own().uid || names.take(3).count() != 2 {
        return Err(io::Error::other(
            "another directory took its place while it was being created; check who can write to its parent directory",
        ));
    }
    Ok(opened)
}

/// Opens a directory; creates it and its parents if they are missing, so that every user can enter them. The umask of whoever
/// runs `sync` must not lock a server out of its own files.
fn passable(path: &Path) -> Result<Directory, ReachError> {
    let system = |source| ReachError::System {
        path: path.to_owned(),
        source,
    };
    let (parent, name) = match Directory::open(path, Links::Followed) {
        Err(error) if error.is_absence() => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (passable(parent)?, name),
            _ => return Err(error),
        },
        opened => return opened,
    };
    match made(&parent, name) {
        Ok(new) => rustix::fs::fchmod(new, Mode::from_raw_mode(0o755))
            .map_err(|error| system(error.into()))?,
        // Another pgcertd has created it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(system(error)),
    }
    parent.child(name)
}

/// Gives a directory and the files in it to `owner`: the files first, while nobody else can replace them.
fn give_back(directory: &Directory, owner: Ids) -> io::Result<()> {
    let opened = directory.opened().map_err(ReachError::into_io)?;
    for entry in rustix::fs::Dir::read_from(&opened)? {
        give_file(&opened, entry?.file_name(), owner)?;
    }
    Ok(give_directory(&opened, owner)?)
}

/// Gives a file to `owner` if it is a regular file of root's with no other name.
fn give_file(directory: &OwnedFd, name: &CStr, owner: Ids) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) else {
        // A link or a socket.
        return Ok(());
    };
    let meta = rustix::fs::fstat(&file)?;
    let regular = FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile;
    if regular && meta.st_uid == 0 && meta.st_nlink == 1 {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Gives an open directory to `owner`.
fn give_directory(directory: &OwnedFd, owner: Ids) -> Result<(), Errno> {
    if Ids::own() != owner {
        rustix::fs::fchown(
            directory,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
    }
    // The server's group may enter: it needs that to read a key that root owns.
    rustix::fs::fchmod(directory, Mode::from_raw_mode(0o750))
}

fn user(account: Option<&Account>) -> Result<Option<u32>, InstanceError> {
    match account {
        None => Ok(None),
        Some(Account::Id(id)) => Ok(Some(*id)),
        Some(Account::Name(name)) => match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Some(user.uid.as_raw())),
            _ => Err(InstanceError::Account {
                key: "owner",
                name: name.clone(),
                kind: "user",
            }),
        },
    }
}

fn group(account: Option<&Account>) -> Result<Option<u32>, InstanceError> {
    match account {
        None => Ok(None),
        Some(Account::Id(id)) => Ok(Some(*id)),
        Some(Account::Name(name)) => match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
            _ => Err(InstanceError::Account {
                key: "group",
                name: name.clone(),
                kind: "group",
            }),
        },
    }
}
