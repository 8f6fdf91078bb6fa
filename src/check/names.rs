//! Users, groups and paths as a person or a shell reads them.

use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

/// A path as a word for a shell.
pub(crate) fn quoted(path: impl AsRef<Path>) -> String {
    shell_words::quote(&path.as_ref().to_string_lossy()).into_owned()
}

/// A user's name, or else the number.
pub(crate) fn user_name(uid: u32) -> String {
    let named = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    named.map_or_else(|| uid.to_string(), |user| user.name)
}

/// A group's name, or else the number.
pub(crate) fn group_name(gid: u32) -> String {
    let named = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    named.map_or_else(|| gid.to_string(), |group| group.name)
}
