//! Where an instance's files are and whose, and the state directory that is made for them.

use std::ffi::CStr;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid};

use super::InstanceError;
use super::files::{Targets, staging_name};
use super::patroni;
use crate::config::{self, Account, Kind};
use crate::privilege::{Ids, is_root};

/// Where an instance's files are and whose, as things are now.
pub(super) fn targets(config: &config::Instance, state: PathBuf) -> Result<Targets, InstanceError> {
    let home = config.home();
    let meta = std::fs::metadata(home).map_err(|source| no_home(config, source))?;
    let found = Ids {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    let server = match config.kind() {
        Kind::Postgres => found,
        Kind::PgBouncer | Kind::Patroni => user_of(config, found)?,
    };
    Ok(Targets {
        cert: config.cert_file.clone(),
        key: config.key_file.clone(),
        ca: config.ca.as_ref().map(|it| it.file.clone()),
        crl: config.crl.as_ref().map(|it| it.file.clone()),
        state,
        kind: config.kind(),
        data: home.to_owned(),
        owner: Ids {
            uid: user(config.owner.as_ref())?.unwrap_or(server.uid),
            gid: group(config.group.as_ref())?.unwrap_or(server.gid),
        },
        server,
    })
}

/// Why the data directory or the configuration cannot be looked at.
fn no_home(config: &config::Instance, source: std::io::Error) -> InstanceError {
    let path = config.home().to_owned();
    if config.kind() == Kind::Patroni && source.kind() == std::io::ErrorKind::NotFound {
        let owner = user(config.owner.as_ref()).ok().flatten();
        let pids = patroni::without_file(owner).found;
        if !pids.is_empty() {
            let runs = patroni::told_by_environment(&pids);
            return InstanceError::NoFile { path, runs };
        }
    }
    let key = config.place.key();
    InstanceError::Home { key, path, source }
}

/// As whom a server runs whose configuration `found` owns: as `owner` says, or as that owner. What
/// root owns says nothing, and a server that runs as root says that it does.
fn user_of(config: &config::Instance, found: Ids) -> Result<Ids, InstanceError> {
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
    let state = &targets.state;
    let wrap = |source| InstanceError::State {
        path: state.clone(),
        source,
    };
    if let Ok(meta) = std::fs::symlink_metadata(state) {
        // A unit that went from another user to root had its state directory given to root,
        // where systemd gives it away with all that is in it (systemd.exec(5)).
        if is_root() && meta.is_dir() && meta.uid() == 0 && targets.owner.uid != 0 {
            return give_back(state, targets.owner)
                .map(|()| true)
                .map_err(|e| wrap(e.into()));
        }
        if state.is_dir() {
            return Ok(false);
        }
    }
    match make_directory(state, targets.owner) {
        Err(source) if !state.is_dir() => Err(wrap(source)),
        // It is made, or another pgcertd was as fast.
        _ => Ok(true),
    }
}

/// Makes a directory for `owner`, and those above it where they are missing. It gets its name
/// once owner and mode are right: one that a crash left to root would shut the owner out.
fn make_directory(path: &Path, owner: Ids) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    make_passable(parent)?;
    let new = parent.join(staging_name(name));
    match std::fs::remove_dir(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        // What a crash has left may be another user's.
        _ => {}
    }
    rustix::fs::mkdir(&new, Mode::from_raw_mode(0o750))?;
    give_directory(&new, owner)?;
    rustix::fs::renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE)?;
    let above = rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(above)?)
}

/// Makes a directory that every user may pass through, and those above it, where they are missing.
/// The umask of whoever runs `sync` must not shut a server out of its own files.
fn make_passable(path: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            make_passable(path.parent().ok_or(e)?)?;
            make_passable(path)
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
}

/// Gives a directory and the files in it to `owner`: the files first, while nobody else can put
/// another one in their place.
fn give_back(directory: &Path, owner: Ids) -> Result<(), rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&opened)? {
        give_file(&opened, entry?.file_name(), owner)?;
    }
    give_directory(directory, owner)
}

/// Gives a regular file of root's that has no other name to `owner`; others stay as they are.
fn give_file(directory: &OwnedFd, name: &CStr, owner: Ids) -> Result<(), rustix::io::Errno> {
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

/// Gives a directory, which is no link, to `owner`.
fn give_directory(path: &Path, owner: Ids) -> Result<(), rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    if Ids::own() != owner {
        rustix::fs::fchown(
            &directory,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
    }
    // The server's group may pass: a key that root owns is read through it.
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o750))
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
