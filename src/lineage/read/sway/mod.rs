//! Who decides what a path leads to, and whether they could read it themselves.
//!
//! The thread that reads a lineage may read every file on the host. Anybody who can write to a directory on the way, or owns
//! a link there, chooses what that thread opens: a link to another service's key would copy that key into an instance's file.
//! So each of them must be able to reach and read the file without pgcertd. That is what the kernel demands of links in
//! `/tmp` (`fs.protected_symlinks`), applied to every step.
//!
//! Root is trusted, and the owner of the root directory, which is how the host's root appears in a user namespace. For
//! everybody else, owner and mode of what was opened count. Access control lists are not read: if there is one, only the
//! owner counts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::host::file::Unopened;
use crate::problem::Problem;

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// Somebody other than root who decides what a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Steerer {
    User(u32),
    /// Every member of this group.
    Group(u32),
    /// Every user of the host.
    Everyone,
}

/// What gives them the say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Say {
    /// They own the link at this path.
    Link(PathBuf),
    /// They own this directory, and so decide about the names in it.
    Directory(PathBuf),
    /// They can write to this directory.
    Writes(PathBuf),
    /// They can remove or rename what is at this path, in a directory where others can only do so with their own (sticky).
    Entry(PathBuf),
    /// The name at this path is one of several hard links to the same file, in a directory where they can make one.
    HardLink(PathBuf),
}

/// What the system says about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UserFacts {
    name: String,
    groups: BTreeSet<u32>,
    /// The user's own group, with no other members.
    private: Option<u32>,
}

/// What is known about users. Nothing is looked up while a lineage is read: the reader thread may not read `/etc/group`, and
/// the directory service may not respond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users {
    known: BTreeMap<u32, UserFacts>,
}

impl Users {
    /// Asks the system about these users; without an answer nobody gets access. May block.
    pub(crate) fn asked(users: &BTreeSet<u32>) -> Users {
        let known = users.iter().filter_map(|uid| {
            let user = User::from_uid(Uid::from_raw(*uid)).ok()??;
            let name = CString::new(user.name.as_bytes()).ok()?;
            let groups = getgrouplist(&name, user.gid).unwrap_or_default();
            let facts = UserFacts {
                private: private(&user),
                groups: groups.into_iter().map(Gid::as_raw).collect(),
                name: user.name,
            };
            Some((*uid, facts))
        });
        Users {
            known: known.collect(),
        }
    }

    /// Adds what else is known, which is newer.
    pub(crate) fn extend(&mut self, newer: Users) {
        self.known.extend(newer.known);
    }

    pub(crate) fn called(&self, who: Steerer) -> String {
        match who {
            Steerer::User(uid) => format!("user {}", self.name(uid)),
            Steerer::Group(gid) => format!("group {gid}"),
            Steerer::Everyone => "every user".into(),
        }
    }

    fn name(&self, uid: u32) -> String {
        let known = self.known.get(&uid).map(|facts| facts.name.clone());
        match (known, uid) {
            (Some(name), _) => name,
            (None, 0) => "root".into(),
            (None, uid) => uid.to_string(),
        }
    }
}

/// The group with the user's name that is the user's primary group and has no other members, as created by useradd(8).
fn private(user: &User) -> Option<u32> {
    let group = Group::from_gid(user.gid).ok()??;
    let alone = group.mem.iter().all(|member| *member == user.name);
    (alone && group.name == user.name).then_some(user.gid.as_raw())
}

/// Who decides what a path leads to, as far as it was followed, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sway {
    by: BTreeMap<Steerer, Say>,
    /// The users that we need to know about to decide.
    users: BTreeSet<u32>,
}

impl Sway {
    /// Who they are, and why.
    pub(crate) fn steerers(&self) -> impl Iterator<Item = (Steerer, &Say)> {
        self.by.iter().map(|(who, say)| (*who, say))
    }

    /// The users that it names, and those whose groups count.
    pub(crate) fn users(&self) -> &BTreeSet<u32> {
        &self.users
    }

    /// Adds who decides about another path.
    pub(crate) fn extend(&mut self, other: Sway) {
        self.users.extend(other.users);
        for (who, say) in other.by {
            self.by.entry(who).or_insert(say);
        }
    }

    fn add(&mut self, who: Steerer, say: impl FnOnce() -> Say) {
        if let Steerer::User(uid) = who {
            self.users.insert(uid);
        }
        self.by.entry(who).or_insert_with(say);
    }
}

/// Who is trusted: root, and the owner of the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trusted {
    uid: u32,
    gid: u32,
}

impl Trusted {
    pub(crate) fn by(root: &Unopened) -> Trusted {
        Trusted {
            uid: root.metadata().uid(),
            gid: root.metadata().gid(),
        }
    }

    fn user(self, uid: u32) -> bool {
        uid == 0 || uid == self.uid
    }

    fn group(self, gid: u32) -> bool {
        gid == 0 || gid == self.gid
    }
}

/// The basis of a judgement: who is trusted, and what is known about the others.
#[derive(Clone, Copy)]
pub(super) struct SwayJudge<'a> {
    pub(crate) trusted: Trusted,
    pub(crate) users: &'a Users,
}

