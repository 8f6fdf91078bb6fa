//! The users whose servers pgcertd is for. Any user of a host may start a PostgreSQL; a lineage's private key is not for
//! each of them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::User;

use super::names::user_name;
use super::unit::Unit;
use crate::config::Config;
use crate::host::privilege::{Ids, is_root};

/// The packaged unit's user, if no unit is installed or it runs as root.
const USUAL: &str = "postgres";

/// Those whose servers are proposed without being named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedUsers(BTreeSet<u32>);

impl ServedUsers {
    /// The unit's user, and the owners of the data directories in the config. Without root there is only the caller.
    pub(crate) fn by(config: &Config) -> ServedUsers {
        if !is_root() {
            return ServedUsers([Ids::own().uid].into());
        }
        let directories = config.data_directories();
        let owners = directories
            .iter()
            .filter_map(|directory| user_of(directory));
        ServedUsers::from_package(package(Unit::of_this_host().as_ref()), owners)
    }

    fn from_package(package: Option<u32>, owners: impl Iterator<Item = u32>) -> ServedUsers {
        // PostgreSQL does not run as root: what claims so is something else.
        let users = owners.chain(package).filter(|uid| *uid != 0);
        ServedUsers(users.collect())
    }

    /// Whether pgcertd is for this user's servers.
    pub(crate) fn include(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }

    /// Their names, for a sentence.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|uid| user_name(*uid)).collect();
        if names.is_empty() {
            "nobody".into()
        } else {
            names.join(", ")
        }
    }
}

fn package(unit: Option<&Unit>) -> Option<u32> {
    let usual = || Some(User::from_name(USUAL).ok()??.uid.as_raw());
    match unit.map(Unit::uid) {
        Some(Some(0)) | None => usual(),
        Some(user) => user,
    }
}

/// The user as whom a process runs.
pub(crate) fn user_of_process(pid: u32) -> Option<u32> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?);
    Some(process.ok()?.status().ok()?.euid)
}

/// The user of a server, by its data directory; none if that isn't at its path here, or is closed.
pub(crate) fn user_of(data_directory: &Path) -> Option<u32> {
    Some(std::fs::metadata(data_directory).ok()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_user_and_the_configs_owners_are_served_and_root_never_is() {
        let users = ServedUsers::from_package(Some(7), [8, 0].into_iter());
        assert!(users.include(7) && users.include(8));
        assert!(!users.include(0) && !users.include(9));
        assert!(!ServedUsers::from_package(Some(0), std::iter::empty()).include(0));
        assert_eq!(
            ServedUsers::from_package(None, std::iter::empty()).names(),
            "nobody"
        );
    }

    #[test]
    fn a_process_is_its_users() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(user_of_process(std::process::id()), Some(own));
    }
}
