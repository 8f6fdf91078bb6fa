//! Where an instance's files are and whose, and the state directory that is made for them.
//!
//! As whom root acts for an instance follows from who owns the server's own files. So these are reached through no link
//! that somebody else could bend, and root itself is never the answer.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::InstanceError;
use super::files::{Targets, staging_name};
use super::patroni;
use crate::config::{self, Account, ServerKind};
use crate::host::directory::{Directory, LinkAtEnd, ReachError, reach};
use crate::host::privilege::{Ids, is_root};

/// Where an instance's files are and whose, as things are now.
pub(super) fn targets(
    config: &config::InstanceConfig,
    state: PathBuf,
    lock_directory: PathBuf,
) -> Result<Targets, InstanceError> {
    let home = config.home();
    let (owner, id) = match config.kind() {
        ServerKind::Postgres => {
            let data = Directory::open(home, LinkAtEnd::Refused);
            data.map(|data| (data.owner(), data.id()))
        }
        ServerKind::PgBouncer | ServerKind::Patroni => {
            let file = reach(home, LinkAtEnd::Followed);
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

/// Why the data directory or the configuration cannot be looked at.
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

/// As whom a server runs whose configuration `found` owns: as `owner` says, or as that owner. What
/// root owns says nothing.
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

/// Makes the state directory with the rights of this process, for the owner of the files;
/// whether it was not there before.
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
            Err(_) if parent.child(name).is_ok() => Ok(true), // Another pgcertd was as fast.
            made => made.map(|()| true).map_err(wrap),
        },
        Err(error) => Err(wrap(error.into_io())),
    }
}

/// A unit that went from another user to root had its state directory given to root, where systemd gives it away with all
/// that is in it (systemd.exec(5)): root gives it back. Whether it did.
///
/// Only below a directory in which root alone decides what a name is: elsewhere its owner could have given the name of his
/// own instance's directory to another one of root's.
fn given_back(parent: &Directory, state: &Directory, owner: Ids) -> io::Result<bool> {
    if !is_root() || state.owner().uid != 0 || owner.uid == 0 {
        return Ok(false);
    }
    if !parent.is_roots_alone() {
        return Err(io::Error::other(
            "it belongs to root, in a directory that root does not own alone, and was not given away; chown it to the \
             server's user if it is this instance's",
        ));
    }
    give_back(state, owner)?;
    Ok(true)
}

/// Makes a directory for `owner`. It gets its name once owner and mode are right: one that a crash
/// left to root would shut the owner out.
fn make_directory(parent: &Directory, name: &OsStr, owner: Ids) -> io::Result<()> {
    let staging = staging_name(name);
    match rustix::fs::unlinkat(parent, &staging, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        // What a crash has left may be another user's.
        Err(error) => return Err(error.into()),
    }
    let new = made(parent, &staging)?;
    give_directory(&new, owner)?;
    rustix::fs::renameat_with(parent, &staging, parent, name, RenameFlags::NOREPLACE)?;
    let above = parent.opened().map_err(ReachError::into_io)?;
    Ok(rustix::fs::fsync(above)?)
}

/// Makes a directory, and holds what was made: an empty one of this process's own, and not what somebody who may write in
/// the parent has put in its place since.
fn made(parent: &Directory, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let new = parent.child(name).map_err(ReachError::into_io)?;
    let opened = new.opened().map_err(ReachError::into_io)?;
    let names = rustix::fs::Dir::read_from(&opened)?;
    // Its own two names, `.` and `..`, are all that is in it.
    if new.owner().uid != Ids::own().uid || names.take(3).count() != 2 {
        return Err(io::Error::other(
            "another directory has taken its place while it was made; see who may write in the directory above",
        ));
    }
    Ok(opened)
}

/// Opens a directory through which every user may pass, and makes it, and those above it, where they are missing.
/// The umask of whoever runs `sync` must not shut a server out of its own files.
fn passable(path: &Path) -> Result<Directory, ReachError> {
    let system = |source| ReachError::System {
        path: path.to_owned(),
        source,
    };
    let (parent, name) = match Directory::open(path, LinkAtEnd::Followed) {
        Err(error) if error.is_absence() => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (passable(parent)?, name),
            _ => return Err(error),
        },
        opened => return opened,
    };
    match made(&parent, name) {
        Ok(new) => rustix::fs::fchmod(new, Mode::from_raw_mode(0o755))
            .map_err(|error| system(error.into()))?,
        // Another pgcertd was as fast.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(system(error)),
    }
    parent.child(name)
}

/// Gives a directory and the files in it to `owner`: the files first, while nobody else can put
/// another one in their place.
fn give_back(directory: &Directory, owner: Ids) -> io::Result<()> {
    let opened = directory.opened().map_err(ReachError::into_io)?;
    for entry in rustix::fs::Dir::read_from(&opened)? {
        give_file(&opened, entry?.file_name(), owner)?;
    }
    Ok(give_directory(&opened, owner)?)
}

/// Gives a regular file of root's that has no other name to `owner`; others stay as they are.
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

/// Gives an opened directory to `owner`.
fn give_directory(directory: &OwnedFd, owner: Ids) -> Result<(), Errno> {
    if Ids::own() != owner {
        rustix::fs::fchown(
            directory,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
    }
    // The server's group may pass: a key that root owns is read through it.
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