impl SwayJudge<'_> {
    /// Adds who chooses what `directory`, at `path`, has under the name of `entry`.
    pub(crate) fn named(
        &self,
        sway: &mut Sway,
        directory: &Unopened,
        entry: &Unopened,
        path: &Path,
    ) {
        let (of_directory, of_entry) = (directory.metadata(), entry.metadata());
        let lies_in = || path.parent().unwrap_or(path).to_owned();
        if !self.trusted.user(of_directory.uid()) {
            let owner = Steerer::User(of_directory.uid());
            sway.add(owner, || Say::Directory(lies_in()));
        }
        let Some(others) = self.writers(sway, directory) else {
            return;
        };
        if of_directory.mode() & STICKY == 0 {
            sway.add(others, || Say::Writes(lies_in()));
            return;
        }
        // Nobody can rename or remove what they don't own there, but anybody can add a name for what they own (rename(2)), and,
        // if fs.protected_hardlinks is off, for anything else.
        if !self.trusted.user(of_entry.uid()) {
            let owner = Steerer::User(of_entry.uid());
            sway.add(owner, || Say::Entry(path.to_owned()));
        }
        if !of_entry.is_dir() && of_entry.nlink() > 1 {
            sway.add(others, || Say::HardLink(path.to_owned()));
        }
    }

    /// Who, besides its owner, can write to a directory.
    fn writers(&self, sway: &mut Sway, directory: &Unopened) -> Option<Steerer> {
        let metadata = directory.metadata();
        let (mode, gid) = (metadata.mode(), metadata.gid());
        if mode & WRITE != 0 {
            return Some(Steerer::Everyone);
        }
        if mode & (WRITE << 3) == 0 || self.trusted.group(gid) {
            return None;
        }
        sway.users.insert(metadata.uid());
        let owner = self.users.known.get(&metadata.uid());
        let own = owner.is_some_and(|owner| owner.private == Some(gid));
        // The group bits are the mask of an access control list, which may name others.
        (!own || directory.has_acl()).then_some(Steerer::Group(gid))
    }

    /// Adds who chooses where a link leads.
    pub(crate) fn linked(&self, sway: &mut Sway, link: &Unopened, path: &Path) {
        let uid = link.metadata().uid();
        if !self.trusted.user(uid) {
            sway.add(Steerer::User(uid), || Say::Link(path.to_owned()));
        }
    }

    /// Whether each of them may look up a name in this directory.
    pub(crate) fn may_search(
        &self,
        sway: &Sway,
        at: &Unopened,
        path: &Path,
    ) -> Result<(), Box<Unfit>> {
        self.all_may(sway, at, path, SEARCH)
    }

    /// Whether each of them may read this file.
    pub(crate) fn may_read(
        &self,
        sway: &Sway,
        at: &Unopened,
        path: &Path,
    ) -> Result<(), Box<Unfit>> {
        self.all_may(sway, at, path, READ)
    }

    fn all_may(
        &self,
        sway: &Sway,
        at: &Unopened,
        path: &Path,
        wanted: u32,
    ) -> Result<(), Box<Unfit>> {
        let Some((who, say)) = sway.steerers().find(|(who, _)| !self.may(*who, at, wanted)) else {
            return Ok(());
        };
        let mut users = sway.users.clone();
        users.insert(at.metadata().uid());
        Err(Box::new(Unfit {
            path: path.to_owned(),
            owner: self.users.name(at.metadata().uid()),
            mode: at.metadata().mode() & 0o7777,
            who: self.users.called(who),
            say: say.clone(),
            users,
        }))
    }

    fn may(&self, who: Steerer, at: &Unopened, wanted: u32) -> bool {
        let metadata = at.metadata();
        let mode = metadata.mode();
        // An owner can grant themselves the right.
        if who == Steerer::User(metadata.uid()) {
            return true;
        }
        let of_group = mode & (wanted << 3) != 0;
        let in_group = match who {
            Steerer::User(uid) => {
                let known = self.users.known.get(&uid);
                known.is_some_and(|user| user.groups.contains(&metadata.gid()))
            }
            Steerer::Group(gid) => gid == metadata.gid(),
            Steerer::Everyone => false,
        };
        // For somebody who may be in the group, its bits count too.
        (of_group && (in_group || mode & wanted != 0)) && !at.has_acl()
    }
}

/// Something that is not read, because somebody decides about it who couldn't read it themselves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// What they couldn't reach or read: a file, or a directory on the way.
    pub(crate) path: PathBuf,
    owner: String,
    mode: u32,
    who: String,
    say: Say,
    users: BTreeSet<u32>,
}

impl Unfit {
    /// The users that we need to know more about before this is final.
    pub(crate) fn users(&self) -> &BTreeSet<u32> {
        &self.users
    }

    pub(crate) fn problem(&self) -> Problem {
        let Unfit {
            path,
            owner,
            mode,
            who,
            say,
            ..
        } = self;
        let what = format!(
            "{} is not read: {who} {say}, which leads there, and could not read it without pgcertd (it belongs to {owner}, \
             mode {mode:04o})",
            path.display(),
        );
        let fix = match say {
            Say::Link(_) => format!(
                "make root the owner of the lineage's links and of their directories, or give the lineage's files to {who}"
            ),
            Say::Directory(_) | Say::Entry(_) => {
                format!("give the lineage's files to {who}, or keep them where only root can write")
            }
            Say::Writes(directory) | Say::HardLink(directory) => format!(
                "revoke that right on {} (chmod go-w), or keep the lineage where only root can write",
                directory.display()
            ),
        };
        Problem::new(what, fix)
    }
}

impl fmt::Display for Say {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, path) = match self {
            Say::Link(path) => ("owns the link", path),
            Say::Directory(path) => ("owns the directory", path),
            Say::Writes(path) => ("can write to", path),
            Say::Entry(path) => ("owns", path),
            Say::HardLink(path) => ("may have made the hard link", path),
        };
        write!(formatter, "{verb} {}", path.display())
    }
}

#[cfg(test)]
mod tests;
