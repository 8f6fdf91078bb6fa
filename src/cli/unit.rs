//! As whom the installed unit runs, and whether that suits this host and its servers.
//!
//! The unit's files are read as systemd does (systemd.unit(5)), since `systemctl` tells nothing
//! where systemd does not run. Only `User=` is looked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// The unit.
const UNIT: &str = "pgcertd.service";

/// Where units lie, the first before the second (systemd.unit(5), "Unit File Load Path").
const UNIT_DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where the packages and `make install` put the drop-ins.
const EXAMPLES: [&str; 2] = [
    "/usr/share/doc/pgcertd/examples",
    "/usr/local/share/doc/pgcertd/examples",
];

/// Who the unit's daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    /// As written in `User=`.
    pub(super) user: String,
    /// The user's number, where this host has it.
    pub(super) uid: Option<u32>,
}

impl Daemon {
    /// Of the unit that is installed here; none where there is none.
    pub(super) fn of_this_host() -> Option<Daemon> {
        let directories: Vec<&Path> = UNIT_DIRECTORIES.iter().map(Path::new).collect();
        let user = user_in(&directories)?;
        let by_name = User::from_name(&user).ok().flatten();
        Some(Daemon {
            uid: by_name.map(|it| it.uid.as_raw()).or(user.parse().ok()),
            user,
        })
    }

    /// Why systemd will not start it.
    pub(super) fn missing(&self) -> Option<String> {
        self.uid.is_none().then(|| {
            format!(
                "{UNIT} runs as user {}, whom this host does not have: it cannot start",
                self.user
            )
        })
    }

    /// Why it may not deploy to a server that `owners`, those of its files and of its process, own.
    pub(super) fn foreign_to(&self, owners: [u32; 2]) -> Option<String> {
        let uid = self.uid.filter(|uid| *uid != 0)?;
        let other = owners.into_iter().find(|owner| *owner != uid)?;
        let named = User::from_uid(Uid::from_raw(other)).ok().flatten();
        let name = named.map_or_else(|| other.to_string(), |it| it.name);
        Some(format!(
            "{UNIT} runs as user {}, who may not write files of {name} nor signal their server",
            self.user
        ))
    }
}

/// The command that has the unit run as root.
pub(super) fn root_operation() -> String {
    let here = |directory: &&&str| Path::new(directory).join("root.conf").exists();
    let examples = EXAMPLES.iter().find(here).unwrap_or(&EXAMPLES[0]);
    format!(
        "install -D -m 0644 {examples}/root.conf /etc/systemd/system/{UNIT}.d/root.conf && \
         systemctl daemon-reload"
    )
}

/// `User=` of the unit and its drop-ins; `root` where none says so, none where there is no unit.
fn user_in(directories: &[&Path]) -> Option<String> {
    let unit = directories
        .iter()
        .map(|directory| directory.join(UNIT))
        .find(|unit| unit.exists())?;
    let mut user = String::new();
    for file in [unit].iter().chain(drop_ins(directories).values()) {
        // A file that only root may read is as good as none to another user.
        for said in users(&std::fs::read_to_string(file).unwrap_or_default()) {
            user = said.to_owned();
        }
    }
    Some(if user.is_empty() { "root".into() } else { user })
}

/// The drop-ins in the order in which they count: by name, wherever they lie, and of one name the
/// first directory's.
fn drop_ins(directories: &[&Path]) -> BTreeMap<std::ffi::OsString, PathBuf> {
    let mut found = BTreeMap::new();
    for directory in directories.iter().rev() {
        let entries = std::fs::read_dir(directory.join(format!("{UNIT}.d")));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|it| it == "conf") {
                found.insert(entry.file_name(), entry.path());
            }
        }
    }
    found
}

/// Each value of `User=` in the section `[Service]`; an empty one takes back what was before.
fn users(text: &str) -> impl Iterator<Item = &str> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        }
        let (key, value) = line.split_once('=')?;
        (section == "[Service]" && key.trim_end() == "User").then(|| value.trim_start())
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::fs;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Host {
            Host(tempfile::tempdir().unwrap())
        }

        fn with(self, file: &str, text: &str) -> Host {
            let file = self.0.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        fn user(&self) -> Option<String> {
            user_in(
                &["etc", "run", "lib"]
                    .map(|it| self.0.path().join(it))
                    .each_ref()
                    .map(|it| it.as_path()),
            )
        }
    }

    const UNIT_FILE: &str = "lib/pgcertd.service";
    const OF_THE_PACKAGE: &str = "[Unit]\nUser=no\n[Service]\n# User=nor this\nUser=postgres\n";

    #[test]
    fn without_a_unit_there_is_no_daemon() {
        let host = Host::new().with("etc/pgcertd.service.d/root.conf", "[Service]\nUser=root\n");
        assert_eq!(host.user(), None);
    }

    #[test]
    fn a_drop_in_changes_the_user_and_an_empty_one_is_root() {
        let packaged = || Host::new().with(UNIT_FILE, OF_THE_PACKAGE);
        assert_eq!(packaged().user().unwrap(), "postgres");
        let changed = packaged().with("etc/pgcertd.service.d/a.conf", "[Service]\nUser = db\n");
        assert_eq!(changed.user().unwrap(), "db");
        let emptied = packaged().with("run/pgcertd.service.d/a.conf", "[Service]\nUser=\n");
        assert_eq!(emptied.user().unwrap(), "root");
        let ignored = packaged().with("etc/pgcertd.service.d/a.conf.off", "[Service]\nUser=db\n");
        assert_eq!(ignored.user().unwrap(), "postgres");
    }

    #[test]
    fn drop_ins_count_by_name_and_the_administrators_before_the_packages() {
        let host = Host::new()
            .with(UNIT_FILE, OF_THE_PACKAGE)
            .with("lib/pgcertd.service.d/a.conf", "[Service]\nUser=vendor\n")
            .with("etc/pgcertd.service.d/a.conf", "[Service]\nUser=admin\n");
        assert_eq!(host.user().unwrap(), "admin");
        let host = host.with("lib/pgcertd.service.d/b.conf", "[Service]\nUser=last\n");
        assert_eq!(host.user().unwrap(), "last");
        let host = host.with("etc/pgcertd.service", "[Service]\nUser=own\n");
        assert_eq!(host.user().unwrap(), "last");
    }

    #[test]
    fn a_server_of_another_user_is_foreign_to_it_but_not_to_root() {
        let daemon = |uid| Daemon {
            user: "postgres".into(),
            uid,
        };
        assert_eq!(daemon(Some(7)).foreign_to([7, 7]), None);
        assert_eq!(daemon(Some(0)).foreign_to([7, 8]), None);
        assert_eq!(daemon(None).foreign_to([7, 8]), None);
        assert!(daemon(Some(7)).foreign_to([7, 8]).is_some());
        assert!(daemon(Some(7)).foreign_to([8, 7]).is_some());
    }
}
